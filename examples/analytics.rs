//! Real-time analytics: departures and their mean delay for each hour and airport, by the time at which they happened.

mod common;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use common::{Data, Page, bar};
use flate2::read::GzDecoder;
use jiff::{Timestamp, tz};
use serde::Deserialize;
use streamz::prelude::*;
use streamz::{AggregateWindow, BoxError, DeadLetter, Keyed, folds};

/// A line of the file: the fields of a flight that are needed here. A cancelled flight has no `dep_delay`.
#[derive(Debug, Deserialize)]
struct Flight {
    carrier: String,
    flight: u32,
    origin: String,
    dep_delay: String,
    minute: i64,
    time_hour: String,
}

/// A flight that left.
#[derive(Debug, Clone, PartialEq)]
pub struct Departure {
    pub flight: (String, u32),
    pub origin: String,
    /// The scheduled departure, and the delay in minutes.
    pub planned: SystemTime,
    pub delay: i64,
}

impl Departure {
    /// When it left.
    pub fn time(&self) -> SystemTime {
        let delay = Duration::from_secs(60 * self.delay.unsigned_abs());
        if self.delay < 0 { self.planned - delay } else { self.planned + delay }
    }
}

/// The departures of an hour from an airport: how many, and their mean delay in minutes.
pub type Hour = Keyed<String, AggregateWindow<f64>>;

// [pattern]
const HOUR: Duration = Duration::from_secs(3600);

/// Sums up the departures of each hour and airport. They may be out of order by `lateness`, and
/// duplicated.
pub fn by_hour_and_origin(
    departures: Stream<Departure>,
    lateness: Duration,
) -> (Stream<Hour>, Stream<DeadLetter>) {
    // At-least-once delivery has duplicates. A flight has one departure a day.
    let once =
        Dedupe::new(|departure: &Departure| (departure.flight.clone(), departure.planned))
            .with_max_keys(100_000);
    let by_hour = TumblingWindow::new(HOUR)
        .with_event_time(Departure::time, lateness)
        // If the source goes quiet, open windows are emitted after a while.
        .with_idle_timeout(Duration::from_secs(600))
        .with_key(|departure: &Departure| departure.origin.clone())
        .aggregate_by(folds::average(|departure: &Departure| departure.delay as f64));
    departures.stage("count", |s| s.with(once).with(by_hour)).dead_letters()
}
// [/pattern]

fn main() -> ExitCode {
    common::run("Real-time analytics: departures from New York by the hour", analyse_january)
}

fn analyse_january(page: &Page) -> Result<(), BoxError> {
    let departures = read()?;
    let (hours, late) = analyse(&departures, Duration::from_secs(86_400))?;

    day(page, &hours, "2013-01-31T05:00:00Z".parse()?);
    chart(page, &hours);
    let in_sql = by_sql(&departures)?;
    page.say(format_args!("\n{} departures in {} windows\n", departures.len(), hours.len()));
    page.check("no event was late with an allowed lateness of 24 h", late == 0);
    page.check("SQLite finds the same hours, counts and means", hours == in_sql);

    // The file is sorted by time of day, and lists a flight that left after midnight at the top of its scheduled day. To the
    // windows this is a jump ahead, after which the rest of the day seems to be late.
    let (strict, late) = analyse(&departures, HOUR)?;
    let counted: u64 = strict.values().map(|(count, _)| count).sum();
    page.say(format_args!(
        "With an allowed lateness of 1 h, {late} of them are late and put aside.\n"
    ));
    page.check(
        "late events are not lost",
        counted + late == departures.len() as u64 && late > 0,
    );
    Ok(())
}

/// The departures and the mean delay of each hour and origin.
type Hours = BTreeMap<(Timestamp, String), (u64, f64)>;

/// Runs the pipeline over all departures, some of which are delivered twice. Also returns the number of late events.
fn analyse(departures: &[Departure], lateness: Duration) -> Result<(Hours, u64), BoxError> {
    let mut data = Data::seeded(2);
    let delivered: Vec<_> = departures
        .iter()
        .flat_map(|it| std::iter::repeat_n(it.clone(), if data.chance(0.02) { 2 } else { 1 }))
        .collect();
    let pipeline = Pipeline::new("analytics");
    let (hours, failed) = by_hour_and_origin(Stream::from_iter(&pipeline, delivered), lateness);
    let (sender, late) = std::sync::mpsc::channel();
    failed.spawn_for_each(move |letter| {
        let _ = sender.send(letter.map(|letter| letter.error().kind()));
    });
    let mut all = Hours::new();
    hours.try_for_each(|Keyed { key, window }| {
        // A late item of an emitted window could create a second one; here the watermark prevents it.
        let before = all
            .insert((Timestamp::try_from(window.start)?, key), (window.count, window.result));
        if before.is_none() { Ok::<_, BoxError>(()) } else { Err("an hour came twice".into()) }
    })?;
    pipeline.join();
    let kinds = late.into_iter().collect::<Result<Vec<ErrorKind>, _>>()?;
    if kinds.iter().any(|kind| *kind != ErrorKind::Late) {
        return Err("something else failed than a late item".into());
    }
    Ok((all, kinds.len() as u64))
}

fn read() -> Result<Vec<Departure>, BoxError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-2013-01.csv.gz");
    let file = std::fs::File::open(&path)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let text: Box<dyn Read> = Box::new(GzDecoder::new(BufReader::new(file)));
    let mut departures = Vec::new();
    for flight in csv::Reader::from_reader(text).deserialize() {
        let Flight { carrier, flight, origin, dep_delay, minute, time_hour } = flight?;
        if dep_delay == "NA" {
            continue;
        }
        let planned = SystemTime::try_from(time_hour.parse::<Timestamp>()?)?
            + Duration::from_secs(60 * u64::try_from(minute)?);
        departures.push(Departure {
            flight: (carrier, flight),
            origin,
            planned,
            delay: dep_delay.parse()?,
        });
    }
    Ok(departures)
}

/// The same result, computed by SQLite.
fn by_sql(departures: &[Departure]) -> Result<Hours, BoxError> {
    let mut database = rusqlite::Connection::open_in_memory()?;
    database
        .execute("CREATE TABLE departures (origin TEXT, planned INTEGER, delay INTEGER)", [])?;
    let transaction = database.transaction()?;
    for departure in departures {
        let planned = Timestamp::try_from(departure.planned)?.as_second();
        let mut insert =
            transaction.prepare_cached("INSERT INTO departures VALUES (?, ?, ?)")?;
        insert.execute((&departure.origin, planned, departure.delay))?;
    }
    transaction.commit()?;
    let mut query = database.prepare(
        "SELECT (planned + 60 * delay) / 3600 * 3600 AS hour, origin, count(*), avg(delay)
         FROM departures GROUP BY hour, origin",
    )?;
    let rows = query.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get(3)?))
    })?;
    let hour = |row: rusqlite::Result<(i64, String, i64, f64)>| {
        let (second, origin, count, mean) = row?;
        Ok(((Timestamp::from_second(second)?, origin), (u64::try_from(count)?, mean)))
    };
    rows.map(hour).collect()
}

const AIRPORTS: [&str; 3] = ["EWR", "JFK", "LGA"];

/// Local time in January.
fn local(time: Timestamp) -> jiff::civil::DateTime {
    tz::offset(-5).to_datetime(time)
}

/// A table of the 24 hours from `midnight` on.
fn day(page: &Page, hours: &Hours, midnight: Timestamp) {
    page.say(format_args!(
        "\nDepartures on {} and their mean delay in minutes:\n",
        local(midnight).strftime("%-d %B %Y")
    ));
    let rows = (0..24)
        .map(|hour| midnight + jiff::SignedDuration::from_hours(hour))
        .filter_map(|hour| {
            let found = AIRPORTS.map(|origin| hours.get(&(hour, origin.to_owned())));
            let all = found.iter().flatten().fold((0, 0.0), |(n, sum), (count, mean)| {
                (n + count, sum + *count as f64 * mean)
            });
            let cells = found.iter().flat_map(|found| match found {
                Some((count, mean)) => [count.to_string(), format!("{mean:.1}")],
                None => ["0".to_owned(), String::new()],
            });
            let mean = all.1 / all.0 as f64;
            let cells = std::iter::once(local(hour).strftime("%H:%M").to_string()).chain(cells);
            (all.0 > 0).then(|| cells.chain([bar(mean, 120.0, 24)]).collect::<Vec<_>>())
        });
    page.table(
        &["hour", "EWR", "delay", "JFK", "delay", "LGA", "delay", "of all, to 120"],
        rows,
    );
}

/// The mean delay of each day of the month.
fn chart(page: &Page, hours: &Hours) {
    let mut days: BTreeMap<jiff::civil::Date, (u64, f64)> = BTreeMap::new();
    for ((hour, _), (count, mean)) in hours {
        let day = days.entry(local(*hour).date()).or_default();
        *day = (day.0 + count, day.1 + *count as f64 * mean);
    }
    page.say("\nMean delay of each day in minutes, by the day of departure:\n");
    let means = days.iter().map(|(date, (count, sum))| (date, count, sum / *count as f64));
    page.table(
        &["day", "departures", "delay", ""],
        means.map(|(date, count, mean)| {
            [
                date.strftime("%a %-d %b").to_string(),
                count.to_string(),
                format!("{mean:.1}"),
                bar(mean, 60.0, 40),
            ]
        }),
    );
}
