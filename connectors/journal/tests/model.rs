//! Random calls, compared with a model that has a state for each record.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{Bench, LEASE, fetch, kill};
use streamz::delivery::{Acker, Inbox};
use streamz_journal::{JournalAcker, JournalInbox, Receipt};

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    New,
    /// With the number of deliveries, the consumer, and the end of the lease.
    Held {
        attempt: u32,
        owner: usize,
        expires: Duration,
    },
    Free {
        attempt: u32,
    },
    Done,
}

struct Consumer {
    id: usize,
    inbox: JournalInbox,
    acker: JournalAcker,
    /// The records it may still acknowledge or give back.
    receipts: Vec<Receipt>,
}

struct Model {
    bench: Bench,
    records: Vec<State>,
    consumers: VecDeque<Consumer>,
    opened: usize,
    redelivered: u64,
}

impl Model {
    fn now(&self) -> Duration {
        self.bench.clock.elapsed()
    }

    fn open(&mut self) {
        let mut inbox = self.bench.inbox(&format!("consumer-{}", self.opened));
        let acker = inbox.acker().unwrap();
        self.consumers.push_back(Consumer { id: self.opened, inbox, acker, receipts: Vec::new() });
        self.opened += 1;
    }

    fn state(&mut self, position: i64) -> &mut State {
        &mut self.records[usize::try_from(position - 1).unwrap()]
    }

    fn fetch(&mut self, mut consumer: Consumer, max: usize) {
        let now = self.now();
        let is_free = |state: &State| match state {
            State::Held { expires, .. } => *expires <= now,
            State::Free { .. } => true,
            State::New | State::Done => false,
        };
        let free = (1..).zip(&self.records).filter(|(_, state)| is_free(state));
        let new = (1..).zip(&self.records).filter(|(_, state)| **state == State::New);
        let expected: Vec<i64> = free.chain(new).map(|(position, _)| position).take(max).collect();
        let found = fetch(&mut consumer.inbox, max);
        assert_eq!(common::positions(&found), expected);
        for delivery in found {
            let owner = consumer.id;
            let state = self.state(delivery.record.position);
            let attempt = match *state {
                State::Held { attempt, .. } | State::Free { attempt } => attempt + 1,
                _ => 1,
            };
            *state = State::Held { attempt, owner, expires: now + LEASE };
            assert_eq!(delivery.attempt, attempt);
            self.redelivered += u64::from(attempt > 1);
            consumer.receipts.push(delivery.receipt);
        }
        self.consumers.push_back(consumer);
    }

    fn acknowledge(&mut self, mut consumer: Consumer, mut receipts: Vec<Receipt>) {
        for receipt in &receipts {
            *self.state(receipt.position) = State::Done;
        }
        consumer.acker.acknowledge(&mut receipts).unwrap();
        self.consumers.push_back(consumer);
    }

    fn give_back(&mut self, mut consumer: Consumer, receipts: Vec<Receipt>) {
        for receipt in &receipts {
            let state = self.state(receipt.position);
            match *state {
                State::Held { attempt, owner, .. } if (attempt, owner) == (receipt.attempt, consumer.id) => {
                    *state = State::Free { attempt };
                }
                _ => {}
            }
        }
        consumer.acker.give_back(receipts).unwrap();
        self.consumers.push_back(consumer);
    }

    fn keep_alive(&mut self, mut consumer: Consumer) {
        let now = self.now();
        for state in &mut self.records {
            match state {
                State::Held { owner, expires, .. } if *owner == consumer.id => *expires = now + LEASE,
                _ => {}
            }
        }
        consumer.acker.keep_alive().unwrap();
        self.consumers.push_back(consumer);
    }

    fn compare(&self) {
        let now = self.now();
        let count = |is: &dyn Fn(&State) -> bool| self.records.iter().filter(|state| is(state)).count() as u64;
        let done = count(&|state| *state == State::Done);
        let in_flight = count(&|state| matches!(state, State::Held { expires, .. } if *expires > now));
        let low = self.records.iter().take_while(|state| **state == State::Done).count();
        let status = self.bench.status();
        assert_eq!(status.acknowledged, done);
        assert_eq!(status.in_flight, in_flight);
        assert_eq!(status.backlog, self.records.len() as u64 - done - in_flight);
        assert_eq!(status.redelivered, self.redelivered);
        assert_eq!(status.low_water, low as i64 + 1);
    }
}

fn play(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::new();
    let mut model = Model { bench, records: Vec::new(), consumers: VecDeque::new(), opened: 0, redelivered: 0 };
    for _ in 0..3 {
        model.open();
    }
    for _ in 0..150 {
        let index = random.usize(..model.consumers.len());
        let mut consumer = model.consumers.remove(index).unwrap();
        // Some of its records, in any order.
        random.shuffle(&mut consumer.receipts);
        let mut some = consumer.receipts.split_off(random.usize(..=consumer.receipts.len()));
        if random.bool() {
            some.sort_unstable();
        }
        match random.u8(..12) {
            0..3 => model.fetch(consumer, random.usize(1..20)),
            3..6 => model.acknowledge(consumer, some),
            6 => model.give_back(consumer, some),
            7 => model.keep_alive(consumer),
            8..10 => {
                let (start, count) = (model.records.len() as u32, random.u32(..30));
                model.bench.append(start..start + count);
                model.records.extend((0..count).map(|_| State::New));
                model.consumers.push_back(consumer);
            }
            10 => {
                model.bench.clock.advance(LEASE * random.u32(..100) / 100);
                model.consumers.push_back(consumer);
            }
            _ => {
                kill(consumer.inbox);
                model.open();
            }
        }
        model.compare();
    }
}

#[test]
fn random_calls_agree_with_the_model() {
    let seeds = std::env::var("STREAMZ_JOURNAL_SEED").map_or(0..60, |seed| {
        let seed = seed.parse().unwrap();
        seed..seed + 1
    });
    for seed in seeds {
        println!("STREAMZ_JOURNAL_SEED={seed}");
        play(seed);
    }
}
