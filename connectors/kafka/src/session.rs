//! [`Session`]: the membership in a consumer group.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::poller::{Client, Poller};

/// How often the thread that keeps the session alive looks around.
const TICK: Duration = Duration::from_millis(100);

/// Lives as long as the inbox or its acker.
///
/// Kafka excludes a consumer that does not poll for `max.poll.interval.ms`, and a rebalance waits for every consumer to
/// poll. The pipeline fetches nothing while it is busy, so a thread polls instead, with the partitions paused. A poll
/// from `keep_alive` would be too rare, and a thread that always polls and hands over would cost every record a hop.
pub(crate) struct Session {
    pub(crate) core: Arc<Core>,
    keeper: Option<JoinHandle<()>>,
}

pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) poller: Mutex<Poller>,
    last_commit: Mutex<Instant>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) commit_interval: Duration,
    /// How long nothing is fetched before the partitions are paused.
    pub(crate) idle: Duration,
    pub(crate) unknown_topic: Duration,
}

impl Core {
    pub(crate) fn context(&self) -> &Context {
        self.client.context()
    }

    /// Commits what has been processed if it is time.
    pub(crate) fn commit_if_due(&self) -> Result<(), Error> {
        if let Some(error) = self.context().ledger.take_failure() {
            return Err(error);
        }
        if self.limits.commit_interval.is_zero() {
            return self.context().commit_and_wait(&self.client, None);
        }
        // If another thread is at it, it does all there is.
        let Some(mut last) = self.last_commit.try_lock() else { return Ok(()) };
        if last.elapsed() < self.limits.commit_interval {
            return Ok(());
        }
        *last = clock::now();
        self.context().commit_soon(&self.client)
    }

    /// Whether a topic has been unknown for too long.
    pub(crate) fn check_topics(&self, poller: &mut Poller) -> Result<(), Error> {
        let Some(since) = *poller.unknown_since() else { return Ok(()) };
        if since.elapsed() < self.limits.unknown_topic {
            return Ok(());
        }
        *poller.unknown_since() = None;
        for topic in self.context().place.topics.split(", ").filter(|topic| !topic.starts_with('^')) {
            match topic_error(&self.client, topic, Duration::from_secs(5)) {
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

    fn keep_alive(&self) {
        while !self.context().ledger.wait_until_closing(clock::now() + TICK) {
            if let Some(mut poller) = self.poller.try_lock() {
                poller.keep_alive(&self.client, self.limits.idle);
            }
            if !self.limits.commit_interval.is_zero()
                && let Err(error) = self.commit_if_due()
            {
                log::warn!("{error}");
            }
        }
    }
}

pub(crate) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
}

/// What the brokers say about a topic.
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
        let poller = Mutex::new(Poller::new());
        let core = Arc::new(Core { client, poller, last_commit: Mutex::new(clock::now()), limits });
        let keeper = thread::Builder::new().name("streamz-kafka".into()).spawn({
            let core = Arc::clone(&core);
            move || core.keep_alive()
        });
        match keeper {
            Ok(keeper) => Ok(Self { core, keeper: Some(keeper) }),
            Err(error) => Err(Error::permanent(&core.context().place, "start a thread", error.to_string())),
        }
    }
}

/// Commits, and leaves the group. Waits for both; a broker that is gone makes that some seconds.
impl Drop for Session {
    fn drop(&mut self) {
        let context = self.core.context();
        context.ledger.close();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            log::error!("kafka {}: the thread that keeps the session alive has panicked", context.place.brokers);
        }
        context.commit_and_wait(&self.core.client, None).unwrap_or_else(|error| log::warn!("{error}"));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("place", &self.core.context().place).finish_non_exhaustive()
    }
}
