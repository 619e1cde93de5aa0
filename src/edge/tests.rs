//! The promises of the edge; and no wake-up is lost.

use super::*;
use crate::clock::Clock;
use crate::clock::wait::Waiter;
use crate::mark::testing::Probe;

fn drain<T>(receiver: &mut EdgeReceiver<T>) -> Vec<T> {
    std::iter::from_fn(|| match receiver.poll() {
        Polled::Item(item) => Some(item.unwrap()),
        Polled::Empty | Polled::Ended(_) => None,
    })
    .collect()
}

#[test]
fn never_takes_more_than_its_capacity_whatever_the_chunks() {
    for capacity in [1, 2, 3, 64, 65, 200] {
        let (mut sender, mut receiver) = edge(capacity, false);
        (0..capacity + 5).for_each(|n| _ = sender.push(Ok(n)));
        sender.hand_over();
        assert!(sender.is_stuck() && sender.is_full());
        assert_eq!(receiver.shared().gauge().len(), capacity);
        // What the consumer has not taken one by one still counts.
        assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
        sender.hand_over();
        assert_eq!(receiver.shared().gauge().len(), capacity);
        let mut seen = vec![0];
        while seen.len() < capacity + 5 {
            seen.extend(drain(&mut receiver));
            sender.hand_over();
        }
        assert_eq!(seen, (0..capacity + 5).collect::<Vec<_>>());
    }
}

#[test]
fn several_items_at_a_time_keep_the_order_and_the_capacity() {
    let mut random = fastrand::Rng::with_seed(3);
    for capacity in [0, 1, 2, 63, 64, 65, 200] {
        let (mut sender, mut receiver) = edge(capacity, false);
        let (mut made, mut waiting, mut seen) = (0, Vec::new(), Vec::new());
        while seen.len() < 2_000 {
            match random.u8(..4) {
                0 if waiting.is_empty() => {
                    let count = random.usize(1..150);
                    waiting.extend((made..made + count).map(Ok));
                    made += count;
                }
                1 => {
                    let room = sender.room_for(waiting.len());
                    let count = room.min(waiting.len());
                    sender.gather_first(&mut waiting, count);
                    sender.hand_over();
                    assert!(!sender.is_stuck() && sender.is_handed_over());
                }
                2 => _ = receiver.ask(),
                _ => {
                    let (mut items, most) = (Vec::new(), random.usize(1..150));
                    receiver.poll_until(most, &mut items);
                    assert!(items.len() <= most);
                    seen.extend(items.into_iter().map(Result::unwrap));
                    receiver.settle();
                }
            }
            assert!(receiver.shared().gauge().len() <= capacity.max(1));
        }
        assert!(seen.iter().copied().eq(0..seen.len()));
    }
}

#[test]
fn items_are_collected_only_while_the_consumer_is_not_hungry() {
    let (mut sender, mut receiver) = edge(100, false);
    assert!(!receiver.ask());
    sender.push(Ok('a')); // the consumer is hungry
    sender.push(Ok('b')); // and was fed
    assert_eq!(drain(&mut receiver), ['a']);
    assert!(!receiver.ask());
    sender.hand_over_if_hungry();
    assert_eq!(drain(&mut receiver), ['b']);
    sender.push(Ok('c'));
    assert!(!receiver.has_items());
    sender.hand_over(); // as before parking
    assert_eq!(drain(&mut receiver), ['c']);
}

#[test]
fn an_eager_edge_shows_every_item_at_once() {
    let (mut sender, receiver) = edge(4, true);
    sender.push(Ok(1));
    assert!(receiver.has_items());
}

#[test]
fn with_capacity_zero_there_is_room_only_for_a_hungry_consumer() {
    let (mut sender, mut receiver) = edge(0, false);
    assert!(sender.is_full());
    sender.push(Ok(1));
    assert!(sender.is_stuck());
    assert!(matches!(receiver.poll(), Polled::Empty));
    assert!(!receiver.ask());
    sender.hand_over();
    assert!(!sender.is_stuck());
    assert!(sender.is_full());
    assert_eq!(drain(&mut receiver), [1]);
    assert!(sender.is_full());
}

#[test]
fn the_end_comes_after_the_last_item() {
    let (mut sender, mut receiver) = edge(10, false);
    sender.push(Ok(1));
    sender.end(End::Finished);
    assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
    assert!(matches!(receiver.poll(), Polled::Ended(End::Finished)));
    assert!(matches!(receiver.poll(), Polled::Ended(End::Finished)));
}

#[test]
fn a_producer_dropped_before_the_end_cuts_the_stream() {
    let (mut sender, mut receiver) = edge(10, false);
    sender.push(Ok(1));
    drop(sender);
    assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
    assert!(matches!(receiver.poll(), Polled::Ended(End::Cut(_))));
}

#[test]
fn undelivered_items_are_counted_wherever_they_were() {
    let (mut sender, mut receiver) = edge(5, false);
    (0..3).for_each(|n| _ = sender.push(Ok(n)));
    sender.hand_over();
    assert!(matches!(receiver.poll(), Polled::Item(_))); // two are left in the batch
    sender.push(Ok(3));
    sender.hand_over(); // one in the queue
    sender.push(Err(StreamError::new(crate::ErrorKind::Failed, "not data")));
    sender.push(Ok(4)); // one in the open chunk
    let gauge = Arc::clone(receiver.shared().gauge());
    drop(receiver);
    sender.push(Ok(5));
    sender.end(End::Finished);
    assert_eq!(gauge.undelivered.load(Ordering::Relaxed), 5);
}

#[test]
fn a_lower_capacity_holds_from_the_next_chunk_on() {
    let (mut sender, mut receiver) = edge(10, false);
    (0..3).for_each(|n| _ = sender.push(Ok(n)));
    receiver.set_capacity(2);
    sender.push(Ok(3));
    sender.hand_over();
    assert!(sender.is_full(), "the room there was does not count any more");
    sender.push(Ok(4));
    assert!(sender.is_stuck());
    assert_eq!(drain(&mut receiver), [0, 1, 2, 3]);
    sender.hand_over();
    assert!(!sender.is_stuck());
    assert_eq!(drain(&mut receiver), [4]);

    // A sender set to hand over at once does so from the next item on.
    let (mut sender, mut receiver) = edge(10, false);
    sender.set_at_once(true);
    sender.push(Ok(0));
    receiver.set_capacity(1);
    sender.push(Ok(1));
    assert!(sender.is_stuck());
    assert_eq!(drain(&mut receiver), [0]);
}

#[test]
fn a_lowered_capacity_keeps_promised_room() {
    for capacity in [0, 1, 2] {
        let (mut sender, mut receiver) = edge(100, false);
        (0..10).for_each(|n| _ = sender.push(Ok(n)));
        receiver.set_capacity(capacity);
        assert!(!sender.is_stuck());
        sender.end(End::Finished);
        assert_eq!(drain(&mut receiver), (0..10).collect::<Vec<_>>());
        assert_eq!(receiver.shared().gauge().undelivered.load(Ordering::Relaxed), 0);
    }
}

/// A producer is registered for room only while it has to wait: here there is room, and both ends of the edge are open.
#[test]
fn a_producer_waits_only_for_room_that_may_come() {
    let clock = Clock::default();
    let waiter = Waiter::current(&clock);
    let full = || {
        let (mut sender, receiver) = edge(1, false);
        sender.set_at_once(true);
        sender.push(Ok(0));
        assert!(sender.is_full());
        (sender, receiver)
    };
    let (sender, _receiver) = full();
    assert!(!sender.want_room(waiter.wake()));
    assert_eq!(sender.shared().waiting_for_room(), 1);

    let (sender, mut receiver) = full();
    assert_eq!(drain(&mut receiver), [0]);
    assert!(sender.want_room(waiter.wake()), "there is room");
    let (sender, receiver) = full();
    drop(receiver);
    assert!(sender.want_room(waiter.wake()), "the consumer has left");
    let (sender, _receiver) = full();
    sender.shared().finish();
    assert!(sender.want_room(waiter.wake()), "the stream has ended");
    assert_eq!(sender.shared().waiting_for_room(), 0);
}

/// A producer that is woken for nothing parks again, which costs both threads more than many items.
#[test]
fn a_consumer_that_stops_announces_room_if_there_is_some() {
    let waiter = Waiter::current(&Clock::default());
    let (mut sender, mut receiver) = edge(4, false);
    (0..4).for_each(|n| _ = sender.push(Ok(n)));
    assert!(sender.is_full() && !sender.want_room(waiter.wake()));
    receiver.settle();
    assert_eq!(sender.shared().waiting_for_room(), 1, "there is none");
    assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
    assert_eq!(sender.shared().waiting_for_room(), 1, "too little to announce it while the consumer goes on");
    receiver.settle();
    assert_eq!(sender.shared().waiting_for_room(), 0);
}

/// The edge accepts nothing once the consumer has left, or the stream has ended.
#[test]
fn a_closed_edge_returns_items_and_loses_marks() {
    for gone in [true, false] {
        let (mut sender, receiver) = edge(1, true);
        let _receiver = if gone {
            drop(receiver);
            None
        } else {
            sender.shared().finish();
            Some(receiver)
        };
        let lost = Probe::default();
        sender.put_mark(lost.mark());
        assert!(lost.is_lost());
        let edge = sender.shared();
        assert!(matches!(edge.offer(Ok(1), || unreachable!()), Err((Refused::Closed, Ok(1)))));
        let instead = edge.offer_in_place_of_oldest(Ok(2), |_| unreachable!());
        assert!(matches!(instead, Err((Refused::Closed, Ok(2)))));
    }
}

/// A consumer that leaves has processed everything before a mark only if it was never given an item.
#[test]
fn a_leaving_consumer_completes_marks_before_the_first_item() {
    for eager in [false, true] {
        let (mut sender, mut receiver) = edge(8, eager);
        let (first, second) = (Probe::default(), Probe::default());
        sender.put_mark(first.mark());
        sender.push(Ok(0));
        sender.put_mark(second.mark());
        sender.hand_over();
        drop(receiver);
        assert!(!first.is_lost() && second.is_lost(), "{eager}");

        (sender, receiver) = edge(8, eager);
        let behind = Probe::default();
        sender.push(Ok(0));
        sender.put_mark(behind.mark());
        sender.hand_over();
        assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
        drop(receiver);
        assert!(behind.is_lost(), "{eager}: the item may not have been processed");
    }
}

/// Marks take no room from the items behind them, even if they had to wait for room together with items.
#[test]
fn a_mark_behind_an_item_that_waits_takes_no_room() {
    let (mut sender, mut receiver) = edge(2, true);
    (0..3).for_each(|n| _ = sender.push(Ok(n)));
    sender.put_mark(Probe::default().mark());
    assert!(sender.is_stuck());
    (0..2).for_each(|n| assert!(matches!(receiver.poll(), Polled::Item(Ok(item)) if item == n)));
    sender.hand_over();
    sender.push(Ok(3));
    assert!(!sender.is_stuck());
    sender.push(Ok(4));
    assert!(sender.is_stuck());
    assert!(matches!(receiver.poll(), Polled::Item(Ok(2))));
    assert!(matches!(receiver.poll(), Polled::Item(Err(mark)) if mark.is_mark()));
    sender.hand_over();
    assert!(!sender.is_stuck());
    sender.push(Ok(5));
    assert!(sender.is_stuck(), "a mark that was taken makes no room either");
    assert_eq!(drain(&mut receiver), [3, 4]);
}

/// A mark takes no room from the items of its chunk, nor from those that arrive while it is in the queue.
#[test]
fn a_mark_travels_with_the_open_chunk_and_takes_no_room() {
    let (mut sender, mut receiver) = edge(4, false);
    sender.push(Ok(0));
    assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
    sender.push(Ok(1));
    sender.put_mark(Probe::default().mark());
    assert!(matches!(receiver.poll(), Polled::Empty), "both are in the open chunk");
    (2..4).for_each(|n| _ = sender.push(Ok(n)));
    assert!(sender.is_handed_over());
    sender.push(Ok(4));
    assert!(!sender.is_stuck());
    sender.push(Ok(5));
    assert!(sender.is_stuck(), "four items and a mark are in the queue");
    assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
    assert!(matches!(receiver.poll(), Polled::Item(Err(mark)) if mark.is_mark()));
    sender.hand_over();
    assert!(!sender.is_stuck());
    assert_eq!(drain(&mut receiver), [2, 3, 4, 5]);
}

/// A consumer that asks has processed all items it was given.
#[test]
fn a_mark_does_not_stay_behind_when_the_consumer_asks() {
    let (mut sender, mut receiver) = edge(8, false);
    sender.push(Ok(0));
    assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
    assert!(!receiver.ask());
    sender.put_mark(Probe::default().mark());
    assert!(matches!(receiver.poll(), Polled::Item(Err(mark)) if mark.is_mark()));
}

/// Two threads park at every opportunity: neither is ever left parked.
#[test]
fn no_wake_is_lost() {
    const ITEMS: u32 = 20_000;
    for capacity in [0, 1, 2, 7, 100] {
        let (mut sender, mut receiver) = edge(capacity, false);
        let producer = std::thread::spawn(move || {
            let waiter = Waiter::current(&Clock::default());
            for n in 0..ITEMS {
                sender.push(Ok(n));
                while sender.is_stuck() {
                    if !sender.want_room(waiter.wake()) {
                        waiter.park(None);
                    }
                    sender.hand_over();
                }
            }
            sender.end(End::Finished);
        });
        let waiter = Waiter::current(&Clock::default());
        let mut next = 0;
        loop {
            match receiver.poll() {
                Polled::Item(item) => {
                    assert_eq!(item.unwrap(), next);
                    next += 1;
                }
                Polled::Empty => {
                    receiver.settle();
                    if !receiver.want_items(waiter.wake()) {
                        waiter.park(None);
                    }
                }
                Polled::Ended(_) => break,
            }
        }
        assert_eq!(next, ITEMS);
        producer.join().unwrap();
    }
}

#[test]
fn an_edge_that_evicts_keeps_the_newest_item_whatever_its_capacity() {
    let (sender, receiver) = edge(2, true);
    receiver.set_capacity(0);
    let offer = |item: u32| sender.shared().offer_in_place_of_oldest(Ok(item), |_| ()).map_err(|(_, item)| item);
    assert!(matches!(offer(1), Ok(None)));
    assert!(matches!(offer(2), Ok(Some(1))));
}
