//! The lookup tables, and what they add to a flight.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use streamz::{BoxError, Result};

use crate::args::failure;
use crate::flight::{Flight, Reason, Row, excerpt};

#[derive(Debug, Deserialize)]
pub(crate) struct Airline {
    carrier: Box<str>,
    pub(crate) name: Box<str>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Airport {
    faa: Box<str>,
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
    pub(crate) line: i64,
    pub(crate) flight: Flight,
    pub(crate) airline: Option<&'static Airline>,
    pub(crate) origin: Option<&'static Airport>,
    pub(crate) dest: Option<&'static Airport>,
}

impl Tables {
    pub(crate) fn read(airlines: &Path, airports: &Path) -> Result<Self, BoxError> {
        let airlines = read(airlines, &["carrier", "name"], |airline: &Airline| airline.carrier.clone())?;
        let airports = read(airports, &["faa", "name", "lat", "lon"], |airport: &Airport| airport.faa.clone())?;
        Ok(Self { airlines, airports })
    }

    /// Looks up what the codes of a flight stand for. A code that is not available stays without an answer; one that is
    /// not known is a failure.
    pub(crate) fn enrich(&self, row: &Row) -> Result<Enriched, Reason> {
        let flight = &row.flight;
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
            line: row.line.number,
            flight: flight.clone(),
        })
    }

    fn airport(&self, column: &'static str, code: Option<&str>) -> Result<Option<&'static Airport>, Reason> {
        let Some(code) = code else { return Ok(None) };
        let unknown = || Reason::UnknownAirport { column, code: excerpt(code) };
        self.airports.get(code).copied().map(Some).ok_or_else(unknown)
    }
}

/// Reads a table, which must have at least the given columns, in any order.
fn read<T: DeserializeOwned + 'static>(
    path: &Path,
    columns: &[&str],
    key: impl Fn(&T) -> Box<str>,
) -> Result<HashMap<Box<str>, &'static T>, BoxError> {
    let mut reader = csv::Reader::from_path(path).map_err(failure("cannot open", path))?;
    let header = reader.headers().map_err(failure("cannot read", path))?;
    if let Some(missing) = columns.iter().find(|column| !header.iter().any(|name| name == **column)) {
        return Err(format!("cannot use {}: it has no column `{missing}`", path.display()).into());
    }
    let mut table = HashMap::new();
    for entry in reader.deserialize() {
        let entry: T = entry.map_err(failure("cannot read", path))?;
        table.insert(key(&entry), &*Box::leak(Box::new(entry)));
    }
    Ok(table)
}
