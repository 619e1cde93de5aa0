//! Dead letters: orders that fail are stored in SQLite, and replayed when the cause is gone.
//!
//! `cargo run --release --example dead_letters`

mod common;

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Data, Page, bar};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use streamz::BoxError;
use streamz::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: u32,
    pub city: String,
    pub parcels: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    pub order: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShippingError {
    #[error("the depot of {0} is closed")]
    Closed(String),
    #[error("nothing to ship")]
    Empty,
}

/// The record of a failed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOrder {
    pub order: Order,
    pub reason: String,
    pub attempts: u32,
    pub time: SystemTime,
}

// [pattern]
/// Two streams, to be read at the same time: shipped orders, and failed ones with the reason.
pub fn ship<F>(orders: Stream<Order>, call: F) -> (Stream<Shipped>, Stream<FailedOrder>)
where
    F: Fn(&CancelToken, &Order) -> Result<Shipped, ShippingError> + Send + Sync + 'static,
{
    let calls = AsyncMapper::new(call).with_name("ship").with_workers(4);
    let (shipped, letters) = orders.through(&calls).dead_letters();
    (shipped, letters.map(failed_order).lift())
}

fn failed_order(letter: DeadLetter) -> Result<FailedOrder, StreamError> {
    let (order, error) = letter.into_item::<Order>()?;
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    Ok(FailedOrder { order, reason, attempts: error.attempts(), time: error.time() })
}

/// Saves failed orders, up to a hundred in a transaction, and none later than a second after
/// its arrival.
pub fn store(
    failed: Stream<FailedOrder>,
    save: impl Fn(&[FailedOrder]) -> Result<(), BoxError> + Send + 'static,
) {
    let batches = failed
        .batch(BatchConfig { max_size: 100, max_latency: Duration::from_secs(1) })
        .named("store");
    let token = batches.token().clone();
    batches.spawn_for_each(move |batch| {
        let saved = batch.map_err(BoxError::from).and_then(|batch| save(&batch));
        // Orders that are neither shipped nor saved would be lost: stop everything, and report
        // the reason.
        saved.unwrap_or_else(|error| token.cancel_because(error));
    });
}
// [/pattern]

/// The table of failed orders, which outlives the program.
pub struct Store {
    database: Mutex<Connection>,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, BoxError> {
        let database = Connection::open(path)?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS failed (
                 id      INTEGER PRIMARY KEY,
                 city    TEXT NOT NULL,
                 parcels INTEGER NOT NULL,
                 reason  TEXT NOT NULL,
                 tries   INTEGER NOT NULL,
                 time    INTEGER NOT NULL -- seconds since 1970
             ) STRICT",
        )?;
        Ok(Self { database: Mutex::new(database) })
    }

    /// Saves all or none. An order that is already there has failed again.
    pub fn save(&self, failed: &[FailedOrder]) -> Result<(), BoxError> {
        let mut database = self.database.lock();
        let transaction = database.transaction()?;
        {
            let mut insert = transaction.prepare(
                "INSERT INTO failed VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, tries = tries + excluded.tries, time = excluded.time",
            )?;
            for FailedOrder { order, reason, attempts, time } in failed {
                let seconds = time.duration_since(UNIX_EPOCH)?.as_secs() as i64;
                insert.execute(params![
                    order.id,
                    order.city,
                    order.parcels,
                    reason,
                    attempts,
                    seconds
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The orders that wait, the oldest first. They stay until they are [removed](Self::remove).
    pub fn waiting(&self) -> Result<Vec<Order>, BoxError> {
        let database = self.database.lock();
        let mut select =
            database.prepare("SELECT id, city, parcels FROM failed ORDER BY time, id")?;
        let orders = select.query_map([], |row| {
            Ok(Order { id: row.get(0)?, city: row.get(1)?, parcels: row.get(2)? })
        })?;
        Ok(orders.collect::<Result<_, _>>()?)
    }

    pub fn remove(&self, order: u32) -> Result<(), BoxError> {
        self.database.lock().execute("DELETE FROM failed WHERE id = ?", [order])?;
        Ok(())
    }

    /// The number of waiting orders by reason, and the maximum number of attempts.
    pub fn reasons(&self) -> Result<Vec<(String, u32, u32)>, BoxError> {
        let database = self.database.lock();
        let mut select = database
            .prepare("SELECT reason, count(*), max(tries) FROM failed GROUP BY reason ORDER BY 2 DESC, 1")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The depots, some of them closed.
pub fn depots(
    closed: &[&str],
) -> impl Fn(&CancelToken, &Order) -> Result<Shipped, ShippingError> + use<> {
    let closed: HashSet<String> = closed.iter().map(|&city| city.to_owned()).collect();
    move |_, order| match order {
        Order { parcels: 0, .. } => Err(ShippingError::Empty),
        Order { city, .. } if closed.contains(city) => Err(ShippingError::Closed(city.clone())),
        Order { id, .. } => Ok(Shipped { order: *id }),
    }
}

/// Ships orders. Failed orders are in the store afterwards, shipped ones are not. Returns the ids of shipped orders.
pub fn day(
    orders: Vec<Order>,
    closed: &[&str],
    kept: &Arc<Store>,
) -> Result<Vec<u32>, BoxError> {
    let failures = Arc::clone(kept);
    let mut ids = Vec::new();
    let (read, report) = Pipeline::run("shipping", |pipeline| {
        let (shipped, failed) = ship(Stream::from_iter(pipeline, orders), depots(closed));
        store(failed, move |batch| failures.save(batch));
        shipped.named("shipped").try_for_each(|shipped| {
            ids.push(shipped.order);
            // Only now: if the program dies before this, the order is shipped again.
            kept.remove(shipped.order)
        })
    });
    read?;
    if report.is_complete() { Ok(ids) } else { Err(format!("{report}").into()) }
}

fn main() -> ExitCode {
    common::run("Dead letters: three days of shipping", three_days)
}

fn three_days(page: &Page) -> Result<(), BoxError> {
    const CITIES: [&str; 5] = ["Basel", "Bern", "Genf", "Lugano", "Zug"];
    let mut data = Data::seeded(9);
    let order =
        |id| Order { id, city: data.pick(&CITIES).to_string(), parcels: data.between(0..=40) };
    let orders: Vec<Order> = (0..2_000).map(order).collect();
    let folder = tempfile::tempdir()?;
    let store = Arc::new(Store::open(&folder.path().join("failed.sqlite"))?);

    let mut shipped = Vec::new();
    let days = [
        ("first day", vec!["Bern", "Zug"]),
        ("Bern is open again", vec!["Zug"]),
        ("all are open", vec![]),
    ];
    let mut next = orders.clone();
    for (name, closed) in days {
        let came = next.len();
        let done = day(next, &closed, &store)?;
        next = store.waiting()?;
        page.say(format_args!(
            "\n{name}: {came} orders, {} shipped, {} wait\n",
            done.len(),
            next.len()
        ));
        page.check(
            format_args!("{name}: each order was either shipped or is in the store"),
            done.len() + next.len() == came,
        );
        shipped.extend(done);
        let rows = store.reasons()?.into_iter().map(|(reason, count, tries)| {
            [reason, count.to_string(), tries.to_string(), bar(f64::from(count), 450.0, 30)]
        });
        page.table(&["reason", "orders", "tries", ""], rows);
    }

    page.say("");
    let of_shipped: HashSet<u32> = shipped.iter().copied().collect();
    page.check_eq("no order was shipped twice", of_shipped.len(), shipped.len());
    let left: HashSet<u32> = next.iter().map(|order| order.id).collect();
    let balanced =
        orders.iter().all(|order| of_shipped.contains(&order.id) != left.contains(&order.id));
    page.check("all orders are accounted for after three days", balanced);
    page.check(
        "orders that can never be shipped are left for a person",
        next.iter().all(|order| order.parcels == 0),
    );
    page.check(
        "and were tried each day",
        store.reasons()?.iter().all(|(_, _, tries)| *tries == 3),
    );
    Ok(())
}
