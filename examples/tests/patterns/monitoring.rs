//! Multi-level monitoring.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use metrics_exporter_prometheus::PrometheusHandle;
use prometheus_parse::LineInfo;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../monitoring.rs"]
mod example;

use example::http::{Answer, Client, Server};
use example::{Event, STAGES, Samples, install, observed, to_blame};

const TAKES: Duration = Duration::from_millis(4);

/// Takes its time, and fails for each tenth event.
fn process(cancel: &CancelToken, event: &Event) -> Result<(), BoxError> {
    cancel.sleep(TAKES)?;
    if event.id.is_multiple_of(10) { Err("it cannot be read".into()) } else { Ok(()) }
}

fn event(id: u64) -> Event {
    Event { id, came: SystemTime::UNIX_EPOCH }
}

fn manual(name: &str) -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder(name).clock(&clock).capacity(5).build();
    (clock, pipeline)
}

/// There is one recorder for a process, so the tests tell their pipelines by their names.
fn exported() -> &'static PrometheusHandle {
    static EXPORTED: LazyLock<PrometheusHandle> = LazyLock::new(|| install().unwrap());
    &EXPORTED
}

#[test]
fn a_scrape_over_http_agrees_with_the_report() {
    let exported = exported();
    let (clock, pipeline) = manual("counted");
    let (source, events) = TestSource::new(&pipeline);
    let done = Recorder::new(observed(&pipeline, events, process));
    let times = (0..1_000).map(|id| Duration::from_millis(10 * id));
    source.play(times.clone().zip((0..).map(event)));
    source.end();
    clock.advance(Duration::from_secs(1));

    let outputs = done.timed_outputs();
    assert!(
        outputs.iter().map(|&(time, _)| time).eq(times.map(|time| time + TAKES)),
        "the observers delay nothing"
    );
    let ids =
        outputs.iter().filter_map(|(_, output)| output.as_ref().ok()).map(|done| done.event.id);
    assert!(ids.eq((0..1_000).filter(|id| id % 10 != 0)), "the observers take nothing");

    let report = pipeline.join();
    let server = Server::start(1, move |_, _| Answer::new(200, exported.render())).unwrap();
    let text = Client::new().get(&CancelToken::new(), &server.url("/metrics")).unwrap().text;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let info = LineInfo::parse(line);
        assert!(
            !matches!(info, LineInfo::Empty | LineInfo::Ignored),
            "not Prometheus text: {line}"
        );
    }
    let scrape = Samples::read(&text).unwrap();
    let of = |name: &str, stage: &str| {
        scrape.value(name, &[("pipeline", "counted"), ("stage", stage)]).unwrap()
    };
    for stage in &report.stages {
        let counts = ["stage_received", "stage_emitted", "step_failed"]
            .map(|count| of(&format!("streamz_{count}_items_total"), &stage.name));
        assert_eq!(
            counts,
            [stage.received(), stage.emitted(), stage.failed()].map(|count| count as f64),
            "{stage:?}"
        );
        for (state, time) in [("busy", stage.busy), ("blocked", stage.blocked)] {
            let labels = [("pipeline", "counted"), ("stage", &*stage.name), ("state", state)];
            let micros = scrape.value("streamz_stage_time_microseconds_total", &labels);
            assert_eq!(micros, Some(time.as_micros() as f64), "{state} of {}", stage.name);
        }
    }
    assert_eq!(of("streamz_step_failed_items_total", "process"), 100.0);
    assert_eq!(of("streamz_stage_received_errors_total", "sample"), 100.0);
    let pipeline = [("pipeline", "counted")];
    assert_eq!(scrape.value("streamz_pipeline_running", &pipeline), Some(0.0));
    assert_eq!(
        scrape.value("streamz_pipeline_ends_total", &[pipeline[0], ("outcome", "completed")]),
        Some(1.0)
    );
    // About a tenth of 900 is shown, and what takes 4 ms is in the buckets from 5 ms on.
    let bucket =
        |limit| scrape.bucket("events_sampled_processing_seconds", &pipeline, limit).unwrap();
    assert!((45.0..180.0).contains(&bucket(0.005)), "{text}");
    assert_eq!((bucket(0.002), bucket(0.005)), (0.0, bucket(f64::INFINITY)));
}

#[test]
fn only_the_stalled_consumer_is_named() {
    let exported = exported();
    let (clock, pipeline) = manual("stalled");
    let (source, events) = TestSource::with_capacity(&pipeline, 2_000);
    let pause = pipeline.token();
    observed(&pipeline, events, process).named(STAGES[4]).spawn_for_each(move |_| {
        let _ = pause.sleep(Duration::from_secs(60));
    });
    source.push_all((0..2_000).map(event));
    clock.advance(Duration::from_secs(2));

    let scrape = Samples::read(&exported.render()).unwrap();
    assert_eq!(to_blame(&scrape, "stalled"), Some("store"));
    for level in ["raw", "processed"] {
        let stalled = scrape
            .value("events_stalled_seconds", &[("pipeline", "stalled"), ("level", level)]);
        assert!(stalled >= Some(1.0), "{level}: {stalled:?}");
    }
    assert_eq!(scrape.value("streamz_pipeline_running", &[("pipeline", "stalled")]), Some(1.0));
    pipeline.abort();
}
