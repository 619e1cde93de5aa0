//! Retry inside a circuit breaker: payments through an HTTP service that fails, slows down and recovers.
//!
//! The service speaks HTTP over the loopback: `cargo run --release --example payments`.

mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Data, Page, bar};
use http::{Answer, Client, Server};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, Circuit, CircuitState};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Identifies the order for the service: an order that is sent again is charged once.
    pub id: u32,
    pub cents: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub order: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    #[error("the card was declined")]
    Declined,
    #[error("the service answered {0}")]
    Unavailable(u16),
    #[error("the service did not answer: {0}")]
    Unreachable(String),
}

impl PaymentError {
    /// Whether the error may be temporary. A permanent error is not the service's fault.
    pub fn is_transient(&self) -> bool {
        !matches!(self, PaymentError::Declined)
    }
}

/// The outcomes of the orders. The streams must be read at the same time.
pub struct Payments {
    pub paid: Stream<Receipt>,
    pub failed: Stream<DeadLetter>,
    pub circuit: Circuit,
}

// [pattern]
/// A call may take 150 ms. With three attempts and the pauses between them, a payment takes 600
/// ms at most; the recovery time is longer than that.
pub fn pay<F, G>(orders: Stream<Order>, charge: F, on_state_change: G) -> Payments
where
    F: Fn(&CancelToken, &Order) -> Result<Receipt, PaymentError> + Send + Sync + 'static,
    G: Fn(CircuitState, CircuitState) + Send + Sync + 'static,
{
    let calls = AsyncMapper::new(charge)
        .with_name("charge")
        .with_workers(10)
        .with_timeout(Duration::from_millis(150));
    let retry = Retry::new(calls)
        .max_attempts(3)
        .base_delay(Duration::from_millis(50))
        .max_delay(Duration::from_secs(5))
        .on_error(|error, _attempt| error.is_transient());
    let breaker = CircuitBreaker::new(retry)
        .failure_threshold(0.5)
        .min_requests(10)
        .with_count_window(20)
        .recovery_timeout(Duration::from_millis(700))
        .ignore_if(|error| !error.is_transient())
        .on_state_change(on_state_change);
    let circuit = breaker.circuit();
    let (paid, failed) = orders.through(&breaker).dead_letters();
    Payments { paid, failed, circuit }
}
// [/pattern]

/// The state of the service, by the time since its start.
fn weather(age: Duration) -> Weather {
    match age.as_millis() {
        1_000..2_000 => Weather::Down,
        2_000..3_500 => Weather::Slow,
        _ => Weather::Fine,
    }
}

#[derive(Clone, Copy)]
enum Weather {
    Fine,
    Down,
    Slow,
}

/// The payment service.
pub struct Bank {
    start: Instant,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// The amount charged for each order.
    charged: HashMap<u32, u32>,
    requests: Vec<u32>,
}

impl Bank {
    pub fn new(start: Instant) -> Self {
        Self { start, ledger: Mutex::default() }
    }

    /// Charges an order, `"<id> <cents>"`.
    pub fn answer(&self, cancel: &CancelToken, text: &str) -> Answer {
        let numbers = text
            .split_once(' ')
            .and_then(|(id, cents)| Some((id.parse().ok()?, cents.parse().ok()?)));
        let Some((id, cents)) = numbers else { return Answer::new(400, "not an order") };
        self.ledger.lock().requests.push(id);
        let takes = match weather(cancel.now().saturating_duration_since(self.start)) {
            Weather::Fine => 5,
            Weather::Down => return Answer::new(503, "down"),
            Weather::Slow => 400,
        };
        if cancel.sleep(Duration::from_millis(takes)).is_err() {
            return Answer::new(503, "closing");
        }
        if cents > 49_000 {
            return Answer::new(402, "declined");
        }
        // An order that was charged before is not charged again; the service does not know whether its receipt arrived.
        self.ledger.lock().charged.entry(id).or_insert(cents);
        Answer::new(200, "charged")
    }

    pub fn charged(&self) -> HashMap<u32, u32> {
        self.ledger.lock().charged.clone()
    }
}

fn charge(
    client: &Client,
    url: &str,
    cancel: &CancelToken,
    order: &Order,
) -> Result<Receipt, PaymentError> {
    let answer = client.post(cancel, url, &format!("{} {}", order.id, order.cents));
    match answer.map_err(|error| PaymentError::Unreachable(error.to_string()))?.status {
        200 => Ok(Receipt { order: order.id }),
        402 => Err(PaymentError::Declined),
        status => Err(PaymentError::Unavailable(status)),
    }
}

/// The orders by their outcome.
#[derive(Default)]
struct Books {
    paid: Vec<u32>,
    declined: Vec<u32>,
    refused: Vec<u32>,
    /// Sent, without an answer: some may have been charged anyway.
    in_doubt: Vec<u32>,
    strange: usize,
}

impl Books {
    fn dead(&mut self, letter: streamz::Result<DeadLetter>) {
        let Ok(Ok((order, error))) = letter.map(DeadLetter::into_item::<Order>) else {
            self.strange += 1;
            return;
        };
        let list = match (error.kind(), error.downcast_ref()) {
            (ErrorKind::CircuitOpen, _) => &mut self.refused,
            (_, Some(PaymentError::Declined)) => &mut self.declined,
            _ => &mut self.in_doubt,
        };
        list.push(order.id);
    }

    fn dead_letters(&self) -> usize {
        self.declined.len() + self.refused.len() + self.in_doubt.len()
    }
}

fn main() -> ExitCode {
    common::run(
        "Payments: fine for 1 s, down for 1 s, slow for 1.5 s, and fine again",
        pay_a_few_seconds,
    )
}

fn pay_a_few_seconds(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(5);
    let orders: Vec<Order> =
        (0..550).map(|id| Order { id, cents: data.between(100..=50_000) }).collect();

    let pipeline = Pipeline::new("payments");
    let start = pipeline.now();
    let bank = Arc::new(Bank::new(start));
    let server = {
        let bank = Arc::clone(&bank);
        Server::start(32, move |cancel, question| bank.answer(cancel, &question.text))?
    };
    let (client, url) = (Client::new(), server.url("/charge"));

    let changes = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&changes);
    let paced = Stream::from_iter(&pipeline, orders.clone()).through(&Throttle::new(100.0));
    let payments = pay(
        paced,
        move |cancel, order| charge(&client, &url, cancel, order),
        move |_, state| note.lock().push(state),
    );

    let books = Arc::new(Mutex::new(Books::default()));
    let (for_paid, for_failed) = (Arc::clone(&books), Arc::clone(&books));
    payments
        .paid
        .named("paid")
        .spawn_for_each(move |receipt| for_paid.lock().paid.extend(receipt.map(|it| it.order)));
    payments
        .failed
        .named("failed")
        .spawn_for_each(move |letter| for_failed.lock().dead(letter));

    page.say("\n    time  circuit     paid              dead letters");
    let (live, seen, token) = (page.clone(), Arc::clone(&books), pipeline.token());
    let mut before = (0, 0);
    pipeline.every(Duration::from_millis(250), move || {
        let (paid, dead) = {
            let books = seen.lock();
            (books.paid.len(), books.dead_letters())
        };
        let bars =
            (bar((paid - before.0) as f64, 25.0, 10), bar((dead - before.1) as f64, 25.0, 10));
        let age = token.now().saturating_duration_since(start).as_secs_f64();
        let state = format!("{:?}", payments.circuit.state());
        live.say(format_args!(
            "  {age:>4.2} s  {state:<10} {paid:>5} {:<12}{dead:>5} {}",
            bars.0, bars.1
        ));
        before = (paid, dead);
    });
    let report = pipeline.join();
    drop(server);

    let books = std::mem::take(&mut *books.lock());
    let charged = bank.charged();
    let in_doubt_and_charged =
        books.in_doubt.iter().filter(|id| charged.contains_key(id)).count();
    page.say("");
    page.table(
        &["what became of them", "orders", "charged by the service"],
        [
            ("paid", &books.paid),
            ("declined", &books.declined),
            ("refused by the open circuit", &books.refused),
            ("no answer in three attempts", &books.in_doubt),
        ]
        .map(|(name, ids)| {
            let there = ids.iter().filter(|id| charged.contains_key(id)).count();
            [name.to_owned(), ids.len().to_string(), there.to_string()]
        }),
    );
    let requests = std::mem::take(&mut bank.ledger.lock().requests);
    page.say(format_args!("\n{} requests for {} orders\n", requests.len(), orders.len()));

    let mut ids: Vec<u32> = [&books.paid, &books.declined, &books.refused, &books.in_doubt]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    ids.sort_unstable();
    page.check(
        "every order was paid or is a dead letter, exactly once",
        books.strange == 0 && ids == Vec::from_iter(0..550),
    );
    page.check(
        "every paid order was charged",
        books.paid.iter().all(|id| charged.contains_key(id)),
    );
    page.check_eq(
        "every charged order was paid, or is listed as unanswered",
        charged.len(),
        books.paid.len() + in_doubt_and_charged,
    );
    let requested: HashSet<u32> = requests.into_iter().collect();
    page.check(
        "the service did not see rejected orders",
        books.refused.iter().all(|id| !requested.contains(id)),
    );
    let changes = changes.lock();
    page.check(
        "the circuit opened, and is closed at the end",
        changes.first() == Some(&CircuitState::Open)
            && changes.last() == Some(&CircuitState::Closed),
    );
    let well = |id: &u32| books.paid.contains(id) || books.declined.contains(id);
    page.check("most of the last 50 orders succeeded", (500..550).filter(well).count() > 25);
    page.check("all items are accounted for", report.is_complete());
    Ok(())
}
