use std::sync::Mutex;
use std::time::Duration;

use streamz::{CancelToken, Mapper, Partition, PartitionStats, Processor, Stream};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct Task {
    id: u64,
}

#[derive(Debug)]
struct TaskResult {
    id: u64,
}

#[derive(Debug)]
struct Worker;

impl Worker {
    fn new(_id: usize) -> Self {
        Self
    }

    fn process(&self, task: Task) -> TaskResult {
        TaskResult { id: task.id }
    }
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(line: String) {
    LOG.lock().unwrap().push(line);
}

fn log_distribution(stats: &PartitionStats) {
    let (total, balance) = (stats.total_items(), stats.distribution_balance());
    log(format!(
        "total: {total}, balance: {balance:.2}, per partition: {:?}",
        stats.items_per_partition()
    ));
    if balance > 0.5 {
        log("uneven partition distribution".into());
    }
}

// [pattern]
fn build_load_balanced_pipeline(
    cancel: &CancelToken,
    tasks: Stream<Task>,
) -> Stream<TaskResult> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let partitioner = Partition::new(|task: &Task| task.id)
        .with_partitions(workers)
        .with_buffer_size(100)
        .with_name("load-balancer");

    // Ends with the pipeline.
    let stats = partitioner.stats();
    cancel.every(Duration::from_secs(30), move || log_distribution(&stats));

    let worker = |id| {
        let worker = Worker::new(id);
        Mapper::new(move |task| worker.process(task))
    };
    partitioner.each(worker).process(cancel, tasks)
}
// [/pattern]

#[test]
fn tasks_are_divided_about_evenly() {
    let (clock, pipeline) = pipeline();
    let slowly = |tasks: Stream<Task>| {
        tasks.async_map(1, |cancel: &CancelToken, task: &Task| {
            cancel.sleep(Duration::from_millis(100))?;
            streamz::ok(task.clone())
        })
    };
    let tasks = slowly(Stream::from_iter(&pipeline, (0..600).map(|id| Task { id })));
    let results =
        after(&clock, Duration::from_secs(61), build_load_balanced_pipeline(&pipeline, tasks));
    let mut ids: Vec<_> = results.into_iter().map(|result| result.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..600).collect::<Vec<_>>());
    let log = LOG.lock().unwrap();
    assert!(log[0].starts_with("total: ") && log[0].contains("per partition: ["), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("uneven")), "{log:?}");
}
