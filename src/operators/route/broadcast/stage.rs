//! [`Broadcaster`]: sends each item to all current subscribers.
//!
//! # Invariants
//!
//! - Subscribers that have arrived are admitted before an item is sent.
//! - `clone` is the user's: it runs under a guard, and never while the outputs are borrowed or the state is locked.
//! - A later subscriber receives the earlier labels of a merge, after the replayed items, whose origin is unknown.
//! - A subscriber that has left, or was cut, loses the marks behind what it was sent: whether that has been processed is
//!   unknown.
//! - The stage ends when neither a hub nor a subscriber is left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::hub::{Shared, copies_of};
use super::operator::{NoSubscriber, Settings, SlowSubscriber};
use crate::clock::wait::Wake;
use crate::edge::{EdgeSender, End, Refused};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::panic::{self, Held, discard, guard_drop};
use crate::pipeline::stats::{DropReason, StageStats};
use crate::pipeline::timing::{Phase, Timing};
use crate::stage::branch::Branch;
use crate::stage::origins::{Labels, Said};
use crate::stage::own_loop::{self, Desk, Way, Work};
use crate::stage::thread::{StageThread, cut_error};

/// The name of the outputs.
pub(super) const SUBSCRIBER: &str = "subscriber";

/// Reports that items are missing at this place in the stream of a subscriber, because it was too slow: see
/// [`SlowSubscriber::DropOldest`].
#[derive(Debug, Default, thiserror::Error)]
#[error("{} items are missing here, because the subscriber was too slow", self.missed())]
pub struct Lagged {
    missed: AtomicU64,
}

impl Lagged {
    /// Returns the number of missing items, which may grow until the subscriber takes the error.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Called under the lock of the edge that still holds the error.
    fn add_one(&self) -> bool {
        self.missed.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// Reports that the stream of a subscriber was cut because it was full: see [`SlowSubscriber::Disconnect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber was too slow")]
#[non_exhaustive]
pub struct TooSlow;

pub(super) struct Broadcaster<T> {
    shared: Arc<Shared<T>>,
    settings: Settings,
    /// The last items, for later subscribers.
    replay: Held<VecDeque<T>>,
    had_subscriber: bool,
    /// The item that waits for the first subscriber.
    held: Held<Option<Result<T>>>,
    copies: Held<Vec<T>>,
}

impl<T: Clone + Send + 'static> Broadcaster<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, settings: Settings) -> Self {
        Self {
            shared,
            settings,
            replay: Held::default(),
            had_subscriber: false,
            held: Held::default(),
            copies: Held::default(),
        }
    }

    /// Admits new subscribers, and removes those that have left.
    fn look_around(&mut self, desk: &Desk<Ways<T>>) {
        let mut ways = desk.ways();
        let gone: Vec<_> = ways.subscribers.extract_if(.., |subscriber| subscriber.is_over()).collect();
        drop(ways);
        for mut subscriber in gone {
            // The next marks are behind that, and no longer find the branch.
            desk.removed(subscriber.branch.take_losses());
            subscriber.let_go();
        }
        if self.shared.has_news() {
            let (arrived, has_hub) = self.shared.take_news(desk.thread.wake());
            desk.ways().door.has_hub = has_hub;
            arrived.into_iter().for_each(|sender| self.admit(sender, desk));
        }
        let mut ways = desk.ways();
        ways.door.is_empty = ways.subscribers.is_empty();
    }

    fn admit(&mut self, sender: EdgeSender<T>, desk: &Desk<Ways<T>>) {
        self.had_subscriber = true;
        let copies = copies_of(self.replay.iter());
        let mut branch = Branch::with_waits(sender, Arc::clone(&desk.ways().waits));
        branch.start(&desk.thread);
        match copies {
            Ok(copies) => {
                desk.step().emitted.add(copies.len() as u64);
                copies.into_iter().for_each(|item| _ = branch.push(Ok(item)));
            }
            Err(payload) => {
                desk.step().errors_out.add(1);
                let error = desk.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                branch.push(Err(error));
            }
        }
        // There is room for all of it: nothing waits in the open chunk.
        branch.hand_over();
        let slow = self.settings.slow;
        let mut ways = desk.ways();
        let Door { said, labels, .. } = &ways.door;
        said.labels().for_each(|label| branch.put_mark(labels.mark(label)));
        ways.subscribers.push(Subscriber { branch, slow, stuck: Held::default(), is_cut: false });
    }

    fn take(&mut self, item: Result<T>, desk: &Desk<Ways<T>>) {
        self.look_around(desk);
        if !self.had_subscriber && self.settings.no_subscriber == NoSubscriber::Wait {
            *self.held = Some(item);
            desk.ways().door.is_held = true;
            return desk.pushed(true);
        }
        self.pass(item, desk);
    }

    fn pass(&mut self, item: Result<T>, desk: &Desk<Ways<T>>) {
        match item {
            Ok(item) => self.send(item, desk),
            Err(error) => self.send_error(error, desk),
        }
    }

    /// Sends an item to all subscribers, which have been admitted.
    fn send(&mut self, item: T, desk: &Desk<Ways<T>>) {
        let count = desk.ways().subscribers.len();
        let is_kept = self.settings.replay > 0;
        let wanted = (count + usize::from(is_kept)).saturating_sub(1);
        let copies = &mut *self.copies;
        if let Err(payload) = panic::catch(|| copies.extend((0..wanted).map(|_| item.clone()))) {
            discard(copies.drain(..));
            desk.step().failed.add(1);
            let error = desk.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)).with_item(item);
            return self.send_error(error, desk);
        }
        copies.push(item);
        if is_kept {
            let kept = copies.pop();
            let oldest = (self.replay.len() >= self.settings.replay).then(|| self.replay.pop_front()).flatten();
            self.replay.extend(kept);
            guard_drop(oldest);
        }
        if count == 0 {
            desk.step().dropped[DropReason::Undeliverable as usize].add(1);
            desk.undeliverable();
            return discard(self.copies.drain(..));
        }
        let (mut dropped, mut sent) = (Vec::new(), 0);
        let mut ways = desk.ways();
        for (subscriber, item) in ways.subscribers.iter_mut().zip(self.copies.drain(..)) {
            desk.pushed(subscriber.send(Ok(item), desk, &mut dropped));
            sent += u64::from(!subscriber.is_cut);
        }
        drop(ways);
        desk.step().emitted.add(sent);
        match sent {
            0 => desk.step().dropped[DropReason::Undeliverable as usize].add(1),
            _ => desk.step().delivered.add(1),
        }
        discard(dropped);
    }

    fn send_error(&mut self, error: StreamError, desk: &Desk<Ways<T>>) {
        let mut dropped = Vec::new();
        let mut ways = desk.ways();
        if ways.subscribers.is_empty() {
            desk.step().errors_absorbed.add(1);
            desk.undeliverable();
        }
        for subscriber in &mut ways.subscribers {
            desk.step().errors_out.add(1);
            desk.pushed(subscriber.send(Err(error.clone()), desk, &mut dropped));
        }
        drop(ways);
        discard(dropped);
    }
}

impl<T: Clone + Send + 'static> Work for Broadcaster<T> {
    type Item = T;
    type Ways = Ways<T>;

    fn item(&mut self, item: T, desk: &Desk<Ways<T>>) {
        self.take(Ok(item), desk);
    }

    fn error(&mut self, error: StreamError, desk: &Desk<Ways<T>>) {
        self.take(Err(error), desk);
    }

    fn tend(&mut self, desk: &Desk<Ways<T>>) -> Option<Instant> {
        self.look_around(desk);
        if self.had_subscriber
            && let Some(item) = self.held.take()
        {
            desk.ways().door.is_held = false;
            self.pass(item, desk);
        }
        None
    }

    fn discard(mut self) {
        let replay = self.replay.take().into();
        self.shared.finish(replay);
    }
}

/// The outputs: one to each subscriber, and the door through which they arrive.
pub(super) struct Ways<T> {
    subscribers: Vec<Subscriber<T>>,
    door: Door<T>,
    /// The time that the stage waited for room in any of them.
    waits: Arc<Timing>,
}

impl<T> Ways<T> {
    pub(super) fn new(stats: &StageStats, shared: &Arc<Shared<T>>) -> Self {
        let waits = stats.open_outputs(SUBSCRIBER);
        let door = Door {
            waits: Arc::clone(&waits),
            shared: Arc::clone(shared),
            has_hub: true,
            is_empty: true,
            is_held: false,
            said: Said::default(),
            labels: Labels::default(),
        };
        Self { subscribers: Vec::new(), door, waits }
    }
}

impl<T: Send + 'static> own_loop::Ways for Ways<T> {
    #[inline]
    fn each(&self, mut look: impl FnMut(&dyn Way)) {
        look(&self.door);
        self.subscribers.iter().for_each(|subscriber| look(subscriber));
    }

    #[inline]
    fn each_mut(&mut self, mut act: impl FnMut(&mut dyn Way)) {
        act(&mut self.door);
        self.subscribers.iter_mut().for_each(|subscriber| act(subscriber));
    }
}

/// The output to a subscriber.
struct Subscriber<T> {
    branch: Branch<T>,
    slow: SlowSubscriber,
    /// With an edge that drops: an item for which nothing could be evicted.
    stuck: Held<Option<Result<T>>>,
    is_cut: bool,
}

impl<T: Send + 'static> Subscriber<T> {
    fn is_over(&self) -> bool {
        self.is_cut || self.branch.is_gone()
    }

    fn let_go(mut self) {
        self.finish(End::Finished);
    }

    fn finish(&mut self, end: End) {
        if let Some(item) = self.stuck.take() {
            self.branch.lose(&item);
            guard_drop(item);
        }
        self.branch.end(end);
    }

    /// Sends an item, and returns whether the loop must check whether there was room. Evicted items are added to
    /// `dropped`: the subscriber is told, so they count as processed.
    fn send(&mut self, item: Result<T>, desk: &Desk<Ways<T>>, dropped: &mut Vec<T>) -> bool {
        match self.slow {
            SlowSubscriber::DropOldest => {
                self.offer(item, &desk.error_of(ErrorKind::Failed), dropped);
                self.stuck.is_some()
            }
            SlowSubscriber::Disconnect if self.branch.is_full() => {
                self.is_cut = true;
                desk.undeliverable();
                dropped.extend(item.ok());
                self.branch.end(End::Cut(cut_error(&desk.thread.token, &desk.thread.stats, TooSlow)));
                false
            }
            SlowSubscriber::Block | SlowSubscriber::Disconnect => self.branch.push(item),
        }
    }

    /// `template` is the prototype of a gap.
    fn offer(&mut self, item: Result<T>, template: &StreamError, dropped: &mut Vec<T>) {
        let widen = |error: &StreamError| error.downcast_ref::<Lagged>().is_some_and(Lagged::add_one);
        let gap = |missed| {
            let gap = StreamError::new(ErrorKind::Failed, template.stage()).with_time(template.time());
            gap.with_source(Lagged { missed: AtomicU64::new(missed) })
        };
        match self.branch.offer_leaving_gap(item, widen, gap, dropped) {
            Ok(()) => {}
            Err((Refused::Full, item)) => *self.stuck = Some(item),
            Err((Refused::Closed, item)) => {
                self.branch.lose(&item);
                dropped.extend(item.ok());
            }
        }
    }
}

impl<T: Send + 'static> Way for Subscriber<T> {
    fn start(&mut self, thread: &StageThread) {
        self.branch.start(thread);
    }

    /// A lost subscriber is no reason to end.
    fn is_gone(&self) -> bool {
        true
    }

    fn hand_over(&mut self) {
        self.branch.hand_over();
        if let Some(item) = self.stuck.take() {
            let mut dropped = Vec::new();
            self.offer(item, &StreamError::new(ErrorKind::Failed, SUBSCRIBER), &mut dropped);
            discard(dropped);
        }
    }

    #[inline]
    fn hand_over_if_hungry(&mut self) -> bool {
        self.branch.hand_over_if_hungry()
    }

    #[inline]
    fn is_stuck(&self) -> bool {
        self.branch.is_stuck() || self.stuck.is_some()
    }

    fn may_have_room(&self) -> bool {
        self.branch.may_have_room()
    }

    fn want_room(&self, wake: &Arc<Wake>) -> bool {
        self.branch.want_room(wake)
    }

    fn note_wait(&self, phase: Phase, now: Instant) {
        self.branch.note_wait(phase, now);
    }

    fn put_mark(&mut self, mark: StreamError) {
        self.branch.put_mark(mark);
    }

    fn end(&mut self, end: End) {
        self.finish(end);
    }
}

/// The door for new subscribers. It is stuck while an item waits for the first of them.
struct Door<T> {
    shared: Arc<Shared<T>>,
    has_hub: bool,
    /// There is no subscriber.
    is_empty: bool,
    is_held: bool,
    said: Said,
    labels: Labels,
    /// As for the subscribers.
    waits: Arc<Timing>,
}

impl<T: Send + 'static> Way for Door<T> {
    fn start(&mut self, thread: &StageThread) {
        self.waits.start(thread.token.now());
    }

    /// Whether no more will arrive, and none is waiting.
    fn is_gone(&self) -> bool {
        !self.has_hub && self.is_empty
    }

    fn hand_over(&mut self) {}

    fn hand_over_if_hungry(&mut self) -> bool {
        false
    }

    fn is_stuck(&self) -> bool {
        self.is_held
    }

    fn may_have_room(&self) -> bool {
        self.shared.has_news()
    }

    /// The hub wakes the thread of the stage at any time.
    fn want_room(&self, _: &Arc<Wake>) -> bool {
        self.shared.has_news()
    }

    /// The report has one output as long as there are no subscribers, and its time must not fall when they arrive.
    fn note_wait(&self, phase: Phase, now: Instant) {
        self.waits.enter(phase, now);
    }

    fn put_mark(&mut self, mark: StreamError) {
        mark.label().into_iter().for_each(|label| self.said.note(label));
        mark.complete_mark();
    }

    fn end(&mut self, end: End) {
        self.shared.set_end(end);
    }
}
