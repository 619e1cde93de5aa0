//! Worker processes that are killed while they work.
//!
//! A worker is another instance of the test program, with an ignored test as its main function that calls [`copy`]. A
//! test starts some of them, [kills them at random](kill_at_random), lets the last records be copied, and
//! [counts](check).

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Inbox, Outbox, StoreError, StoredRecord};
use streamz::prelude::*;
use streamz::{CallStage, Retry};

/// The maximum number of records that a worker has in flight, and so the maximum number of redeliveries when one is
/// killed.
pub const MAX_UNACKED: usize = 500;

/// A worker that reports nothing for this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of pool of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Calls finish in any order.
    Unordered,
    /// Calls of a key are made one at a time.
    Keyed,
}

/// Whether [`copy`] writes the record with this number to the dead letters.
pub fn is_dead(number: u32) -> bool {
    number % 10 == 3
}

/// Copies records from an inbox to an outbox, until the inbox ends or the pipeline is drained: through retried calls,
/// windows, and batches. Some fail permanently and go to `dead`. Calls `copied` after each batch.
pub fn copy<I, O>(
    pipeline: &Pipeline,
    inbox: I,
    (outbox, dead): (O, O),
    pool: Pool,
    number: fn(&I::Record) -> u32,
    copied: impl Fn() + Clone + Send + 'static,
) where
    I: Inbox<Record: StoredRecord<New = O::Record> + Clone + Sync>,
    O: Outbox<Record: Send + 'static> + Send + 'static,
{
    let config = DeliveryConfig { max_unacked: MAX_UNACKED, fetch: 100, ..DeliveryConfig::default() };
    let records = Stream::deliver(pipeline, inbox, config).unwrap_or_else(|error| panic!("cannot deliver: {error}"));
    let (outbox, dead) = (Reporting(outbox, copied.clone()), Reporting(dead, copied));
    match pool {
        Pool::Unordered => {
            let calls = AsyncMapper::new(call(number)).with_workers(3).with_ordered(false);
            finish(pipeline, records, calls, (outbox, dead));
        }
        Pool::Keyed => {
            let calls = AsyncMapper::keyed(move |record: &I::Record| number(record) % 16, call(number));
            finish(pipeline, records, calls.with_workers(3), (outbox, dead));
        }
    }
}

fn finish<R, O>(
    pipeline: &Pipeline,
    records: Stream<R>,
    calls: impl CallStage<In = R, Out = R, Error = BoxError>,
    (outbox, dead): (O, O),
) where
    R: StoredRecord<New = O::Record> + Clone + Sync,
    O: Outbox<Record: Send + 'static> + Send + 'static,
{
    let batches = || BatchConfig { max_size: 50, max_latency: Duration::from_millis(5) };
    let retry = Retry::new(calls).max_attempts(2).base_delay(Duration::from_micros(100));
    let (done, failed) = records.through(&retry).dead_letters();
    let letters = failed.into_records::<R>();
    pipeline.spawn("dead letters", move |_| {
        letters.deliver_to(dead, batches()).unwrap_or_else(|error| panic!("cut: {error}"));
    });
    done.tumbling_window(Duration::from_millis(5))
        .flat_map(|window| window.items)
        .map(|record: R| record.rewrite(&[], Vec::new()))
        .deliver_to(outbox, batches())
        .unwrap_or_else(|error| panic!("cut: {error}"));
    pipeline.join();
}

/// A call that fails the first time for some records, and every time for others.
fn call<R: Clone + 'static>(
    number: fn(&R) -> u32,
) -> impl Fn(&CancelToken, &R) -> Result<R, BoxError> + Send + Sync + 'static {
    let tried = Mutex::new(HashSet::new());
    move |_: &CancelToken, record: &R| {
        let number = number(record);
        if number.is_multiple_of(3) {
            std::thread::yield_now();
        }
        let is_busy = number % 50 == 7 && tried.lock().expect("no panic").insert(number);
        if is_busy || is_dead(number) { Err("busy".into()) } else { Ok(record.clone()) }
    }
}

/// Reports each write.
struct Reporting<O, F>(O, F);

impl<O: Outbox, F: Fn()> Outbox for Reporting<O, F> {
    type Record = O::Record;

    fn write(&mut self, batch: &mut Vec<O::Record>) -> Result<(), StoreError> {
        self.0.write(batch)?;
        (self.1)();
        Ok(())
    }
}

/// Tells the test that started this process that it has made progress.
pub fn report() {
    let mut out = std::io::stdout().lock();
    writeln!(out, "progress").and_then(|()| out.flush()).expect("the test has died");
}

/// Ends this process when the one that started it has gone, be it by a signal.
pub fn end_with_parent() {
    spawn(|| {
        // It writes nothing; the end of its life closes the pipe.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// A worker process. Killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts this program again, with the ignored test `main` as its main function. Sends each [`report`] to
    /// `progress`.
    pub fn start(main: &str, variables: &[(&str, &OsStr)], progress: &Sender<()>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", main, "--ignored", "--nocapture"]).envs(variables.iter().copied());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let progress = progress.clone();
        // The test runner prints something, too, and in the first line before it.
        let reports = lines.filter(|line| line.ends_with("progress"));
        let reader = Some(spawn(move || reports.for_each(|_| progress.send(()).unwrap_or_default())));
        Self { process, reader }
    }
}

/// SIGKILL.
impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().expect("a process to kill");
        self.process.wait().expect("a process to wait for");
        self.reader.take().map(JoinHandle::join);
    }
}

/// Waits until the workers have reported this often.
pub fn wait_for(reports: &Receiver<()>, count: usize) {
    for _ in 0..count {
        reports.recv_timeout(PATIENCE).expect("the workers make no progress");
    }
}

/// Starts workers with `start`, which receives a name, and repeatedly kills one of them after it and the others have
/// made some progress. Another one replaces it, half of the time under the same name. In the end all are killed.
pub fn kill_at_random(workers: usize, kills: usize, start: impl Fn(&str, &Sender<()>) -> Worker) {
    let (progress, reports) = channel();
    let mut group: Vec<Worker> = (0..workers).map(|number| start(&format!("worker-{number}"), &progress)).collect();
    let mut random = fastrand::Rng::new();
    for kill in 0..kills {
        wait_for(&reports, random.usize(1..20));
        let number = random.usize(0..workers);
        drop(group.swap_remove(number));
        let name = if kill % 2 == 0 { format!("worker-{number}") } else { format!("worker-{number}-{kill}") };
        group.push(start(&name, &progress));
    }
}

/// Checks that of the numbers below `count` none is missing in `copied`. Prints how many came twice.
pub fn check(copied: impl IntoIterator<Item = u32>, count: u32) {
    let mut times = BTreeMap::<u32, usize>::new();
    copied.into_iter().for_each(|number| *times.entry(number).or_default() += 1);
    let again: usize = times.values().map(|times| times - 1).sum();
    println!("{again} of {count} were copied twice");
    let missing: Vec<u32> = (0..count).filter(|number| !times.contains_key(number)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}
