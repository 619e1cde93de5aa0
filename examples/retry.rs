//! Retry: failed calls to an unreliable service are retried with exponential backoff.
//!
//! The time is virtual, so the pauses cost nothing: `cargo run --example retry`.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Data, bar};
use streamz::testing::Recorder;
use streamz::{
    AsyncMapper, CallStage, CancelToken, Cancelled, ManualClock, Pipeline, Retry, Stream,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processed {
    pub order: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the service is busy")]
    Busy,
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

// [pattern]
/// Ten orders at a time, each tried up to five times; the pauses are 100, 200, 400 and 800 ms,
/// each shortened by up to one half.
pub fn resilient<F>(
    call: F,
) -> Retry<impl CallStage<In = Order, Out = Processed, Error = ServiceError>>
where
    F: Fn(&CancelToken, &Order) -> Result<Processed, ServiceError> + Send + Sync + 'static,
{
    let calls = AsyncMapper::new(call).with_name("process order").with_workers(10);
    Retry::new(calls)
        .max_attempts(5)
        .base_delay(Duration::from_millis(100))
        .max_delay(Duration::from_secs(30))
        .with_jitter(true)
        .with_seed(8)
}
// [/pattern]

/// The time the service takes for any answer.
pub const LATENCY: Duration = Duration::from_millis(40);

/// A service that is busy a given number of times for each order.
#[derive(Debug, Default)]
pub struct Service {
    busy: HashMap<u32, u32>,
    calls: Mutex<HashMap<u32, Vec<Instant>>>,
}

impl Service {
    pub fn new(busy: impl IntoIterator<Item = (u32, u32)>) -> Self {
        Self { busy: busy.into_iter().collect(), calls: Mutex::default() }
    }

    pub fn process(
        &self,
        cancel: &CancelToken,
        order: &Order,
    ) -> Result<Processed, ServiceError> {
        let attempt = {
            let mut calls = self.calls.lock().unwrap();
            let times = calls.entry(order.id).or_default();
            times.push(cancel.now());
            times.len()
        };
        cancel.sleep(LATENCY)?;
        let busy = self.busy.get(&order.id).copied().unwrap_or(0);
        if attempt <= busy as usize {
            Err(ServiceError::Busy)
        } else {
            Ok(Processed { order: order.id })
        }
    }

    /// The times of the calls for an order.
    pub fn calls(&self, order: u32) -> Vec<Instant> {
        self.calls.lock().unwrap().get(&order).cloned().unwrap_or_default()
    }

    /// The pauses between an answer and the next call for the same order.
    pub fn pauses(&self, order: u32) -> Vec<Duration> {
        self.calls(order).windows(2).map(|pair| pair[1] - pair[0] - LATENCY).collect()
    }
}

/// Whether the pauses are those of [`resilient`].
pub fn as_laid_down(pauses: &[Duration]) -> bool {
    let full = (0..).map(|doublings| Duration::from_millis(100 << doublings));
    pauses.iter().zip(full).all(|(pause, full)| (full / 2..=full).contains(pause))
}

fn main() -> ExitCode {
    common::run("Retry: 300 orders through a service that is often busy", |page| {
        // Two answers in five are "busy", chosen at random each time.
        let mut data = Data::seeded(8);
        let mut busy = |_| (0..6).take_while(|_| data.chance(0.4)).count() as u32;
        let service = Arc::new(Service::new((0..300).map(|id| (id, busy(id)))));

        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("orders").clock(&clock).build();
        let start = clock.now();
        let called = Arc::clone(&service);
        let retry = resilient(move |cancel, order| called.process(cancel, order));
        let recorder = Recorder::new(
            Stream::from_iter(&pipeline, (0..300).map(|id| Order { id })).through(&retry),
        );
        clock.advance(Duration::from_secs(600));
        let outputs = recorder.timed_outputs();
        let report = pipeline.join();

        let mut by_attempts = BTreeMap::<usize, (usize, usize)>::new();
        for (id, (_, output)) in outputs.iter().enumerate() {
            let (processed, failed) =
                by_attempts.entry(service.calls(id as u32).len()).or_default();
            *(if output.is_ok() { processed } else { failed }) += 1;
        }
        let rows = by_attempts.iter().map(|(attempts, (processed, failed))| {
            let orders = processed + failed;
            [
                attempts.to_string(),
                processed.to_string(),
                failed.to_string(),
                bar(orders as f64, 200.0, 30),
            ]
        });
        page.table(&["attempts", "processed", "failed", ""], rows);

        let unlucky = (0..300).max_by_key(|&id| service.calls(id).len()).unwrap_or(0);
        let times = service
            .calls(unlucky)
            .into_iter()
            .map(|time| format!("{} ms", (time - start).as_millis()));
        page.say(format_args!(
            "\norder {unlucky} was tried at {}",
            times.collect::<Vec<_>>().join(", ")
        ));
        let took = outputs.last().map_or(Duration::ZERO, |(time, _)| *time);
        let stats = retry.stats();
        page.say(format_args!(
            "{} retries in {took:?} of virtual time, ten workers\n",
            stats.retries()
        ));

        let of_output = |(_, output): &(Duration, streamz::Result<Processed>)| match output {
            Ok(processed) => processed.order,
            Err(error) => error.with_item_ref(|order: &Order| order.id).unwrap_or(u32::MAX),
        };
        let ids: Vec<u32> = outputs.iter().map(of_output).collect();
        page.check(
            "every order has one result or error, in order",
            ids == Vec::from_iter(0..300),
        );
        let failed = outputs.iter().filter_map(|(_, output)| output.as_ref().err());
        page.check(
            "failed orders were tried five times",
            failed.clone().all(|error| error.attempts() == 5),
        );
        page.check("some orders failed, and most orders that met a busy service did not", {
            let failed = failed.count() as u64;
            failed == stats.exhausted() && failed > 0 && stats.recovered() > 10 * failed
        });
        page.check(
            "the pauses grow as configured",
            (0..300).all(|id| as_laid_down(&service.pauses(id))),
        );
        page.check("all items are accounted for", report.is_complete());
        Ok(())
    })
}
