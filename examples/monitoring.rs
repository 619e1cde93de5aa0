//! Multi-level monitoring: what goes in, what comes out and how each stage fares, scraped as Prometheus text over HTTP.

mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Page, bar};
use crossbeam_channel::bounded;
use http::{Answer, Client, Server};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder};
use streamz::prelude::*;
use streamz::{BoxError, Outcome, Report, StageReport, StreamStats};

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
/// What the observers have seen. A scrape does not hold up the stream.
#[derive(Debug)]
pub struct Metrics {
    levels: Mutex<BTreeMap<&'static str, StreamStats>>,
    times: Histogram,
    errors: IntCounter,
}

impl Metrics {
    pub fn new() -> prometheus::Result<Self> {
        let times = HistogramOpts::new("sampled_processing_seconds", "Time of a call, for a tenth of the items");
        Ok(Self {
            levels: Mutex::default(),
            times: Histogram::with_opts(times.buckets(vec![0.002, 0.005, 0.01, 0.02]))?,
            errors: IntCounter::new("errors_total", "Error items")?,
        })
    }
}

/// Processes events with ten workers. The observers only look: what comes out is what would come out without them.
pub fn observed(
    events: Stream<Event>,
    metrics: &Arc<Metrics>,
    process: impl Fn(&CancelToken, &Event) -> Result<(), BoxError> + Send + Sync + 'static,
) -> Stream<Done> {
    let level = |level| {
        let metrics = Arc::clone(metrics);
        move |stats| {
            metrics.levels.lock().insert(level, stats);
        }
    };
    let every = Duration::from_millis(100);
    let raw = Monitor::new(every).on_stats(level("raw")).with_name("raw");
    let processed = Monitor::new(every).on_stats(level("processed")).with_timestamp(|done: &Done| done.event.came);
    let timed = move |cancel: &CancelToken, event: &Event| {
        let start = cancel.now();
        process(cancel, event)?;
        Ok::<_, BoxError>(Done { event: *event, took: cancel.now().saturating_duration_since(start) })
    };
    let (times, errors) = (Arc::clone(metrics), Arc::clone(metrics));
    // A tenth is enough for times; of errors each one is seen.
    let sample = Tap::sampled(0.1, move |done: &Done| times.times.observe(done.took.as_secs_f64()))
        .on_error(move |_| errors.errors.inc());
    events
        .through(&raw)
        .through(&AsyncMapper::new(timed).with_name("process").with_workers(10))
        .through(&processed.with_name("processed"))
        .through(&sample.with_name("sample").with_seed(17))
}

/// Whether it does not take what waits for it, and waits for nobody itself: then it is the one to blame.
pub fn is_stalling(stage: &StageReport, report: &Report) -> bool {
    let waits = |stage: &StageReport| stage.blocking().next().is_some();
    !waits(stage) && stage.inputs.iter().filter_map(|input| report.stage(&input.stage)).any(waits)
}
// [/pattern]

/// All of it as Prometheus text. The counts of the stages are those of the report; no other counter is needed for them.
pub fn scrape(metrics: &Metrics, report: &Report) -> prometheus::Result<String> {
    let registry = Registry::new_custom(Some("streamz".into()), None)?;
    let add = |metric: Box<dyn Collector>| registry.register(metric);

    let running = IntGauge::new("running", "Whether the pipeline is running")?;
    running.set(i64::from(matches!(report.outcome, Outcome::Running)));
    add(Box::new(running))?;

    let counter = |name, help, value: &dyn Fn(&StageReport) -> f64| {
        let counters = CounterVec::new(Opts::new(name, help), &["stage"])?;
        report.stages.iter().for_each(|stage| counters.with_label_values(&[&stage.name]).inc_by(value(stage)));
        add(Box::new(counters))
    };
    counter("received_total", "Items that a stage received", &|stage| stage.received() as f64)?;
    counter("emitted_total", "Items that a stage emitted", &|stage| stage.emitted() as f64)?;
    counter("failed_total", "Items that failed in a stage", &|stage| stage.failed() as f64)?;
    counter("busy_seconds_total", "Time that a stage worked", &|stage| stage.busy.as_secs_f64())?;
    counter("blocked_seconds_total", "Time that a stage waited for room", &|stage| stage.blocked.as_secs_f64())?;

    let stalling = GaugeVec::new(Opts::new("stalling", "Whether a stage holds up the others"), &["stage"])?;
    for stage in &report.stages {
        stalling.with_label_values(&[&stage.name]).set(f64::from(u8::from(is_stalling(stage, report))));
    }
    add(Box::new(stalling))?;

    let levels = metrics.levels.lock().clone();
    let items = CounterVec::new(Opts::new("items_total", "Items at a level"), &["level"])?;
    levels.iter().for_each(|(level, stats)| items.with_label_values(&[level]).inc_by(stats.total as f64));
    add(Box::new(items))?;
    let gauge = |name, help, value: &dyn Fn(&StreamStats) -> f64| {
        let gauges = GaugeVec::new(Opts::new(name, help), &["level"])?;
        levels.iter().for_each(|(level, stats)| gauges.with_label_values(&[level]).set(value(stats)));
        add(Box::new(gauges))
    };
    gauge("items_per_second", "Rate at a level", &|stats| stats.rate)?;
    gauge("stalled_seconds", "How long an item has waited to be taken", &|stats| stats.stalled.as_secs_f64())?;
    gauge("max_age_seconds", "Greatest age of an item", &|stats| stats.max_age.unwrap_or_default().as_secs_f64())?;

    add(Box::new(metrics.errors.clone()))?;
    add(Box::new(metrics.times.clone()))?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// The value of a line of the text: `value(&text, "streamz_failed_total", "process")`; with an empty label, of one without.
pub fn value(text: &str, name: &str, label: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let is_it = |series: &str| match series.split_once('{') {
        Some((family, of)) => family == name && of.split('"').nth(1) == Some(label),
        None => series == name && label.is_empty(),
    };
    lines.find(|(series, _)| is_it(series))?.1.parse().ok()
}

const EVENTS: u64 = 2_000;

fn main() -> ExitCode {
    common::run("Multi-level monitoring: 2,000 events, a consumer that stalls, scraped over HTTP", watch)
}

fn watch(page: &Page) -> Result<(), BoxError> {
    let (pipeline, metrics) = (Pipeline::builder("observed").capacity(20).build(), Arc::new(Metrics::new()?));
    let token = pipeline.token();
    let server = {
        let (token, metrics) = (token.clone(), Arc::clone(&metrics));
        Server::start(1, move |_, _| match scrape(&metrics, &token.report()) {
            Ok(text) => Answer::new(200, text),
            Err(error) => Answer::new(500, error.to_string()),
        })?
    };
    let (client, url) = (Client::new(), server.url("/metrics"));

    let clock = token.clock().clone();
    let events = (0..EVENTS).map(move |id| Event { id, came: clock.wall() });
    let stream = observed(Stream::from_iter(&pipeline, events), &metrics, |cancel, event| {
        cancel.sleep(Duration::from_millis(1 + event.id % 7))?;
        if event.id.is_multiple_of(50) { Err("it cannot be read".into()) } else { Ok(()) }
    });
    // After 600 the store stalls, until somebody has noticed.
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
        let text = client.get(&token, &url)?.text;
        let of = |name, label| value(&text, name, label).unwrap_or(0.0);
        let (done, rate) = (of("streamz_received_total", "store"), of("streamz_items_per_second", "processed"));
        let stalled = of("streamz_stalled_seconds", "raw");
        let stalls =
            ["raw", "process", "processed", "sample", "store"].map(|stage| (stage, of("streamz_stalling", stage)));
        let to_blame = stalls.iter().find(|(_, stalls)| *stalls > 0.0).map_or("", |(stage, _)| stage);
        // That somebody is waited for at one moment says nothing; that an item has waited so long does.
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
        if done + of("streamz_failed_total", "process") == EVENTS as f64 || rows.len() == 300 {
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
        .filter(|line| line.contains("sampled") || line.contains("items_total"))
        .for_each(|line| page.say(line));
    page.say("");
    let stages = report.stages.iter().all(|stage| {
        let of = |name| value(&text, name, &stage.name);
        let counts = [stage.received(), stage.emitted(), stage.failed()].map(|count| Some(count as f64));
        [of("streamz_received_total"), of("streamz_emitted_total"), of("streamz_failed_total")] == counts
    });
    let (ids, failed) = &*stored.lock();
    let total = |level| value(&text, "streamz_items_total", level);
    page.check("the last scrape says of every stage what the pipeline's report says", stages);
    page.check(
        "the store was given every good event once, in order",
        ids.iter().copied().eq((0..EVENTS).filter(|id| id % 50 != 0)),
    );
    page.check_eq(
        "what is missing there came as an error: the observers took nothing",
        ids.len() as u64 + failed,
        EVENTS,
    );
    page.check_eq(
        "each level counted all",
        (total("raw"), total("processed")),
        (Some(2_000.0), Some(ids.len() as f64)),
    );
    page.check_eq(
        "every error was seen, though but a tenth was sampled",
        value(&text, "streamz_errors_total", ""),
        Some(40.0),
    );
    page.check("counters only grew", only_grew);
    page.check("the store was named while it stalled", named);
    page.check("the pipeline came to its end", report.is_complete());
    Ok(())
}
