//! The workers of a pool, modelled on `src/operators/pool/worker.rs`, and the invariant that must hold: an item that
//! may be started is started while a worker rests, whatever the others are doing.
//!
//! Some calls are slow: they do not return before all other items have been started. An item of which no worker is
//! notified is a deadlock.

use loom::sync::Condvar;
use loom::sync::atomic::AtomicU64 as Count;
use loom::thread::{self, JoinHandle};
use std::collections::VecDeque;

use crate::clock::wait::Wake;
use crate::crew::{Crew, Relieved, Supply};
use crate::edge::{EdgeReceiver, EdgeSender, End, Polled, edge};
use crate::lanes::{Lane, Lanes};
use crate::models::check;
use crate::reorder::Reorder;
use crate::slots::{Numbered, Slots};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, fence};

/// A pool and its input.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub items: usize,
    /// The number of items that exist before the workers start.
    pub early: usize,
    /// The number of slow items, from the first on.
    pub slow: usize,
    pub workers: usize,
    /// The number of items taken at a time.
    pub run: u64,
    pub window: u64,
    pub ordered: bool,
    pub keyed: bool,
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

/// Items that have been taken and must be sorted.
type Raw = Vec<Numbered<usize>>;

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

    /// One item after the other, each with its own key.
    fn call(&self, item: usize) {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        if *begun == self.scene.items {
            self.all_begun.notify_all();
        }
        while item < self.scene.slow && *begun < self.scene.items {
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
                Ok((raw, mut relieved)) => {
                    if self.scene.keyed {
                        relieved = self.sort(own, raw, relieved);
                    }
                    self.process(own, self.slots.next(own), &relieved);
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

    fn take(&self, own: usize) -> Result<(Raw, Relieved), (Why, Relieved)> {
        let mut shift = self.crew.lock();
        let Some(stream) = &mut shift.supply().0 else { return Err((Why::Ended, shift.relieve())) };
        let room = self.crew.room();
        if room == 0 {
            return Err((Why::WindowFull, shift.relieve()));
        }
        let next = self.crew.taken();
        let (mut count, mut raw, mut filling) = (0, Vec::new(), None);
        while count < self.scene.run.min(room) {
            match stream.poll() {
                Polled::Item(item) => {
                    let (number, item) = (next + count, item.unwrap());
                    if self.scene.keyed {
                        raw.push((number, item));
                    } else {
                        filling.get_or_insert_with(|| self.slots.fill(own)).push(number, item);
                    }
                    count += 1;
                }
                Polled::Empty | Polled::Ended(_) if count > 0 => break,
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
        }
        shift.take(count);
        drop(filling);
        shift.supply().0.as_ref().inspect(|stream| stream.settle());
        if !self.scene.keyed && count > 1 {
            self.crew.leave_spare();
        }
        Ok((raw, shift.relieve()))
    }

    fn sort(&self, own: usize, raw: Raw, relieved: Relieved) -> Relieved {
        let count = raw.len() as u64;
        let mut ready = VecDeque::new();
        let keyed = raw.into_iter().map(|(number, item)| (number, Some(Lane::of(number + 1)), item));
        self.lanes.arrive(keyed, &mut ready);
        let more = ready.len() > 1;
        self.slots.put(own, &mut ready);
        self.sorted.fetch_add(count, Ordering::Release);
        fence(Ordering::SeqCst);
        if more {
            self.crew.leave_spare();
        }
        if self.ended.load(Ordering::Relaxed) {
            self.crew.lock().dismiss_resting()
        } else if more {
            self.crew.lock().relieve()
        } else {
            relieved
        }
    }

    fn is_all_sorted(&self) -> bool {
        !self.scene.keyed || self.sorted.load(Ordering::Acquire) == self.crew.taken()
    }

    fn process(&self, own: usize, mut next: Option<Numbered<usize>>, _: &Relieved) {
        while let Some((number, item)) = next {
            self.call(item);
            if self.scene.keyed {
                assert!(self.lanes.leave(Lane::of(number + 1)).is_none());
            }
            next = self.slots.swap(own, (number, ()));
            self.flush(own);
        }
    }

    /// Results leave the window; one worker at a time.
    fn flush(&self, slot: usize) {
        let mut done = Vec::new();
        self.slots.take_done(slot, &mut done);
        let mut results = self.results.lock();
        results.insert_all(&mut done);
        let mut run = VecDeque::new();
        results.take_run(&mut run);
        if !run.is_empty() {
            self.crew.pass(run.len() as u64);
        }
    }

    fn steal_or_flush(&self, own: usize, relieved: Relieved) -> bool {
        self.crew.take_spare();
        if let Some((item, more)) = self.slots.steal(own) {
            let relieved = if more { self.leave_spare() } else { relieved };
            self.process(own, Some(item), &relieved);
            return true;
        }
        let empty = self.slots.are_empty();
        (0..self.scene.workers).for_each(|slot| self.flush(slot));
        !empty
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
    let scene = Scene { items: 3, early: 2, slow: 2, workers: 3, run: 2, window: 10, ordered: false, keyed };
    check(preemptions, move || {
        let (pool, mut sender) = Pool::new(scene);
        (0..2).for_each(|item| _ = sender.push(Ok(item)));
        let wakes = [(); 2].map(|()| Arc::new(Wake::new()));
        let (raw, mut relieved) = pool.take(0).ok().unwrap();
        if keyed {
            relieved = pool.sort(0, raw, relieved);
        }
        let first = pool.slots.next(0);
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
