use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use streamz::{AsyncMapper, BoxError, CancelToken, Monitor, Processor, Sample, Stream, Tap};

use super::{ms, pipeline};

type Event = u32;

#[derive(Debug, Clone)]
struct ProcessedEvent {
    id: u32,
    /// When its processing began.
    began: SystemTime,
    error: Option<&'static str>,
}

fn process_event(cancel: &CancelToken, event: &Event) -> Result<ProcessedEvent, BoxError> {
    let began = cancel.clock().wall();
    cancel.sleep(ms(100))?;
    Ok(ProcessedEvent { id: *event, began, error: (event % 2 == 1).then_some("unknown event") })
}

/// The values of a metric.
struct Metric<T>(Mutex<Vec<T>>);

impl<T: Copy> Metric<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn observe(&self, value: T) {
        self.0.lock().unwrap().push(value);
    }

    fn values(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

static INPUT_RATE: Metric<f64> = Metric::new();
static INPUT_LATENCY: Metric<Duration> = Metric::new();
static OUTPUT_RATE: Metric<f64> = Metric::new();
static PROCESSING_LATENCY: Metric<Duration> = Metric::new();
static ERRORS: AtomicU32 = AtomicU32::new(0);
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log_error(error: &str, id: u32) {
    LOG.lock().unwrap().push(format!("processing error: {error}, event: {id}"));
}

// [pattern]
fn build_observable_pipeline(
    cancel: &CancelToken,
    events: Stream<Event>,
) -> Stream<ProcessedEvent> {
    let input_monitor = Monitor::new(Duration::from_secs(1)).on_stats(|stats| {
        INPUT_RATE.observe(stats.rate);
        INPUT_LATENCY.observe(stats.avg_latency);
    });
    let processor = AsyncMapper::new(process_event).with_workers(10);
    let output_monitor = Monitor::new(Duration::from_secs(1))
        .with_timestamp(|event: &ProcessedEvent| event.began)
        .on_stats(|stats| {
            OUTPUT_RATE.observe(stats.rate);
            stats.avg_age.into_iter().for_each(|age| PROCESSING_LATENCY.observe(age));
        });
    let error_sampler = Sample::new(0.01);
    let error_monitor = Tap::new(|event: &ProcessedEvent| {
        if let Some(error) = event.error {
            ERRORS.fetch_add(1, Ordering::Relaxed);
            log_error(error, event.id);
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
fn observers_see_rates_latencies_and_sampled_errors() {
    let (clock, pipeline) = pipeline();
    let events = build_observable_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..10_000));
    let recorder = streamz::testing::Recorder::new(events);
    clock.advance(Duration::from_secs(120));
    assert_eq!(recorder.timed_outputs().len(), 10_000, "the observers take nothing away");
    // One of a hundred was looked at, and every second of these is an error.
    let errors = ERRORS.load(Ordering::Relaxed);
    assert!((10..150).contains(&errors), "{errors}");
    let log = LOG.lock().unwrap();
    assert_eq!(log.len(), errors as usize);
    assert!(log[0].starts_with("processing error: unknown event, event: "), "{}", log[0]);
    // Ten workers, a tenth of a second each.
    assert!(OUTPUT_RATE.values()[1..9].iter().all(|rate| (90.0..=110.0).contains(rate)));
    assert!(PROCESSING_LATENCY.values()[1..9].iter().all(|latency| *latency == ms(100)));
    // The source is faster: once the streams are full, an event waits for room until one is processed.
    assert!(INPUT_RATE.values()[10..90].iter().all(|rate| (90.0..=110.0).contains(rate)));
    let waits = INPUT_LATENCY.values();
    assert!(waits[10..90].iter().all(|wait| (ms(9)..=ms(11)).contains(wait)), "{waits:?}");
}
