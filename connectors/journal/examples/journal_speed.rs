//! Measures the speed of a journal: appending, a bare loop of fetching and acknowledging, and a pipeline for
//! comparison.
//!
//! ```sh
//! cargo run --release -p streamz-journal --example journal_speed
//! cargo run --release -p streamz-journal --example journal_speed -- 2000000 /mnt/disk
//! ```
//!
//! The arguments are the number of records (500,000) and the directory of the file (that of temporary files).

use std::path::{Path, PathBuf};
use std::time::Duration;

use streamz::Clock;
use streamz::delivery::{Acker, DeliveryConfig, Inbox};
use streamz::prelude::*;
use streamz_connector_suite::speed::{Outcome, compare};
use streamz_journal::{Journal, JournalInboxOptions, Record, Retention, Synchronous};

/// The number of records per transaction, and per fetch.
const BATCH: usize = 512;
const PAYLOAD: usize = 100;
/// The number of measurements of each variant, in turn.
const ROUNDS: usize = 7;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(500_000), |count| count.parse())?;
    let directory = tempfile::tempdir_in(args.next().map_or_else(std::env::temp_dir, PathBuf::from))?;
    let path = directory.path().join("speed.journal");
    println!(
        "{count} records of {PAYLOAD} bytes, {BATCH} in a batch; records per second, median of {ROUNDS}, and the ratio to the first"
    );

    let journal = Journal::open(&path)?;
    append(&journal, "plain", count)?;
    for consumers in [1, 2] {
        println!("\nconsumers: {consumers}");
        let run = |way: &str, round: usize, consumer| {
            consume(&path, &format!("{way}-{consumers}-{round}"), consumers, consumer)
        };
        compare(
            count,
            ROUNDS,
            [
                ("bare loop: fetch and acknowledge", &mut |round| run("bare", round, bare_loop)),
                ("pipeline of three stages", &mut |round| run("piped", round, pipeline)),
            ],
        )?;
    }

    println!("\nappend, and consume with retention");
    let safe = Journal::options().synchronous(Synchronous::Full).open(&path)?;
    let lean = Journal::options().retention(Retention::acknowledged()).open(&path)?;
    let count = count / 10;
    compare(
        count,
        ROUNDS,
        [
            ("append", &mut |round| append(&journal, &format!("appended-{round}"), count)),
            ("append, synced at each commit", &mut |round| append(&safe, &format!("safe-{round}"), count)),
            ("bare loop that also trims", &mut |round| {
                let topic = format!("lean-{round}");
                append(&lean, &topic, count)?;
                timed(|| bare_loop(&lean, &topic, "only").map(drop))
            }),
        ],
    )
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let clock = Clock::default();
    let start = clock.now();
    work()?;
    Ok(clock.now() - start)
}

fn append(journal: &Journal, topic: &str, count: usize) -> Outcome<Duration> {
    let mut writer = journal.writer(topic)?;
    let batch: Vec<_> = (0..BATCH).map(|i| Record::new([b'x'; PAYLOAD]).with_key((i as u64).to_be_bytes())).collect();
    timed(|| {
        for start in (0..count).step_by(BATCH) {
            writer.append(&batch[..BATCH.min(count - start)])?;
        }
        Ok(())
    })
}

/// Several consumers of one group, each with its own journal, as processes have.
fn consume(
    path: &Path,
    group: &str,
    consumers: usize,
    run: fn(&Journal, &str, &str) -> Outcome<usize>,
) -> Outcome<Duration> {
    timed(|| {
        std::thread::scope(|scope| {
            let work = || run(&Journal::open(path)?, "plain", group);
            let threads: Vec<_> = (0..consumers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a consumer panicked").map(drop))
        })
    })
}

fn options() -> JournalInboxOptions {
    // The maximum time that the end of a bounded inbox waits for another consumer.
    JournalInboxOptions::new().bounded(true).lease(Duration::from_secs(1))
}

/// The baseline that a pipeline is compared with.
fn bare_loop(journal: &Journal, topic: &str, group: &str) -> Outcome<usize> {
    let mut inbox = journal.inbox(topic, group, options())?;
    let mut acker = inbox.acker()?;
    let (mut deliveries, mut count) = (Vec::new(), 0);
    while !inbox.is_exhausted() {
        inbox.fetch(BATCH, Duration::from_millis(250), &mut deliveries)?;
        count += deliveries.len();
        acker.acknowledge(&mut deliveries.drain(..).map(|delivery| delivery.receipt).collect())?;
    }
    Ok(count)
}

fn pipeline(journal: &Journal, topic: &str, group: &str) -> Outcome<usize> {
    let pipeline = Pipeline::new("speed");
    let config = DeliveryConfig { fetch: BATCH, ..DeliveryConfig::default() };
    let mut bytes = 0;
    Stream::deliver(&pipeline, journal.inbox(topic, group, options())?, config)?
        .map(|entry| entry.payload)
        .filter(|payload: &Vec<u8>| !payload.is_empty())
        .for_each(|payload| bytes += payload.map_or(0, |payload| payload.len()))?;
    pipeline.join();
    Ok(bytes / PAYLOAD)
}
