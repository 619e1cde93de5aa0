//! [`Live`]: the handle of the view, and its loop.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::history::History;
use super::keys::{Control, Key};
use super::terminal::{Event, Stop, Terminal};
use super::view::View;
use crate::clock::real_now;
use crate::pipeline::CancelToken;
use crate::trace::event;

/// The time between two snapshots of the pipeline.
const PERIOD: Duration = Duration::from_millis(250);

/// A live view of a pipeline on the terminal; returned by [`CancelToken::live`].
///
/// Dropping it removes the view and restores the terminal. That waits for the thread of the view, which takes no longer
/// than a write to the terminal.
#[must_use = "dropping it removes the view"]
pub struct Live {
    viewer: Option<(Stop, JoinHandle<()>)>,
}

impl CancelToken {
    /// Shows the stages of the token's pipeline at the bottom of the terminal, until the pipeline is joined or the returned
    /// [`Live`] is dropped.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("squares");
    /// let live = pipeline.live();
    /// let sum = Stream::from_iter(&pipeline, 1..=1_000_u64).map(|n| n * n).fold(0, |sum, n| sum + n)?;
    /// drop(live);
    /// println!("{sum}");
    /// # assert_eq!(sum, 333_833_500);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # What it shows
    ///
    /// A row for each stage, sources first, and one for each output of a stage that has several: items in and out per
    /// second, the shares of the last second in which its threads were occupied or blocked, the fill level of its
    /// output, the number of failed items, and a line of history with a column for each second. Wider screens show the
    /// total counts, too. Below is the bottleneck or, after three seconds without progress, what the pipeline [waits
    /// for](crate::Report::diagnosis).
    ///
    /// # Where it is shown
    ///
    /// On standard error, if that is a terminal and the variable `TERM` is neither `dumb` nor missing; otherwise
    /// nothing is shown. Standard output may be a pipe. The variable `NO_COLOR` turns colors off. A process has one
    /// view at a time: while there is one, a second shows nothing. So far only Unix systems are supported; elsewhere it
    /// shows nothing.
    ///
    /// The view uses the last rows of the screen, at most three quarters. The program's output, log lines and panic
    /// messages appear above it, and stay when it is removed.
    ///
    /// # Keys
    ///
    /// `q` closes the view; the pipeline continues. `p` freezes the numbers. The arrows, or `k` and `j`, scroll if
    /// there are more rows than fit.
    ///
    /// Ctrl-C removes the view and then sends the signal that the terminal would have sent, so a program's own handler,
    /// or the lack of one, works as usual. If the handler [drains](CancelToken::drain) the pipeline, the view reappears
    /// to show the rest; a second Ctrl-C removes it permanently. Ctrl-Z stops the program; the view reappears when it
    /// continues.
    ///
    /// A program that reads its standard input from the terminal should not use a view, which would take its keys.
    ///
    /// # Cost
    ///
    /// One thread, which takes a [report](CancelToken::report) four times a second. The stages do no work for it. It
    /// does not keep the pipeline alive, and `join` does not wait for it.
    ///
    /// # Panics
    /// If the token does not come from a pipeline.
    ///
    /// After a panic anywhere in the program the terminal is restored if the `Live` is dropped while the stack unwinds,
    /// or later. A process that ends without dropping it does not restore the terminal: by [`std::process::exit`], by
    /// an abort, or killed by an external signal that it does not handle.
    #[track_caller]
    pub fn live(&self) -> Live {
        let (token, name) = (self.clone(), format!("live {}", self.scope().name()));
        let start = |(terminal, stop)| {
            let thread = thread::Builder::new().name(name).spawn(move || watch(&token, terminal));
            match thread {
                Ok(thread) => Some((stop, thread)),
                Err(error) => {
                    event!(warn, { error = %error }, "streamz: cannot start the thread of the live view: {error}");
                    None
                }
            }
        };
        Live { viewer: Terminal::open().and_then(start) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.viewer.take() {
            drop(stop);
            if thread.join().is_err() {
                event!(error, { panicked = true }, "streamz: the live view panicked");
            }
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("is_shown", &self.viewer.is_some()).finish_non_exhaustive()
    }
}

/// Shows the view until it has to end. A terminal error ends it, too.
fn watch(token: &CancelToken, terminal: Terminal) {
    let viewer = Viewer {
        token,
        terminal,
        history: History::new(token.report()),
        view: View::default(),
        was_interrupted: false,
    };
    _ = viewer.run();
}

struct Viewer<'a> {
    token: &'a CancelToken,
    terminal: Terminal,
    history: History,
    view: View,
    /// By a Ctrl-C that came through the view.
    was_interrupted: bool,
}

impl Viewer<'_> {
    fn run(mut self) -> io::Result<()> {
        while !self.token.scope().is_finished() {
            if !self.view.is_frozen {
                self.history.add(self.token.report());
            }
            let next = real_now() + PERIOD;
            let mut may_show = true;
            loop {
                if may_show {
                    self.draw()?;
                }
                match self.terminal.wait(next) {
                    Event::Time => break,
                    Event::Stop => return Ok(()),
                    Event::Keys(keys) => {
                        for key in keys {
                            match key {
                                Key::Quit => return Ok(()),
                                Key::Control(control) => {
                                    // Not before the next snapshot: by then the signal has been handled.
                                    may_show = false;
                                    if !self.pass_on(control)? {
                                        return Ok(());
                                    }
                                }
                                key => self.view.press(key),
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        // After a Ctrl-C the program may end at any moment, unless it drains the pipeline: then it waits for the rest.
        let may_end = self.was_interrupted && (!self.token.is_draining() || self.token.is_cancelled());
        let Some(size) = self.terminal.size().filter(|_| !may_end && self.terminal.is_ours()) else {
            return self.terminal.hide();
        };
        let state = self.state();
        let lines = self.view.lines(&self.history, &state, size.columns.into(), size.room());
        self.terminal.show(size, &lines)
    }

    fn state(&self) -> String {
        match &self.history.now().outcome {
            crate::pipeline::Outcome::Running if self.token.is_draining() => "draining".to_owned(),
            outcome => outcome.to_string(),
        }
    }

    /// Restores the terminal and sends the signal of a key. Returns false if the view must end.
    fn pass_on(&mut self, control: Control) -> io::Result<bool> {
        self.terminal.hide()?;
        self.terminal.raise(control);
        Ok(match control {
            Control::Suspend => true,
            Control::Interrupt => !std::mem::replace(&mut self.was_interrupted, true),
            Control::Quit => false,
        })
    }
}
