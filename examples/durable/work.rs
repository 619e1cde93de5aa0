//! What the processes do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streamz::delivery::DeliveryConfig;
use streamz::{AsyncMapper, BatchConfig, CancelToken, DeadLetter, Pipeline, Stream};
use streamz_journal::{Entry, Journal, JournalInboxOptions, Record};

use crate::Fallible;

pub(crate) const PAYMENTS: &str = "payments";
pub(crate) const DONE: &str = "done";
pub(crate) const DEAD: &str = "dead";
const GROUP: &str = "workers";

/// One payment in this many is for an account that does not exist.
const BROKEN: u64 = 500;

/// Appends the payments that are not there yet: after a crash it goes on where the journal ends.
pub(crate) fn produce(path: &Path, payments: u64) -> Fallible<()> {
    let journal = Journal::open(path)?;
    let mut writer = journal.writer(PAYMENTS)?;
    let mut next = progress(&journal)?.appended;
    while next < payments {
        let end = payments.min(next + 100);
        let records: Vec<Record> = (next..end).map(payment).collect();
        writer.append(&records)?;
        next = end;
        pause(Duration::from_millis(20));
    }
    Ok(())
}

fn payment(number: u64) -> Record {
    let account =
        if number % BROKEN == BROKEN - 1 { "unknown".to_owned() } else { format!("account-{}", number % 100) };
    Record::new(number.to_string()).with_key(account)
}

/// Takes payments until it is told to stop, by a signal.
pub(crate) fn work(path: &Path, name: &str) -> Fallible<()> {
    let journal = Journal::open(path)?;
    let options = JournalInboxOptions::new().consumer(name).lease(Duration::from_secs(2)).take_over(true);
    let inbox = journal.inbox(PAYMENTS, GROUP, options)?;
    let config = DeliveryConfig {
        max_unacked: 1_000,
        keep_alive: Duration::from_millis(500),
        max_deliveries: Some(20),
        ..DeliveryConfig::default()
    };
    let batches = BatchConfig { max_size: 200, max_latency: Duration::from_millis(20) };

    let pipeline = Pipeline::new(name);
    let token = pipeline.token();
    ctrlc::set_handler(move || token.drain())?;
    let transfer = AsyncMapper::keyed(|entry: &Entry| entry.key.clone(), transfer).with_workers(8);
    let (done, failed) = Stream::deliver(&pipeline, inbox, config)?.through(&transfer).dead_letters();

    let (dead, limits) = (journal.writer(DEAD)?, batches.clone());
    let has_failed = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&has_failed);
    pipeline.spawn("dead letters", move |_| {
        if let Err(error) = failed.map(put_aside).deliver_to(dead, limits) {
            eprintln!("the dead letters cannot be written: {error}");
            note.store(true, Ordering::Relaxed);
        }
    });
    done.deliver_to(journal.writer(DONE)?, batches)?;
    pipeline.join();
    if has_failed.load(Ordering::Relaxed) { Err("not all dead letters were written".into()) } else { Ok(()) }
}

/// Stands for a call that takes its time. Payments of one account are made one after the other.
fn transfer(cancel: &CancelToken, payment: &Entry) -> Fallible<Record> {
    if payment.key == b"unknown" {
        return Err("there is no such account".into());
    }
    cancel.sleep(Duration::from_micros(200))?;
    Ok(Record::new(payment.payload.clone()).with_key(payment.key.clone()))
}

/// What is kept of a payment that failed: all that it takes to look into it, and to make it again.
fn put_aside(letter: DeadLetter) -> Record {
    let error = letter.error().clone();
    let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    let record = match letter.into_item::<Entry>() {
        Ok((entry, _)) => {
            Record::new(entry.payload).with_key(entry.key).with_header("position", entry.position.to_string())
        }
        Err(_) => Record::new("unknown"),
    };
    record
        .with_header("reason", reason)
        .with_header("stage", error.stage())
        .with_header("attempts", error.attempts().to_string())
}

/// How far it all is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) appended: u64,
    pub(crate) backlog: u64,
    pub(crate) in_flight: u64,
    pub(crate) acknowledged: u64,
    pub(crate) redelivered: u64,
    pub(crate) dead: u64,
    pub(crate) unacknowledged: u64,
}

pub(crate) fn progress(journal: &Journal) -> Fallible<Progress> {
    let mut progress = Progress::default();
    for topic in journal.status()? {
        let records = u64::try_from(topic.next - topic.first)?;
        match topic.topic.as_str() {
            PAYMENTS => progress.appended = records,
            DEAD => progress.dead = records,
            _ => {}
        }
    }
    // Until the first worker has come, nothing has been taken.
    (progress.backlog, progress.unacknowledged) = (progress.appended, progress.appended);
    if let Some(group) = journal.group_status(PAYMENTS, GROUP)? {
        progress.unacknowledged = group.unacknowledged();
        progress.backlog = group.backlog;
        progress.in_flight = group.in_flight;
        progress.acknowledged = group.acknowledged;
        progress.redelivered = group.redelivered;
    }
    Ok(progress)
}

/// Lets some time pass.
pub(crate) fn pause(time: Duration) {
    crossbeam_channel::after(time).recv().ok();
}
