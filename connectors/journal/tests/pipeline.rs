//! A journal as source and sink of a pipeline.

mod common;

use common::{Bench, options};
use streamz::delivery::DeliveryConfig;
use streamz::prelude::*;
use streamz_journal::Journal;

fn deliver(journal: &Journal, pipeline: &Pipeline, bounded: bool) -> Stream<streamz_journal::Entry> {
    let inbox = journal.inbox("t", "g", options("pipeline").bounded(bounded)).unwrap();
    Stream::deliver(&pipeline.token(), inbox, DeliveryConfig::default()).unwrap()
}

#[test]
fn a_bounded_job_processes_and_acknowledges_everything() {
    let bench = Bench::new();
    bench.append(0..5_000);
    let journal = Journal::open(bench.path()).unwrap();
    let pipeline = Pipeline::new("job");
    let mut count = 0;
    deliver(&journal, &pipeline, true).map(|entry| entry.position).for_each(|_| count += 1).unwrap();
    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
    assert_eq!(count, 5_000);
    let status = journal.group_status("t", "g").unwrap().unwrap();
    assert_eq!((status.acknowledged, status.unacknowledged()), (5_000, 0));
}
