//! [`Feed`]: where a stage gets its items from; [`Input`], the usual kind: an edge or a foreign channel; and
//! [`Inputs`], several of these that are waited for together.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, TryRecvError};

use super::thread::StageThread;
use crate::clock::earlier;
use crate::clock::wait::{Channel, Waiter, Wake};
use crate::edge::{EdgeReceiver, End, Polled};
use crate::error::{Result, StreamError};
use crate::panic::{Guarded, Held, PanicPayload, guard_drop};
use crate::pipeline::Scope;
use crate::pipeline::recording::Stamper;
use crate::pipeline::stall::Watch;
use crate::pipeline::stats::{Counter, StageStats};
use crate::pipeline::timing::Phase;

/// Where a stage gets its items from, on its own thread.
pub(crate) trait Feed {
    type Item: Send + 'static;

    /// What changes with each item of a burst, if the compiler is to keep it in registers. In the feed it could not: the loop
    /// checks the alarm, and before such an atomic load it writes to memory whatever others might see.
    type Hand: Default;

    /// Whether it is polled only when there is room for an item. Otherwise an item may wait inside the stage.
    const NEEDS_ROOM: bool = false;

    /// Takes the next item, if there is one. A source may block here, in user code.
    fn poll(&mut self) -> Polled<Self::Item>;

    /// Moves out what changes with each item. Until it is put back, only [`next_at_hand`](Self::next_at_hand) and
    /// [`at_hand`](Self::at_hand) are called.
    #[inline(always)]
    fn take_in_hand(&mut self) -> Self::Hand {
        Self::Hand::default()
    }

    #[inline(always)]
    fn put_back(&mut self, _hand: Self::Hand) {}

    /// Takes the next item if it is at hand: the short way to most items, for a loop that the compiler keeps in registers.
    /// `None` says nothing: then [`poll`](Self::poll).
    ///
    /// A panic of user code unwinds to the caller, which has its own guard around many turns and passes it to
    /// [`panicked`](Self::panicked): a guard for each item costs as much as a cheap step.
    #[inline(always)]
    fn next_at_hand(&mut self, _hand: &mut Self::Hand) -> Option<Result<Self::Item>> {
        None
    }

    /// The entries that the next polls will return, one after the other and nothing between them, unless a drain ends the
    /// feed before. There may be more behind them.
    #[inline(always)]
    fn at_hand(&self) -> &[Result<Self::Item>] {
        &[]
    }

    /// Makes up to `most` items in advance, if none are at hand and that takes no time to speak of.
    #[inline(always)]
    fn make_ahead(&mut self, _most: usize) {}

    /// Takes the first of the entries that are [at hand](Self::at_hand), outside of a burst. Called before `poll`.
    ///
    /// Not part of it, for the same reason as in a burst: an entry that `poll` returns passes through memory, in pieces of
    /// different sizes, and the processor stalls.
    #[inline(always)]
    fn take_at_hand(&mut self) -> Option<Result<Self::Item>> {
        None
    }

    /// The stage stops: drops items that were made in advance, and returns their number.
    fn abandon(&mut self) -> u64 {
        0
    }

    /// How the feed ends after a panic in [`next_at_hand`](Self::next_at_hand).
    fn panicked(&mut self, payload: PanicPayload) -> End {
        unreachable!("this feed guards user code itself: {}", payload.message())
    }

    /// Whether a drain has ended it. Called before `poll`, once and then whenever the token's alarm is set.
    fn is_drained(&self) -> bool {
        false
    }

    /// Waits until `poll` may find something, `until` has come, or something else may have changed: see
    /// [`StageThread::wait`]. A source that blocks in `poll` never has to wait here.
    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        thread.wait(Phase::Idle, until, hint, register);
    }

    /// Whether an item must be handed over at once, because the next `poll` may take any time.
    fn is_at_once(&mut self) -> bool {
        false
    }

    /// The number of items that it can make after that answer until it must be asked again.
    fn in_a_row(&self) -> u32 {
        u32::MAX
    }

    /// As [`poll`](Self::poll), for a stage that holds items which it has yet to process: returns [`Polled::Empty`] instead
    /// of calling anything that may block.
    fn poll_at_once(&mut self) -> Polled<Self::Item> {
        if self.is_at_once() { Polled::Empty } else { self.poll() }
    }

    /// The stage had to wait for room: the feed is not responsible for the time that has passed.
    fn paused(&mut self) {}

    /// Updates the statistics of a source: it has made `made` items since the last call.
    fn publish(&mut self, _made: u64) {}

    /// Announces the room that was made: before parking and before returning to a caller.
    fn settle(&self) {}

    /// Drops it. A panic of user code in it is caught here.
    fn discard(self)
    where
        Self: Sized,
    {
        guard_drop(self);
    }

    /// Returns what [`settle`](Self::settle) does, for callers without access to the feed.
    fn announcer(&self) -> Box<dyn Fn()> {
        Box::new(|| {})
    }
}

pub(crate) enum Input<T> {
    Edge(EdgeReceiver<T>),
    Foreign(Foreign<T>),
}

/// A foreign channel, read by its consumer directly.
pub(crate) struct Foreign<T> {
    /// Items left in the channel are dropped with its last handle, which may be this one.
    pub(crate) receiver: Guarded<Receiver<T>>,
    pub(crate) scope: Arc<Scope>,
    /// The source's statistics, which have no other writer.
    pub(crate) stats: Arc<StageStats>,
    pub(crate) stamper: Stamper,
    /// The stamp that follows the item taken last.
    pub(crate) stamp: Option<StreamError>,
    /// The item that [`look_ahead`](Input::look_ahead) has taken. In a box, because streams are moved and items may be
    /// large.
    pub(crate) ahead: Held<Option<Box<T>>>,
}

impl<T: Send + 'static> Input<T> {
    /// Takes the next item, if there is one. Never blocks.
    #[inline(always)]
    pub(crate) fn poll(&mut self) -> Polled<T> {
        match self {
            Input::Edge(edge) => edge.poll(),
            Input::Foreign(foreign) => foreign.poll(),
        }
    }

    /// Takes items until there are none, or `items` has `most` of them.
    pub(crate) fn poll_until(&mut self, most: usize, items: &mut Vec<Result<T>>) {
        match self {
            Input::Edge(edge) => edge.poll_until(most, items),
            Input::Foreign(foreign) => {
                while items.len() < most
                    && let Polled::Item(item) = foreign.poll()
                {
                    items.push(item);
                }
            }
        }
    }

    /// The number of available items: a hint.
    pub(crate) fn len(&self) -> usize {
        match self {
            Input::Edge(edge) => edge.shared().gauge().items(),
            Input::Foreign(foreign) => foreign.receiver.len(),
        }
    }

    pub(crate) fn may_have_items(&self) -> bool {
        match self {
            Input::Edge(edge) => edge.may_have_items(),
            Input::Foreign(foreign) => foreign.has_items(),
        }
    }

    /// Whether the next poll finds something other than the end. Unlike [`may_have_items`](Self::may_have_items) this
    /// is not a hint: if it is false, nothing that arrives in the meantime is taken. Only a receive shows whether a
    /// channel without a buffer has something, so an item is taken in advance.
    pub(crate) fn look_ahead(&mut self) -> bool {
        match self {
            // The caller has asked before: the edge has an item, or the end.
            Input::Edge(edge) => edge.may_have_items(),
            Input::Foreign(foreign) => foreign.look_ahead(),
        }
    }

    /// Makes the consumer hungry. Returns true if there is something already.
    pub(crate) fn ask(&self) -> bool {
        match self {
            Input::Edge(edge) => edge.ask(),
            Input::Foreign(foreign) => foreign.has_items(),
        }
    }

    /// Registers for items. Returns true if a poll may find something, so that the caller must not park.
    pub(crate) fn want_items(&self, waiter: &Waiter) -> bool {
        match self {
            Input::Edge(edge) => edge.want_items(waiter.wake()),
            // A drain wakes the thread anyway; the park watches the channel itself.
            Input::Foreign(foreign) => {
                waiter.expect_foreign();
                foreign.has_taken() || foreign.scope.is_draining()
            }
        }
    }

    /// Registers another thread's wake for items. Returns true if there are some. Each reader watches a foreign channel
    /// by itself.
    pub(crate) fn arm(&self, wake: &Arc<Wake>) -> bool {
        match self {
            Input::Edge(edge) => edge.want_items(wake),
            Input::Foreign(foreign) => foreign.has_taken() || foreign.scope.is_draining(),
        }
    }

    /// The foreign channel, if it is one.
    pub(crate) fn foreign(&self) -> Option<Receiver<T>> {
        match self {
            Input::Edge(_) => None,
            Input::Foreign(foreign) => Some(foreign.receiver.clone()),
        }
    }

    /// Whether a poll would find something.
    pub(crate) fn has_items(&self) -> bool {
        match self {
            Input::Edge(edge) => edge.has_items(),
            Input::Foreign(foreign) => foreign.has_items(),
        }
    }

    /// For a consumer that has other inputs to continue with: makes it hungry here, unless it already is. Returns false
    /// if there is something.
    pub(crate) fn ask_beside(&self) -> bool {
        match self {
            Input::Edge(edge) => !edge.may_have_items() && (edge.shared().is_hungry() || !edge.ask()),
            // A channel is watched by polling it.
            Input::Foreign(_) => false,
        }
    }

    /// Announces the room that was made: before parking and before returning to a caller.
    pub(crate) fn settle(&self) {
        if let Input::Edge(edge) = self {
            edge.settle();
        }
    }
}

impl<T: Send + 'static> Feed for Input<T> {
    type Item = T;
    type Hand = ();

    #[inline(always)]
    fn poll(&mut self) -> Polled<T> {
        Input::poll(self)
    }

    #[inline(always)]
    fn next_at_hand(&mut self, (): &mut ()) -> Option<Result<T>> {
        match self {
            Input::Edge(edge) => edge.next_in_chunk(),
            Input::Foreign(_) => None,
        }
    }

    #[inline]
    fn at_hand(&self) -> &[Result<T>] {
        match self {
            Input::Edge(edge) => edge.in_chunk(),
            Input::Foreign(_) => &[],
        }
    }

    #[inline(always)]
    fn take_at_hand(&mut self) -> Option<Result<T>> {
        self.next_at_hand(&mut ())
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        thread.wait_for_inputs(self, until, hint, register);
    }

    fn settle(&self) {
        Input::settle(self);
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(self)
    }
}

/// The inputs of a stage, which are waited for together: one, several, or two of different types.
pub(crate) trait Inputs {
    /// A hint that a poll of one of them would find something.
    fn may_have_items(&self) -> bool;

    /// Registers with each of them, even after one has answered true. Returns true if a poll of one of them may find
    /// something.
    fn want_items(&self, waiter: &Waiter) -> bool;

    /// Adds the foreign channels among them.
    fn channels<'a>(&'a self, found: &mut Vec<&'a dyn Channel>);

    /// Announces the room that was made in each of them.
    fn settle(&self);

    /// Adds the functions that announce the room in each of them, for a caller that has no access to the inputs.
    fn announcers(&self, found: &mut Vec<Box<dyn Fn()>>);
}

/// What [`Feed::announcer`] returns for a feed that reads `inputs`.
pub(crate) fn announcer(inputs: &dyn Inputs) -> Box<dyn Fn()> {
    let mut all = Vec::new();
    inputs.announcers(&mut all);
    Box::new(move || all.iter().for_each(|one| one()))
}

/// Parks until one of `inputs`, which the caller has registered with, may have something.
pub(crate) fn park(inputs: &dyn Inputs, waiter: &Waiter, deadline: Option<Instant>) {
    let mut channels = Vec::new();
    inputs.channels(&mut channels);
    if channels.is_empty() { waiter.park(deadline) } else { waiter.park_on(&channels, deadline) }
}

impl<T: Send + 'static> Inputs for Input<T> {
    fn may_have_items(&self) -> bool {
        Input::may_have_items(self)
    }

    fn want_items(&self, waiter: &Waiter) -> bool {
        Input::want_items(self, waiter)
    }

    fn channels<'a>(&'a self, found: &mut Vec<&'a dyn Channel>) {
        if let Input::Foreign(foreign) = self {
            found.push(&*foreign.receiver);
        }
    }

    fn settle(&self) {
        Input::settle(self);
    }

    fn announcers(&self, found: &mut Vec<Box<dyn Fn()>>) {
        if let Input::Edge(edge) = self {
            let edge = Arc::clone(edge.shared());
            found.push(Box::new(move || edge.settle()));
        }
    }
}

impl<I: Inputs> Inputs for Vec<I> {
    fn may_have_items(&self) -> bool {
        self.iter().any(I::may_have_items)
    }

    fn want_items(&self, waiter: &Waiter) -> bool {
        self.iter().fold(false, |found, input| input.want_items(waiter) | found)
    }

    fn channels<'a>(&'a self, found: &mut Vec<&'a dyn Channel>) {
        self.iter().for_each(|input| input.channels(found));
    }

    fn settle(&self) {
        self.iter().for_each(I::settle);
    }

    fn announcers(&self, found: &mut Vec<Box<dyn Fn()>>) {
        self.iter().for_each(|input| input.announcers(found));
    }
}

/// An input that may have ended.
impl<I: Inputs> Inputs for Option<I> {
    fn may_have_items(&self) -> bool {
        self.as_ref().is_some_and(I::may_have_items)
    }

    fn want_items(&self, waiter: &Waiter) -> bool {
        self.as_ref().is_some_and(|input| input.want_items(waiter))
    }

    fn channels<'a>(&'a self, found: &mut Vec<&'a dyn Channel>) {
        self.iter().for_each(|input| input.channels(found));
    }

    fn settle(&self) {
        self.iter().for_each(I::settle);
    }

    fn announcers(&self, found: &mut Vec<Box<dyn Fn()>>) {
        self.iter().for_each(|input| input.announcers(found));
    }
}

impl<A: Inputs, B: Inputs> Inputs for (A, B) {
    fn may_have_items(&self) -> bool {
        self.0.may_have_items() || self.1.may_have_items()
    }

    fn want_items(&self, waiter: &Waiter) -> bool {
        self.0.want_items(waiter) | self.1.want_items(waiter)
    }

    fn channels<'a>(&'a self, found: &mut Vec<&'a dyn Channel>) {
        self.0.channels(found);
        self.1.channels(found);
    }

    fn settle(&self) {
        self.0.settle();
        self.1.settle();
    }

    fn announcers(&self, found: &mut Vec<Box<dyn Fn()>>) {
        self.0.announcers(found);
        self.1.announcers(found);
    }
}

impl<T> Foreign<T> {
    /// Whether a poll finds something: a stamp does not wait for the next item.
    fn has_items(&self) -> bool {
        self.has_taken() || !self.receiver.is_empty()
    }

    /// Whether there is something that was taken from the channel.
    fn has_taken(&self) -> bool {
        self.stamp.is_some() || self.ahead.is_some()
    }

    #[cold]
    fn look_ahead(&mut self) -> bool {
        if !self.has_taken() && !self.scope.is_draining() {
            *self.ahead = self.receiver.try_recv().ok().map(Box::new);
        }
        self.has_taken()
    }

    fn taken(&mut self, item: T) -> Polled<T> {
        let step = &self.stats.steps[0];
        Counter::add(&step.emitted, 1);
        self.stamp = self.stamper.due();
        Polled::Item(Ok(item))
    }

    #[cold]
    fn poll(&mut self) -> Polled<T> {
        if let Some(stamp) = self.stamp.take() {
            return Polled::Item(Err(stamp));
        }
        if let Some(item) = self.ahead.take() {
            return self.taken(*item);
        }
        if self.scope.is_draining() {
            return Polled::Ended(End::Finished);
        }
        match self.receiver.try_recv() {
            Ok(item) => self.taken(item),
            Err(TryRecvError::Empty) => Polled::Empty,
            Err(TryRecvError::Disconnected) => Polled::Ended(End::Finished),
        }
    }
}

impl StageThread {
    /// As [`wait`](Self::wait), for something in any of the inputs, some of which may be foreign channels.
    pub(crate) fn wait_for_inputs(
        &self,
        inputs: &dyn Inputs,
        until: Option<Instant>,
        mut hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let mut register = Some(register);
        let mut register = |waiter: &Waiter| register.take().is_some_and(|register| register(waiter));
        self.wait_for_any(inputs, until, &mut hint, &mut register);
    }

    /// Not generic, so that it is compiled once.
    fn wait_for_any(
        &self,
        inputs: &dyn Inputs,
        until: Option<Instant>,
        hint: &mut dyn FnMut() -> bool,
        register: &mut dyn FnMut(&Waiter) -> bool,
    ) {
        self.wait_in(Phase::Idle, &mut |waiter| {
            let mut look = || inputs.may_have_items() || hint() || self.is_stopped();
            waiter.head_start();
            if look() || waiter.spin(&mut look) {
                return;
            }
            let found = inputs.want_items(waiter);
            // After the registrations: earlier changes are seen here, later ones post the wake.
            if !(register(waiter) || found || self.is_stopped()) {
                let next = self.watch.as_ref().and_then(Watch::next);
                park(inputs, waiter, earlier(earlier(until, self.deadline), next));
                if let Some(watch) = &self.watch
                    && !inputs.may_have_items()
                {
                    watch.look(self.token.scope());
                }
            }
        });
    }
}
