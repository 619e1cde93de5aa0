//! Files that grow, read as they grow, as by `tail -F`.
//!
//! Events of a file that is followed, and how they are handled:
//!
//! - It is renamed, and created again. The file that has the name now is read from its beginning. The old file is still
//!   read, because a program may continue to write to it for a while, until it is deleted or the next one is renamed.
//! - It is renamed several times between two polls. The files in between are found by their names, `NAME.1` or
//!   `NAME-20260131`, and are read. If one of them is gone, lines may be missing, and that is an error item.
//! - It is truncated, and perhaps copied before (`copytruncate`). It is shorter than the part that was read, or begins
//!   differently; it is read from its beginning. If there is a copy, the unread part is read from that.
//! - It does not exist. It is read from its beginning when it appears.
//! - It is deleted. It is read to its end and closed, so that its space is freed.
//! - It cannot be read, or is not a file. That is an error item, once, until it is a file again.
//!
//! `options.rs` has the public types, `place.rs` one open file, `tail.rs` one name and the files that have or had it,
//! and `feed.rs` the source, which takes turns among the names and waits.

mod feed;
mod options;
mod place;
mod tail;

pub use options::{Follow, FollowEvent, FollowStart, FollowStats};
