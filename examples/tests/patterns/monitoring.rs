//! Multi-level monitoring.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../monitoring.rs"]
mod example;

use example::{Event, Metrics, observed, scrape, value};

const TAKES: Duration = Duration::from_millis(4);

/// Takes its time, and fails for each tenth event.
fn process(cancel: &CancelToken, event: &Event) -> Result<(), BoxError> {
    cancel.sleep(TAKES)?;
    if event.id.is_multiple_of(10) { Err("it cannot be read".into()) } else { Ok(()) }
}

fn event(id: u64) -> Event {
    Event { id, came: SystemTime::UNIX_EPOCH }
}

fn manual() -> (ManualClock, Pipeline, Arc<Metrics>) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).capacity(5).build();
    (clock, pipeline, Arc::new(Metrics::new().unwrap()))
}

#[test]
fn the_observers_neither_take_nor_delay_anything_and_the_text_says_what_the_report_says() {
    let (clock, pipeline, metrics) = manual();
    let (source, events) = TestSource::new(&pipeline);
    let done = Recorder::new(observed(events, &metrics, process));
    let times = (0..1_000).map(|id| Duration::from_millis(10 * id));
    source.play(times.clone().zip((0..).map(event)));
    source.end();
    clock.advance(Duration::from_secs(1));

    let outputs = done.timed_outputs();
    assert!(outputs.iter().map(|&(time, _)| time).eq(times.map(|time| time + TAKES)));
    let ids = outputs.iter().filter_map(|(_, output)| output.as_ref().ok()).map(|done| done.event.id);
    assert!(ids.eq((0..1_000).filter(|id| id % 10 != 0)));

    let report = pipeline.join();
    let text = scrape(&metrics, &report).unwrap();
    let of = |name: &str, label: &str| value(&text, name, label).unwrap();
    for stage in &report.stages {
        let counts = ["received", "emitted", "failed"].map(|count| of(&format!("streamz_{count}_total"), &stage.name));
        assert_eq!(counts, [stage.received(), stage.emitted(), stage.failed()].map(|count| count as f64), "{stage:?}");
        assert_eq!(of("streamz_stalling", &stage.name), 0.0);
    }
    assert_eq!((of("streamz_items_total", "raw"), of("streamz_items_total", "processed")), (1_000.0, 900.0));
    assert_eq!((of("streamz_errors_total", ""), of("streamz_failed_total", "process")), (100.0, 100.0));
    assert_eq!(of("streamz_running", ""), 0.0);
    assert!(text.contains("# TYPE streamz_sampled_processing_seconds histogram\n"), "{text}");
    // About a tenth of 900 is shown, and what takes 4 ms is in the buckets from 5 ms on.
    let bucket = |limit| of("streamz_sampled_processing_seconds_bucket", limit);
    assert!((45.0..180.0).contains(&bucket("0.005")), "{text}");
    assert_eq!((bucket("0.002"), bucket("0.005")), (0.0, bucket("+Inf")));
}

#[test]
fn a_consumer_that_stalls_is_named_and_nobody_else() {
    let (clock, pipeline, metrics) = manual();
    let (source, events) = TestSource::with_capacity(&pipeline, 2_000);
    let token = pipeline.token();
    let pause = token.clone();
    observed(events, &metrics, process).named("store").spawn_for_each(move |_| {
        let _ = pause.sleep(Duration::from_secs(60));
    });
    source.push_all((0..2_000).map(event));
    clock.advance(Duration::from_secs(2));

    let report = token.report();
    let text = scrape(&metrics, &report).unwrap();
    let of = |name: &str, label: &str| value(&text, name, label).unwrap();
    let stalling = report.stages.iter().filter(|stage| of("streamz_stalling", &stage.name) > 0.0);
    assert_eq!(stalling.map(|stage| &*stage.name).collect::<Vec<_>>(), ["store"], "{text}");
    assert!(of("streamz_stalled_seconds", "raw") >= 1.0 && of("streamz_stalled_seconds", "processed") >= 1.0, "{text}");
    assert_eq!(of("streamz_running", ""), 1.0);
    pipeline.abort();
}
