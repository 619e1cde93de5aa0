//! Replaces the terminal on systems other than Unix. The view shows nothing there.

use std::convert::Infallible;
use std::io;
use std::time::Instant;

use super::keys::{Control, Key};
use super::panel::Size;
use super::text::Line;

/// Never exists.
pub(super) struct Terminal(Infallible);

#[derive(Debug)]
pub(super) struct Stop;

#[allow(dead_code, reason = "never created")]
pub(super) enum Event {
    Time,
    Keys(Vec<Key>),
    Stop,
}

impl Terminal {
    pub(super) fn open() -> Option<(Self, Stop)> {
        None
    }

    pub(super) fn size(&self) -> Option<Size> {
        match self.0 {}
    }

    pub(super) fn is_ours(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn show(&mut self, _: Size, _: &[Line]) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn hide(&mut self) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn wait(&self, _: Instant) -> Event {
        match self.0 {}
    }

    pub(super) fn raise(&self, _: Control) {
        match self.0 {}
    }
}
