//! The synchronization primitives of the edge and of a pool's crew, in one place: the crate in `loom/` has a module of
//! the same name with loom's types, and compiles the same files against it.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

pub(crate) use parking_lot::{Mutex, MutexGuard};

/// The maximum number of items that an edge hands over together. Smaller in the model, where each item multiplies the
/// interleavings.
pub(crate) const CHUNK: usize = 128;
