//! The edge of streamz, the crew of its pools and the sign of its circuits on loom: the files of the library itself, compiled against another
//! `sync`, and models that try every interleaving of their threads, and every value that a load may see.
//!
//! A lost wake-up shows as a deadlock, which loom finds; a lost, doubled or reordered item, or one beyond the capacity,
//! as a failed assertion. `cargo test --manifest-path loom/Cargo.toml` runs all models.

// The models need less of these files than the library does, and this crate exports none of what the library does.
#![allow(dead_code, unreachable_pub)]

mod clock;
mod error;
mod sync;

#[path = "../../src/edge/mod.rs"]
mod edge;

#[path = "../../src/panic.rs"]
mod panic;

#[path = "../../src/operators/pool/crew.rs"]
mod crew;

#[path = "../../src/operators/pool/lead.rs"]
mod lead;

#[path = "../../src/operators/pool/lanes.rs"]
mod lanes;

// The library exports its content.
#[allow(unreachable_pub)]
#[path = "../../src/operators/key_table.rs"]
mod key_table;

#[path = "../../src/operators/prefetch.rs"]
mod prefetch;

mod operators {
    pub(crate) use crate::key_table;
}

#[path = "../../src/operators/pool/reorder.rs"]
mod reorder;

#[path = "../../src/operators/pool/slots.rs"]
mod slots;

#[path = "../../src/operators/resilience/circuit_sign.rs"]
mod circuit_sign;

pub mod circuit;
pub mod models;
pub mod par_fold;
pub mod pool;

use error::ErrorKind;
