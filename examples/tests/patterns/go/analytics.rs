use std::time::{Duration, SystemTime};

use streamz::{CancelToken, Dedupe, Mapper, Processor, Sample, Stream, TumblingWindow, Window};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct Event;

#[derive(Debug, Clone, PartialEq)]
struct Analytics {
    metric_name: &'static str,
    window_start: SystemTime,
    events: usize,
}

fn calculate_analytics(window: Window<Event>) -> Analytics {
    Analytics { metric_name: "events", window_start: window.start, events: window.items.len() }
}

// [pattern]
fn build_analytics_pipeline(cancel: &CancelToken, events: Stream<Event>) -> Stream<Analytics> {
    let sampler = Sample::new(0.1);
    let windower = TumblingWindow::new(Duration::from_secs(5 * 60));
    let aggregator = Mapper::new(calculate_analytics).with_name("aggregate");
    let deduper =
        Dedupe::new(|analytics: &Analytics| (analytics.metric_name, analytics.window_start))
            .with_ttl(Duration::from_secs(10 * 60));

    let sampled = sampler.process(cancel, events);
    let windowed = windower.process(cancel, sampled);
    let analytics = aggregator.process(cancel, windowed);
    deduper.process(cancel, analytics)
}
// [/pattern]

#[test]
fn each_window_of_the_sample_is_summed_up_once() {
    let (clock, pipeline) = pipeline();
    let events = Stream::from_iter(&pipeline, vec![Event; 10_000]);
    let windows =
        after(&clock, Duration::from_secs(600), build_analytics_pipeline(&pipeline, events));
    let [window] = &windows[..] else { panic!("{windows:?}") };
    let report = pipeline.join();
    let sampled = report.stage("sample").unwrap().steps[0].emitted;
    assert_eq!((window.metric_name, window.events as u64), ("events", sampled));
    // A tenth, give or take five standard deviations.
    assert!((850..1_150).contains(&sampled), "{sampled}");
}
