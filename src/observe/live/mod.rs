//! The live view: the stages of a running pipeline as a table at the bottom of the terminal.
//!
//! - `live` is the handle and the loop: take a snapshot, draw, wait for a key or the next snapshot.
//! - `history` stores the last snapshots and derives rates from them.
//! - `view` turns that into lines of text. It is pure: no terminal, no clock.
//! - `text` has lines, their styles, and fits text into columns.
//! - `panel` turns lines into the bytes that draw them. It is pure, too.
//! - `keys` turns bytes into keys.
//! - `terminal` is the only file that talks to the terminal.
//!
//! # Why a panel at the bottom
//!
//! The view shares the terminal with the program: its results, its log lines, and panic messages are printed while the
//! view is on the screen. The alternate screen, which `top` uses, would lose them, and they would tear apart a block of
//! lines that is drawn at the cursor, unless every print of the program went through this library. So the view takes
//! the last rows of the screen out of the *scrolling region* (DECSTBM), as apt does with its progress line: the
//! program's output scrolls above the panel, into the scrollback, and needs no coordination. Each frame is one write,
//! which begins by saving the cursor and ends by restoring it.
//!
//! # Invariants
//!
//! - The terminal is in its original state whenever the program may end: before a signal is raised, when the handle is
//!   dropped, and when the thread of the view unwinds.
//! - Output processing stays as it is (no raw mode): a `\n` of the program still begins a new line.
//! - Nothing is written, read or set while the program is not in the foreground of its terminal.
//! - The view holds only a token of the pipeline, and takes no lock that a stage takes for an item.

mod history;
mod keys;
mod live;
mod panel;
#[cfg(unix)]
mod terminal;
#[cfg(not(unix))]
#[path = "no_terminal.rs"]
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod view;

pub use live::Live;
