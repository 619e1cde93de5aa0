//! Switch: each log entry takes one of three routes, and the results form one stream.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, RouteStats};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
    Fatal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: u32,
    pub level: Level,
    pub address: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Alerted,
    Analyzed,
    Logged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    pub entry: Entry,
    pub action: Action,
}

/// The receivers.
pub trait Services: Send + Sync + 'static {
    fn alert(&self, entry: &Entry) -> Result<(), BoxError>;
    fn analyze(&self, entry: &Entry) -> Result<(), BoxError>;
}

// [pattern]
fn is_critical(entry: &Entry) -> bool {
    matches!(entry.level, Level::Error | Level::Fatal)
}

fn is_about_security(entry: &Entry) -> bool {
    ["unauthorized", "authentication failed"].iter().any(|text| entry.message.contains(text))
}

/// Sends each entry to the first case that matches. A critical entry about security raises an
/// alert *and* is analyzed.
pub fn process<S: Services>(
    logs: Stream<Entry>,
    services: &Arc<S>,
) -> (Stream<Processed>, RouteStats) {
    let [on_call, guard] = [(); 2].map(|()| Arc::clone(services));
    let alert = AsyncMapper::new(move |_: &CancelToken, entry: &Entry| {
        on_call.alert(entry)?;
        if is_about_security(entry) {
            on_call.analyze(entry)?;
        }
        streamz::ok(Processed { entry: entry.clone(), action: Action::Alerted })
    });
    let analyze = AsyncMapper::new(move |_: &CancelToken, entry: &Entry| {
        guard.analyze(entry)?;
        streamz::ok(Processed { entry: entry.clone(), action: Action::Analyzed })
    });
    let switch = Switch::new()
        .case("critical", is_critical, alert.with_workers(10).with_name("alert"))
        .case("security", is_about_security, analyze.with_workers(5).with_name("analyze"))
        .with_default(Mapper::new(|entry| Processed { entry, action: Action::Logged }))
        .with_name("log-router");
    (logs.through(&switch), switch.stats())
}
// [/pattern]

/// Records the alerts, and counts rejections by address.
#[derive(Default)]
struct Office {
    alerts: Mutex<Vec<Entry>>,
    refused: Mutex<BTreeMap<String, u32>>,
}

impl Services for Office {
    fn alert(&self, entry: &Entry) -> Result<(), BoxError> {
        self.alerts.lock().push(entry.clone());
        Ok(())
    }

    fn analyze(&self, entry: &Entry) -> Result<(), BoxError> {
        *self.refused.lock().entry(entry.address.clone()).or_default() += 1;
        Ok(())
    }
}

/// The log entries of a quiet day, on which one address tries 300 passwords.
fn entries(data: &mut Data) -> Vec<Entry> {
    let mut entry = |id| {
        let (level, message) = match data.between(..1_000) {
            0 => (Level::Fatal, "out of memory"),
            1..=4 => (Level::Error, "database does not answer"),
            5..=6 => (Level::Error, "unauthorized change of a role"),
            7..=16 => (Level::Warn, "authentication failed for a user"),
            17..=60 => (Level::Warn, "slow query"),
            _ => (Level::Info, "request served"),
        };
        let address = format!("10.0.0.{}", data.between(1..50));
        Entry { id, level, address, message: message.to_owned() }
    };
    let mut entries: Vec<Entry> = (0..20_000).map(&mut entry).collect();
    for entry in entries.iter_mut().skip(7_000).step_by(3).take(300) {
        (entry.level, entry.address) = (Level::Warn, "203.0.113.66".to_owned());
        "authentication failed for root".clone_into(&mut entry.message);
    }
    entries
}

fn main() -> ExitCode {
    common::run("Switch: each log entry takes one of three routes", a_day_of_logs)
}

fn a_day_of_logs(page: &Page) -> Result<(), BoxError> {
    let entries = entries(&mut Data::seeded(12));
    let office = Arc::new(Office::default());

    let pipeline = Pipeline::new("logs");
    let (processed, stats) = process(Stream::from_iter(&pipeline, entries.clone()), &office);
    let processed = processed.collect::<Vec<_>>()?;
    let report = pipeline.join();

    page.say("");
    page.table(
        &["case", "entries", "of all", ""],
        stats.names().map(|name| {
            let share = format!("{:.2}%", stats.match_rate(name) * 100.0);
            [
                name.to_owned(),
                stats.items(name).to_string(),
                share,
                bar(stats.match_rate(name), 1.0, 40),
            ]
        }),
    );
    let (alerts, refused) = (office.alerts.lock(), office.refused.lock());
    let mut suspicious: Vec<(&String, &u32)> = refused.iter().collect();
    suspicious.sort_by_key(|&(_, times)| std::cmp::Reverse(times));
    page.say("\nRejected most often:\n");
    let most = f64::from(*suspicious.first().map_or(&1, |(_, times)| *times));
    page.table(
        &["address", "times", ""],
        suspicious.iter().take(4).map(|&(address, &times)| {
            [address.clone(), times.to_string(), bar(times.into(), most, 40)]
        }),
    );
    page.say("");

    let with = |action| {
        let mut ids: Vec<u32> =
            processed.iter().filter(|it| it.action == action).map(|it| it.entry.id).collect();
        let in_order = ids.is_sorted();
        ids.sort_unstable();
        (in_order, ids)
    };
    let those = |is: &dyn Fn(&Entry) -> bool| {
        (true, entries.iter().filter(|it| is(it)).map(|it| it.id).collect())
    };
    page.check_eq("every entry was dealt with in one way", processed.len(), entries.len());
    page.check_eq(
        "what is critical was alerted, in order",
        with(Action::Alerted),
        those(&is_critical),
    );
    page.check_eq(
        "security entries that are not critical were analyzed, in order",
        with(Action::Analyzed),
        those(&|it| is_about_security(it) && !is_critical(it)),
    );
    page.check_eq("each alert went out once", alerts.len() as u64, stats.items("critical"));
    let about_security = entries.iter().filter(|it| is_about_security(it)).count();
    page.check_eq(
        "no security entry was missed",
        refused.values().sum::<u32>() as usize,
        about_security,
    );
    page.check(
        "the address with the passwords stands out",
        suspicious[0] == (&"203.0.113.66".to_owned(), &300),
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
