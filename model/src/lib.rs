//! The edge of streamz on loom: the very files of the library, compiled against another `sync`, and models that try every
//! interleaving of their threads, and every value that a load may see.
//!
//! A lost wake-up shows as a deadlock, which loom finds; a lost, doubled or reordered item, or one beyond the capacity, as
//! a failed assertion. `cargo test --manifest-path model/Cargo.toml` runs all of it.

// The models need less of the edge than the library does.
#![allow(dead_code)]

mod error;
mod clock;
mod sync;

#[path = "../../src/edge/mod.rs"]
mod edge;

#[path = "../../src/panic.rs"]
mod panic;

pub mod models;

use error::ErrorKind;
