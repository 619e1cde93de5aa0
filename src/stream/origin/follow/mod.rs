//! Files that grow, read as they grow: what `tail -F` does.
//!
//! What can happen to a file that is followed, and what is done about it:
//!
//! - It is renamed, and created again. What has the name now is read from its beginning. The old file is read on beside it,
//!   for a program may go on writing to it for a while, until it is deleted or the next one is renamed.
//! - It is renamed several times between two looks. The files in between are found by their names, `NAME.1` or
//!   `NAME-20260131`, and are read. If one of them is gone, lines may be missing, and that is an error item.
//! - It is emptied, and perhaps copied before (`copytruncate`). It is shorter than what was read of it, or no longer begins as
//!   it did; it is read from its beginning. If a copy is there, what had not been read is read from that.
//! - It is not there. It is read from its beginning when it comes.
//! - It is deleted. It is read to its end and closed, so that its space is freed.
//! - It cannot be read, or is no file. That is an error item, once, until it is a file again.
//!
//! `options.rs` has what users see, `place.rs` one open file, `tail.rs` one name and the files that have or had it, and
//! `feed.rs` the source, which takes turns among the names and waits.

mod feed;
mod options;
mod place;
mod tail;

pub use options::{Follow, FollowEvent, FollowStart, FollowStats};
