//! [`Following`]: the source, which takes turns among the files, and waits when all have been read to their end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::options::Follow;
use super::tail::{Shared, Tail};
use crate::clock::earlier;
use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::origin::Site;
use crate::stream::origin::file_line::{FileError, FileLine, FromFileLine, checked};

/// The number of lines of one file before the turn of the next: a busy file must not keep the others waiting.
const TURN: usize = 1000;

pub(super) struct Following<T> {
    tails: Vec<Tail>,
    shared: Shared,
    site: Site,
    poll_interval: Duration,
    stops_at_end: bool,
    /// The file whose turn it is, the number of its lines so far, and the number of files in a row that had nothing.
    turn: usize,
    taken: usize,
    silent: usize,
    phase: Reading,
    item: std::marker::PhantomData<fn() -> T>,
}

#[derive(Clone, Copy)]
enum Reading {
    /// There may be lines.
    Lines,
    /// All files have been read to their end. When they are looked at again; `None` for never.
    Waits(Option<Instant>),
    /// All files have been read to their end, and only the lines without an end are left.
    Rest,
    Over,
}

impl<T: FromFileLine> Following<T> {
    pub(super) fn new(follow: Follow, site: Site, token: CancelToken) -> Self {
        let Follow { files, poll_interval, max_len, stops_at_end, on_event, stats } = follow;
        let mut shared = Shared { token, max_len, on_event, counts: stats.counts };
        Self {
            tails: files.into_iter().map(|(path, start)| Tail::open(path, start, &mut shared)).collect(),
            shared,
            site,
            poll_interval,
            stops_at_end,
            turn: 0,
            taken: 0,
            silent: 0,
            phase: Reading::Lines,
            item: std::marker::PhantomData,
        }
    }

    fn read(&mut self) -> Polled<T> {
        loop {
            match self.phase {
                Reading::Waits(None) => return Polled::Empty,
                Reading::Waits(Some(until)) if self.shared.token.now() < until => return Polled::Empty,
                Reading::Waits(Some(_)) | Reading::Lines | Reading::Rest => {}
                Reading::Over => return Polled::Ended(End::Finished),
            }
            let is_rest = matches!(self.phase, Reading::Rest);
            match self.next(if is_rest { Tail::last } else { Tail::next }) {
                Ok(Some(line)) => {
                    if !is_rest {
                        self.phase = Reading::Lines;
                    }
                    return Polled::Item(self.item(line));
                }
                Err(error) => return Polled::Item(Err(self.error(error))),
                Ok(None) if self.shared.token.is_cancelled() => return Polled::Empty,
                Ok(None) => self.silence(),
            }
        }
    }

    /// The next line of any of the files.
    fn next(&mut self, next: Next) -> Result<Option<FileLine>, FileError> {
        while self.silent < self.tails.len() {
            let found = next(&mut self.tails[self.turn], &mut self.shared);
            self.taken += 1;
            let is_silent = matches!(found, Ok(None));
            if is_silent || self.taken == TURN {
                self.turn = (self.turn + 1) % self.tails.len();
                self.taken = 0;
            }
            if !is_silent {
                self.silent = 0;
                return found;
            }
            self.silent += 1;
        }
        self.silent = 0;
        Ok(None)
    }

    /// All files have been read to their end.
    fn silence(&mut self) {
        self.note_unfinished();
        self.phase = match self.phase {
            Reading::Rest => Reading::Over,
            _ if self.stops_at_end => Reading::Rest,
            _ => Reading::Waits(self.shared.token.now().checked_add(self.poll_interval)),
        };
    }

    fn note_unfinished(&self) {
        let unfinished: usize = self.tails.iter().map(Tail::unfinished).sum();
        // A figure to look at.
        self.shared.counts.unfinished.store(unfinished as u64, Ordering::Relaxed);
    }

    fn item(&self, line: FileLine) -> crate::Result<T> {
        checked(line, self.shared.max_len).map_err(|(reason, line)| {
            self.site.error(|error| error.with_source(reason).with_item(line), ErrorKind::Failed)
        })
    }

    #[cold]
    fn error(&self, error: FileError) -> crate::StreamError {
        self.site.error(|it| it.with_source(error), ErrorKind::Failed)
    }
}

type Next = fn(&mut Tail, &mut Shared) -> Result<Option<FileLine>, FileError>;

impl<T: FromFileLine> Feed for Following<T> {
    type Item = T;
    type Hand = ();

    fn poll(&mut self) -> Polled<T> {
        panic::catch(|| self.read()).unwrap_or_else(|payload| {
            self.phase = Reading::Over;
            Polled::Ended(self.site.died(PanicMessage::from(payload)))
        })
    }

    fn is_drained(&self) -> bool {
        self.shared.token.is_draining()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let next = if let Reading::Waits(next) = self.phase { next } else { None };
        thread.wait(Phase::Idle, earlier(until, next), hint, |waiter| register(waiter) || self.is_drained());
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }

    fn discard(self) {
        self.note_unfinished();
        panic::guard_drop(self);
    }
}
