//! [`Poller`]: the reading side of the consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use streamz::delivery::Delivery;

use crate::clock;
use crate::context::{Context, positions};
use crate::error::Error;
use crate::ledger::Known;
use crate::record::{Receipt, Record};

/// Only one thread at a time polls: the one that fetches, or the one that keeps the consumer alive while nothing is
/// fetched.
#[derive(Debug)]
pub(crate) struct Poller {
    /// Records read while nothing was fetched, and not delivered yet.
    early: Vec<Got>,
    /// The partitions seen since the last rebalance, and the one of the last record.
    known: Vec<Known>,
    last: usize,
    generation: u32,
    is_paused: bool,
    last_fetch: Instant,
    /// Since when a topic has been unknown.
    unknown_since: Option<Instant>,
    trouble: Option<Error>,
}

/// The client, with its context of callbacks.
pub(crate) type Client = BaseConsumer<Context>;

pub(crate) type Got = Delivery<Record, Receipt>;

impl Poller {
    pub(crate) fn new() -> Self {
        Self {
            early: Vec::new(),
            known: Vec::new(),
            last: 0,
            generation: 0,
            is_paused: false,
            last_fetch: clock::now(),
            unknown_since: None,
            trouble: None,
        }
    }

    /// Reads up to `max` records; waits for the first one until the deadline.
    pub(crate) fn fetch(&mut self, client: &Client, max: usize, deadline: Instant, out: &mut Vec<Got>) {
        self.resume(client);
        let start = out.len();
        self.last = usize::MAX;
        loop {
            self.replay(client);
            out.extend(self.early.drain(..self.early.len().min(max)));
            while out.len() - start < max {
                let is_first = out.len() == start;
                let wait = if is_first { deadline.saturating_duration_since(clock::now()) } else { Duration::ZERO };
                match self.poll(client, wait) {
                    Some(got) => out.push(got),
                    None => break,
                }
            }
            client.context().ledger.give_out(out, start);
            self.last_fetch = clock::now();
            if out.len() > start || self.last_fetch >= deadline || self.trouble.is_some() {
                return;
            }
        }
    }

    /// Keeps the membership while nothing is fetched for longer than `idle`: with the partitions paused, polls read
    /// nothing, and serve rebalances.
    pub(crate) fn keep_alive(&mut self, client: &Client, idle: Duration) {
        if self.last_fetch.elapsed() < idle {
            return;
        }
        self.pause(client);
        while let Some(got) = self.poll(client, Duration::ZERO) {
            self.early.push(got);
        }
    }

    /// Whether all records that were read have been delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.early.is_empty()
    }

    /// The error of the last polls, if any.
    pub(crate) fn take_trouble(&mut self) -> Option<Error> {
        self.trouble.take()
    }

    /// Since when a topic has been unknown.
    pub(crate) fn unknown_since(&mut self) -> &mut Option<Instant> {
        &mut self.unknown_since
    }

    /// Reads a record.
    fn poll(&mut self, client: &Client, wait: Duration) -> Option<Got> {
        let message = match client.poll(wait)? {
            Ok(message) => message,
            Err(error) => {
                self.note(client, &error);
                return None;
            }
        };
        let known = self.known(client, &message);
        let receipt = Receipt { slot: known.slot, generation: known.generation, offset: message.offset(), attempt: 1 };
        let record = Record::new(&message, Arc::clone(&known.topic), client.context().read_headers);
        let attempt = record.attempt();
        Some(Delivery::new(record, receipt).with_attempt(attempt))
    }

    /// The partition of a message. Usually that of the previous message, so the name of the topic, a C string, is not
    /// compared.
    fn known(&mut self, client: &Client, message: &BorrowedMessage<'_>) -> &Known {
        let ledger = &client.context().ledger;
        let generation = ledger.generation();
        if generation != self.generation {
            // Records read before are checked when they are delivered. An address may now belong to another topic.
            self.generation = generation;
            self.known.clear();
        }
        let (address, partition) = (message.topic_ptr().addr(), message.partition());
        let is_it = |known: &Known| known.partition == partition && known.address == address;
        if !self.known.get(self.last).is_some_and(is_it) {
            self.last = self.known.iter().position(is_it).unwrap_or_else(|| {
                self.known.push(ledger.known(message.topic(), address, partition));
                self.known.len() - 1
            });
            // The records delivered now are counted separately from those that another thread is dropping.
            let known = &mut self.known[self.last];
            known.topic = Arc::from(&*known.topic);
        }
        &self.known[self.last]
    }

    fn note(&mut self, client: &Client, error: &KafkaError) {
        let context = client.context();
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                self.unknown_since.get_or_insert_with(clock::now);
            }
            Some(Code::PollExceeded) => {
                log::warn!("kafka {}: not polled within `max.poll.interval.ms`", context.place.brokers);
            }
            // One broker of several, or a connection that was idle: the client reconnects.
            Some(Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut | Code::PartitionEOF) => {}
            _ => self.trouble = Some(Error::of_client(&context.place, "fetch", error).because(context.said.take())),
        }
    }

    fn pause(&mut self, client: &Client) {
        if !self.is_paused {
            self.is_paused = true;
            self.pass_on(client, true);
        }
    }

    fn resume(&mut self, client: &Client) {
        if self.is_paused {
            self.is_paused = false;
            self.pass_on(client, false);
        }
    }

    fn pass_on(&self, client: &Client, pause: bool) {
        let context = client.context();
        // Relaxed: it is only read in callbacks, which run on the thread that has this lock.
        context.is_paused.store(pause, Ordering::Relaxed);
        let done = client
            .assignment()
            .and_then(|partitions| if pause { client.pause(&partitions) } else { client.resume(&partitions) });
        if let Err(error) = done {
            log::warn!("kafka {}: cannot pause or resume: {error}", context.place.brokers);
        }
    }

    /// Seeks back to records that were given back.
    fn replay(&mut self, client: &Client) {
        let context = client.context();
        for (topic, partition, offset) in context.ledger.replays() {
            // Records read after them stay in order: they are read again.
            self.early.retain(|got| got.record.topic() != &*topic || got.record.partition() != partition);
            let sought = client.seek(&topic, partition, Offset::Offset(offset), Duration::from_secs(1));
            if let Err(error) = sought {
                let mut list = rdkafka::TopicPartitionList::new();
                let _ = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
                log::warn!("kafka {}: cannot seek {}: {error}", context.place.brokers, positions(&list));
                context.ledger.want_replay(&topic, partition);
            }
        }
    }
}
