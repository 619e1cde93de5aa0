use std::time::SystemTime;

use streamz::testing::Recorder;
use streamz::{AsyncMapper, BoxError, CancelToken, Processor, Split, Stream};

use super::pipeline;

#[derive(Debug, Clone)]
struct Record {
    name: &'static str,
    age: i32,
}

impl Record {
    fn validate(&self) -> Result<(), &'static str> {
        if self.age < 0 { Err("age is negative") } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FailedRecord {
    record: Record,
    error: &'static str,
    time: SystemTime,
}

fn enrich_record(_: &CancelToken, record: &Record) -> Result<Record, BoxError> {
    Ok(Record { age: record.age + 1, ..*record })
}

// [pattern]
fn build_validation_pipeline(
    cancel: &CancelToken,
    records: Stream<Record>,
) -> (Stream<Record>, Stream<FailedRecord>) {
    let validator = Split::new(|record: &Record| record.validate().is_ok())
        .with_buffer_size(100)
        .with_name("validator");
    let outputs = validator.process(cancel, records);

    let processor = AsyncMapper::new(enrich_record).with_workers(10);
    let processed = processor.process(cancel, outputs.matched);

    let clock = cancel.clock().clone();
    let failures = outputs.rest.filter_map(move |record| {
        let error = record.validate().err()?;
        Some(FailedRecord { record, error, time: clock.wall() })
    });

    (processed, failures)
}
// [/pattern]

#[test]
fn valid_records_are_enriched_and_others_have_a_reason() {
    let (clock, pipeline) = pipeline();
    let began = pipeline.clock().wall();
    let records = [
        Record { name: "a", age: 1 },
        Record { name: "b", age: -1 },
        Record { name: "c", age: 3 },
    ];
    let (processed, failures) =
        build_validation_pipeline(&pipeline, Stream::from_iter(&pipeline, records));
    let (processed, failures) = (Recorder::new(processed), Recorder::new(failures));
    clock.settle();
    let processed: Vec<_> = processed
        .timed_items()
        .into_iter()
        .map(|(_, record)| (record.name, record.age))
        .collect();
    assert_eq!(processed, [("a", 2), ("c", 4)]);
    let failures: Vec<_> = failures
        .timed_items()
        .into_iter()
        .map(|(_, failed)| (failed.record.name, failed.error, failed.time))
        .collect();
    assert_eq!(failures, [("b", "age is negative", began)]);
}
