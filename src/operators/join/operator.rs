//! [`JoinOperator`]: matches the items of two inputs.
//!
//! # Invariants
//!
//! - An item that arrives is paired with all its partners in the state, and then put into the state itself. So each pair is
//!   emitted once, when the later of the two arrives.
//! - An item leaves the state when the watermark of the *other* input has passed the latest time at which a partner of
//!   it may arrive. An item that is older than the watermark of its own input is late. So no pair is missed because an
//!   item has left, and the emitted pairs do not depend on how the inputs are interleaved.
//! - An item is settled when it leaves the state: as delivered if it is in a pair or emitted on its own, otherwise as
//!   filtered.
//! - While an item is being paired, nothing enters or leaves the state, so its place among its partners stays valid.
//!   Items that must leave do so before.
//! - User code is called under a guard, and before anything is changed for its item; cloning changes nothing.

use std::marker::PhantomData;
use std::mem;
use std::time::Instant;

use super::feed::{Arrived, LEFT, Turn, side_of};
use super::joins::Emits;
use super::lane::{Lane, Line, Stored, TooManyHeld, insert};
use super::side::Side;
use crate::clock::earlier;
use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::epochs::Epochs;
use crate::operators::key_table::{KeyPanicked, KeyTable, Place, Probe, Slot};
use crate::operators::steering::Steering;
use crate::operators::window::time::{Refusal, Times};
use crate::panic::{self, PanicPayload};
use crate::stage::operator::{Emit, Operator};

pub(super) struct JoinOperator<A: Side, B: Side<Key = A::Key>, M> {
    left: Lane<A>,
    right: Lane<B>,
    table: KeyTable<A::Key, Lines<A::Item, B::Item>>,
    arriving: Option<Arriving<A::Key, A::Item, B::Item>>,
    max_items: usize,
    epochs: Epochs,
    steering: Steering,
    kind: PhantomData<fn() -> M>,
}

/// The items in the state that have the same key.
pub(super) struct Lines<L, R> {
    left: Line<L>,
    right: Line<R>,
}

impl<L, R> Default for Lines<L, R> {
    fn default() -> Self {
        Self { left: Line::default(), right: Line::default() }
    }
}

/// The item that is being paired.
enum Arriving<K, L, R> {
    Left(Arrival<K, L>),
    Right(Arrival<K, R>),
}

struct Arrival<K, T> {
    item: T,
    time: i128,
    under: Under<K>,
    /// The index of its next partner.
    next: usize,
    matched: bool,
}

/// Where its key is.
enum Under<K> {
    Sought(Probe<K>),
    Known(Slot),
    New(Probe<K>),
}

/// How an item of one of the inputs sees the join.
trait View {
    type Mine: Clone + Send + 'static;
    type Theirs: Clone;
    type Lines: Default;
    type Out;

    fn lines(lines: &mut Self::Lines) -> (&mut Line<Self::Mine>, &mut Line<Self::Theirs>);
    fn both(mine: Self::Mine, theirs: Self::Theirs) -> Self::Out;
    fn alone(mine: Self::Mine) -> Result<Self::Out, Self::Mine>;
}

struct FromLeft<L, R, M>(PhantomData<(L, R, M)>);

impl<L: Clone + Send + 'static, R: Clone, M: Emits<L, R>> View for FromLeft<L, R, M> {
    type Mine = L;
    type Theirs = R;
    type Lines = Lines<L, R>;
    type Out = M::Out;

    #[inline]
    fn lines(lines: &mut Lines<L, R>) -> (&mut Line<L>, &mut Line<R>) {
        (&mut lines.left, &mut lines.right)
    }

    #[inline]
    fn both(mine: L, theirs: R) -> M::Out {
        M::both(mine, theirs)
    }

    #[inline]
    fn alone(mine: L) -> Result<M::Out, L> {
        M::left(mine)
    }
}

struct FromRight<L, R, M>(PhantomData<(L, R, M)>);

impl<L: Clone, R: Clone + Send + 'static, M: Emits<L, R>> View for FromRight<L, R, M> {
    type Mine = R;
    type Theirs = L;
    type Lines = Lines<L, R>;
    type Out = M::Out;

    #[inline]
    fn lines(lines: &mut Lines<L, R>) -> (&mut Line<R>, &mut Line<L>) {
        (&mut lines.right, &mut lines.left)
    }

    #[inline]
    fn both(mine: R, theirs: L) -> M::Out {
        M::both(theirs, mine)
    }

    #[inline]
    fn alone(mine: R) -> Result<M::Out, R> {
        M::right(mine)
    }
}

/// Receives an item, which is then paired unless it is refused. Time advances in its input.
#[inline]
fn receive<S: Side, T: Side, V: View<Mine = S::Item>>(
    mine: &mut Lane<S>,
    theirs: &mut Lane<T>,
    table: &KeyTable<S::Key, V::Lines>,
    item: S::Item,
    out: &mut impl Emit<V::Out>,
) -> Option<Arrival<S::Key, S::Item>> {
    let time = match mine.side.time_mut().stamp(&item, out) {
        Ok(time) => time,
        Err(refused) => {
            refused.fail(item, out);
            return None;
        }
    };
    if time < mine.reached {
        Refusal::late(time, mine.reached).fail(item, out);
        return None;
    }
    let key = panic::catch(|| mine.side.key(&item)).map_err(KeyPanicked);
    match key.and_then(|key| table.probe(key)) {
        Ok(probe) => {
            // All user code has been called but the `Eq` of the key: an item on which it panics does not advance the
            // time.
            mine.advance(time);
            theirs.follow(mine.watermark());
            Some(Arrival { item, time, under: Under::Sought(probe), next: 0, matched: false })
        }
        Err(panicked) => {
            out.fail_panicked(panicked.0.into(), item);
            None
        }
    }
}

/// Pairs an item with its partners, and adds it to the state if more may come. Returns it if there is no room for all
/// pairs.
#[inline]
fn meet<S: Side, T: Side, V: View<Mine = S::Item, Theirs = T::Item>>(
    mut arrival: Arrival<S::Key, S::Item>,
    mine: &mut Lane<S>,
    theirs: &Lane<T>,
    table: &mut KeyTable<S::Key, V::Lines>,
    (max_items, epochs): (usize, &Epochs),
    out: &mut impl Emit<V::Out>,
) -> Option<Arrival<S::Key, S::Item>> {
    let stays = !mine.is_over(arrival.time, theirs.reached);
    if let Under::Sought(probe) = arrival.under {
        // Before the key is looked up, whose entry may be removed with it.
        if stays && mine.held() >= max_items {
            give_up_oldest::<S, V>(mine, table, max_items, out);
        }
        arrival.under = match table.find(probe) {
            Ok(Place::Taken(slot)) => Under::Known(slot),
            Ok(Place::Free(probe)) => Under::New(probe),
            Err(panicked) => {
                out.fail_panicked(panicked.0.into(), arrival.item);
                return None;
            }
        };
        if let Under::Known(slot) = arrival.under
            && let Some(lines) = table.get_mut(slot)
        {
            arrival.next = mine.first_partner(arrival.time, V::lines(lines).1);
        }
    }
    if let Under::Known(slot) = arrival.under
        && let Some(lines) = table.get_mut(slot)
    {
        let (_, others) = V::lines(lines);
        while let Some(other) = others.get_mut(arrival.next).filter(|other| mine.is_partner(arrival.time, other.at.0)) {
            if out.is_full() {
                return Some(arrival);
            }
            match copies(&arrival.item, &other.item) {
                Ok((item, partner)) => out.emit_from(V::both(item, partner), 0),
                Err(payload) => {
                    let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                    out.error(error);
                }
            }
            (arrival.matched, other.matched) = (true, true);
            arrival.next += 1;
        }
    }
    if !stays && !arrival.matched && out.is_full() {
        return Some(arrival);
    }
    let Arrival { item, time, under, matched, .. } = arrival;
    if !stays {
        if let Under::New(probe) = under {
            panic::guard_drop(probe);
        }
        settle::<V>(item, matched, out);
        return None;
    }
    let at = mine.number(time);
    let stored = Stored { at, matched, item, _epoch: epochs.present().clone() };
    let slot = match under {
        Under::Known(slot) => {
            match table.get_mut(slot) {
                Some(lines) => insert(V::lines(lines).0, stored),
                None => unreachable!("nothing leaves the state while an item is being paired"),
            }
            slot
        }
        Under::Sought(probe) | Under::New(probe) => {
            let mut lines = V::Lines::default();
            insert(V::lines(&mut lines).0, stored);
            table.insert(probe, lines)
        }
    };
    mine.keep(at, slot);
    None
}

/// One by one, because a panic of the second must not meet one in the drop of the first.
#[inline]
fn copies<T: Clone, U: Clone>(item: &T, partner: &U) -> Result<(T, U), PanicPayload> {
    let item = panic::catch(|| item.clone())?;
    match panic::catch(|| partner.clone()) {
        Ok(partner) => Ok((item, partner)),
        Err(payload) => {
            panic::guard_drop(item);
            Err(payload)
        }
    }
}

/// Settles an item that will find no more partners. If it has found none, there is room for it.
#[inline]
fn settle<V: View>(item: V::Mine, matched: bool, out: &mut impl Emit<V::Out>) {
    if matched {
        out.delivered(1);
        return panic::guard_drop(item);
    }
    match V::alone(item) {
        Ok(alone) => out.emit(alone),
        Err(item) => {
            out.filtered(1);
            panic::guard_drop(item);
        }
    }
}

/// Takes the oldest item of an input out of the state.
fn take_oldest<S: Side, V: View<Mine = S::Item>>(
    mine: &mut Lane<S>,
    table: &mut KeyTable<S::Key, V::Lines>,
) -> Option<Stored<S::Item>> {
    let slot = mine.pop_oldest()?;
    let (own, others) = V::lines(table.get_mut(slot)?);
    let oldest = own.pop_front();
    if own.is_empty() && others.is_empty() {
        table.remove(slot).into_iter().for_each(|(key, _)| panic::guard_drop(key));
    }
    oldest
}

/// Removes the oldest item of an input, which can find no more partners.
fn retire_oldest<S: Side, V: View<Mine = S::Item>>(
    mine: &mut Lane<S>,
    table: &mut KeyTable<S::Key, V::Lines>,
    out: &mut impl Emit<V::Out>,
) {
    if let Some(Stored { item, matched, _epoch, .. }) = take_oldest::<S, V>(mine, table) {
        settle::<V>(item, matched, out);
    }
}

/// Removes the oldest item of an input, because the state has no room for one more.
#[cold]
fn give_up_oldest<S: Side, V: View<Mine = S::Item>>(
    mine: &mut Lane<S>,
    table: &mut KeyTable<S::Key, V::Lines>,
    max_items: usize,
    out: &mut impl Emit<V::Out>,
) {
    if let Some(Stored { item, _epoch, .. }) = take_oldest::<S, V>(mine, table) {
        out.fail(ErrorKind::Failed, TooManyHeld { max_items }, item);
    }
}

impl<A, B, M> JoinOperator<A, B, M>
where
    A: Side,
    B: Side<Key = A::Key>,
    M: Emits<A::Item, B::Item>,
{
    pub(super) fn new(left: Lane<A>, right: Lane<B>, max_items: usize, steering: Steering) -> Self {
        Self {
            left,
            right,
            table: KeyTable::default(),
            arriving: None,
            max_items,
            epochs: Epochs::new(),
            steering,
            kind: PhantomData,
        }
    }

    #[inline]
    fn has_due(&self) -> bool {
        self.left.is_due(self.right.reached) || self.right.is_due(self.left.reached)
    }

    /// Removes items that can find no more partners, and then pairs the new item, as far as there is room. Returns true
    /// if some of its pairs are left.
    fn go_on(&mut self, out: &mut impl Emit<M::Out>) -> bool {
        while self.has_due() {
            if out.is_full() {
                return true;
            }
            if self.left.is_due(self.right.reached) {
                retire_oldest::<A, FromLeft<A::Item, B::Item, M>>(&mut self.left, &mut self.table, out);
            } else {
                retire_oldest::<B, FromRight<A::Item, B::Item, M>>(&mut self.right, &mut self.table, out);
            }
        }
        let Self { left, right, table, max_items, epochs, .. } = self;
        self.arriving = match self.arriving.take() {
            None => None,
            Some(Arriving::Left(item)) => {
                meet::<A, B, FromLeft<_, _, M>>(item, left, right, table, (*max_items, epochs), out).map(Arriving::Left)
            }
            Some(Arriving::Right(item)) => {
                meet::<B, A, FromRight<_, _, M>>(item, right, left, table, (*max_items, epochs), out)
                    .map(Arriving::Right)
            }
        };
        self.steer();
        self.arriving.is_some()
    }

    /// Decides which input is read.
    fn steer(&self) {
        let Self { left, right, max_items, .. } = self;
        // An input that may have no more items in the state waits for the other, unless that cannot be waited for.
        let left_waits = left.held() >= *max_items && !right.is_idle && !right.has_ended;
        let right_waits = right.held() >= *max_items && !left.is_idle && !left.has_ended;
        let is_left_behind = (left.reached, left.held()) <= (right.reached, right.held());
        let turn = match (left_waits, right_waits, is_left_behind) {
            (true, true, true) | (false, true, _) => Turn::LeftOnly,
            (true, true, false) | (true, false, _) => Turn::RightOnly,
            (false, false, true) => Turn::LeftFirst,
            (false, false, false) => Turn::RightFirst,
        };
        self.steering.set_turn(turn as usize);
    }
}

impl<A, B, M> Operator for JoinOperator<A, B, M>
where
    A: Side,
    B: Side<Key = A::Key>,
    M: Emits<A::Item, B::Item>,
{
    type In = Arrived<A::Item, B::Item>;
    type Out = M::Out;

    #[inline]
    fn item(&mut self, item: Self::In, out: &mut impl Emit<M::Out>) {
        let Self { left, right, table, .. } = self;
        self.arriving = match item {
            Arrived::Left(item) => {
                receive::<A, B, FromLeft<_, _, M>>(left, right, table, item, out).map(Arriving::Left)
            }
            Arrived::Right(item) => {
                receive::<B, A, FromRight<_, _, M>>(right, left, table, item, out).map(Arriving::Right)
            }
        };
        self.go_on(out);
    }

    /// An input has ended, or was idle for long enough.
    fn timer(&mut self, now: Instant, out: &mut impl Emit<M::Out>) {
        let Self { left, right, .. } = self;
        let has_come = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (left_idle, right_idle) = (has_come(left.idle_at(right.held())), has_come(right.idle_at(left.held())));
        left.is_idle |= left_idle;
        right.is_idle |= right_idle;
        match self.steering.take_ended() {
            Some(LEFT) => left.end(),
            Some(_) => right.end(),
            None => {}
        }
        left.follow(right.watermark());
        right.follow(left.watermark());
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<M::Out>) {
        self.left.end();
        self.right.end();
        self.go_on(out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<M::Out>) -> bool {
        if (self.arriving.is_some() || self.has_due()) && self.go_on(out) {
            return true;
        }
        // Only now have all due items been emitted: a mark must not pass them, and silence starts when there is nothing
        // left to do.
        self.epochs.release(out);
        let (left, right) = (self.left.listen(out), self.right.listen(out));
        !(left && right)
    }

    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<M::Out>) -> Option<StreamError> {
        let Some(label) = mark.label() else { return self.epochs.end(mark) };
        mark.complete_mark();
        let Self { left, right, .. } = self;
        match side_of(label) {
            (LEFT, label) => left.note(label, out),
            (_, label) => right.note(label, out),
        }
        left.follow(right.watermark());
        right.follow(left.watermark());
        self.go_on(out);
        None
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        let idle = earlier(self.left.idle_at(self.right.held()), self.right.idle_at(self.left.held()));
        self.steering.wake().or(idle)
    }

    #[inline]
    fn held(&self) -> u64 {
        (self.left.held() + self.right.held()) as u64 + u64::from(self.arriving.is_some())
    }
}

impl<A: Side, B: Side<Key = A::Key>, M> Drop for JoinOperator<A, B, M> {
    fn drop(&mut self) {
        // One by one: two panics at once would abort.
        match mem::take(&mut self.arriving) {
            Some(Arriving::Left(Arrival { item, under, .. })) => discard(item, under),
            Some(Arriving::Right(Arrival { item, under, .. })) => discard(item, under),
            None => {}
        }
    }
}

fn discard<T, K>(item: T, under: Under<K>) {
    panic::guard_drop(item);
    panic::guard_drop(under);
}
