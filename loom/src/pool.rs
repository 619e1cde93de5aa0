//! The workers of a pool, modelled on `src/operators/pool/worker.rs`, and the invariant that must hold: an item that
//! may be started is started while a worker rests, whatever the others are doing.
//!
//! Some calls are slow: they do not return before all other items have been started. An item of which no worker is
//! notified is a deadlock.

use loom::sync::Condvar;
use loom::sync::atomic::AtomicU64 as Count;
use loom::thread::{self, JoinHandle};
use std::collections::VecDeque;
use std::ops::Range;

use crate::clock::wait::Wake;
use crate::crew::{Crew, Relieved, Supply};
use crate::edge::{EdgeReceiver, EdgeSender, End, Polled, edge};
use crate::lanes::{Lane, Lanes, Run};
use crate::models::check;
use crate::reorder::{Reorder, Span};
use crate::slots::{Joint, Numbered, Slots};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, fence};

/// A pool and its input.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub items: usize,
    /// The number of items that exist before the workers start.
    pub early: usize,
    /// How many of them are slow, and which is the first.
    pub slow: usize,
    pub first_slow: usize,
    pub workers: usize,
    /// The number of items taken at a time.
    pub run: u64,
    pub window: u64,
    pub ordered: bool,
    pub keyed: bool,
    /// All that are not slow have one key, if the pool is keyed.
    pub one_key: bool,
}

impl Scene {
    /// One item that is there, one that is slow.
    pub const PLAIN: Self = Self {
        items: 2,
        early: 1,
        slow: 1,
        first_slow: 0,
        workers: 2,
        run: 1,
        window: 10,
        ordered: false,
        keyed: false,
        one_key: false,
    };

    fn is_slow(&self, item: usize) -> bool {
        (self.first_slow..self.first_slow + self.slow).contains(&item)
    }

    /// Items are their own numbers.
    fn lane_of(&self, item: usize) -> Lane {
        Lane::of(if self.one_key && !self.is_slow(item) { 100 } else { item as u64 + 1 })
    }
}

impl Span for () {}

impl Joint for () {
    type One = ();

    fn begin((): (), _: usize) {}

    fn join(&mut self, (): ()) -> Result<(), ()> {
        Err(())
    }
}

struct Intake(Option<EdgeReceiver<usize>>);

impl Supply for Intake {
    fn watch(&self, wake: &Arc<Wake>) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.want_items(wake))
    }
}

struct Pool {
    scene: Scene,
    crew: Crew<Intake>,
    slots: Slots<usize, ()>,
    lanes: Lanes<usize>,
    sorted: Count,
    ended: AtomicBool,
    /// Belongs to the emitter.
    results: Mutex<Reorder<()>>,
    begun: loom::sync::Mutex<usize>,
    all_begun: Condvar,
}

/// What has been taken and is to be sorted.
type Raw = Vec<usize>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Empty,
    WindowFull,
    Ended,
}

impl Pool {
    fn new(scene: Scene) -> (Arc<Self>, EdgeSender<usize>) {
        let (mut sender, receiver) = edge(scene.items, false);
        sender.set_at_once(true);
        let pool = Self {
            scene,
            crew: Crew::new(Intake(Some(receiver)), scene.window),
            slots: Slots::new(scene.workers),
            lanes: Lanes::new(),
            sorted: Count::new(0),
            ended: AtomicBool::new(false),
            results: Mutex::new(Reorder::new(scene.ordered)),
            begun: loom::sync::Mutex::new(0),
            all_begun: Condvar::new(),
        };
        (Arc::new(pool), sender)
    }

    fn call(&self, item: usize) {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        if *begun == self.scene.items {
            self.all_begun.notify_all();
        }
        while self.scene.is_slow(item) && *begun < self.scene.items {
            begun = self.all_begun.wait(begun).unwrap();
        }
    }

    /// The loop of a worker.
    fn work(&self, own: usize, wake: &Arc<Wake>) {
        loop {
            if self.steal_spare(own) {
                continue;
            }
            match self.take(own) {
                Ok((first, raw, mut relieved)) => {
                    let next;
                    if self.scene.keyed {
                        (next, relieved) = self.sort(own, first, raw, relieved);
                    } else {
                        next = self.slots.next(own);
                    }
                    self.process(own, next, &relieved);
                }
                Err((why, relieved)) => {
                    let all_sorted = self.is_all_sorted();
                    if self.steal_or_flush(own, relieved) {
                        continue;
                    }
                    if why == Why::Ended && all_sorted {
                        return;
                    }
                    if !self.rest(wake, why) {
                        wake.park();
                    }
                    self.crew.rise(wake);
                }
            }
        }
    }

    fn take(&self, own: usize) -> Result<(u64, Raw, Relieved), (Why, Relieved)> {
        let mut shift = self.crew.lock();
        let Some(stream) = &mut shift.supply().0 else { return Err((Why::Ended, shift.relieve())) };
        let room = self.crew.room();
        if room == 0 {
            return Err((Why::WindowFull, shift.relieve()));
        }
        let mut run = Vec::new();
        match stream.poll() {
            Polled::Item(item) => run.push(item),
            Polled::Empty => {
                stream.settle();
                stream.ask();
                return Err((Why::Empty, shift.relieve()));
            }
            Polled::Ended(_) => {
                let stream = shift.supply().0.take();
                self.ended.store(true, Ordering::Release);
                fence(Ordering::SeqCst);
                let relieved = shift.dismiss_resting();
                drop(stream);
                return Err((Why::Ended, relieved));
            }
        }
        stream.poll_until(self.scene.run.min(room) as usize, &mut run);
        let (next, count) = (self.crew.taken(), run.len() as u64);
        let (mut raw, items) = (Raw::new(), run.into_iter().map(Result::unwrap));
        shift.take(count);
        if self.scene.keyed {
            raw = items.collect();
        } else {
            self.slots.fill(own, next, items);
        }
        shift.supply().0.as_ref().inspect(|stream| stream.settle());
        if !self.scene.keyed && count > 1 {
            self.crew.leave_spare();
        }
        Ok((next, raw, shift.relieve()))
    }

    fn sort(&self, own: usize, first: u64, raw: Raw, relieved: Relieved) -> (Option<Numbered<usize>>, Relieved) {
        let count = raw.len() as u64;
        let mut ready = VecDeque::new();
        let lanes = raw.iter().map(|item| Some(self.scene.lane_of(*item))).collect();
        self.lanes.arrive(first, Run { lanes, items: (first..).zip(raw).collect() }, &mut ready);
        let more = ready.len() > 1;
        let next = self.slots.put(own, &mut ready);
        self.sorted.fetch_add(count, Ordering::Release);
        fence(Ordering::SeqCst);
        if more {
            self.crew.leave_spare();
        }
        let relieved = if self.ended.load(Ordering::Relaxed) {
            self.crew.lock().dismiss_resting()
        } else if more {
            self.crew.lock().relieve()
        } else {
            relieved
        };
        (next, relieved)
    }

    fn is_all_sorted(&self) -> bool {
        !self.scene.keyed || self.sorted.load(Ordering::Acquire) == self.crew.taken()
    }

    fn process(&self, own: usize, mut next: Option<Numbered<usize>>, _: &Relieved) {
        while let Some((number, item)) = next.take() {
            self.call(item);
            let lane = self.scene.keyed.then(|| self.scene.lane_of(item));
            self.slots.swap(own, (number, ()), lane, &mut next);
            if next.is_none() {
                next = self.flush(own, own..own + 1);
            }
        }
    }

    /// Results leave the window; one worker at a time. Returns what may be begun now.
    fn flush(&self, own: usize, slots: Range<usize>) -> Option<Numbered<usize>> {
        let (mut done, mut left, mut ready, mut next) = (Vec::new(), Vec::new(), VecDeque::new(), None);
        slots.for_each(|slot| self.slots.take_done(slot, &mut done, &mut left));
        if !left.is_empty() {
            self.lanes.leave(&mut left, &mut ready);
            let more = ready.len() > 1;
            if !ready.is_empty() {
                next = self.slots.put(own, &mut ready);
            }
            if more {
                _ = self.leave_spare();
            }
        }
        let mut results = self.results.lock();
        results.insert_all(&mut done);
        let mut run = VecDeque::new();
        results.take_run(&mut run);
        if !run.is_empty() {
            self.crew.pass(run.len() as u64);
        }
        next
    }

    fn steal_or_flush(&self, own: usize, relieved: Relieved) -> bool {
        self.crew.take_spare();
        if let Some((item, more)) = self.slots.steal(own) {
            let relieved = if more { self.leave_spare() } else { relieved };
            self.process(own, Some(item), &relieved);
            return true;
        }
        let empty = self.slots.are_empty();
        let next = self.flush(own, 0..self.scene.workers);
        let found = next.is_some();
        self.process(own, next, &relieved);
        found || !empty
    }

    fn steal_spare(&self, own: usize) -> bool {
        if !self.scene.keyed || !self.crew.may_have_spare() || !self.crew.take_spare() {
            return false;
        }
        let Some((item, more)) = self.slots.steal(own) else { return false };
        let relieved = if more { self.leave_spare() } else { self.crew.lock().relieve() };
        self.process(own, Some(item), &relieved);
        true
    }

    fn leave_spare(&self) -> Relieved {
        self.crew.leave_spare();
        self.crew.lock().relieve()
    }

    /// Returns true if it must not park.
    fn rest(&self, wake: &Arc<Wake>, why: Why) -> bool {
        let mut shift = self.crew.lock();
        let is_open = shift.supply().0.as_ref().map(|stream| stream.settle()).is_some();
        let changed = match why {
            Why::Empty => !is_open,
            Why::WindowFull => !is_open || self.crew.room() > 0,
            Why::Ended => self.is_all_sorted(),
        };
        shift.rest(wake, || changed || !self.slots.are_empty())
    }
}

fn spawn(pool: &Arc<Pool>, own: usize, wake: Arc<Wake>) -> JoinHandle<()> {
    let pool = Arc::clone(pool);
    thread::spawn(move || pool.work(own, &wake))
}

/// Items arrive while the workers are at any point of their loops.
pub fn no_item_waits_while_a_worker_rests(scene: Scene, preemptions: usize) {
    check(preemptions, move || {
        let (pool, mut sender) = Pool::new(scene);
        (0..scene.early).for_each(|item| _ = sender.push(Ok(item)));
        let workers: Vec<_> = (1..scene.workers).map(|own| spawn(&pool, own, Arc::new(Wake::new()))).collect();
        let first = spawn(&pool, 0, Arc::new(Wake::new()));
        (scene.early..scene.items).for_each(|item| _ = sender.push(Ok(item)));
        sender.end(End::Finished);
        workers.into_iter().chain([first]).for_each(|worker| worker.join().unwrap());
        assert_eq!(*pool.begun.lock().unwrap(), scene.items);
    });
}

/// All rest but one, which has taken two slow items; the third arrives when both of them are, or are about to be, in
/// progress. So the one on watch is woken to take over.
pub fn a_thief_leaves_another_on_watch(keyed: bool, preemptions: usize) {
    let scene = Scene { items: 3, early: 2, slow: 2, workers: 3, run: 2, keyed, ..Scene::PLAIN };
    check(preemptions, move || {
        let (pool, mut sender) = Pool::new(scene);
        (0..2).for_each(|item| _ = sender.push(Ok(item)));
        let wakes = [(); 2].map(|()| Arc::new(Wake::new()));
        let (number, raw, mut relieved) = pool.take(0).ok().unwrap();
        let first;
        if keyed {
            (first, relieved) = pool.sort(0, number, raw, relieved);
        } else {
            first = pool.slots.next(0);
        }
        // As if they had found nothing before the run was put into the slot.
        pool.crew.take_spare();
        wakes.iter().for_each(|wake| assert!(!pool.crew.lock().rest(wake, || false)));
        let resting = [1, 2].map(|own| {
            let (pool, wake) = (Arc::clone(&pool), Arc::clone(&wakes[own - 1]));
            thread::spawn(move || {
                wake.park();
                pool.crew.rise(&wake);
                pool.work(own, &wake);
            })
        });
        drop(relieved);
        let relieved = pool.leave_spare();
        sender.push(Ok(2));
        sender.end(End::Finished);
        pool.process(0, first, &relieved);
        resting.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(*pool.begun.lock().unwrap(), 3);
    });
}

/// A worker moves the window and then blocks forever, as an emitter does that waits for room in the output. Another one
/// finds the window full and rests: it is woken, and sees that the window has moved.
pub fn a_worker_that_waits_for_the_window_is_woken_by_its_move(preemptions: usize) {
    check(preemptions, || {
        let (mut sender, receiver) = edge(2, false);
        sender.set_at_once(true);
        (0..2).for_each(|item| _ = sender.push(Ok(item)));
        let crew = Arc::new(Crew::new(Intake(Some(receiver)), 1));
        crew.lock().take(1);
        let rests = thread::spawn({
            let crew = Arc::clone(&crew);
            move || {
                let wake = Arc::new(Wake::new());
                while crew.room() == 0 {
                    if !crew.lock().rest(&wake, || false) {
                        wake.park();
                    }
                    crew.rise(&wake);
                }
            }
        });
        crew.pass(1);
        rests.join().unwrap();
    });
}
