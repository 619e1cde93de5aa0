//! The two sides of an edge as stages use them, and the invariants that must hold.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as Ghost, Ordering::SeqCst};

use loom::model::Builder;
use loom::thread;

use crate::ErrorKind;
use crate::clock::wait::Wake;
use crate::edge::{Edge, EdgeReceiver, EdgeSender, End, Polled, Refused, edge};
use crate::error::StreamError;
use crate::sync::{Arc, Ordering};

/// When a producer hands over its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In chunks.
    Lazy,
    /// In chunks of one, and the consumer takes batches of one: virtual time.
    Eager,
    /// Each item at once: a source, a pool.
    AtOnce,
}

/// Runs `model` in every interleaving with at most `preemptions`, in which a thread loses its core although it could
/// have continued.
pub(crate) fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

fn pair(capacity: usize, mode: Mode) -> (Producer, Consumer) {
    let (mut sender, receiver) = edge(capacity, mode == Mode::Eager);
    sender.set_at_once(mode == Mode::AtOnce);
    let room = capacity.max(1);
    (Producer { sender, wake: Arc::new(Wake::new()), room }, Consumer::new(receiver, room))
}

/// A stage that feeds the edge: what the driver and a branch do.
struct Producer {
    sender: EdgeSender<usize>,
    wake: Arc<Wake>,
    /// The maximum number of items in flight.
    room: usize,
}

impl Producer {
    fn watch(self) -> Self {
        self.sender.watch(&self.wake);
        self
    }

    /// Emits an item and waits for room. Returns false if the consumer has left.
    fn send(&mut self, item: usize) -> bool {
        self.sender.push(Ok(item));
        self.settle()
    }

    /// Waits until all emitted items have found room.
    fn settle(&mut self) -> bool {
        while self.sender.is_stuck() {
            if self.sender.is_gone() {
                self.sender.hand_over();
                return false;
            }
            self.sender.hand_over();
            self.assert_within_capacity();
            if self.sender.is_stuck() && !self.sender.want_room(&self.wake) {
                self.wake.park();
            }
        }
        !self.sender.is_gone()
    }

    /// This side writes `sent`, and `taken` only grows: the values it reads here were true at some moment.
    fn assert_within_capacity(&self) {
        let gauge = self.sender.shared().gauge();
        assert!(gauge.len() <= self.room, "{} items in an edge for {}", gauge.len(), self.room);
    }

    fn finish(mut self) {
        self.sender.end(End::Finished);
    }
}

/// A stage that reads the edge.
struct Consumer {
    receiver: EdgeReceiver<usize>,
    wake: Arc<Wake>,
    taken: usize,
    room: usize,
}

/// The last thing that the consumer received.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    Finished,
    Cut,
}

impl Consumer {
    fn new(receiver: EdgeReceiver<usize>, room: usize) -> Self {
        Self { receiver, wake: Arc::new(Wake::new()), taken: 0, room }
    }

    /// Receives the next item; waits for it.
    fn recv(&mut self) -> Result<usize, Last> {
        self.recv_any().map(Result::unwrap)
    }

    /// Receives the next item or error item; waits for it.
    fn recv_any(&mut self) -> Result<crate::error::Result<usize>, Last> {
        loop {
            // This side writes `taken`, so what is read of `sent` can only be too small.
            let gauge = self.receiver.shared().gauge();
            let under_way = gauge.sent.load(Ordering::Acquire).wrapping_sub(self.taken);
            assert!(under_way <= self.room, "{under_way} items in an edge for {}", self.room);
            match self.receiver.poll() {
                Polled::Item(item) => {
                    self.taken += 1;
                    return Ok(item);
                }
                Polled::Ended(End::Finished) => return Err(Last::Finished),
                Polled::Ended(End::Cut(_)) => return Err(Last::Cut),
                Polled::Empty => {}
            }
            self.receiver.settle();
            if !self.receiver.want_items(&self.wake) {
                self.wake.park();
            }
        }
    }

    /// Receives everything up to the end.
    fn collect(&mut self) -> (Vec<usize>, Last) {
        let mut items = Vec::new();
        loop {
            match self.recv() {
                Ok(item) => items.push(item),
                Err(last) => return (items, last),
            }
        }
    }
}

fn numbers(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// `count` items go from one thread to another: all of them, in order, and then the end.
pub fn all_arrive(capacity: usize, mode: Mode, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let feed = thread::spawn(move || {
            (0..count).for_each(|item| assert!(producer.send(item)));
            producer.finish();
        });
        assert_eq!(consumer.collect(), (numbers(count), Last::Finished));
        feed.join().unwrap();
    });
}

/// An operator emits more in one call than there is room for.
pub fn a_call_may_emit_more_than_there_is_room_for(capacity: usize, mode: Mode, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let feed = thread::spawn(move || {
            (0..count).for_each(|item| _ = producer.sender.push(Ok(item)));
            assert!(producer.settle());
            producer.finish();
        });
        assert_eq!(consumer.collect(), (numbers(count), Last::Finished));
        feed.join().unwrap();
    });
}

/// An operator that asks before it emits never has an item too many.
pub fn an_operator_that_asks_first_is_never_stuck(capacity: usize, mode: Mode, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let feed = thread::spawn(move || {
            for item in 0..count {
                while producer.sender.is_full() {
                    if !producer.sender.want_room(&producer.wake) {
                        producer.wake.park();
                    }
                }
                producer.sender.push(Ok(item));
                assert!(!producer.sender.is_stuck());
            }
            producer.finish();
        });
        assert_eq!(consumer.collect(), (numbers(count), Last::Finished));
        feed.join().unwrap();
    });
}

/// The producer blocks elsewhere until its consumer has received the previous item: it has handed over.
pub fn no_item_waits_while_its_producer_blocks(capacity: usize, mode: Mode, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let seen = Arc::new(Wake::new());
        let feed = {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                for item in 0..2 {
                    assert!(producer.send(item));
                    // As the hook does that is called before a thread parks.
                    producer.sender.hand_over();
                    seen.park();
                }
                producer.finish();
            })
        };
        for item in 0..2 {
            assert_eq!(consumer.recv(), Ok(item));
            consumer.receiver.settle();
            seen.post();
        }
        assert_eq!(consumer.recv(), Err(Last::Finished));
        feed.join().unwrap();
    });
}

/// The consumer blocks elsewhere until its producer has made progress: it has announced the room it made.
pub fn no_room_is_kept_while_the_consumer_blocks(capacity: usize, mode: Mode, taken: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let sent = Arc::new(Wake::new());
        let feed = {
            let sent = Arc::clone(&sent);
            thread::spawn(move || {
                (0..capacity + taken).for_each(|item| assert!(producer.send(item)));
                sent.post();
                producer.finish();
            })
        };
        (0..taken).for_each(|item| assert_eq!(consumer.recv(), Ok(item)));
        consumer.receiver.settle();
        sent.park();
        assert_eq!(consumer.collect(), ((taken..taken + capacity).collect(), Last::Finished));
        feed.join().unwrap();
    });
}

/// A producer that computes for long checks after each call whether its consumer has become hungry: then it hands over,
/// without a wait for room, a full chunk or the end. The consumer has asked before the last check, as the ghost shows.
pub fn a_hungry_consumer_is_served_after_the_call(preemptions: usize) {
    check(preemptions, || {
        let (mut producer, mut consumer) = pair(4, Mode::Lazy);
        let asked = Arc::new(Wake::new());
        let feed = {
            let asked = Arc::clone(&asked);
            thread::spawn(move || {
                producer.sender.hand_over(); // nothing yet
                producer.sender.push(Ok(7));
                asked.park(); // the call, during which the consumer asks: its store is seen after it
                producer.sender.hand_over_if_hungry();
                assert!(producer.sender.is_handed_over());
                producer.finish();
            })
        };
        let early = match consumer.receiver.poll() {
            Polled::Item(item) => Some(item.unwrap()),
            _ if consumer.receiver.ask() => Some(consumer.recv().unwrap()),
            _ => None,
        };
        asked.post();
        let item = early.map_or_else(|| consumer.recv(), Ok);
        assert_eq!(item, Ok(7));
        assert_eq!(consumer.recv(), Err(Last::Finished));
        feed.join().unwrap();
    });
}

/// The consumer leaves after `taken` items: the producer is notified, and each item is accounted for.
pub fn the_counts_add_up_when_the_consumer_leaves(
    capacity: usize,
    mode: Mode,
    count: usize,
    taken: usize,
    preemptions: usize,
) {
    check(preemptions, move || {
        let (producer, mut consumer) = pair(capacity, mode);
        let mut producer = producer.watch();
        let emitted = StdArc::new(Ghost::new(0));
        let feed = {
            let emitted = StdArc::clone(&emitted);
            thread::spawn(move || {
                for item in 0..count {
                    emitted.fetch_add(1, SeqCst);
                    if !producer.send(item) {
                        break;
                    }
                }
                producer.finish();
            })
        };
        for item in 0..taken {
            assert_eq!(consumer.recv(), Ok(item));
        }
        let shared = Arc::clone(consumer.receiver.shared());
        drop(consumer);
        feed.join().unwrap();
        let undelivered = shared.gauge().undelivered.load(Ordering::Relaxed) as usize;
        assert_eq!(emitted.load(SeqCst), taken + undelivered);
        assert_eq!(shared.gauge().len(), 0);
    });
}

/// The producer is stopped while items are stuck, and cuts the stream: items handed over arrive, the rest are counted.
pub fn a_cut_counts_every_lost_item(capacity: usize, mode: Mode, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, mode);
        let feed = thread::spawn(move || {
            (0..count).for_each(|item| _ = producer.sender.push(Ok(item)));
            drop(producer);
        });
        let (items, last) = consumer.collect();
        assert_eq!(last, Last::Cut);
        assert_eq!(items, numbers(items.len()));
        feed.join().unwrap();
        let undelivered = consumer.receiver.shared().gauge().undelivered.load(Ordering::Relaxed) as usize;
        assert_eq!(count, items.len() + undelivered);
    });
}

/// A third thread changes the capacity while items flow.
pub fn the_capacity_may_change(from: usize, to: usize, mode: Mode, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(from, mode);
        let most = from.max(to).max(1);
        (producer.room, consumer.room) = (most, most);
        let feed = thread::spawn(move || {
            (0..count).for_each(|item| assert!(producer.send(item)));
            producer.finish();
        });
        consumer.receiver.set_capacity(to);
        assert_eq!(consumer.collect(), (numbers(count), Last::Finished));
        feed.join().unwrap();
    });
}

/// A buffer that keeps the latest items: a new item evicts the oldest in one step, and no producer ever waits. Each
/// item takes exactly one way, order is preserved, and the last one is among those kept.
pub fn a_new_item_evicts_the_oldest(capacity: usize, count: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut producer, mut consumer) = pair(capacity, Mode::Eager);
        let feed = thread::spawn(move || {
            let mut displaced = Vec::new();
            for item in 0..count {
                let edge = Arc::clone(producer.sender.shared());
                let mut told = None;
                match edge.offer_in_place_of_oldest(Ok(item), |displaces| told = Some(displaces)) {
                    Ok(oldest) => {
                        assert_eq!(told, Some(oldest.is_some()));
                        displaced.extend(oldest);
                    }
                    Err((Refused::Full, _)) => panic!("there is an older one"),
                    Err((Refused::Closed, _)) => panic!("the consumer has not left"),
                }
                producer.assert_within_capacity();
            }
            producer.sender.end(End::Finished);
            displaced
        });
        let (mut items, last) = consumer.collect();
        assert_eq!(last, Last::Finished);
        assert!(items.is_sorted());
        assert_eq!(items.last(), Some(&(count - 1)));
        items.extend(feed.join().unwrap());
        items.sort_unstable();
        assert_eq!(items, numbers(count));
    });
}

/// The same with error items, which are never evicted: an item that finds only errors waits for room, and an evicted
/// item is returned. The consumer may leave, too.
pub fn errors_are_never_evicted(capacity: usize, stays: bool, preemptions: usize) {
    check(preemptions, move || {
        let (producer, mut consumer) = pair(capacity, Mode::Eager);
        let mut producer = producer.watch();
        let feed = thread::spawn(move || {
            let edge = Arc::clone(producer.sender.shared());
            let mut gone = 0;
            for is_data in [true, false, false, true] {
                let mut refused = if is_data { Ok(1) } else { Err(error()) };
                loop {
                    match edge.offer_in_place_of_oldest(refused, |_| {}) {
                        Ok(oldest) => gone += usize::from(oldest.is_some()),
                        Err((Refused::Full, Ok(_))) => gone += 1,
                        Err((Refused::Closed, item)) => gone += usize::from(item.is_ok()),
                        Err((Refused::Full, error)) => {
                            refused = error;
                            if !edge.want_room(&producer.wake) {
                                producer.wake.park();
                            }
                            continue;
                        }
                    }
                    break;
                }
                producer.assert_within_capacity();
            }
            producer.sender.end(End::Finished);
            gone
        });
        let shared = Arc::clone(consumer.receiver.shared());
        let (mut data, mut errors) = (0, 0);
        if stays {
            let last = loop {
                match consumer.recv_any() {
                    Ok(Ok(_)) => data += 1,
                    Ok(Err(_)) => errors += 1,
                    Err(last) => break last,
                }
            };
            assert_eq!((last, errors), (Last::Finished, 2));
        }
        drop(consumer);
        let gone = feed.join().unwrap();
        let undelivered = shared.gauge().undelivered.load(Ordering::Relaxed) as usize;
        assert_eq!(data + gone + undelivered, 2);
        assert_eq!(shared.gauge().len(), 0);
    });
}

fn error() -> StreamError {
    StreamError::new(ErrorKind::Internal, "a stage")
}

/// The use of [`crate::edge::Edge::offer`]: senders that are clones of each other.
fn offer(edge: &Edge<usize>, wake: &Arc<Wake>, item: usize, counted: &Ghost) -> bool {
    let mut refused = Ok(item);
    let room = edge.room_wanted(wake);
    loop {
        match edge.offer(refused, || _ = counted.fetch_add(1, SeqCst)) {
            Ok(()) => return true,
            Err((Refused::Closed, _)) => return false,
            Err((Refused::Full, item)) => refused = item,
        }
        if !room.is_met() {
            wake.park();
        }
    }
}

/// Two threads feed one edge; the last one ends it.
pub fn two_senders_share_an_edge(capacity: usize, each: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut sender, receiver) = edge(capacity, false);
        sender.release();
        let shared = Arc::clone(sender.shared());
        let mut consumer = Consumer::new(receiver, capacity.max(1));
        let left = StdArc::new(Ghost::new(2));
        let counted = StdArc::new(Ghost::new(0));
        let feeds = [0, 10].map(|first| {
            let (shared, left, counted) = (Arc::clone(&shared), StdArc::clone(&left), StdArc::clone(&counted));
            thread::spawn(move || {
                let wake = Arc::new(Wake::new());
                (first..first + each).for_each(|item| assert!(offer(&shared, &wake, item, &counted)));
                if left.fetch_sub(1, SeqCst) == 1 {
                    shared.finish();
                }
            })
        });
        let (items, last) = consumer.collect();
        assert_eq!(last, Last::Finished);
        for first in [0, 10] {
            let own: Vec<_> = items.iter().copied().filter(|item| item / 10 == first / 10).collect();
            assert_eq!(own, (first..first + each).collect::<Vec<_>>());
        }
        assert_eq!((items.len(), counted.load(SeqCst)), (2 * each, 2 * each));
        _ = feeds.map(|feed| feed.join().unwrap());
    });
}

/// A sender gives up while another waits for room: it leaves nothing behind, and takes nothing of the other's with it.
pub fn a_sender_gives_up_and_another_is_served(capacity: usize, each: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut sender, receiver) = edge(capacity, false);
        sender.release();
        let shared = Arc::clone(sender.shared());
        let mut consumer = Consumer::new(receiver, capacity.max(1));
        let counted = StdArc::new(Ghost::new(0));
        let patient = {
            let (shared, counted) = (Arc::clone(&shared), StdArc::clone(&counted));
            thread::spawn(move || {
                let wake = Arc::new(Wake::new());
                (0..each).for_each(|item| assert!(offer(&shared, &wake, item, &counted)));
            })
        };
        let impatient = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let wake = Arc::new(Wake::new());
                let room = shared.room_wanted(&wake);
                let _ = room.is_met();
                drop(room);
                wake
            })
        };
        (0..each).for_each(|item| assert_eq!(consumer.recv(), Ok(item)));
        patient.join().unwrap();
        assert_eq!(Arc::strong_count(&impatient.join().unwrap()), 1);
    });
}

/// The consumer leaves while two senders wait for room: both get their items back, and accepted items are accounted
/// for.
pub fn senders_wake_when_the_consumer_leaves(capacity: usize, preemptions: usize) {
    check(preemptions, move || {
        let (mut sender, receiver) = edge(capacity, false);
        sender.release();
        let shared = Arc::clone(sender.shared());
        let counted = StdArc::new(Ghost::new(0));
        let feeds = [0, 10].map(|first| {
            let (shared, counted) = (Arc::clone(&shared), StdArc::clone(&counted));
            thread::spawn(move || {
                let wake = Arc::new(Wake::new());
                let _all = (first..first + 2).all(|item| offer(&shared, &wake, item, &counted));
            })
        });
        drop(receiver);
        _ = feeds.map(|feed| feed.join().unwrap());
        assert_eq!(shared.gauge().undelivered.load(Ordering::Relaxed) as usize, counted.load(SeqCst));
    });
}
