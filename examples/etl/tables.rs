//! The lookup tables, and what they add to a flight.

use std::collections::HashMap;
use std::path::Path;

use streamz::{BoxError, Result};

use crate::args::failure;
use crate::columns::{self, HeaderError};
use crate::flight::{Flight, Reason, excerpt};
use crate::input;

#[derive(Debug)]
pub(crate) struct Airline {
    pub(crate) name: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Airport {
    pub(crate) name: Box<str>,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
}

/// Airlines and airports by their codes. They stay until the program ends, so a row can refer to them from any thread
/// without a count that all threads would have to change.
pub(crate) struct Tables {
    airlines: HashMap<Box<str>, &'static Airline>,
    airports: HashMap<Box<str>, &'static Airport>,
}

/// A flight with all that is loaded of it.
///
/// It owns what it holds, in one piece and side by side in the batch: rows that point to what other threads have made and
/// must be freed by the thread that loads cost that thread, which is the bottleneck, much of its time.
#[derive(Debug)]
pub(crate) struct Enriched {
    pub(crate) line: u64,
    pub(crate) flight: Flight,
    pub(crate) airline: Option<&'static Airline>,
    pub(crate) origin: Option<&'static Airport>,
    pub(crate) dest: Option<&'static Airport>,
}

impl Tables {
    pub(crate) fn read(airlines: &Path, airports: &Path) -> Result<Self, BoxError> {
        let airlines =
            read(airlines, ["carrier", "name"], |[_, name]| Ok(Airline { name: name.into() }))?;
        let airports = read(airports, ["faa", "name", "lat", "lon"], |[_, name, lat, lon]| {
            Ok(Airport {
                name: name.into(),
                lat: degrees("lat", lat)?,
                lon: degrees("lon", lon)?,
            })
        })?;
        Ok(Self { airlines, airports })
    }

    /// Looks up what the codes of a flight stand for. A code that is not available stays without an answer; one that is
    /// not known is a failure.
    pub(crate) fn enrich(&self, line: u64, flight: Flight) -> Result<Enriched, Reason> {
        let airline = match &flight.carrier {
            None => None,
            Some(code) => match self.airlines.get(code.as_str()) {
                None => return Err(Reason::UnknownAirline(excerpt(code))),
                Some(airline) => Some(*airline),
            },
        };
        Ok(Enriched {
            airline,
            origin: self.airport("origin", flight.origin.as_deref())?,
            dest: self.airport("dest", flight.dest.as_deref())?,
            line,
            flight,
        })
    }

    fn airport(
        &self,
        column: &'static str,
        code: Option<&str>,
    ) -> Result<Option<&'static Airport>, Reason> {
        let Some(code) = code else { return Ok(None) };
        let unknown = || Reason::UnknownAirport { column, code: excerpt(code) };
        self.airports.get(code).copied().map(Some).ok_or_else(unknown)
    }
}

/// Reads a table whose first column is the key.
fn read<T: 'static, const N: usize>(
    path: &Path,
    columns: [&'static str; N],
    entry: impl Fn([&str; N]) -> Result<T, String>,
) -> Result<HashMap<Box<str>, &'static T>, BoxError> {
    let cannot_read = || failure("cannot read", path);
    let mut reader = csv::Reader::from_reader(input::open_table(path)?);
    let header = reader.headers().map_err(cannot_read())?;
    let places =
        columns::locate(&header.iter().collect::<Vec<_>>(), &columns).map_err(|error| {
            let error = if error == HeaderError::NoneFound {
                HeaderError::Missing(columns.to_vec())
            } else {
                error
            };
            format!("cannot use {}: {error}", path.display())
        })?;
    let mut table = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(cannot_read())?;
        // Each record has as many fields as the header.
        let fields = places.map(|place| record.get(place).unwrap_or_default());
        let entry = entry(fields).map_err(|reason| {
            let line = record.position().map_or(0, csv::Position::line);
            format!("cannot read {}: line {line}: {reason}", path.display())
        })?;
        table.insert(fields[0].into(), &*Box::leak(Box::new(entry)));
    }
    Ok(table)
}

fn degrees(column: &str, value: &str) -> Result<f64, String> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("not a number: `{column}` is {:?}", excerpt(value)))
}
