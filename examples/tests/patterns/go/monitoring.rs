use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, Monitor, Processor, Stream, Tap};

use super::{ms, pipeline};

type Event = u32;

#[derive(Debug)]
struct ProcessedEvent(#[expect(dead_code, reason = "shown in messages only")] Event);

fn process_event(cancel: &CancelToken, event: &Event) -> Result<ProcessedEvent, BoxError> {
    cancel.sleep(ms(100))?;
    if event % 50 == 49 { Err("unknown event".into()) } else { Ok(ProcessedEvent(*event)) }
}

static INPUT_RATE: Mutex<Vec<f64>> = Mutex::new(Vec::new());
static OUTPUT_RATE: Mutex<Vec<f64>> = Mutex::new(Vec::new());
static ERRORS: AtomicU32 = AtomicU32::new(0);
static SAMPLED: AtomicU32 = AtomicU32::new(0);

// [pattern]
fn build_observable_pipeline(cancel: &CancelToken, events: Stream<Event>) -> Stream<ProcessedEvent> {
    let input_monitor = Monitor::new(Duration::from_secs(1))
        .on_stats(|stats| INPUT_RATE.lock().unwrap().push(stats.rate))
        .with_name("input");
    let processor = AsyncMapper::new(process_event).with_workers(10);
    let output_monitor = Monitor::new(Duration::from_secs(1))
        .on_stats(|stats| OUTPUT_RATE.lock().unwrap().push(stats.rate))
        .with_name("output");
    // Sees one item in a hundred and every error, and takes nothing.
    let error_monitor = Tap::sampled(0.01, |_: &ProcessedEvent| _ = SAMPLED.fetch_add(1, Ordering::Relaxed))
        .on_error(|_| _ = ERRORS.fetch_add(1, Ordering::Relaxed));

    let monitored = input_monitor.process(cancel, events);
    let processed = processor.process(cancel, monitored);
    let output_monitored = output_monitor.process(cancel, processed);
    error_monitor.process(cancel, output_monitored)
}
// [/pattern]

#[test]
fn the_observers_see_rates_and_errors_and_take_nothing_away() {
    let (clock, pipeline) = pipeline();
    let events = build_observable_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..1_000));
    let recorder = streamz::testing::Recorder::new(events);
    clock.advance(Duration::from_secs(12));
    assert_eq!(recorder.timed_outputs().len(), 1_000);
    assert_eq!(ERRORS.load(Ordering::Relaxed), 20);
    assert!(SAMPLED.load(Ordering::Relaxed) < 40);
    // Ten workers, a tenth of a second each; every fiftieth is an error item and not counted.
    assert!(OUTPUT_RATE.lock().unwrap()[1..9].iter().all(|rate| (90.0..=100.0).contains(rate)));
    assert!(!INPUT_RATE.lock().unwrap().is_empty());
}
