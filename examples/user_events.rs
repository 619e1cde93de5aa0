//! Keyed partitions: the events of a user are processed in order, those of different users in parallel.

mod common;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, ManualClock};

/// An event of a user; `number` counts the events of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserEvent {
    pub user: u32,
    pub number: u32,
    /// How long it takes to process.
    pub takes: Duration,
}

/// Processes an event: it may wait, and need not know the others.
pub trait Service:
    Fn(&CancelToken, &UserEvent) -> Result<UserEvent, BoxError> + Send + Sync + 'static
{
}

impl<F: Fn(&CancelToken, &UserEvent) -> Result<UserEvent, BoxError> + Send + Sync + 'static>
    Service for F
{
}

// [pattern]
/// Four partitions, each with its own worker: a user is always in the same one.
pub fn by_partition(events: Stream<UserEvent>, service: impl Service) -> Stream<UserEvent> {
    let service = Arc::new(service);
    let by_user = Partition::new(|event: &UserEvent| event.user)
        .with_partitions(4)
        .with_buffer_size(100)
        .each(|index| {
            let service = Arc::clone(&service);
            // One worker: with two, a user's next event would begin before the current one is
            // done.
            let process = AsyncMapper::new(move |cancel: &CancelToken, event: &UserEvent| {
                service(cancel, event)
            });
            process.with_workers(1).with_name(format!("partition-{index}"))
        });
    events.through(&by_user)
}

/// Four workers that take the next event, except that a user's next event waits for the current
/// one.
pub fn by_key(events: Stream<UserEvent>, service: impl Service) -> Stream<UserEvent> {
    let process = AsyncMapper::keyed(|event: &UserEvent| event.user, service);
    events.through(&process.with_workers(4).with_ordered(false))
}
// [/pattern]

/// When each event was started and finished.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<(UserEvent, Duration, Duration)>>>);

impl Diary {
    /// A service that waits as long as the event says, and records the times.
    pub fn service(&self, clock: &ManualClock) -> impl Service {
        let (diary, clock) = (self.clone(), clock.clone());
        move |cancel: &CancelToken, event: &UserEvent| {
            let begun = clock.elapsed();
            cancel.sleep(event.takes)?;
            diary.0.lock().push((*event, begun, clock.elapsed()));
            Ok(*event)
        }
    }

    pub fn entries(&self) -> Vec<(UserEvent, Duration, Duration)> {
        let mut entries = self.0.lock().clone();
        entries.sort_by_key(|(event, begun, _)| (event.user, event.number, *begun));
        entries
    }

    /// Whether each user's events were processed in order, each after the one before was done.
    pub fn is_in_order(&self) -> bool {
        let mut last = HashMap::new();
        // Sorted by user and number, so only the times remain to be checked.
        self.entries().iter().all(|(event, begun, done)| {
            let before = last.insert(event.user, (event.number, *done));
            before.is_none_or(|(number, done)| number + 1 == event.number && done <= *begun)
        })
    }
}

fn main() -> ExitCode {
    common::run("Keyed partitions: in order for each user, in virtual time", process_both_ways)
}

fn process_both_ways(page: &Page) -> Result<(), BoxError> {
    // Fifty users; every fourth event is of user 0.
    let mut data = Data::seeded(14);
    let mut numbers = HashMap::new();
    let events: Vec<UserEvent> = (0..1_000)
        .map(|_| {
            let user = if data.chance(0.25) { 0 } else { data.between(1..50) };
            let number: &mut u32 = numbers.entry(user).or_default();
            *number += 1;
            UserEvent {
                user,
                number: *number,
                takes: Duration::from_millis(data.between(5..=15).into()),
            }
        })
        .collect();
    let work: Duration = events.iter().map(|event| event.takes).sum();
    let (partitions, times) = run(&events, |stream, service| by_partition(stream, service))?;
    let (keyed, keyed_times) = run(&events, |stream, service| by_key(stream, service))?;

    page.say(format_args!(
        "\n{} events of 50 users, {:.1} s of work, four at a time:\n",
        events.len(),
        work.as_secs_f64()
    ));
    let rows = [
        ("four partitions", &times),
        ("four workers, by key", &keyed_times),
        ("no better is possible", &(work / 4)),
    ];
    page.table(
        &["", "took", ""],
        rows.map(|(name, time)| {
            let share = bar(time.as_secs_f64(), work.as_secs_f64(), 40);
            [name.to_owned(), format!("{:.2} s", time.as_secs_f64()), share]
        }),
    );
    page.say("\nA partition is as slow as its users; free workers take the next event.\n");

    page.check_eq(
        "every event was processed, by partition",
        partitions.entries().len(),
        events.len(),
    );
    page.check_eq("and by key", keyed.entries().len(), events.len());
    page.check(
        "each user's events were processed one at a time and in order, by partition",
        partitions.is_in_order(),
    );
    page.check("and by key", keyed.is_in_order());
    page.check(
        "different users were processed in parallel",
        times < work / 2 && keyed_times < work / 2,
    );
    page.check("free workers finish sooner than partitions", keyed_times < times);
    Ok(())
}

/// Runs one of the two on all events; returns the times of each event, and the total time.
fn run(
    events: &[UserEvent],
    pipeline_of: impl Fn(Stream<UserEvent>, Box<dyn Service>) -> Stream<UserEvent>,
) -> Result<(Diary, Duration), BoxError> {
    let (clock, diary) = (ManualClock::new(), Diary::default());
    let pipeline = Pipeline::builder("users").clock(&clock).build();
    let (source, stream) = TestSource::with_capacity(&pipeline, events.len());
    let done = Recorder::new(pipeline_of(stream, Box::new(diary.service(&clock))));
    source.push_all(events.iter().copied());
    source.end();
    clock.advance(Duration::from_secs(60));
    let last =
        done.timed_items().last().map(|(time, _)| *time).ok_or("nothing was processed")?;
    pipeline.join();
    Ok((diary, last))
}
