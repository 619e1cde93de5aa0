use std::collections::BTreeMap;

use streamz::testing::Recorder;
use streamz::{AsyncMapper, BoxError, CancelToken, Partition, Processor, Stream};

use super::{ms, pipeline};

#[derive(Debug, Clone)]
struct UserEvent {
    user_id: u32,
    number: u32,
}

#[derive(Debug)]
struct ProcessedEvent {
    user_id: u32,
    number: u32,
}

/// The first event of a user takes longer than the second.
fn process_user_event(
    cancel: &CancelToken,
    event: &UserEvent,
) -> Result<ProcessedEvent, BoxError> {
    cancel.sleep(ms(if event.number == 0 { 50 } else { 10 }))?;
    Ok(ProcessedEvent { user_id: event.user_id, number: event.number })
}

// [pattern]
fn build_partitioned_pipeline(
    cancel: &CancelToken,
    events: Stream<UserEvent>,
) -> BTreeMap<String, Stream<ProcessedEvent>> {
    let partitioner = Partition::new(|event: &UserEvent| event.user_id)
        .with_partitions(10)
        .with_buffer_size(100);
    let output = partitioner.process(cancel, events);

    let partitions = output.partitions.into_iter().enumerate();
    partitions
        .map(|(index, partition)| {
            // Two workers, but one event at a time of each user.
            let processor =
                AsyncMapper::keyed(|event: &UserEvent| event.user_id, process_user_event)
                    .with_workers(2)
                    .with_name(format!("partition-{index}"));
            (format!("partition-{index}"), processor.process(cancel, partition))
        })
        .collect()
}
// [/pattern]

#[test]
fn the_events_of_a_user_are_in_one_partition_and_in_order() {
    let (clock, pipeline) = pipeline();
    let events = (0..200).map(|n| UserEvent { user_id: n % 100, number: n / 100 });
    let results = build_partitioned_pipeline(&pipeline, Stream::from_iter(&pipeline, events));
    assert_eq!(results.len(), 10);
    let recorders: Vec<_> = results.into_values().map(Recorder::new).collect();
    clock.advance(ms(10_000));
    let mut partition_of = BTreeMap::new();
    for (partition, recorder) in recorders.into_iter().enumerate() {
        let mut last = BTreeMap::new();
        for (_, event) in recorder.timed_items() {
            assert_eq!(*partition_of.entry(event.user_id).or_insert(partition), partition);
            assert_eq!(
                last.insert(event.user_id, event.number).map_or(0, |number: u32| number + 1),
                event.number
            );
        }
    }
    assert_eq!(partition_of.len(), 100);
}
