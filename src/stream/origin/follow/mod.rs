//! Files that grow, read as they grow, as by `tail -F`.
//!
//! What happens to a file that is followed, and how it is handled:
//!
//! - It is renamed, and created again. The file that has the name now is read from its beginning. The old file is still
//!   read, because a program may continue to write to it for a while, until it is deleted or the next one is renamed.
//! - It is truncated, and perhaps copied before (`copytruncate`). It is shorter than the part that was read, or begins
//!   differently, or has too little to tell and a new copy that begins differently; it is read from its beginning. If
//!   there is a copy, the unread part is read from that.
//! - It is rotated several times between two polls, or appears and is rotated. The files in between are found by their
//!   names, `NAME.1` or `NAME-20260131`, and are read.
//! - It does not exist. It is read from its beginning when it appears.
//! - It is deleted. It is read to its end and closed, so that its space is freed.
//! - It cannot be read, or is not a file. That is an error item, once, until it is a file again.
//!
//! Invariants, of one name:
//!
//! - Its lines are those of a sequence of contents: the files that have the name, one after the other, and each of them
//!   again after it was emptied. Contents are read from the file itself, which is kept open when it is renamed, or from
//!   the copy that was made before it was emptied.
//! - `previous` and `current` are in this order, and are read in this order. New contents are only added behind them, and
//!   all that are found at a look are added at once.
//! - A rotated file that existed when following began, or when the folder appeared, is never read. Following begins with a
//!   look at the rotated files and at the file that has the name at that moment, before any event is told. After that, each
//!   rotated file is either `Known`, or found at the next look at which the name has no file, another file, or an emptied
//!   one, and added once: it is known from then on, by its identity, whatever its name is. A copy of what the file still
//!   contains is not known yet: it may be about to be emptied.
//! - What cannot be found is reported if it leaves a trace: the file that was read before is deleted although later ones
//!   exist, or no copy continues what was read although there are copies, or there is one compressed file more than known
//!   ones have disappeared. A file that appears and is deleted between two polls leaves none, nor do lines that are
//!   written between the copying and the emptying, or the last lines of a file that is emptied without a copy.
//!
//! `options.rs` has the public types, `place.rs` one open file, `rotated.rs` the names beside a file, `tail.rs` one name
//! and the files that have or had it, and `feed.rs` the source, which takes turns among the names and waits.

mod feed;
mod options;
mod place;
mod rotated;
mod tail;

pub use options::{Follow, FollowEvent, FollowStart, FollowStats};
