use std::sync::Mutex;
use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Filter, FilterMap, Monitor,
    Processor, Stream, StreamStats,
};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct ParsedRecord {
    city: String,
    celsius: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct EnrichedRecord {
    city: String,
    fahrenheit: f64,
}

fn parse_record(raw: &str) -> Option<ParsedRecord> {
    let (city, celsius) = raw.split_once(',')?;
    Some(ParsedRecord { city: city.to_owned(), celsius: celsius.parse().ok()? })
}

fn is_valid_record(record: &ParsedRecord) -> bool {
    !record.city.is_empty() && record.celsius > -273.15
}

fn enrich_with_external_data(
    _: &CancelToken,
    record: &ParsedRecord,
) -> Result<EnrichedRecord, BoxError> {
    Ok(EnrichedRecord { city: record.city.clone(), fahrenheit: record.celsius * 1.8 + 32.0 })
}

static THROUGHPUT: Mutex<Vec<f64>> = Mutex::new(Vec::new());

fn log_throughput(stats: StreamStats) {
    THROUGHPUT.lock().unwrap().push(stats.rate);
}

// [pattern]
fn build_etl_pipeline(
    cancel: &CancelToken,
    raw_data: Stream<String>,
) -> Stream<Vec<EnrichedRecord>> {
    // Extract: lines that do not parse are filtered out.
    let parser = FilterMap::new(|raw: String| parse_record(&raw)).with_name("parse");

    // Transform.
    let cleaner = Filter::new(is_valid_record).with_name("clean");
    let enricher = AsyncMapper::new(enrich_with_external_data).with_workers(10);

    // Load.
    let batcher =
        Batcher::new(BatchConfig { max_size: 1_000, max_latency: Duration::from_secs(30) });

    let monitor = Monitor::new(Duration::from_secs(60)).on_stats(log_throughput);

    let parsed = parser.process(cancel, raw_data);
    let cleaned = cleaner.process(cancel, parsed);
    let monitored = monitor.process(cancel, cleaned);
    let enriched = enricher.process(cancel, monitored);
    batcher.process(cancel, enriched)
}
// [/pattern]

#[test]
fn valid_items_are_enriched_and_batched() {
    let (clock, pipeline) = pipeline();
    let good = (0..1_500).map(|n| format!("city {n},{n}.5"));
    let raw = Stream::from_iter(
        &pipeline,
        good.chain(["nonsense".into(), ",3".into(), "x,-300".into()]),
    );
    let batches = after(&clock, Duration::from_secs(60), build_etl_pipeline(&pipeline, raw));
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 500]);
    assert_eq!(batches[0][1], EnrichedRecord { city: "city 1".into(), fahrenheit: 34.7 });
    let report = pipeline.join();
    assert_eq!(report.stage("parse").unwrap().steps[0].filtered, 1);
    assert_eq!(report.stage("clean").unwrap().steps[0].filtered, 2);
    assert!(!THROUGHPUT.lock().unwrap().is_empty());
}
