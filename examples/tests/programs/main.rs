//! The example programs, run as a user would run them.

mod all;
mod durable;
mod etl;
mod log_processing;
mod page;
mod program;
mod scratch;
