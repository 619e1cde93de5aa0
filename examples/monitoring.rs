//! Monitoring at several levels: input, output and the state of each stage, scraped as Prometheus text over HTTP.

mod common;
#[path = "common/http.rs"]
pub mod http;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Page, bar};
use crossbeam_channel::bounded;
use http::{Answer, Client, Server};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use prometheus_parse::{Sample, Scrape, Value};
use streamz::prelude::*;
use streamz::{BoxError, StreamStats};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub id: u64,
    pub came: SystemTime,
}

/// An event that was processed, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub event: Event,
    pub took: Duration,
}

// [pattern]
/// Installs the recorder of this program. A scrape returns its contents.
pub fn install() -> Result<PrometheusHandle, BoxError> {
    let times = Matcher::Full("events_sampled_processing_seconds".into());
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(times, &[0.002, 0.005, 0.01, 0.02])?;
    Ok(builder.install_recorder()?)
}

/// Processes events with ten workers. The observers only look: the output is the same without
/// them.
pub fn observed(
    pipeline: &Pipeline,
    events: Stream<Event>,
    process: impl Fn(&CancelToken, &Event) -> Result<(), BoxError> + Send + Sync + 'static,
) -> Stream<Done> {
    let every = Duration::from_millis(100);
    // The counts of each stage, how full its output is, and where its time goes.
    pipeline.export_metrics(every);
    // Measurements that only this program can make: rates and ages at two levels, and the
    // latency of an event.
    let name = pipeline.report().name;
    let level = |level: &'static str| {
        let name = Arc::clone(&name);
        move |stats: StreamStats| {
            let labels = [("pipeline", Arc::clone(&name)), ("level", level.into())];
            metrics::gauge!("events_per_second", &labels).set(stats.rate);
            metrics::gauge!("events_stalled_seconds", &labels).set(stats.stalled);
            metrics::gauge!("events_max_age_seconds", &labels)
                .set(stats.max_age.unwrap_or_default());
        }
    };
    let raw = Monitor::new(every).on_stats(level("raw")).with_name("raw");
    let processed = Monitor::new(every)
        .on_stats(level("processed"))
        .with_timestamp(|done: &Done| done.event.came);
    let timed = move |cancel: &CancelToken, event: &Event| {
        let start = cancel.now();
        process(cancel, event)?;
        Ok::<_, BoxError>(Done {
            event: *event,
            took: cancel.now().saturating_duration_since(start),
        })
    };
    // A tenth is enough for times. Counts are never sampled.
    let times = "events_sampled_processing_seconds";
    let times = metrics::histogram!(times, "pipeline" => Arc::clone(&name));
    let sample = Tap::sampled(0.1, move |done: &Done| times.record(done.took));
    events
        .through(&raw)
        .through(&AsyncMapper::new(timed).with_name("process").with_workers(10))
        .through(&processed.with_name("processed"))
        .through(&sample.with_name("sample").with_seed(17))
}

/// The stages in the order in which an event goes through them.
pub const STAGES: [&str; 5] = ["raw", "process", "processed", "sample", "store"];

/// The stage that blocks the others: the one downstream of the last stage that waits for room.
pub fn to_blame(scrape: &Samples, pipeline: &str) -> Option<&'static str> {
    let waits = |stage: &str| {
        scrape.value("streamz_output_blocking", &[("pipeline", pipeline), ("stage", stage)])
            == Some(1.0)
    };
    STAGES.get(STAGES.iter().rposition(|stage| waits(stage))? + 1).copied()
}
// [/pattern]

/// The values of a scrape.
#[derive(Debug)]
pub struct Samples(Scrape);

impl Samples {
    /// Reads Prometheus text.
    pub fn read(text: &str) -> Result<Self, BoxError> {
        Ok(Self(Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?))
    }

    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Sample> {
        let has = |sample: &Sample| {
            labels.iter().all(|&(label, value)| sample.labels.get(label) == Some(value))
        };
        self.0.samples.iter().find(|sample| sample.metric == name && has(sample))
    }

    /// The value of the first counter or gauge of that name that has these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.find(name, labels)?.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
            Value::Histogram(_) | Value::Summary(_) => None,
        }
    }

    /// How many values of a histogram are at most `limit`.
    pub fn bucket(&self, name: &str, labels: &[(&str, &str)], limit: f64) -> Option<f64> {
        let Value::Histogram(buckets) = &self.find(name, labels)?.value else { return None };
        buckets.iter().find(|bucket| bucket.less_than == limit).map(|bucket| bucket.count)
    }
}

const EVENTS: u64 = 2_000;

fn main() -> ExitCode {
    common::run("Monitoring: 2,000 events and a consumer that stalls, scraped over HTTP", watch)
}

fn watch(page: &Page) -> Result<(), BoxError> {
    let exported = install()?;
    let pipeline = Pipeline::builder("observed").capacity(20).build();
    let token = pipeline.token();
    let server = Server::start(1, move |_, _| Answer::new(200, exported.render()))?;
    let (client, url) = (Client::new(), server.url("/metrics"));

    let clock = token.clock().clone();
    let events = (0..EVENTS).map(move |id| Event { id, came: clock.wall() });
    let stream = observed(&pipeline, Stream::from_iter(&pipeline, events), |cancel, event| {
        cancel.sleep(Duration::from_millis(1 + event.id % 7))?;
        if event.id.is_multiple_of(50) { Err("it cannot be read".into()) } else { Ok(()) }
    });
    // After 600 events the store stalls, until a scrape has noticed.
    let (noticed, notice) = bounded::<()>(1);
    let stored = Arc::new(Mutex::new((Vec::new(), 0)));
    let store = Arc::clone(&stored);
    stream.named("store").spawn_for_each(move |done| {
        let (ids, failed) = &mut *store.lock();
        match done {
            Ok(done) => ids.push(done.event.id),
            Err(_) => *failed += 1,
        }
        if ids.len() as u64 + *failed == 600 {
            let _ = notice.recv_timeout(Duration::from_secs(20));
        }
    });

    let (mut rows, mut named, mut last, mut only_grew) = (Vec::new(), false, 0.0, true);
    loop {
        let scrape = Samples::read(&client.get(&token, &url)?.text)?;
        let stage = |name, stage| scrape.value(name, &[("stage", stage)]).unwrap_or(0.0);
        let level = |name, level| scrape.value(name, &[("level", level)]).unwrap_or(0.0);
        let (done, rate) = (
            stage("streamz_stage_received_items_total", "store"),
            level("events_per_second", "processed"),
        );
        let stalled = level("events_stalled_seconds", "raw");
        let to_blame = to_blame(&scrape, "observed").unwrap_or_default();
        // Waiting at a single moment says nothing; waiting for this long does.
        if stalled >= 0.2 && to_blame == "store" {
            named = true;
            let _ = noticed.try_send(());
        }
        rows.push([
            format!("{done}"),
            format!("{rate:.0}"),
            bar(rate, 3_000.0, 30),
            format!("{stalled:.2} s"),
            to_blame.to_owned(),
        ]);
        only_grew &= done >= std::mem::replace(&mut last, done);
        if done + stage("streamz_step_failed_items_total", "process") == EVENTS as f64
            || rows.len() == 300
        {
            break;
        }
        token.sleep(Duration::from_millis(100))?;
    }
    let report = pipeline.join();
    let text = client.get(&token, &url)?.text;
    drop(server);

    page.say("");
    page.table(&["stored", "per second", "", "stalled", "who is waited for"], rows);
    page.say("\nthe last scrape, in part:");
    text.lines()
        .filter(|line| line.contains("sampled") || line.contains("received_items_total"))
        .for_each(|line| page.say(line));
    page.say("");
    let scrape = Samples::read(&text)?;
    let of = |name, stage| scrape.value(name, &[("pipeline", "observed"), ("stage", stage)]);
    let stages = report.stages.iter().all(|stage| {
        let counts =
            [stage.received(), stage.emitted(), stage.failed()].map(|count| Some(count as f64));
        [
            "streamz_stage_received_items_total",
            "streamz_stage_emitted_items_total",
            "streamz_step_failed_items_total",
        ]
        .map(|name| of(name, &*stage.name))
            == counts
    });
    let (ids, failed) = &*stored.lock();
    page.check("the last scrape agrees with the report for every stage", stages);
    page.check(
        "the store got every good event once, in order",
        ids.iter().copied().eq((0..EVENTS).filter(|id| id % 50 != 0)),
    );
    page.check_eq(
        "missing events came as errors: the observers took nothing",
        ids.len() as u64 + failed,
        EVENTS,
    );
    page.check_eq(
        "every error was seen, although only a tenth was sampled",
        of("streamz_stage_received_errors_total", "sample"),
        Some(40.0),
    );
    page.check("counters only grew", only_grew);
    page.check("the store was named while it stalled", named);
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
