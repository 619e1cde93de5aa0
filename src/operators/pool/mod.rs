//! Operators that process several items at a time.

pub(super) mod async_mapper;
mod barriers;
pub(super) mod calls;
pub(super) mod combine;
mod crew;
mod desk;
mod init;
mod intake;
mod lanes;
mod lead;
mod outlet;
mod par_fold;
mod par_mapper;
mod refusals;
mod reorder;
mod run_length;
mod runs;
mod slots;
mod threads;
mod worker;
mod workers;

pub use async_mapper::AsyncMapper;
pub use combine::Combine;
pub use init::with_init;
pub use par_mapper::ParMapper;
