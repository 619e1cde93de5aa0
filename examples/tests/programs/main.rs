//! The example programs, run as a user would run them.

mod all;
mod durable;
mod etl;
#[cfg(unix)]
mod live;
mod log_processing;
mod page;
mod program;
mod scratch;
#[allow(dead_code, reason = "the tests of the connector need more of it")]
#[path = "../../../connectors/redis/tests/redis/common/server.rs"]
#[rustfmt::skip] // its own crate formats it, with another width
mod server;
#[cfg(unix)]
mod terminal;
