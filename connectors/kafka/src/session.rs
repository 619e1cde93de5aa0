//! [`Session`]: the membership in a consumer group.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, thread};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::bound;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::poller::{Client, Poller};

/// How often the polling thread checks whether it is needed.
const TICK: Duration = Duration::from_millis(100);

/// How long the brokers may take to answer a request during a fetch.
const ANSWER: Duration = Duration::from_secs(5);

/// Lives as long as the inbox or its acker.
///
/// Kafka excludes a consumer that does not poll for `max.poll.interval.ms`, and a rebalance waits for every consumer to
/// poll. The pipeline fetches nothing while it is busy, so a thread polls instead, with the partitions paused. A poll
/// from `keep_alive` would be too rare, and a thread that always polls and hands over would cost every record a hop.
pub(crate) struct Session {
    pub(crate) core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) poller: Mutex<Poller>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) commit_interval: Duration,
    /// The time without a fetch after which the partitions are paused.
    pub(crate) idle: Duration,
    pub(crate) unknown_topic: Duration,
    /// Where the group begins without an offset.
    pub(crate) starts_at_end: bool,
}

impl Core {
    pub(crate) fn context(&self) -> &Context {
        self.client.context()
    }

    /// Called after a record was settled.
    pub(crate) fn settled(&self) -> Result<(), Error> {
        if let Some(error) = self.context().ledger.take_failure() {
            return Err(error);
        }
        if self.limits.commit_interval.is_zero() { self.context().commit(&self.client, None) } else { Ok(()) }
    }

    /// Whether a topic has been unknown for too long.
    pub(crate) fn check_topics(&self, poller: &mut Poller) -> Result<(), Error> {
        let Some(since) = *poller.unknown_since() else { return Ok(()) };
        if since.elapsed() < self.limits.unknown_topic {
            return Ok(());
        }
        *poller.unknown_since() = None;
        for topic in self.context().place.topics.split(", ").filter(|topic| !topic.starts_with('^')) {
            match topic_error(&self.client, topic, ANSWER) {
                Ok(None) => {}
                Ok(Some(code)) if is_unknown(code) => {
                    let error = Error::of_code(&self.context().place, "fetch", code);
                    return Err(error.about(format!("from topic `{topic}`")).for_good());
                }
                _ => *poller.unknown_since() = Some(since),
            }
        }
        Ok(())
    }

    /// Whether a bounded inbox, whose last fetch has found nothing, has delivered everything.
    pub(crate) fn has_reached_its_ends(&self) -> Result<bool, Error> {
        match self.context().ledger.open() {
            Some(open) => bound::is_reached(&self.client, open, self.limits.starts_at_end, ANSWER),
            None => Ok(false),
        }
    }

    fn keep_alive(&self) {
        let ledger = &self.context().ledger;
        while !ledger.wait_until_closing(clock::now() + TICK) {
            if let Some(mut poller) = self.poller.try_lock() {
                poller.keep_alive(&self.client, self.limits.idle);
            }
        }
    }

    fn commit(&self) {
        let ledger = &self.context().ledger;
        let mut has_failed = false;
        while !ledger.wait_until_closing(clock::now() + self.limits.commit_interval) {
            match self.context().commit(&self.client, None) {
                Ok(()) => has_failed = false,
                Err(error) if !error.is_transient() => ledger.fail(error),
                Err(error) => {
                    // Log once in a row.
                    if !std::mem::replace(&mut has_failed, true) {
                        log::warn!("{error}");
                    }
                }
            }
        }
    }
}

pub(crate) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
}

/// The brokers' error for a topic.
pub(crate) fn topic_error(client: &Client, topic: &str, timeout: Duration) -> Result<Option<Code>, KafkaError> {
    match client.fetch_metadata(Some(topic), timeout) {
        Ok(metadata) => Ok(metadata.topics().iter().find_map(|it| it.error().map(Code::from))),
        Err(error) => match error.rdkafka_error_code() {
            Some(code) if is_unknown(code) => Ok(Some(code)),
            _ => Err(error),
        },
    }
}

impl Session {
    pub(crate) fn start(client: Client, limits: Limits) -> Result<Self, Error> {
        let core = Arc::new(Core { client, poller: Mutex::new(Poller::new()), limits });
        let mut session = Self { core, threads: Vec::new() };
        session.spawn("streamz-kafka-poll", Core::keep_alive)?;
        if !session.core.limits.commit_interval.is_zero() {
            session.spawn("streamz-kafka-commit", Core::commit)?;
        }
        Ok(session)
    }

    fn spawn(&mut self, name: &str, run: fn(&Core)) -> Result<(), Error> {
        let core = Arc::clone(&self.core);
        let thread = thread::Builder::new().name(name.into()).spawn(move || run(&core));
        let failed =
            |error: std::io::Error| Error::permanent(&self.core.context().place, "start a thread", error.to_string());
        self.threads.push(thread.map_err(failed)?);
        Ok(())
    }
}

/// Commits, and leaves the group. Waits for both; with an unreachable broker that takes some seconds.
impl Drop for Session {
    fn drop(&mut self) {
        let context = self.core.context();
        context.ledger.close();
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                log::error!("kafka {}: the thread `{name}` has panicked", context.place.brokers);
            }
        }
        context.commit(&self.core.client, None).unwrap_or_else(|error| log::warn!("{error}"));
        self.leave();
    }
}

impl Session {
    /// Leaves the group before the client is closed.
    ///
    /// A client that closes during a rebalance may end before the callback has answered, and never acknowledges that
    /// answer, so that closing it waits forever (librdkafka's issue 4884). A client that is not closing acknowledges
    /// every answer, so the rest of the rebalance is answered first. Once it has unsubscribed, no other follows.
    fn leave(&self) {
        let client = &self.core.client;
        client.unsubscribe();
        let rebalances = || self.core.context().rebalances.load(Ordering::Relaxed);
        loop {
            // A poll that answers a rebalance returns nothing, like one that finds nothing.
            let before = rebalances();
            if client.poll(Duration::ZERO).is_none() && rebalances() == before {
                break;
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("place", &self.core.context().place).finish_non_exhaustive()
    }
}
