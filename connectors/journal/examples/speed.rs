//! How fast a journal is: appending, and fetching and acknowledging without a pipeline.
//!
//! ```sh
//! cargo run --release -p streamz-journal --example speed
//! cargo run --release -p streamz-journal --example speed -- 2000000 /mnt/disk
//! ```
//!
//! The arguments are the number of records (1,000,000) and the directory of the file (that of temporary files).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamz::Clock;
use streamz::delivery::{Acker, Inbox};
use streamz_journal::{Journal, JournalInboxOptions, Record, Retention, Synchronous};

type Failure = Box<dyn Error + Send + Sync>;

/// Records in a transaction, and in a fetch.
const BATCH: usize = 512;
const PAYLOAD: usize = 100;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let directory = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(directory)?;
    let path = directory.path().join("speed.journal");
    println!("{count} records of {PAYLOAD} bytes, {BATCH} in a batch, in {}\n", directory.path().display());

    let journal = Journal::open(&path)?;
    row("append", count, append(&journal, "plain", count)?);
    for consumers in [1, 2, 4] {
        let group = format!("group-{consumers}");
        row(&format!("fetch and acknowledge, consumers: {consumers}"), count, consume(&path, &group, consumers)?);
    }
    let lean = Journal::options().retention(Retention::acknowledged()).open(&path)?;
    append(&lean, "lean", count)?;
    row("the same, and trim", count, loop_over(&lean, "lean", "only")?.0);
    let safe = Journal::options().synchronous(Synchronous::Full).open(&path)?;
    let few = count / 10;
    row("append, synced at each commit", few, append(&safe, "safe", few)?);
    Ok(())
}

fn row(what: &str, count: usize, time: Duration) {
    println!("{what:42} {:>10.0} records/s", count as f64 / time.as_secs_f64());
}

fn timed<R>(work: impl FnOnce() -> Result<R, Failure>) -> Result<(Duration, R), Failure> {
    let clock = Clock::default();
    let start = clock.now();
    let result = work()?;
    Ok((clock.now() - start, result))
}

fn append(journal: &Journal, topic: &str, count: usize) -> Result<Duration, Failure> {
    let mut writer = journal.writer(topic)?;
    let batch: Vec<_> = (0..BATCH).map(|i| Record::new([b'x'; PAYLOAD]).with_key((i as u64).to_be_bytes())).collect();
    let work = || {
        for start in (0..count).step_by(BATCH) {
            writer.append(&batch[..BATCH.min(count - start)])?;
        }
        Ok(())
    };
    Ok(timed(work)?.0)
}

/// Several consumers of one group, each with a journal of its own, as processes have.
fn consume(path: &Path, group: &str, consumers: usize) -> Result<Duration, Failure> {
    let work = || {
        std::thread::scope(|scope| {
            let run = || loop_over(&Journal::open(path)?, "plain", group);
            let threads: Vec<_> = (0..consumers).map(|_| scope.spawn(run)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a consumer panicked").map(drop))
        })
    };
    Ok(timed(work)?.0)
}

/// The bare loop: what a pipeline is compared with.
fn loop_over(journal: &Journal, topic: &str, group: &str) -> Result<(Duration, usize), Failure> {
    let mut inbox =
        journal.inbox(topic, group, JournalInboxOptions::new().bounded(true).lease(Duration::from_secs(1)))?;
    let mut acker = inbox.acker()?;
    let mut deliveries = Vec::new();
    timed(|| {
        let mut count = 0;
        while !inbox.is_exhausted() {
            inbox.fetch(BATCH, Duration::from_millis(250), &mut deliveries)?;
            count += deliveries.len();
            let mut receipts = deliveries.drain(..).map(|delivery| delivery.receipt).collect();
            acker.acknowledge(&mut receipts)?;
        }
        Ok(count)
    })
}
