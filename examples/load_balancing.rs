//! Load-balanced partitions: tasks are divided evenly among workers, and a monitor reports when they are not.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, ManualClock};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: u64,
    pub customer: u64,
    pub takes: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub id: u64,
    pub worker: usize,
}

// [pattern]
/// How the tasks have been divided so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    pub per_worker: Vec<u64>,
    /// The standard deviation of the counts, divided by their mean: 0.0 is even.
    pub unevenness: f64,
    /// More than three times as uneven as chance makes it.
    pub is_uneven: bool,
}

/// Divides tasks among workers by the hash of `key`; each worker does one task at a time.
/// Reports every 30 s how evenly they are divided.
pub fn balance<F>(
    pipeline: &Pipeline,
    tasks: Stream<Task>,
    workers: usize,
    key: fn(&Task) -> u64,
    work: F,
    mut on_report: impl FnMut(Balance) + Send + 'static,
) -> Stream<Done>
where
    F: Fn(usize, &CancelToken, &Task) -> Result<Done, BoxError> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let worker = move |index| {
        let work = Arc::clone(&work);
        let work = AsyncMapper::new(move |cancel: &CancelToken, task: &Task| {
            work(index, cancel, task)
        });
        work.with_workers(1).with_name(format!("worker-{index}"))
    };
    let partition = Partition::new(key)
        .with_partitions(workers)
        .with_buffer_size(100)
        .with_name("load-balancer");
    let stats = partition.stats();
    // Ends with the pipeline.
    pipeline.every(Duration::from_secs(30), move || {
        let by_chance = (workers as f64 / stats.total_items().max(1) as f64).sqrt();
        let unevenness = stats.distribution_balance();
        let is_uneven = unevenness > 3.0 * by_chance;
        on_report(Balance { per_worker: stats.items_per_partition(), unevenness, is_uneven });
    });
    tasks.through(&partition.each(worker))
}
// [/pattern]

const WORKERS: usize = 4;

/// A run in virtual time.
struct Ran {
    done: Vec<Done>,
    reports: Vec<Balance>,
    busy: Vec<Duration>,
    took: Duration,
    is_complete: bool,
}

impl Ran {
    /// Runs the pipeline that `start` builds for the tasks, until the last one is done.
    fn run(
        tasks: &[Task],
        start: impl FnOnce(&Pipeline, Stream<Task>, &Desk) -> Stream<Done>,
    ) -> Result<Self, BoxError> {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("tasks").clock(&clock).build();
        let desk = Desk::default();
        let mut stream = start(&pipeline, Stream::from_iter(&pipeline, tasks.to_vec()), &desk);
        let (mut done, mut took) = (Vec::new(), Duration::ZERO);
        while let Ok(result) = stream.recv_timeout(Duration::from_secs(60)) {
            done.push(result?);
            took = clock.elapsed();
        }
        let is_complete = pipeline.join().is_complete();
        let (reports, busy) =
            (std::mem::take(&mut *desk.reports.lock()), std::mem::take(&mut *desk.busy.lock()));
        Ok(Self { done, reports, busy, took, is_complete })
    }
}

/// The busy time of the workers, and the findings of the monitor.
#[derive(Clone, Default)]
struct Desk {
    busy: Arc<Mutex<Vec<Duration>>>,
    reports: Arc<Mutex<Vec<Balance>>>,
}

impl Desk {
    fn work(&self, worker: usize, cancel: &CancelToken, task: &Task) -> Result<Done, BoxError> {
        cancel.sleep(task.takes)?;
        let mut busy = self.busy.lock();
        busy.resize(WORKERS, Duration::ZERO);
        busy[worker] += task.takes;
        Ok(Done { id: task.id, worker })
    }

    fn balanced(
        &self,
        pipeline: &Pipeline,
        tasks: Stream<Task>,
        key: fn(&Task) -> u64,
    ) -> Stream<Done> {
        let (work, reports) = (self.clone(), Arc::clone(&self.reports));
        let work =
            move |worker, cancel: &CancelToken, task: &Task| work.work(worker, cancel, task);
        balance(pipeline, tasks, WORKERS, key, work, move |report| reports.lock().push(report))
    }
}

fn main() -> ExitCode {
    common::run("Load-balanced partitions: the same tasks, divided in three ways", three_ways)
}

fn three_ways(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(16);
    let task = |id| {
        let millis = if data.chance(0.04) { 1_500 } else { data.between(20..80) };
        Task {
            id,
            customer: data.skewed(200) as u64,
            takes: Duration::from_millis(millis.into()),
        }
    };
    let tasks: Vec<Task> = (0..3_000).map(task).collect();

    let by_task = Ran::run(&tasks, |pipeline, tasks, desk| {
        desk.balanced(pipeline, tasks, |task| task.id)
    })?;
    let by_customer = Ran::run(&tasks, |pipeline, tasks, desk| {
        desk.balanced(pipeline, tasks, |task| task.customer)
    })?;
    let pooled = Ran::run(&tasks, |_, tasks, desk| {
        let desk = desk.clone();
        let work = move |cancel: &CancelToken, task: &Task| desk.work(0, cancel, task);
        tasks.through(&AsyncMapper::new(work).with_workers(WORKERS).with_ordered(false))
    })?;

    for (division, ran) in [("by task", &by_task), ("by customer", &by_customer)] {
        page.say(format_args!("\nDivided {division}:\n"));
        page.table(
            &["worker", "tasks", "busy", ""],
            ran.busy.iter().enumerate().map(|(worker, busy)| {
                let count = ran.done.iter().filter(|done| done.worker == worker).count();
                let shown = bar(count as f64, tasks.len() as f64, 60);
                [
                    worker.to_string(),
                    count.to_string(),
                    format!("{:.1} s", busy.as_secs_f64()),
                    shown,
                ]
            }),
        );
        if let Some(report) = ran.reports.last() {
            let warning =
                if report.is_uneven { "UNEVEN" } else { "even, as far as chance allows" };
            page.say(format_args!(
                "\nlast report of the monitor: {:.2}, {warning}",
                report.unevenness
            ));
        }
    }
    page.say("\nWhen the last task was done:\n");
    let longest = by_customer.took.as_secs_f64();
    page.table(
        &["division", "time", ""],
        [("by task", &by_task), ("by customer", &by_customer), ("one pool for all", &pooled)]
            .map(|(name, ran)| {
                let seconds = ran.took.as_secs_f64();
                [name.to_owned(), format!("{seconds:.1} s"), bar(seconds, longest, 40)]
            }),
    );
    page.say("");

    for (name, ran) in
        [("by task", &by_task), ("by customer", &by_customer), ("in one pool", &pooled)]
    {
        let mut ids: Vec<u64> = ran.done.iter().map(|done| done.id).collect();
        ids.sort_unstable();
        let all_once = ids.into_iter().eq(0..tasks.len() as u64);
        page.check(
            format_args!("every task was done once, {name}"),
            all_once && ran.is_complete,
        );
    }
    let verdicts =
        |ran: &Ran| ran.reports.iter().map(|report| report.is_uneven).collect::<Vec<_>>();
    let expected = |ran: &Ran, is_uneven| vec![is_uneven; ran.took.as_secs() as usize / 30];
    page.check_eq(
        "divided by task: no warning, in a report every 30 s",
        verdicts(&by_task),
        expected(&by_task, false),
    );
    page.check_eq(
        "divided by customer: always a warning",
        verdicts(&by_customer),
        expected(&by_customer, true),
    );
    let all: Duration = tasks.iter().map(|task| task.takes).sum();
    page.check_eq(
        "the total work is the same",
        [&by_task, &by_customer].map(|ran| ran.busy.iter().sum()),
        [all; 2],
    );
    let is_ranked = pooled.took <= by_task.took && by_task.took < by_customer.took;
    page.check(
        "the pool finishes first, then the even division, then the uneven one",
        is_ranked,
    );
    Ok(())
}
