//! Tiers: premium orders at once, standard orders soon, the rest in batches; and no order waits for another tier.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, ManualClock, RouteStats};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Premium,
    Standard,
    Economy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: u32,
    /// The tier of the customer.
    pub customer: Tier,
    pub total: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    pub id: u32,
    pub tier: Tier,
}

/// Processes one order, or many economy orders in one call. Waits through the token.
pub trait Service: Send + Sync + 'static {
    fn one(
        &self,
        cancel: &CancelToken,
        tier: Tier,
        order: &Order,
    ) -> Result<Processed, BoxError>;
    fn many(&self, cancel: &CancelToken, orders: &[Order]) -> Result<Vec<Processed>, BoxError>;
}

// [pattern]
/// Single orders: the number of workers, and how many orders may wait for them.
fn one_by_one<S: Service>(
    service: &Arc<S>,
    tier: Tier,
    workers: usize,
    queue: usize,
) -> BoxProcessor<Order, Processed> {
    let service = Arc::clone(service);
    let pool = AsyncMapper::new(move |cancel: &CancelToken, order: &Order| {
        service.one(cancel, tier, order)
    });
    // Unordered: a slow order does not delay the others.
    let pool = pool.with_workers(workers).with_ordered(false).with_name(format!("{tier:?}"));
    Buffer::new(queue).then(pool).boxed()
}

/// A hundred orders in one call, or all that arrive within 30 s of the first; then single
/// results again.
fn in_batches<S: Service>(service: &Arc<S>) -> BoxProcessor<Order, Processed> {
    let service = Arc::clone(service);
    let pool = AsyncMapper::new(move |cancel: &CancelToken, orders: &Vec<Order>| {
        service.many(cancel, orders)
    });
    let batch =
        Batcher::new(BatchConfig { max_size: 100, max_latency: Duration::from_secs(30) });
    batch.then(pool.with_workers(5).with_name("Economy")).then(Flatten::new()).boxed()
}

/// Sends each order to its tier: that of the customer, or a better one if the order is large.
pub fn process<S: Service>(
    orders: Stream<Order>,
    service: &Arc<S>,
) -> (Stream<Processed>, RouteStats) {
    let is_premium = |order: &Order| order.customer == Tier::Premium || order.total > 10_000;
    let is_standard = |order: &Order| order.customer == Tier::Standard || order.total > 1_000;
    let switch = Switch::new()
        .case("premium", is_premium, one_by_one(service, Tier::Premium, 50, 1_000))
        .case("standard", is_standard, one_by_one(service, Tier::Standard, 20, 500))
        .with_default(in_batches(service))
        .with_name("tier-router");
    (orders.through(&switch), switch.stats())
}
// [/pattern]

/// Takes 200 ms for a premium order, 500 ms for a standard one, and for a batch a second plus 10 ms per order.
#[derive(Default)]
struct Warehouse {
    batches: Mutex<Vec<usize>>,
}

impl Service for Warehouse {
    fn one(
        &self,
        cancel: &CancelToken,
        tier: Tier,
        order: &Order,
    ) -> Result<Processed, BoxError> {
        cancel.sleep(ms(if tier == Tier::Premium { 200 } else { 500 }))?;
        Ok(Processed { id: order.id, tier })
    }

    fn many(&self, cancel: &CancelToken, orders: &[Order]) -> Result<Vec<Processed>, BoxError> {
        self.batches.lock().push(orders.len());
        cancel.sleep(ms(1_000 + 10 * orders.len() as u64))?;
        Ok(orders.iter().map(|order| Processed { id: order.id, tier: Tier::Economy }).collect())
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn main() -> ExitCode {
    common::run("Tiers: premium at once, standard soon, the rest in batches", five_minutes)
}

fn five_minutes(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(13);
    let order = |id| Order {
        id,
        customer: *data.pick(&[
            Tier::Premium,
            Tier::Standard,
            Tier::Standard,
            Tier::Economy,
            Tier::Economy,
            Tier::Economy,
        ]),
        total: if data.chance(0.02) {
            data.between(1_000..20_000)
        } else {
            data.between(10..1_000)
        },
    };
    let orders: Vec<Order> = (0..2_000).map(order).collect();

    // Virtual time: an order every 150 ms, without a real wait.
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("orders").clock(&clock).build();
    let warehouse = Arc::new(Warehouse::default());
    let (source, stream) = TestSource::new(&pipeline);
    let (processed, stats) = process(stream, &warehouse);
    let processed = Recorder::new(processed);
    let arrival = |id: u32| ms(150) * id;
    source.play(orders.iter().map(|order| (arrival(order.id), order.clone())));
    source.end();
    clock.advance(Duration::from_secs(60));
    let report = pipeline.join();

    let processed = processed.timed_items();
    let waits = |tier| {
        let of_tier = processed.iter().filter(|(_, it)| it.tier == tier);
        let mut waits: Vec<Duration> =
            of_tier.map(|(time, it)| *time - arrival(it.id)).collect();
        waits.sort_unstable();
        waits
    };
    let tiers = [Tier::Premium, Tier::Standard, Tier::Economy].map(|tier| (tier, waits(tier)));
    page.say("");
    page.table(
        &["tier", "orders", "half within", "all within", ""],
        tiers.iter().map(|(tier, waits)| {
            let (half, all) = (waits[waits.len() / 2], waits[waits.len() - 1]);
            let [half_shown, all_shown] =
                [half, all].map(|wait| format!("{:.1} s", wait.as_secs_f64()));
            let shown = bar(half.as_secs_f64(), 30.0, 40);
            [format!("{tier:?}"), waits.len().to_string(), half_shown, all_shown, shown]
        }),
    );
    let batches = warehouse.batches.lock();
    let economy = tiers[2].1.len();
    page.say(format_args!("\n{economy} economy orders took {} calls\n", batches.len()));

    let mut ids: Vec<u32> = processed.iter().map(|(_, it)| it.id).collect();
    ids.sort_unstable();
    page.check("every order was processed once", ids.into_iter().eq(0..orders.len() as u32));
    let is_upgraded = |order: &Order| order.customer != Tier::Premium && order.total > 10_000;
    let upgraded: Vec<u32> =
        orders.iter().filter(|order| is_upgraded(order)).map(|order| order.id).collect();
    let premium = |id| processed.iter().any(|(_, it)| it.id == id && it.tier == Tier::Premium);
    page.check(
        "large orders are premium, whatever the customer's tier",
        !upgraded.is_empty() && upgraded.into_iter().all(premium),
    );
    page.check("no premium order waited", tiers[0].1.iter().all(|wait| *wait == ms(200)));
    page.check("no standard order waited", tiers[1].1.iter().all(|wait| *wait == ms(500)));
    page.check(
        "no economy order took more than 30 s and its call",
        tiers[2].1.iter().all(|wait| *wait <= ms(32_000)),
    );
    page.check("no batch is larger than 100", batches.iter().all(|&orders| orders <= 100));
    page.check_eq("the counts say the same", stats.items("default"), economy as u64);
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
