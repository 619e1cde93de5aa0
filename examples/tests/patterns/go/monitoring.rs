use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, Monitor, Processor, Sample, Stream, Tap};

use super::{ms, pipeline};

type Event = u32;

#[derive(Debug, Clone)]
struct ProcessedEvent {
    error: Option<&'static str>,
}

fn process_event(cancel: &CancelToken, event: &Event) -> Result<ProcessedEvent, BoxError> {
    cancel.sleep(ms(100))?;
    Ok(ProcessedEvent { error: (event % 2 == 1).then_some("unknown event") })
}

static INPUT_RATE: Mutex<Vec<f64>> = Mutex::new(Vec::new());
static OUTPUT_RATE: Mutex<Vec<f64>> = Mutex::new(Vec::new());
static ERRORS: AtomicU32 = AtomicU32::new(0);

// [pattern]
fn build_observable_pipeline(cancel: &CancelToken, events: Stream<Event>) -> Stream<ProcessedEvent> {
    let input_monitor =
        Monitor::new(Duration::from_secs(1)).on_stats(|stats| INPUT_RATE.lock().unwrap().push(stats.rate));
    let processor = AsyncMapper::new(process_event).with_workers(10);
    let output_monitor =
        Monitor::new(Duration::from_secs(1)).on_stats(|stats| OUTPUT_RATE.lock().unwrap().push(stats.rate));
    let error_sampler = Sample::new(0.01);
    let error_monitor = Tap::new(|event: &ProcessedEvent| {
        if event.error.is_some() {
            ERRORS.fetch_add(1, Ordering::Relaxed);
        }
    });

    let monitored = input_monitor.process(cancel, events);
    let processed = processor.process(cancel, monitored);
    let output_monitored = output_monitor.process(cancel, processed);
    let [all, copies] = output_monitored.fan_out();
    let sampled = error_sampler.process(cancel, copies);
    let error_tracked = error_monitor.process(cancel, sampled);
    error_tracked.spawn_for_each(drop);
    all
}
// [/pattern]

#[test]
fn the_observers_see_rates_and_a_sample_of_errors_and_take_nothing_away() {
    let (clock, pipeline) = pipeline();
    let events = build_observable_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..10_000));
    let recorder = streamz::testing::Recorder::new(events);
    clock.advance(Duration::from_secs(120));
    assert_eq!(recorder.timed_outputs().len(), 10_000);
    // One of a hundred was looked at, and every second of these is an error.
    assert!((10..150).contains(&ERRORS.load(Ordering::Relaxed)));
    // Ten workers, a tenth of a second each.
    assert!(OUTPUT_RATE.lock().unwrap()[1..9].iter().all(|rate| (90.0..=110.0).contains(rate)));
    assert!(!INPUT_RATE.lock().unwrap().is_empty());
}
