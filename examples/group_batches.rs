//! Batching by group: orders are charged in batches of one customer each, and each order gets its own answer.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, CallError};

/// An order to be charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: u32,
    pub customer: u32,
    pub cents: u32,
}

/// The outcome of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Paid,
    Declined,
    /// The call for its batch failed: the bank did not answer.
    NotCharged(String),
}

// [pattern]
/// The largest batch, and how long the first order of a batch may wait.
const BATCH: BatchConfig =
    BatchConfig { max_size: 50, max_latency: Duration::from_millis(100) };

/// Charges orders in batches of one customer each. `bank` is called once per batch, and returns
/// an answer for each order in it.
pub fn charge_in_batches<B>(orders: Stream<Order>, bank: B) -> Stream<(Order, Answer)>
where
    B: Fn(&[Order]) -> Result<Vec<Answer>, String> + Send + Sync + 'static,
{
    // A batch for each customer, each with its own time limit; at most 1,000 are open.
    let by_customer = Batcher::new(BATCH).with_key(|order: &Order| order.customer, 1_000);
    // One call at a time for each customer, different customers in parallel.
    let customer = |batch: &Vec<Order>| batch[0].customer;
    let charge = AsyncMapper::keyed(customer, move |_: &CancelToken, batch: &Vec<Order>| {
        match bank(batch) {
            Ok(answers) if answers.len() != batch.len() => {
                Err("the bank forgot some".to_owned())
            }
            answers => answers,
        }
    });
    // The call for one batch failed, so only its orders have no answer.
    let charge = charge.with_workers(4).with_name("charge").combine(|batch, answers| {
        let answers = answers
            .unwrap_or_else(|error| vec![Answer::NotCharged(reason(error)); batch.len()]);
        Ok(batch.into_iter().zip(answers).collect::<Vec<_>>())
    });
    orders.through(&by_customer).through(&charge).through(&Flatten::new())
}
// [/pattern]

fn reason(error: CallError<String>) -> String {
    let kind = error.kind();
    error.into_error().unwrap_or_else(|| format!("{kind:?}"))
}

/// A bank that fails for customer 13, and declines more than 400.00. Records its batches.
fn bank(
    seen: Arc<Mutex<Vec<Vec<Order>>>>,
) -> impl Fn(&[Order]) -> Result<Vec<Answer>, String> + Send + Sync {
    move |batch| {
        seen.lock().push(batch.to_vec());
        if batch[0].customer == 13 {
            return Err("account 13 is being looked into".to_owned());
        }
        let answer =
            |order: &Order| if order.cents > 40_000 { Answer::Declined } else { Answer::Paid };
        Ok(batch.iter().map(answer).collect())
    }
}

fn main() -> ExitCode {
    common::run("Batching by group: one call for many orders of a customer", charge_a_day)
}

fn charge_a_day(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(11);
    let order =
        |id| Order { id, customer: data.skewed(60) as u32, cents: data.between(100..=42_000) };
    let orders: Vec<Order> = (0..20_000).map(order).collect();
    let seen = Arc::new(Mutex::new(Vec::new()));

    let (charged, report) = Pipeline::run("charges", |pipeline| {
        let input = Stream::from_iter(pipeline, orders.clone());
        charge_in_batches(input, bank(Arc::clone(&seen))).collect::<Vec<_>>()
    });
    let charged = charged?;
    let batches = std::mem::take(&mut *seen.lock());

    let mut by_customer: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    batches
        .iter()
        .for_each(|batch| by_customer.entry(batch[0].customer).or_default().push(batch.len()));
    let most = by_customer.values().map(|sizes| sizes.iter().sum()).max().unwrap_or(0usize);
    page.say("\nThe customers with the most orders, and customer 13:\n");
    let mut rows: Vec<_> = by_customer
        .iter()
        .map(|(id, sizes)| (*id, sizes.iter().sum::<usize>(), sizes.len()))
        .collect();
    rows.sort_by_key(|&(_, orders, _)| std::cmp::Reverse(orders));
    let shown = rows
        .iter()
        .enumerate()
        .filter(|(place, row)| *place < 8 || row.0 == 13)
        .map(|(_, row)| row);
    page.table(
        &["customer", "orders", "calls", "orders per call", ""],
        shown.map(|&(id, orders, calls)| {
            let per_call = format!("{:.1}", orders as f64 / calls as f64);
            [
                id.to_string(),
                orders.to_string(),
                calls.to_string(),
                per_call,
                bar(orders as f64, most as f64, 30),
            ]
        }),
    );

    let count =
        |is: fn(&Answer) -> bool| charged.iter().filter(|(_, answer)| is(answer)).count();
    let not_charged = count(|answer| matches!(answer, Answer::NotCharged(_)));
    page.say(format_args!(
        "\n{} orders in {} calls: {} paid, {} declined, {not_charged} not charged\n",
        orders.len(),
        batches.len(),
        count(|answer| *answer == Answer::Paid),
        count(|answer| *answer == Answer::Declined),
    ));

    let answered: HashSet<u32> = charged.iter().map(|(order, _)| order.id).collect();
    page.check(
        "every order is answered once",
        answered.len() == orders.len() && charged.len() == orders.len(),
    );
    page.check(
        "no batch mixes customers",
        batches
            .iter()
            .all(|batch| batch.iter().all(|order| order.customer == batch[0].customer)),
    );
    page.check(
        "no batch is larger than 50",
        batches.iter().all(|batch| batch.len() <= BATCH.max_size),
    );
    let mut last = HashMap::new();
    let in_order = batches
        .iter()
        .flatten()
        .all(|order| last.insert(order.customer, order.id).is_none_or(|id| id < order.id));
    page.check("the orders of a customer are charged in order", in_order);
    let of_13 = orders.iter().filter(|order| order.customer == 13).count();
    page.check_eq(
        "the bank's refusal of one customer does not affect the others",
        not_charged,
        of_13,
    );
    page.check(
        "there are few calls: at least 20 orders in each, on average",
        batches.len() * 20 <= orders.len(),
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
