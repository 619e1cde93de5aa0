//! [`Dispatcher`]: sends each item to the group of its key.
//!
//! The loop is the one of all stages with several outputs (`stage/own_loop.rs`).
//!
//! # Invariants
//!
//! - *One group at a time for a key.* An item whose key has a group that is ending is held back until that group has
//!   drained; so the order of a key holds across its groups.
//! - *The bound.* There are at most `max_groups` entries. An entry is removed when its group has drained and not
//!   before, so there are no more threads than the bound allows.
//! - *Nothing is lost when a group ends.* An output that is stuck is ended when it has found room. A mark that arrives
//!   for a group that is ending goes to the output for errors once the group has drained, and so behind everything that
//!   the group emitted.
//! - *User code* (key, `build`, `Hash`, `Eq`, drops) runs under a guard, and never while the outputs are borrowed: a
//!   closure that waits makes the hook of the thread hand them over.
//! - A group that starts later receives the earlier labels of a merge.
//! - The stage ends when its consumer has left, which is the merge; lost groups are no reason.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gather::Exchange;
use super::operator::GroupOverflow;
use super::stats::Counts;
use crate::clock::wait::Wake;
use crate::edge::{EdgeSender, End};
use crate::error::{BoxError, ErrorKind, PanicMessage, StreamError};
use crate::mark::Losses;
use crate::operators::key_table::{KeyPanicked, Place, Probe, Slot};
use crate::operators::lru_table::LruTable;
use crate::panic::{self, Held, guard_drop};
use crate::pipeline::stats::{DropReason, StageStats};
use crate::pipeline::timing::{Phase, Timing};
use crate::stage::branch::Branch;
use crate::stage::input::Input;
use crate::stage::origins::{Labels, Origins, Said};
use crate::stage::own_loop::{self, Desk, Way, Work};
use crate::stage::thread::StageThread;
use crate::stream::Stream;
use crate::stream::start::output_of;

/// The name of the output to the groups.
const GROUP: &str = "group";

/// Reports that a [`GroupBy`](crate::GroupBy) rejected an item, because its key would need one group too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the maximum of {max_groups} groups is reached")]
#[non_exhaustive]
pub struct TooManyGroups {
    /// The number of groups that are allowed.
    pub max_groups: usize,
}

/// `build` returned a stream that cannot be merged with the others.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the group's stream belongs to another pipeline, `{0}`")]
struct OtherPipeline(Arc<str>);

/// The options of a [`GroupBy`](crate::GroupBy).
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_groups: usize,
    /// `None` if groups do not expire, and the clock is not read.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) overflow: GroupOverflow,
    /// Of each group's input.
    pub(super) buffer: Option<usize>,
}

/// The entry of a key.
struct Group {
    way: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its input has been ended, and its output has not drained.
    Closing,
    /// Its output has ended by itself, and its way is no longer there.
    Ended,
}

/// An item that is held back.
enum Waiting<K> {
    /// Until the group of its key has drained.
    For(Slot),
    /// Until there is room for another group.
    Place(Probe<K>),
}

pub(super) struct Dispatcher<T, K, R, F, G> {
    key: Arc<F>,
    build: Arc<G>,
    limits: Limits,
    /// In the order of their last items.
    groups: LruTable<K, Group>,
    /// The number of closing groups.
    closing: usize,
    /// Those of them that ended by themselves, in that order.
    ended: VecDeque<Slot>,
    held: Option<Waiting<K>>,
    held_item: Held<Option<T>>,
    counts: Arc<Counts>,
    exchange: Arc<Exchange<R>>,
    /// The statistics of the stage that merges the groups.
    gather: Arc<StageStats>,
    /// The inputs that the groups can distinguish.
    origins: Option<Arc<Origins>>,
    labels: Labels,
}

impl<T, K, R, F, G> Dispatcher<T, K, R, F, G>
where
    T: Send + 'static,
    K: Hash + Eq + Send + 'static,
    R: Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&K, Stream<T>) -> Stream<R> + Send + Sync + 'static,
{
    pub(super) fn new(
        (key, build): (Arc<F>, Arc<G>),
        limits: Limits,
        counts: Arc<Counts>,
        exchange: Arc<Exchange<R>>,
        gather: Arc<StageStats>,
        origins: Option<Arc<Origins>>,
    ) -> Self {
        Self {
            key,
            build,
            limits,
            groups: LruTable::default(),
            closing: 0,
            ended: VecDeque::new(),
            held: None,
            held_item: Held::default(),
            counts,
            exchange,
            gather,
            origins,
            labels: Labels::default(),
        }
    }

    fn now(&self, desk: &Desk<Ways<T, R>>) -> Option<Instant> {
        self.limits.idle_timeout.map(|_| desk.thread.token.now())
    }

    /// When the group expires, if it does.
    fn expiry(&self, slot: Slot) -> Option<Instant> {
        self.groups.time(slot)?.checked_add(self.limits.idle_timeout?)
    }

    /// Ends the groups that have been idle for too long.
    fn expire(&mut self, now: Option<Instant>, desk: &Desk<Ways<T, R>>) {
        let Some(now) = now else { return };
        while let Some(oldest) = self.groups.oldest()
            && self.expiry(oldest).is_some_and(|expiry| expiry <= now)
        {
            match self.groups.get_mut(oldest).map(|group| group.state) {
                Some(State::Open) => {
                    self.counts.expired.add_shared(1);
                    desk.step().expired_keys.add(1);
                    self.close(oldest, desk);
                    self.groups.touch(oldest, Some(now));
                }
                // It is checked again later.
                Some(State::Closing) => self.groups.touch(oldest, Some(now)),
                Some(State::Ended) => {
                    self.ended.retain(|slot| *slot != oldest);
                    guard_drop(self.remove(oldest));
                }
                None => return,
            }
        }
    }

    /// Ends the input of an open group.
    fn close(&mut self, slot: Slot, desk: &Desk<Ways<T, R>>) {
        if let Some(group) = self.groups.get_mut(slot) {
            group.state = State::Closing;
            self.closing += 1;
            if let Some(member) = &mut desk.ways().members[group.way] {
                member.close();
            }
        }
    }

    fn remove(&mut self, slot: Slot) -> Option<K> {
        self.counts.removed.add_shared(1);
        self.groups.remove(slot).map(|(key, _)| key)
    }

    /// The output of a group has drained.
    fn group_ended(&mut self, slot: Slot, desk: &Desk<Ways<T, R>>) {
        let Some(group) = self.groups.get_mut(slot) else { return };
        let was = std::mem::replace(&mut group.state, State::Ended);
        let losses = desk.ways().remove(group.way);
        losses.into_iter().for_each(|losses| desk.removed(losses));
        if was == State::Open {
            return self.ended.push_back(slot);
        }
        self.closing -= 1;
        let key = self.remove(slot);
        match self.held {
            Some(Waiting::For(awaited)) if awaited == slot => {
                self.held = None;
                desk.ways().holding.is_held = false;
                let (Some(key), Some(item)) = (key, self.held_item.take()) else { return };
                match self.groups.probe(key) {
                    Ok(probe) => self.hold(Waiting::Place(probe), item, desk),
                    Err(KeyPanicked(payload)) => {
                        self.fail(ErrorKind::Panicked, PanicMessage::from(payload), item, desk)
                    }
                }
            }
            _ => guard_drop(key),
        }
    }

    /// Holds the item back: the stage accepts nothing more until [`Work::tend`] has settled it.
    fn hold(&mut self, waiting: Waiting<K>, item: T, desk: &Desk<Ways<T, R>>) {
        self.held = Some(waiting);
        *self.held_item = Some(item);
        desk.ways().holding.is_held = true;
        desk.pushed(true);
    }

    /// Handles an item whose key has a group.
    fn known(&mut self, slot: Slot, item: T, now: Option<Instant>, desk: &Desk<Ways<T, R>>) {
        let Some(group) = self.groups.get_mut(slot) else { return guard_drop(item) };
        let (way, state) = (group.way, group.state);
        if state == State::Closing {
            return self.hold(Waiting::For(slot), item, desk);
        }
        self.groups.touch(slot, now);
        if state == State::Open {
            let mut ways = desk.ways();
            if let Some(member) = ways.members[way].as_mut().filter(|member| !member.branch.is_gone()) {
                desk.step().delivered.add(1);
                desk.step().emitted.add(1);
                return desk.pushed(member.branch.push(Ok(item)));
            }
        }
        desk.step().dropped[DropReason::Undeliverable as usize].add(1);
        desk.undeliverable();
        guard_drop(item);
    }

    /// Handles an item whose key has no group.
    fn unknown(&mut self, probe: Probe<K>, item: T, now: Option<Instant>, desk: &Desk<Ways<T, R>>) {
        if self.groups.len() >= self.limits.max_groups {
            match self.ended.pop_front() {
                Some(slot) => guard_drop(self.remove(slot)),
                None if self.closing > 0 => return self.hold(Waiting::Place(probe), item, desk),
                None => return self.overflow(probe, item, desk),
            }
        }
        self.start(probe, item, now, desk);
    }

    /// The maximum number of groups exists, all of them open.
    fn overflow(&mut self, probe: Probe<K>, item: T, desk: &Desk<Ways<T, R>>) {
        match self.limits.overflow {
            GroupOverflow::Evict => {
                if let Some(oldest) = self.groups.oldest() {
                    self.counts.evicted.add_shared(1);
                    desk.step().evicted_keys.add(1);
                    self.close(oldest, desk);
                }
                self.hold(Waiting::Place(probe), item, desk);
            }
            GroupOverflow::Wait => self.hold(Waiting::Place(probe), item, desk),
            GroupOverflow::Reject => {
                guard_drop(probe.into_key());
                self.counts.rejected.add_shared(1);
                self.fail(ErrorKind::Rejected, TooManyGroups { max_groups: self.limits.max_groups }, item, desk);
            }
        }
    }

    /// Builds a group and sends it its first item.
    #[cold]
    fn start(&mut self, probe: Probe<K>, item: T, now: Option<Instant>, desk: &Desk<Ways<T, R>>) {
        let (token, stats) = (&desk.thread.token, &desk.thread.stats);
        stats.sum_up_outputs(GROUP);
        let (mut sender, input) = output_of::<T>(token, stats, GROUP, self.limits.buffer, false);
        let input = input.with_origins(self.origins.clone());
        let output = match panic::catch(|| (self.build)(probe.key(), input)) {
            Ok(output) => self.join(output, desk),
            Err(payload) => Err((ErrorKind::Panicked, PanicMessage::from(payload).into())),
        };
        match output {
            Ok(output) => {
                let mut branch = Branch::with_waits(sender, Arc::clone(&desk.ways().waits));
                branch.start(&desk.thread);
                desk.ways().holding.said.labels().for_each(|label| branch.put_mark(self.labels.mark(label)));
                let way = desk.ways().add(Member { branch, marks: Vec::new(), is_closing: false });
                let slot = self.groups.insert(probe, Group { way, state: State::Open }, now);
                self.counts.started.add_shared(1);
                self.exchange.add(slot, output, desk.thread.wake());
                self.known(slot, item, now, desk);
            }
            Err((kind, source)) => {
                sender.end(End::Finished);
                guard_drop(probe.into_key());
                self.fail(kind, source, item, desk);
            }
        }
    }

    /// The output of a new group as an input of the merge, or why it has none.
    fn join(&self, output: Stream<R>, desk: &Desk<Ways<T, R>>) -> Result<Input<R>, (ErrorKind, BoxError)> {
        let scope = output.token().scope();
        if !Arc::ptr_eq(scope, desk.thread.token.scope()) {
            return Err((ErrorKind::Failed, OtherPipeline(Arc::clone(scope.name())).into()));
        }
        output.is_read_by(&self.gather);
        let mut inputs = self.gather.inputs.lock();
        // Groups that have ended have passed their names on, see `pipeline/summary.rs`.
        let mut seen = HashSet::new();
        inputs.retain(|input| seen.insert((Arc::clone(&input.stage), Arc::clone(&input.output))));
        drop(inputs);
        let input = output.into_input();
        match &input {
            Input::Edge(edge) => match edge.shared().cut_error() {
                Some(error) => Err((ErrorKind::Internal, error.into())),
                None => Ok(input),
            },
            Input::Foreign(_) => Ok(input),
        }
    }

    #[cold]
    fn fail(&mut self, kind: ErrorKind, source: impl Into<BoxError>, item: T, desk: &Desk<Ways<T, R>>) {
        desk.step().failed.add(1);
        self.send_error(desk.details_of(kind).with_source(source).about(item), desk);
    }

    fn send_error(&mut self, error: StreamError, desk: &Desk<Ways<T, R>>) {
        desk.step().errors_out.add(1);
        desk.pushed(desk.ways().errors.push(Err(error)));
    }
}

impl<T, K, R, F, G> Work for Dispatcher<T, K, R, F, G>
where
    T: Send + 'static,
    K: Hash + Eq + Send + 'static,
    R: Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&K, Stream<T>) -> Stream<R> + Send + Sync + 'static,
{
    type Item = T;
    type Ways = Ways<T, R>;

    fn item(&mut self, item: T, desk: &Desk<Self::Ways>) {
        let now = self.now(desk);
        self.expire(now, desk);
        let found = panic::catch(|| (self.key)(&item)).and_then(|key| {
            let probe = self.groups.probe(key).map_err(|KeyPanicked(payload)| payload)?;
            self.groups.find(probe).map_err(|KeyPanicked(payload)| payload)
        });
        match found {
            Ok(Place::Taken(slot)) => self.known(slot, item, now, desk),
            Ok(Place::Free(probe)) => self.unknown(probe, item, now, desk),
            Err(payload) => self.fail(ErrorKind::Panicked, PanicMessage::from(payload), item, desk),
        }
    }

    fn error(&mut self, error: StreamError, desk: &Desk<Self::Ways>) {
        self.send_error(error, desk);
    }

    fn tend(&mut self, desk: &Desk<Self::Ways>) -> Option<Instant> {
        if self.exchange.has_ended() {
            for slot in self.exchange.take_ended() {
                self.group_ended(slot, desk);
            }
        }
        let now = self.now(desk);
        self.expire(now, desk);
        let has_place = self.groups.len() < self.limits.max_groups || !self.ended.is_empty();
        if matches!(self.held, Some(Waiting::Place(_))) && has_place {
            desk.ways().holding.is_held = false;
            if let (Some(Waiting::Place(probe)), Some(item)) = (self.held.take(), self.held_item.take()) {
                self.unknown(probe, item, now, desk);
            }
        }
        self.groups.oldest().and_then(|oldest| self.expiry(oldest))
    }

    fn discard(self) {
        let Self { key, build, groups, held, held_item, counts, .. } = self;
        counts.removed.add_shared(groups.len() as u64);
        guard_drop(key);
        guard_drop(build);
        if let Some(Waiting::Place(probe)) = held {
            guard_drop(probe.into_key());
        }
        drop((groups, held_item));
    }
}

/// The outputs: to the merge for errors, and to each group.
pub(super) struct Ways<T, R> {
    errors: Branch<R>,
    members: Vec<Option<Member<T>>>,
    free: Vec<usize>,
    holding: Holding<R>,
    /// The time that the stage waited for room in any group.
    waits: Arc<Timing>,
}

impl<T, R> Ways<T, R> {
    pub(super) fn new(errors: EdgeSender<R>, stats: &StageStats, exchange: &Arc<Exchange<R>>) -> Self {
        let waits = stats.open_outputs(GROUP);
        let holding = Holding { is_held: false, exchange: Arc::clone(exchange), said: Said::default() };
        Self { errors: Branch::new(errors, stats), members: Vec::new(), free: Vec::new(), holding, waits }
    }

    fn add(&mut self, member: Member<T>) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.members[index] = Some(member);
        index
    }

    /// Removes the output to a group whose output has drained. Returns what may be lost, if the group ended before its
    /// input did.
    #[must_use]
    fn remove(&mut self, index: usize) -> Option<Losses> {
        let mut member = self.members[index].take()?;
        self.free.push(index);
        let losses = (!member.is_closing).then(|| member.branch.take_losses());
        member.branch.end(End::Finished);
        self.holding.exchange.put_marks(member.marks);
        losses
    }
}

impl<T: Send + 'static, R: Send + 'static> own_loop::Ways for Ways<T, R> {
    #[inline]
    fn each(&self, mut look: impl FnMut(&dyn Way)) {
        look(&self.errors);
        look(&self.holding);
        self.members.iter().flatten().for_each(|member| look(member));
    }

    #[inline]
    fn each_mut(&mut self, mut act: impl FnMut(&mut dyn Way)) {
        // The errors last: when they have ended, nothing more comes from here.
        act(&mut self.holding);
        self.members.iter_mut().flatten().for_each(|member| act(member));
        act(&mut self.errors);
    }
}

/// The output to a group.
struct Member<T> {
    branch: Branch<T>,
    /// Marks that arrived while the group was ending.
    marks: Vec<StreamError>,
    is_closing: bool,
}

impl<T> Member<T> {
    /// Ends the input of the group, behind the items sent.
    fn close(&mut self) {
        self.is_closing = true;
        self.end_if_closing();
    }

    fn end_if_closing(&mut self) {
        if self.is_closing && !self.branch.is_stuck() {
            self.branch.end(End::Finished);
        }
    }
}

impl<T> Way for Member<T> {
    fn start(&mut self, thread: &StageThread) {
        self.branch.start(thread);
    }

    /// A lost group is no reason to end.
    fn is_gone(&self) -> bool {
        true
    }

    fn hand_over(&mut self) {
        self.branch.hand_over();
        self.end_if_closing();
    }

    #[inline]
    fn hand_over_if_hungry(&mut self) -> bool {
        self.branch.hand_over_if_hungry()
    }

    #[inline]
    fn is_stuck(&self) -> bool {
        self.branch.is_stuck()
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
        if self.is_closing && mark.label().is_some() {
            mark.complete_mark();
        } else if self.is_closing {
            self.marks.push(mark);
        } else {
            self.branch.put_mark(mark);
        }
    }

    fn end(&mut self, end: End) {
        self.branch.end(end);
    }
}

/// Stands for the item that is held back: it is stuck while there is one.
struct Holding<R> {
    is_held: bool,
    exchange: Arc<Exchange<R>>,
    /// For groups that begin later.
    said: Said,
}

impl<R> Way for Holding<R> {
    fn start(&mut self, _: &StageThread) {}

    fn is_gone(&self) -> bool {
        true
    }

    fn hand_over(&mut self) {}

    fn hand_over_if_hungry(&mut self) -> bool {
        false
    }

    fn is_stuck(&self) -> bool {
        self.is_held
    }

    fn may_have_room(&self) -> bool {
        self.exchange.has_ended()
    }

    /// The exchange wakes the thread of the stage at any time.
    fn want_room(&self, _: &Arc<Wake>) -> bool {
        self.exchange.has_ended()
    }

    fn note_wait(&self, _: Phase, _: Instant) {}

    fn put_mark(&mut self, mark: StreamError) {
        mark.label().into_iter().for_each(|label| self.said.note(label));
        mark.complete_mark();
    }

    fn end(&mut self, _: End) {}
}
