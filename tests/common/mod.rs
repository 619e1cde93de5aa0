//! What the tests of this folder share.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and uses its own part")]

pub mod books;
pub mod faults;
pub mod inbox;
pub mod item;
pub mod models;
pub mod outbox;
pub mod seen;
pub mod threads;
pub mod watchdog;
