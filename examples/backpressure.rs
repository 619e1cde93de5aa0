//! Back-pressure in tiers: a small queue for normal load, a larger one for bursts, and shedding under overload.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Page, bar};
use streamz::prelude::*;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, ManualClock, StreamStats};

/// An order; its amount should not be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub pieces: u32,
}

// [pattern]
/// Room in front of the workers, for normal fluctuations.
pub const TIER_1: usize = 20;
/// Room for a burst.
pub const TIER_2: usize = 400;
/// Room for more than a burst; when it is full as well, new orders are refused.
pub const TIER_3: usize = 600;

/// Processes orders with four workers. The source never waits: `on_shed` receives the orders
/// for which there is no room.
pub fn process_in_tiers<F>(
    orders: Stream<Order>,
    on_shed: impl Fn(Order) + Send + Sync + 'static,
    on_stats: impl Fn(StreamStats) + Send + Sync + 'static,
    service: F,
) -> Stream<u64>
where
    F: Fn(&CancelToken, &Order) -> Result<u64, BoxError> + Send + Sync + 'static,
{
    // Queues fill from the workers backwards, so the tier that may drop comes first, and the
    // tier for normal load last.
    let workers =
        AsyncMapper::new(service).with_workers(4).with_ordered(false).with_queue_size(TIER_1);
    let monitor = Monitor::new(Duration::from_secs(1)).on_stats(on_stats).with_capacity(TIER_2);
    orders
        .through(&DroppingBuffer::new(TIER_3).on_drop(on_shed))
        .through(&monitor)
        .through(&Filter::new(|order: &Order| order.pieces > 0).with_name("valid"))
        .through(&workers)
}
// [/pattern]

/// How many orders there is room for: in the tiers, in the monitor, in the filter, and in the four workers.
pub const ROOM: usize = TIER_1 + TIER_2 + TIER_3 + 1 + 1 + 4;

fn main() -> ExitCode {
    common::run(
        "Back-pressure in tiers: a calm second, a burst, an overload, in virtual time",
        take_orders,
    )
}

fn take_orders(page: &Page) -> Result<(), BoxError> {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("orders").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let shed = Arc::new(AtomicU64::new(0));
    let alerts = Arc::new(AtomicU64::new(0));
    let on_shed = {
        let shed = Arc::clone(&shed);
        move |_| {
            shed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let on_stats = {
        let alerts = Arc::clone(&alerts);
        move |stats: StreamStats| {
            if !stats.stalled.is_zero() {
                alerts.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let done = Recorder::new(process_in_tiers(orders, on_shed, on_stats, |cancel, order| {
        cancel.sleep(Duration::from_millis(10))?;
        Ok(order.id)
    }));
    let (mut sent, mut processed, mut rows) = (0, 0, Vec::new());
    for tenth in 0..60 {
        // The workers process 40 in a tenth of a second.
        let come = match tenth {
            10 => 400,
            20..30 => 200,
            _ => 30,
        };
        for _ in 0..come {
            source.push(Order { id: sent, pieces: 1 });
            sent += 1;
        }
        processed += done.items().len() as u64;
        let waiting = sent - shed.load(Ordering::Relaxed) - processed;
        if tenth % 2 == 0 {
            let time = format!("{:.1} s", f64::from(tenth) / 10.0);
            let bar = bar(waiting as f64, ROOM as f64, 40);
            rows.push([
                time,
                come.to_string(),
                waiting.to_string(),
                shed.load(Ordering::Relaxed).to_string(),
                bar,
            ]);
        }
        clock.advance(Duration::from_millis(100));
    }
    source.end();
    clock.advance(Duration::from_secs(60));
    let report = pipeline.join();
    page.say("");
    page.table(&["time", "come", "waiting", "shed so far", ""], rows);
    page.say("");
    let (shed, done) = (shed.load(Ordering::Relaxed), processed + done.items().len() as u64);
    page.check_eq(
        "every order was either processed or turned away and told",
        done + shed,
        sent,
    );
    page.check("the overload was shed, and most was processed", shed > 0 && done > sent / 2);
    page.check("the monitor reported the stall", alerts.load(Ordering::Relaxed) > 0);
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
