//! The work of the processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Outbox};
use streamz::{AsyncMapper, BatchConfig, CancelToken, Pipeline, Stream};

use crate::Fallible;
use crate::store::{Group, Store, read};

pub(crate) const GROUP: &str = "workers";

/// One payment in this many is for an account that does not exist.
const BROKEN: u64 = 500;
/// The number of payments written at a time.
const BATCH: usize = 100;

/// The names of the topics.
pub(crate) struct Topics {
    pub(crate) payments: String,
    pub(crate) done: String,
    pub(crate) dead: String,
}

impl Topics {
    /// On a server they begin with the name of the run, so that no other topics are touched.
    pub(crate) fn of_run(run: &str) -> Self {
        let name = |topic: &str| {
            if run.is_empty() { topic.to_owned() } else { format!("durable-{run}-{topic}") }
        };
        Self { payments: name("payments"), done: name("done"), dead: name("dead") }
    }

    pub(crate) fn all(&self) -> [&str; 3] {
        [&self.payments, &self.done, &self.dead]
    }
}

/// Writes the missing payments: after a crash it checks which ones these are.
pub(crate) fn produce<S: Store>(store: &S, topics: &Topics, payments: u64) -> Fallible<()> {
    let mut is_there = vec![false; usize::try_from(payments)?];
    read(store, &topics.payments, |number| {
        *is_there
            .get_mut(number as usize)
            .ok_or_else(|| format!("payment {number} was never made"))? = true;
        Ok(())
    })?;
    let missing: Vec<u64> =
        (0..payments).filter(|&number| !is_there[number as usize]).collect();
    let mut outbox = store.outbox(&topics.payments)?;
    for numbers in missing.chunks(BATCH) {
        let mut batch = numbers.iter().map(|&number| payment::<S>(number)).collect();
        outbox.write(&mut batch)?;
        pause(Duration::from_millis(20));
    }
    Ok(())
}

fn payment<S: Store>(number: u64) -> S::New {
    let account = if number % BROKEN == BROKEN - 1 {
        "unknown".to_owned()
    } else {
        format!("account-{}", number % 100)
    };
    S::record(account.as_bytes(), number.to_string().as_bytes())
}

/// Takes payments until it is told to stop, by a signal.
pub(crate) fn work<S: Store>(store: &S, topics: &Topics, name: &str) -> Fallible<()> {
    let inbox = store.inbox(&topics.payments, GROUP, name)?;
    let config = DeliveryConfig {
        max_unacked: 1_000,
        max_deliveries: Some(20),
        ..DeliveryConfig::default()
    };
    let batches = BatchConfig { max_size: 200, max_latency: Duration::from_millis(20) };

    let pipeline = Pipeline::new(name);
    let token = pipeline.token();
    ctrlc::set_handler(move || token.drain())?;
    let transfer =
        AsyncMapper::keyed(|payment| S::key(payment).to_vec(), transfer::<S>).with_workers(8);
    let (done, failed) =
        Stream::deliver(&pipeline, inbox, config)?.through(&transfer).dead_letters();

    let (dead, limits) = (store.outbox(&topics.dead)?, batches.clone());
    let has_failed = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&has_failed);
    pipeline.spawn("dead letters", move |_| {
        if let Err(error) = failed.into_records::<S::Taken>().deliver_to(dead, limits) {
            eprintln!("the dead letters cannot be written: {error}");
            note.store(true, Ordering::Relaxed);
        }
    });
    done.deliver_to(store.outbox(&topics.done)?, batches)?;
    pipeline.join();
    if has_failed.load(Ordering::Relaxed) {
        Err("not all dead letters were written".into())
    } else {
        Ok(())
    }
}

/// Stands for a call that takes its time. Payments of one account are made one after the other.
fn transfer<S: Store>(cancel: &CancelToken, payment: &S::Taken) -> Fallible<S::New> {
    if S::key(payment) == b"unknown" {
        return Err("there is no such account".into());
    }
    cancel.sleep(Duration::from_micros(200))?;
    Ok(S::record(S::key(payment), S::payload(payment)))
}

/// How far it all is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) appended: u64,
    pub(crate) dead: u64,
    pub(crate) group: Group,
}

impl Progress {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.appended.saturating_sub(self.group.unacknowledged)
    }
}

pub(crate) fn progress<S: Store>(store: &S, topics: &Topics) -> Fallible<Progress> {
    let group = store.group(&topics.payments, GROUP)?;
    Ok(Progress {
        appended: store.len(&topics.payments)?,
        dead: store.len(&topics.dead)?,
        group,
    })
}

/// Lets some time pass.
pub(crate) fn pause(time: Duration) {
    crossbeam_channel::after(time).recv().ok();
}
