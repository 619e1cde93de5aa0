//! Content routing: each event goes to all receivers that need it: people on call, order processing, analytics.

mod common;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use rusqlite::Connection;
use streamz::prelude::*;
use streamz::{BoxError, RouterOutput};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Error,
    Order,
    View,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: u32,
    pub kind: Kind,
    pub is_urgent: bool,
    pub wants_metrics: bool,
    pub millis: u32,
}

/// The receivers. Calls wait through the token.
pub trait Services: Send + Sync + 'static {
    fn alert(&self, cancel: &CancelToken, event: &Event) -> Result<(), BoxError>;
    fn handle(&self, cancel: &CancelToken, event: &Event) -> Result<(), BoxError>;
    fn record(&self, cancel: &CancelToken, events: &[Event]) -> Result<(), BoxError>;
}

// [pattern]
/// The output of the routes: one type for all, though each does something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Alerted(u32),
    Handled(u32),
    Recorded(Vec<u32>),
}

fn is_critical(event: &Event) -> bool {
    event.is_urgent || event.kind == Kind::Error
}

/// Sends each event to every route that matches it. The routes are `critical`, `normal` and
/// `analytics`.
pub fn route<S: Services>(
    cancel: &CancelToken,
    events: Stream<Event>,
    services: &Arc<S>,
) -> RouterOutput<Done> {
    let [on_call, usual, store] = [(); 3].map(|()| Arc::clone(services));
    let alert = AsyncMapper::new(move |cancel: &CancelToken, event: &Event| {
        on_call.alert(cancel, event).map(|()| Done::Alerted(event.id))
    });
    let handle = AsyncMapper::new(move |cancel: &CancelToken, event: &Event| {
        usual.handle(cancel, event).map(|()| Done::Handled(event.id))
    });
    let record = AsyncMapper::new(move |cancel: &CancelToken, batch: &Vec<Event>| {
        store
            .record(cancel, batch)
            .map(|()| Done::Recorded(batch.iter().map(|event| event.id).collect()))
    });
    // A route may be a whole pipeline, with other types inside.
    let batch =
        Batcher::new(BatchConfig { max_size: 1_000, max_latency: Duration::from_secs(5) });
    let analytics = batch.then(record.with_workers(1).with_name("record"));

    Router::new()
        .all_matches()
        .add_route("critical", is_critical, alert.with_workers(20).with_name("alert"))
        .add_route(
            "normal",
            |event| !is_critical(event),
            handle.with_workers(10).with_name("handle"),
        )
        .add_route("analytics", |event: &Event| event.wants_metrics, analytics)
        // How many events may wait for a route before it blocks the others.
        .with_buffer_size(100)
        .process_to_routes(cancel, events)
}
// [/pattern]

/// Fails to page anyone for every 500th event; stores the metrics in SQLite.
struct Office {
    metrics: Mutex<Connection>,
}

impl Office {
    fn open() -> Result<Self, BoxError> {
        let metrics = Connection::open_in_memory()?;
        metrics.execute_batch(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, kind TEXT, millis INTEGER)",
        )?;
        Ok(Self { metrics: Mutex::new(metrics) })
    }
}

impl Services for Office {
    fn alert(&self, _: &CancelToken, event: &Event) -> Result<(), BoxError> {
        if event.id.is_multiple_of(500) {
            Err("the pager is not answered".into())
        } else {
            Ok(())
        }
    }

    fn handle(&self, _: &CancelToken, _: &Event) -> Result<(), BoxError> {
        Ok(())
    }

    fn record(&self, _: &CancelToken, events: &[Event]) -> Result<(), BoxError> {
        let mut metrics = self.metrics.lock();
        let transaction = metrics.transaction()?;
        for event in events {
            let mut insert =
                transaction.prepare_cached("INSERT INTO metrics VALUES (?, ?, ?)")?;
            insert.execute((event.id, format!("{:?}", event.kind), event.millis))?;
        }
        Ok(transaction.commit()?)
    }
}

fn main() -> ExitCode {
    common::run("Content routing: each event to all receivers that need it", a_day_of_events)
}

fn a_day_of_events(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(6);
    let event = |id| Event {
        id,
        kind: if data.chance(0.02) {
            Kind::Error
        } else {
            *data.pick(&[Kind::Order, Kind::View, Kind::View])
        },
        is_urgent: data.chance(0.01),
        wants_metrics: data.chance(0.3),
        millis: data.between(1..400),
    };
    let events: Vec<Event> = (1..=20_000).map(event).collect();

    let office = Arc::new(Office::open()?);
    let pipeline = Pipeline::new("events");
    let mut routes = route(&pipeline, Stream::from_iter(&pipeline, events.clone()), &office);
    let stats = routes.stats.clone();
    // Three streams are read at the same time: two on threads of the pipeline, one here.
    let readers = ["critical", "analytics"].map(|name| {
        routes.take(name).spawn(|results| {
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            results.for_each(|result| match result {
                Ok(what) => done.push(what),
                Err(error) => {
                    failed.push((error.stage().to_owned(), error.take_item::<Event>()))
                }
            })?;
            streamz::ok((done, failed))
        })
    });
    let handled = routes.take("normal").collect::<Vec<_>>()?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for reader in readers {
        let read = reader.join()?;
        done.extend(read.0);
        failed.extend(read.1);
    }
    let report = pipeline.join();

    let total = stats.total_items();
    page.say("");
    page.table(
        &["route", "events", "of all", ""],
        stats.names().map(|name| {
            let share = format!("{:.1}%", stats.match_rate(name) * 100.0);
            [
                name.to_owned(),
                stats.items(name).to_string(),
                share,
                bar(stats.match_rate(name), 1.0, 40),
            ]
        }),
    );
    let batches: Vec<&Vec<u32>> = done
        .iter()
        .filter_map(|done| if let Done::Recorded(ids) = done { Some(ids) } else { None })
        .collect();
    page.say(format_args!(
        "\n{total} events; metrics were stored in {} transactions:\n",
        batches.len()
    ));
    let metrics = office.metrics.lock();
    let mut select = metrics.prepare(
        "SELECT kind, count(*), avg(millis) FROM metrics GROUP BY kind ORDER BY kind",
    )?;
    let rows = select.query_map((), |row| {
        Ok([
            row.get(0)?,
            row.get::<_, u32>(1)?.to_string(),
            format!("{:.0} ms", row.get::<_, f64>(2)?),
        ])
    })?;
    page.table(&["kind", "events", "mean"], rows.collect::<Result<Vec<[String; 3]>, _>>()?);
    page.say("");

    let ids = |is: fn(&Event) -> bool| {
        events.iter().filter(move |event| is(event)).map(|event| event.id)
    };
    let lost: BTreeSet<u32> =
        failed.iter().filter_map(|(_, event)| Some(event.as_ref()?.id)).collect();
    let alerted = done
        .iter()
        .filter_map(|done| if let Done::Alerted(id) = done { Some(*id) } else { None });
    let handled = handled
        .iter()
        .filter_map(|done| if let Done::Handled(id) = done { Some(*id) } else { None });
    page.check(
        "every critical event was alerted, in order, or failed with the reason",
        alerted.eq(ids(is_critical).filter(|id| !lost.contains(id)))
            && lost.iter().all(|id| id % 500 == 0),
    );
    page.check(
        "exactly the other events were processed normally",
        handled.eq(ids(|event| !is_critical(event))),
    );
    page.check(
        "all events with metrics are recorded, whatever else happens to them",
        batches.into_iter().flatten().copied().eq(ids(|event| event.wants_metrics)),
    );
    page.check_eq("no event was left over", stats.unmatched(), 0);
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
