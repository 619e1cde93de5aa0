//! Back-pressure in tiers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../backpressure.rs"]
mod example;

use example::{Order, ROOM, process_in_tiers};

/// Pushes orders all at once to a service that takes a second for each; returns what was shed, how often a stall was
/// told within ten seconds, and what was processed in the end.
fn push_at_once(count: usize) -> (Vec<u64>, usize, Vec<u64>) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let (shed, stalls) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let on_shed = {
        let shed = Arc::clone(&shed);
        move |order: Order| shed.lock().push(order.id)
    };
    let on_stats = {
        let stalls = Arc::clone(&stalls);
        move |stats: streamz::StreamStats| {
            *stalls.lock() += usize::from(!stats.stalled.is_zero())
        }
    };
    let done = Recorder::new(process_in_tiers(orders, on_shed, on_stats, |cancel, order| {
        cancel.sleep(Duration::from_secs(1))?;
        Ok(order.id)
    }));
    source.push_all((0..count as u64).map(|id| Order { id, pieces: 1 }));
    clock.advance(Duration::from_secs(10));
    let stalled = *stalls.lock();
    source.end();
    clock.advance(Duration::from_secs(3600));
    assert!(pipeline.join().is_complete());
    let mut done = done.items();
    done.sort_unstable();
    let shed = shed.lock().clone();
    (shed, stalled, done)
}

#[test]
fn items_beyond_the_room_are_rejected_and_no_others() {
    let room = ROOM as u64;
    assert_eq!(push_at_once(ROOM), (vec![], 10, (0..room).collect()));
    assert_eq!(push_at_once(ROOM + 7), ((room..room + 7).collect(), 10, (0..room).collect()));
}

#[test]
fn a_burst_that_fits_the_second_tier_has_no_effect() {
    let (shed, stalled, done) = push_at_once(300);
    assert_eq!((shed.len(), stalled, done.len()), (0, 0, 300));
}
