//! Shared parts of the example programs: the [`Page`] that they print to and check their promises with, and repeatable
//! [`Data`].
//!
//! A program is one call of [`run`]; it exits with 0 only if its work succeeded and every promise was kept:
//!
//! ```ignore
//! mod common;
//!
//! fn main() -> std::process::ExitCode {
//!     common::run("Split: paid and unpaid orders part", |page| {
//!         let mut data = common::Data::seeded(17);
//!         let orders: Vec<u32> = (0..1_000).map(|_| data.between(1..=500)).collect();
//!         // .. a pipeline that splits them ..
//!         page.table(&["branch", "orders"], [["paid", "700"], ["unpaid", "300"]]);
//!         page.check("every order took one branch", paid + unpaid == orders.len());
//!         Ok(())
//!     })
//! }
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each example uses its own part of it"
)]

mod data;
mod page;

pub use data::Data;
pub use page::{Asked, Page, asked, bar, run, table};
