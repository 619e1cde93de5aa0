//! [`Terminal`]: the terminal that standard error is connected to.

use std::io::{self, IsTerminal, Stderr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

use super::keys::{Control, Key, keys};
use super::panel::{Panel, Size};
use super::text::Line;
use crate::clock::real_now;

/// A process has one terminal, so it can have one view at a time.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Draws on standard error and reads keys from there. Only one exists at a time. Dropping it restores the terminal.
pub(super) struct Terminal {
    stderr: Stderr,
    /// Ends waits when its other end is dropped.
    stop: UnixStream,
    panel: Panel,
    color: bool,
    /// The original modes, while others are set.
    found: Option<Termios>,
}

/// Ends the waits of its terminal when it is dropped.
#[derive(Debug)]
pub(super) struct Stop {
    _other_end: UnixStream,
}

/// How a wait ended.
pub(super) enum Event {
    Time,
    Keys(Vec<Key>),
    /// There is nothing more to draw, or no terminal to draw on.
    Stop,
}

impl Terminal {
    /// Returns `None` if standard error is not a capable terminal, or if there is a view already.
    pub(super) fn open() -> Option<(Self, Stop)> {
        let stderr = io::stderr();
        let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if !stderr.is_terminal() || !can_draw {
            return None;
        }
        let (stop, other_end) = UnixStream::pair().ok()?;
        // It guards no other data.
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = Self { stderr, stop, panel: Panel::default(), color, found: None };
        Some((terminal, Stop { _other_end: other_end }))
    }

    /// Columns and rows; `None` if the terminal does not know.
    pub(super) fn size(&self) -> Option<Size> {
        let size = tcgetwinsize(&self.stderr).ok()?;
        Some(Size { columns: size.ws_col, rows: size.ws_row }).filter(|size| size.columns > 0 && size.rows > 0)
    }

    /// The process group in the foreground, if the terminal controls this process.
    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.stderr).ok()
    }

    /// Whether the view may use the terminal: a job in the background must not, and would be stopped for it.
    pub(super) fn is_ours(&self) -> bool {
        self.foreground().is_none_or(|group| group == getpgrp())
    }

    /// Shows lines at the bottom of the screen, and takes the keyboard.
    pub(super) fn show(&mut self, size: Size, lines: &[Line]) -> io::Result<()> {
        self.take_keyboard()?;
        let mut bytes = Vec::new();
        self.panel.draw(size, lines, self.color, &mut bytes);
        self.write(&bytes)
    }

    /// Releases the screen and the keyboard. Both may be taken again.
    pub(super) fn hide(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.is_ours() {
            self.panel.remove(&mut bytes);
            let written = self.write(&bytes);
            self.give_keyboard_back()?;
            written
        } else {
            // The shell has taken both, and has set its own modes.
            self.panel.forget();
            self.found = None;
            Ok(())
        }
    }

    /// Reads one key at a time, not echoed, and the keys that send signals as bytes: the terminal has to be restored
    /// before. Output modes are not touched. Without a controlling terminal, the view has no keys.
    fn take_keyboard(&mut self) -> io::Result<()> {
        if self.found.is_some() || self.foreground().is_none() {
            return Ok(());
        }
        let found = tcgetattr(&self.stderr)?;
        let mut modes = found.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
        // Ctrl-S would stop the drawing, and so the reading of Ctrl-C.
        modes.input_modes.remove(InputModes::IXON);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&self.stderr, OptionalActions::Now, &modes)?;
        self.found = Some(found);
        Ok(())
    }

    fn give_keyboard_back(&mut self) -> io::Result<()> {
        match self.found.take() {
            Some(found) => Ok(tcsetattr(&self.stderr, OptionalActions::Now, &found)?),
            None => Ok(()),
        }
    }

    /// Not through the lock of standard error: the thread that drops the view may hold it.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.stderr, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => _ = poll(&mut [PollFd::new(&self.stderr, PollFlags::OUT)], None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a key, if the view has the keyboard, for the end of the view, or until the given time.
    pub(super) fn wait(&self, until: Instant) -> Event {
        loop {
            let left = until.saturating_duration_since(real_now());
            let mut ends = vec![PollFd::new(&self.stop, PollFlags::IN)];
            if self.found.is_some() {
                ends.push(PollFd::new(&self.stderr, PollFlags::IN));
            }
            match poll(&mut ends, Some(&timespec(left))) {
                Err(Errno::INTR) => continue,
                Err(_) => return Event::Stop,
                Ok(0) => return Event::Time,
                Ok(_) => {}
            }
            let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
            let keys = ends.get(1).map_or(PollFlags::empty(), PollFd::revents);
            if !ends[0].revents().is_empty() || keys.intersects(gone) {
                return Event::Stop;
            }
            match self.read() {
                Ok(keys) if keys.is_empty() => continue,
                Ok(keys) => return Event::Keys(keys),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return Event::Stop,
            }
        }
    }

    fn read(&self) -> Result<Vec<Key>, Errno> {
        let mut bytes = [0; 64];
        let read = rustix::io::read(&self.stderr, &mut bytes)?;
        Ok(keys(&bytes[..read], |byte| self.control(byte)))
    }

    /// The signal that the terminal would have sent for this byte.
    fn control(&self, byte: u8) -> Option<Control> {
        let codes = &self.found.as_ref()?.special_codes;
        let controls = [
            (SpecialCodeIndex::VINTR, Control::Interrupt),
            (SpecialCodeIndex::VQUIT, Control::Quit),
            (SpecialCodeIndex::VSUSP, Control::Suspend),
        ];
        // A code of zero means that there is none.
        controls.into_iter().find(|(code, _)| codes[*code] == byte && byte != 0).map(|(_, control)| control)
    }

    /// Sends the signal that the terminal would have sent, to all the processes that would have received it.
    pub(super) fn raise(&self, control: Control) {
        let signal = match control {
            Control::Interrupt => Signal::INT,
            Control::Quit => Signal::QUIT,
            Control::Suspend => Signal::TSTP,
        };
        if let Some(group) = self.foreground() {
            _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it fails, the terminal no longer exists.
        _ = self.hide();
        IS_TAKEN.store(false, Ordering::Relaxed);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos().into() }
}
