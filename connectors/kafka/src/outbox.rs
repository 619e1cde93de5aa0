//! [`KafkaOutbox`]: a topic as a sink with confirmations.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use streamz::delivery::{Outbox, StoreError};

use crate::builder::client_config;
use crate::context::Said;
use crate::error::{Error, Place, is_fault_of_record};
use crate::record::NewRecord;

/// How long to wait for room in the client's queue before checking again.
const ROOM: Duration = Duration::from_millis(10);

/// Writes to a topic, and waits until the brokers have stored the records.
///
/// The producer is idempotent: records that the client resends after a broken connection are stored once, and records
/// of a partition stay in order.
///
/// # Ordering
/// Records with the same key go to the same partition, in the order of the batches. After a write has timed out,
/// records that are written again come after those that were stored.
///
/// # Back-pressure
/// A write returns when every record of the batch has been stored or refused, or has timed out. While the client's
/// queue is full, it waits.
///
/// # Errors
/// A record that the brokers will never accept, because it is too large or has no such partition, is
/// [refused](StoreError::refused): it stays in the batch, and the error names it. The others are written.
///
/// A producer that can no longer tell which records have been stored fails permanently, for example because the brokers
/// have lost its sequence numbers. The outbox replaces it, and unconfirmed records are written again: they may be
/// stored twice.
pub struct KafkaOutbox {
    producer: ThreadedProducer<Reports>,
    config: ClientConfig,
    topic: Arc<str>,
    place: Place,
}

/// Configures a [`KafkaOutbox`]; created by [`KafkaOutbox::builder`].
#[must_use = "it does nothing until `connect` is called"]
pub struct KafkaOutboxBuilder {
    brokers: Arc<str>,
    topic: Arc<str>,
    properties: Vec<(String, String)>,
    delivery_timeout: Duration,
    connect_timeout: Duration,
}

/// The outcomes of the records of a batch.
#[derive(Default)]
struct Reports {
    batch: Mutex<Batch>,
    changed: Condvar,
    said: Said,
}

#[derive(Default)]
struct Batch {
    /// `None` for a stored record.
    outcomes: Vec<Option<Code>>,
    open: usize,
    is_waiting_for_room: bool,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!("kafka producer: {error}: {reason}");
        self.said.say(&error, reason);
    }
}

impl ProducerContext for Reports {
    /// The index in the batch.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut batch = self.batch.lock();
        batch.open -= 1;
        batch.outcomes[index] = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        };
        if batch.open == 0 || batch.is_waiting_for_room {
            self.changed.notify_one();
        }
    }
}

impl KafkaOutbox {
    /// Returns a builder for an outbox that writes to a topic. `brokers` lists some of the brokers, with ports and
    /// separated by commas: `a:9092,b:9092`.
    pub fn builder(brokers: impl Into<Arc<str>>, topic: impl Into<Arc<str>>) -> KafkaOutboxBuilder {
        KafkaOutboxBuilder {
            brokers: brokers.into(),
            topic: topic.into(),
            properties: Vec::new(),
            delivery_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// Replaces a producer that has failed permanently, and returns the reason.
    fn replace_failed(&mut self) -> Option<Error> {
        let (code, reason) = self.producer.client().fatal_error()?;
        let error = Error::of_code(&self.place, "write", code).because(Some((code, reason)));
        if !error.is_transient() {
            return Some(error);
        }
        log::warn!("{error}; the producer is replaced");
        match producer(&self.config, &self.place) {
            Ok(producer) => self.producer = producer,
            Err(error) => return Some(error),
        }
        Some(error)
    }

    /// Passes a batch to the client, and waits for all reports.
    fn send(&self, records: &[NewRecord]) -> Vec<Option<Code>> {
        let reports = self.producer.context();
        // A record that is not sent, because an earlier one could not be, must be retried.
        let outcomes = vec![Some(Code::Retry); records.len()];
        *reports.batch.lock() = Batch { outcomes, ..Batch::default() };
        for (index, record) in records.iter().enumerate() {
            if let Err(code) = self.send_one(index, record) {
                reports.batch.lock().outcomes[index] = Some(code);
                if !is_fault_of_record(code) {
                    break;
                }
            }
        }
        let mut batch = reports.batch.lock();
        while batch.open > 0 {
            // Each report arrives, at the latest when the record times out.
            reports.changed.wait(&mut batch);
        }
        std::mem::take(&mut batch.outcomes)
    }

    fn send_one(&self, index: usize, record: &NewRecord) -> Result<(), Code> {
        let reports = self.producer.context();
        let topic = record.topic.as_deref().unwrap_or(&self.topic);
        let mut new = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, index);
        (new.key, new.payload) = (record.key(), record.payload());
        (new.partition, new.timestamp) = (record.partition, record.timestamp);
        new.headers = record.client_headers();
        reports.batch.lock().open += 1;
        loop {
            let Err((error, same)) = self.producer.send(new) else { return Ok(()) };
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            let mut batch = reports.batch.lock();
            if code != Code::QueueFull {
                batch.open -= 1;
                return Err(code);
            }
            batch.is_waiting_for_room = true;
            reports.changed.wait_for(&mut batch, ROOM);
            batch.is_waiting_for_room = false;
            new = same;
        }
    }
}

impl Outbox for KafkaOutbox {
    type Record = NewRecord;

    fn write(&mut self, batch: &mut Vec<NewRecord>) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let outcomes = self.send(batch);
        let (mut refused, mut later, mut never) = (None, None, None);
        let mut left = Vec::new();
        for (record, outcome) in batch.drain(..).zip(outcomes) {
            let Some(code) = outcome else { continue };
            let error = Error::of_code(&self.place, "write", code).about_record(&record);
            if is_fault_of_record(code) {
                refused = refused.or(Some((left.len(), error)));
            } else {
                let first = if error.is_transient() { &mut later } else { &mut never };
                // A record that could not be sent tells more than one that was not sent.
                if first.is_none() && code != Code::Retry {
                    *first = Some(error);
                }
            }
            left.push(record);
        }
        *batch = left;
        // The certain result first: the next call reports the rest. After a permanent error there is none.
        if let Some((index, error)) = refused {
            return Err(StoreError::refused(index, error));
        }
        if let Some(error) = self.replace_failed() {
            return Err(error.into());
        }
        match later.map(|error| error.because(self.producer.context().said.take())).or(never) {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }
}

impl KafkaOutboxBuilder {
    /// Sets a [property of the client](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as
    /// `compression.type`, `security.protocol` or `message.max.bytes`.
    ///
    /// `enable.idempotence`, `acks`, `message.timeout.ms` and `bootstrap.servers` are set by the outbox:
    /// [`connect`](Self::connect) refuses them.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets how long the brokers may take to store a record before the write fails, and the pipeline retries it.
    /// Defaults to 30 s; at least 1 ms. A cancellation waits for it.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets the maximum duration of [`connect`](Self::connect). Defaults to 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects to the brokers.
    ///
    /// # Errors
    /// If a property is invalid, no broker can be reached within [`connect_timeout`](Self::connect_timeout), or they
    /// refuse the password or the topic.
    pub fn connect(self) -> Result<KafkaOutbox, StoreError> {
        Ok(self.outbox()?)
    }

    fn outbox(self) -> Result<KafkaOutbox, Error> {
        let place = Place { brokers: Arc::clone(&self.brokers), topics: Arc::clone(&self.topic), group: None };
        let timeout = self.delivery_timeout.as_millis().clamp(1, i32::MAX as u128).to_string();
        let own = [
            ("bootstrap.servers", &*self.brokers),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", &*timeout),
        ];
        let mut properties = self.properties;
        if !properties.iter().any(|(name, _)| name == "linger.ms" || name == "queue.buffering.max.ms") {
            // A write waits for all of its batch, so lingering would wait in vain.
            properties.push(("linger.ms".into(), "1".into()));
        }
        let config = client_config(&own, &properties, &place)?;
        let producer = producer(&config, &place)?;
        let metadata = producer.client().fetch_metadata(Some(&self.topic), self.connect_timeout);
        let code = metadata
            .map_err(|cause| Error::of_client(&place, "connect", &cause).because(producer.context().said.take()))?
            .topics()
            .iter()
            .find_map(|topic| topic.error().map(Code::from));
        if let Some(code) = code {
            let error = Error::of_code(&place, "write", code);
            // A topic that is created by the first write has no leader at first.
            if !error.is_transient() {
                return Err(error);
            }
        }
        Ok(KafkaOutbox { producer, config, topic: self.topic, place })
    }
}

fn producer(config: &ClientConfig, place: &Place) -> Result<ThreadedProducer<Reports>, Error> {
    ThreadedProducer::from_config_and_context(config, Reports::default())
        .map_err(|cause| Error::of_client(place, "make a producer", &cause))
}

impl fmt::Debug for KafkaOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOutbox").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Without the values of the properties, of which one may be a password.
impl fmt::Debug for KafkaOutboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOutboxBuilder")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
