//! All waiting, in one place.
//!
//! Every thread that waits does so on its one [`Waiter`]; every reason to wake it (an item came, room was made,
//! cancellation, drain) posts a token to its [`Wake`]. Tokens are sticky and only mean "check again". So a wait always
//! consists of the same three steps:
//!
//! 1. register the wake with everything that may end the wait,
//! 2. check all of it again,
//! 3. park, and start again.
//!
//! Each registration and each change of a condition happens under the lock that guards that condition, so either the
//! check sees the change or the change sees the registration; in the second case the token makes the park return at
//! once. Any number of reasons costs one park, and none costs anything while the thread runs.
//!
//! A thread that makes a condition true posts the wakes for it before it parks, ends, or returns to its caller.
//!
//! A list of wakes must not grow with the number of waits. Callers that may have any number of threads over time (users
//! do: senders, readers, joiners) remove their wake when a wait ends, with a guard. A thread of a stage may leave its
//! wake behind, where there is one place per thread of the stage: a stale one costs a spurious wake.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, SendError, Sender, bounded};
use crossbeam_utils::sync::Parker;

use super::account::{WaitFor, paused};
use super::notify::Notify;
use super::{Clock, ManualClock, Probe, Seat, Wait};

/// How often a thread yields before it parks. A yield takes 0.2 to 0.7 us, and being woken 3 to 20 us; so in total, this takes
/// one to three times as long as being woken, and a wait in vain costs two to four times as much as parking at once. If both
/// took equally long, it would cost twice as much, which is the best that can be done without knowing the future (Karlin et
/// al., "Competitive randomized algorithms for nonuniform problems", 1990).
///
/// More of them are worse than useless with few cores. Two threads that wait and share a core yield to each other, so
/// the core never becomes idle, and the scheduler does not move a third thread there that waits for the other core.
const YIELDS: u32 = 30;

/// The number of waits without a yield after which yielding is tried again.
const TRY_AGAIN: u32 = 16;

/// The handle with which other threads wake a thread.
pub(crate) struct Wake {
    notify: Arc<Notify>,
    seat: Option<Seat>,
}

impl Wake {
    /// Makes the thread's current or next park return.
    pub(crate) fn post(&self) {
        match &self.seat {
            None => self.notify.notify(),
            Some(seat) => seat.post(),
        }
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").finish_non_exhaustive()
    }
}

/// The waiting side; belongs to one thread.
pub(crate) struct Waiter {
    parker: Parker,
    wake: Arc<Wake>,
    guest: bool,
    signal: OnceCell<Receiver<()>>,
    patience: Cell<Patience>,
    /// Its current wait has a limit that never passes.
    never: Cell<bool>,
}

/// How often yielding is worthwhile, judging by the last waits.
#[derive(Clone, Copy)]
struct Patience {
    yields: u32,
    /// Waits that have passed without one.
    without: u32,
}

impl Patience {
    const NEW: Self = Self { yields: YIELDS, without: 0 };

    fn rewarded(self) -> Self {
        Self { yields: (self.yields * 2).clamp(1, YIELDS), without: 0 }
    }

    fn in_vain(self) -> Self {
        match self.yields {
            0 if self.without >= TRY_AGAIN => Self { yields: 2, without: 0 },
            yields => Self { yields: yields / 2, without: self.without + 1 },
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Waiter>>> = const { RefCell::new(None) };
    static BEFORE_PARK: RefCell<Vec<Rc<dyn Fn()>>> = const { RefCell::new(Vec::new()) };
}

/// Calls a hook before its thread parks, wherever that is: even in a user's closure that sends, sleeps or receives. The
/// open chunk of a stage, and the room it has made, must not be delayed by that.
///
/// It belongs to the thread that created it, and the hook is removed when it is dropped: a sink visits a thread, and
/// may do so within another sink.
#[must_use = "dropping it takes the hook away"]
pub(crate) struct BeforePark(Rc<dyn Fn()>);

impl BeforePark {
    pub(crate) fn new(hook: impl Fn() + 'static) -> Self {
        let hook: Rc<dyn Fn()> = Rc::new(hook);
        BEFORE_PARK.with_borrow_mut(|hooks| hooks.push(Rc::clone(&hook)));
        Self(hook)
    }
}

impl Drop for BeforePark {
    fn drop(&mut self) {
        // The hook itself is dropped after that, with nothing borrowed.
        BEFORE_PARK.with_borrow_mut(|hooks| hooks.retain(|hook| !Rc::ptr_eq(hook, &self.0)));
    }
}

/// The number of hooks of the calling thread.
#[cfg(test)]
pub(crate) fn hooks() -> usize {
    BEFORE_PARK.with_borrow(Vec::len)
}

/// Calls the hooks before the calling thread blocks, wherever that may be.
pub(crate) fn before_blocking() {
    // Cloned, so that a hook may do anything.
    let hooks = BEFORE_PARK.with_borrow(Vec::clone);
    hooks.iter().for_each(|hook| hook());
}

/// The receiving end of a foreign channel, of any item type.
pub(crate) trait Channel {
    /// Adds it to the channels that `select` waits for.
    fn watch<'a>(&'a self, select: &mut Select<'a>);

    /// Another handle of the same channel.
    fn another(&self) -> Box<dyn Channel + Send>;
}

impl<T: Send + 'static> Channel for Receiver<T> {
    fn watch<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(self);
    }

    fn another(&self) -> Box<dyn Channel + Send> {
        Box::new(self.clone())
    }
}

impl Waiter {
    /// Creates a waiter for a thread about to be spawned: it counts as running from now on.
    pub(crate) fn for_thread(clock: &Clock, name: Arc<str>) -> Self {
        Self::new(clock, name, false)
    }

    fn new(clock: &Clock, name: Arc<str>, guest: bool) -> Self {
        let parker = Parker::new();
        let notify = Arc::new(Notify { unparker: parker.unparker().clone(), signal: OnceLock::new() });
        let seat = clock.manual.as_ref().map(|manual| manual.seat(name, guest, Arc::clone(&notify)));
        Self {
            parker,
            wake: Arc::new(Wake { notify, seat }),
            guest,
            signal: OnceCell::new(),
            patience: Cell::new(Patience::NEW),
            never: Cell::new(false),
        }
    }

    /// Makes this the calling thread's waiter.
    pub(crate) fn install(self) -> Rc<Self> {
        let waiter = Rc::new(self);
        CURRENT.with_borrow_mut(|current| *current = Some(Rc::clone(&waiter)));
        waiter
    }

    /// Removes the calling thread's waiter; its seat is released with the last reference.
    pub(crate) fn uninstall() {
        // Dropped outside the borrow: releasing the seat takes the clock's lock.
        let waiter = CURRENT.with_borrow_mut(Option::take);
        drop(waiter);
    }

    /// The calling thread's waiter, or a new one if the thread is not ours.
    pub(crate) fn current(clock: &Clock) -> Rc<Self> {
        let own = CURRENT.with_borrow(|current| current.as_ref().filter(|own| own.is_at(clock)).map(Rc::clone));
        if let Some(own) = own {
            return own;
        }
        let name = std::thread::current().name().unwrap_or("guest").into();
        let guest = Rc::new(Self::new(clock, name, true));
        if !clock.is_manual() {
            CURRENT.with_borrow_mut(|current| {
                current.get_or_insert_with(|| Rc::clone(&guest));
            });
        }
        guest
    }

    fn is_at(&self, clock: &Clock) -> bool {
        match (&self.wake.seat, &clock.manual) {
            (None, None) => true,
            (Some(seat), Some(manual)) => seat.is_at(manual),
            _ => false,
        }
    }

    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Sets whether subsequent waits have a limit that never passes.
    pub(super) fn set_never(&self, never: bool) {
        self.never.set(never);
    }

    /// Blocks until a wake is posted or `deadline` has come.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        self.park_for(WaitFor::Others, deadline);
    }

    /// As [`park`](Self::park), for a caller that knows what the wait is for.
    pub(crate) fn park_for(&self, what: WaitFor, deadline: Option<Instant>) {
        // While the thread still counts as running: items that the hooks hand over wake other threads (rule 4 of
        // `manual.rs`).
        before_blocking();
        paused(what, || match &self.wake.seat {
            Some(seat) => seat.park(self.wait(deadline, None), || self.parker.park()),
            None => match deadline {
                Some(deadline) => self.parker.park_deadline(deadline),
                None => self.parker.park(),
            },
        });
    }

    /// Makes wakes reach a wait for a foreign channel. Must be called before the conditions are checked.
    pub(crate) fn expect_foreign(&self) -> &Receiver<()> {
        self.signal.get_or_init(|| {
            let (tx, rx) = bounded(1);
            let _ = self.wake.notify.signal.set(tx); // this is the only place that sets it
            rx
        })
    }

    /// As [`park`](Self::park), and also until one of the foreign `channels` has a message or is disconnected.
    pub(crate) fn park_on(&self, channels: &[&dyn Channel], deadline: Option<Instant>) {
        let probe = {
            let channels: Vec<Box<dyn Channel + Send>> = channels.iter().map(|channel| channel.another()).collect();
            move || {
                let mut select = Select::new();
                for channel in &channels {
                    channel.watch(&mut select);
                }
                select.try_ready().is_ok()
            }
        };
        self.park_in(probe, deadline, |signal, deadline| {
            let mut select = Select::new();
            select.recv(signal);
            for channel in channels {
                channel.watch(&mut select);
            }
            ready(&mut select, deadline);
        });
    }

    /// As [`park`](Self::park), and also until the foreign `channel` may accept the item or is disconnected; the caller
    /// then tries to send it.
    ///
    /// A channel without capacity accepts only an item that is on offer while its receiver waits. In that case the item
    /// is sent in here, and has been taken out afterwards.
    pub(crate) fn park_for_room<T: Send + 'static>(
        &self,
        channel: &Sender<T>,
        item: &mut Option<T>,
        deadline: Option<Instant>,
    ) {
        let probe = {
            let channel = channel.clone();
            move || {
                let mut select = Select::new();
                select.send(&channel);
                select.try_ready().is_ok()
            }
        };
        self.park_in(probe, deadline, |signal, deadline| {
            let mut select = Select::new();
            let woken = select.recv(signal);
            select.send(channel);
            if channel.capacity() != Some(0) {
                return ready(&mut select, deadline);
            }
            let selected = match deadline {
                Some(deadline) => select.select_deadline(deadline).ok(),
                None => Some(select.select()),
            };
            match selected {
                Some(operation) if operation.index() == woken => drop(operation.recv(signal)),
                // The receiver has not returned yet, and waits for the item.
                Some(operation) => {
                    self.rise();
                    let sent = item.take().map_or(Ok(()), |item| operation.send(channel, item));
                    *item = sent.err().map(SendError::into_inner);
                }
                None => {}
            }
        });
    }

    /// Blocks in `sleep`, which a wake ends through the signal channel that it receives.
    fn park_in(
        &self,
        probe: impl Fn() -> bool + Send + 'static,
        deadline: Option<Instant>,
        mut sleep: impl FnMut(&Receiver<()>, Option<Instant>),
    ) {
        before_blocking();
        let signal = self.expect_foreign();
        let mut sleep = |deadline| {
            // The wake is consumed: the caller checks again after this, and sees why it was posted. A later one makes
            // the next sleep return at once.
            sleep(signal, deadline);
            let _ = signal.try_recv();
        };
        paused(WaitFor::Others, || match &self.wake.seat {
            None => sleep(deadline),
            Some(seat) => seat.park(self.wait(deadline, Some(Box::new(probe))), || sleep(None)),
        });
    }

    fn wait(&self, deadline: Option<Instant>, probe: Option<Probe>) -> Wait {
        Wait { deadline, probe, never: self.never.get() }
    }

    /// From now on the thread counts as running, although its park has not returned yet.
    fn rise(&self) {
        if let Some(seat) = &self.wake.seat {
            seat.rise();
        }
    }

    /// Lets the other side collect a few items: each check costs both sides a cache line, and being hungry makes the
    /// producer hand over single items. A yield, so that a thread that shares the processor can use the time.
    pub(crate) fn head_start(&self) {
        if self.wake.seat.is_none() {
            std::thread::yield_now();
        }
    }

    /// Checks `ready` a few times, yielding the processor in between, before the caller parks.
    ///
    /// No busy spins: on a machine with fewer processors than threads they delay the very thread that is waited for,
    /// and with idle processors a yield returns at once and is as good as a short spin.
    ///
    /// Not under virtual time, where every wait is a park.
    pub(crate) fn spin(&self, ready: &mut dyn FnMut() -> bool) -> bool {
        if self.wake.seat.is_some() {
            return ready();
        }
        let patience = self.patience.get();
        for _ in 0..patience.yields {
            if ready() {
                self.patience.set(patience.rewarded());
                return true;
            }
            std::thread::yield_now();
        }
        self.patience.set(patience.in_vain());
        ready()
    }
}

/// Blocks until one of the operations is ready.
fn ready(select: &mut Select<'_>, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => drop(select.ready_deadline(deadline)),
        None => drop(select.ready()),
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(seat) = &self.wake.seat {
            seat.leave();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("guest", &self.guest).finish_non_exhaustive()
    }
}

/// Whether the calling thread has a seat at `clock` that is counted.
pub(crate) fn seated_at(clock: &ManualClock) -> bool {
    CURRENT.with_borrow(|current| {
        current.as_ref().is_some_and(|own| !own.guest && own.wake.seat.as_ref().is_some_and(|seat| seat.is_at(clock)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a thread that counts as running may change anything for others.
    #[test]
    fn the_receiver_of_an_item_finds_its_parked_sender_running() {
        for _ in 0..200 {
            let manual = ManualClock::new();
            let clock = Clock::from(&manual);
            let (sender, receiver) = bounded(0);
            let (go, may_go) = bounded::<()>(0);
            let waiter = Waiter::for_thread(&clock, "sender".into());
            let thread = std::thread::spawn(move || {
                let waiter = waiter.install();
                let mut item = Some(1);
                waiter.park_for_room(&sender, &mut item, None);
                let _ = may_go.recv();
                drop(waiter);
                Waiter::uninstall();
                item
            });
            manual.settle();
            assert_eq!(receiver.recv(), Ok(1));
            assert_eq!(manual.running(), 1);
            drop(go);
            assert_eq!(thread.join().unwrap(), None);
        }
    }

    #[test]
    fn a_parked_sender_to_a_channel_sends_nothing() {
        let manual = ManualClock::new();
        let clock = Clock::from(&manual);
        let (sender, receiver) = bounded(1);
        sender.send(0).unwrap();
        let waiter = Waiter::for_thread(&clock, "sender".into());
        let thread = std::thread::spawn(move || {
            let waiter = waiter.install();
            let mut item = Some(1);
            waiter.park_for_room(&sender, &mut item, None);
            drop(waiter);
            Waiter::uninstall();
            item
        });
        manual.settle();
        assert_eq!(receiver.recv(), Ok(0));
        assert_eq!(thread.join().unwrap(), Some(1));
    }

    /// Dropped values are the user's, and their drop may take any time.
    #[test]
    fn an_item_without_a_receiver_is_returned() {
        for capacity in [0, 1] {
            let manual = ManualClock::new();
            let clock = Clock::from(&manual);
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|_| sender.send(0).unwrap());
            let waiter = Waiter::for_thread(&clock, "sender".into());
            let thread = std::thread::spawn(move || {
                let waiter = waiter.install();
                let mut item = Some(1);
                waiter.park_for_room(&sender, &mut item, None);
                drop(waiter);
                Waiter::uninstall();
                item
            });
            manual.settle();
            drop(receiver);
            assert_eq!(thread.join().unwrap(), Some(1), "capacity {capacity}");
        }
    }
}
