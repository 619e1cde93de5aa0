//! Errors that travel in a stream: what failed, where, and the item it failed on.

#[cfg(feature = "serde")]
mod data;
mod error;
mod inner;
mod text;
mod utc;

pub(crate) use inner::Details;

pub use error::{BoxError, ErrorKind, PanicMessage, Result, StreamError};
