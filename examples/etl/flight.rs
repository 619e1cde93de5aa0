//! From a line to a flight, or to the reason why it is none.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use csv_core::ReadRecordResult;
use jiff::Timestamp;
use jiff::civil::Date;
use streamz::{Custom, Emit, ErrorKind, Operator, Result, Stage};

use crate::counts::Counts;
use crate::lines::{Line, MAX_LINE};

/// The columns of a file of flights, in their order.
pub(crate) const COLUMNS: [&str; 19] = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
    "time_hour",
];

/// What stands for a value that is not there.
const NOT_AVAILABLE: &str = "NA";

/// A flight as it stands in the file; what is not available is `None`.
///
/// Times of the day are numbers such as 517 for 5:17, and midnight at the end of a day is 2400. They are loaded as they are.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) year: Option<i32>,
    pub(crate) month: Option<i32>,
    pub(crate) day: Option<i32>,
    pub(crate) dep_time: Option<i32>,
    pub(crate) sched_dep_time: Option<i32>,
    pub(crate) dep_delay: Option<i32>,
    pub(crate) arr_time: Option<i32>,
    pub(crate) sched_arr_time: Option<i32>,
    pub(crate) arr_delay: Option<i32>,
    pub(crate) carrier: Option<CompactString>,
    pub(crate) flight: Option<i32>,
    pub(crate) tailnum: Option<CompactString>,
    pub(crate) origin: Option<CompactString>,
    pub(crate) dest: Option<CompactString>,
    pub(crate) air_time: Option<i32>,
    pub(crate) distance: Option<i32>,
    pub(crate) hour: Option<i32>,
    pub(crate) minute: Option<i32>,
    pub(crate) time_hour: Option<CompactString>,
}

/// Why a row cannot be loaded.
///
/// What comes before the colon is the same for all rows with that failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("line too long: more than {MAX_LINE} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("wrong number of fields: {} instead of {}", AtMost(*.0), COLUMNS.len())]
    FieldCount(usize),
    #[error("not a number: `{column}` is {value:?}")]
    NotANumber { column: &'static str, value: Box<str> },
    #[error("no such date: {0}")]
    NoSuchDate(Box<str>),
    #[error("unknown airline: `carrier` is {0:?}")]
    UnknownAirline(Box<str>),
    #[error("unknown airport: `{column}` is {code:?}")]
    UnknownAirport { column: &'static str, code: Box<str> },
}

impl Reason {
    /// What rows are counted by.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Reason::TooLong => "line too long",
            Reason::NotUtf8 => "not UTF-8",
            Reason::FieldCount(_) => "wrong number of fields",
            Reason::NotANumber { .. } => "not a number",
            Reason::NoSuchDate(_) => "no such date",
            Reason::UnknownAirline(_) => "unknown airline",
            Reason::UnknownAirport { .. } => "unknown airport",
        }
    }
}

/// A number of fields, counted up to one more than there should be.
struct AtMost(usize);

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > COLUMNS.len() { write!(f, "more than {}", COLUMNS.len()) } else { write!(f, "{}", self.0) }
    }
}

/// Splits a line into fields, by the rules of CSV.
///
/// The csv crate reads whole files and does not keep the bytes that a record came from. Its state machine, csv-core, can
/// be given one line at a time, so that the line stays at hand for the dead letters.
pub(crate) struct Splitter {
    csv: csv_core::Reader,
    text: Vec<u8>,
    ends: [usize; COLUMNS.len() + 1],
}

impl Splitter {
    pub(crate) fn new() -> Self {
        // The line is all there is: a carriage return in the middle of it is not its end.
        let csv = csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Self { csv, text: vec![0; MAX_LINE + 1], ends: [0; _] }
    }

    /// The fields of a line, unquoted.
    pub(crate) fn split(&mut self, line: &[u8]) -> Result<Fields<'_>, Reason> {
        std::str::from_utf8(line).map_err(|_| Reason::NotUtf8)?;
        self.csv.reset();
        let (result, _, mut length, mut count) = self.csv.read_record(line, &mut self.text, &mut self.ends);
        if result == ReadRecordResult::InputEmpty && count < self.ends.len() {
            // No more input: that ends the last field.
            let (_, _, more, last) = self.csv.read_record(b"", &mut self.text[length..], &mut self.ends[count..]);
            (length, count) = (length + more, count + last);
        }
        if count != COLUMNS.len() {
            return Err(Reason::FieldCount(count));
        }
        // Taking the quotes out of valid text leaves valid text.
        let text = std::str::from_utf8(&self.text[..length]).map_err(|_| Reason::NotUtf8)?;
        Ok(Fields { text, ends: &self.ends, start: 0, next: 0 })
    }
}

/// The fields of a line, one after the other.
pub(crate) struct Fields<'a> {
    text: &'a str,
    ends: &'a [usize],
    start: usize,
    next: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.next == COLUMNS.len() {
            return None;
        }
        let field = &self.text[self.start..self.ends[self.next]];
        (self.start, self.next) = (self.ends[self.next], self.next + 1);
        Some(field)
    }
}

impl<'a> Fields<'a> {
    /// The next field and its column; there is one for each column.
    fn available(&mut self) -> (&'static str, Option<&'a str>) {
        let column = COLUMNS[self.next];
        (column, self.next().filter(|field| *field != NOT_AVAILABLE))
    }

    fn number(&mut self) -> Result<Option<i32>, Reason> {
        let (column, field) = self.available();
        field.map(|field| field.parse().map_err(|_| Reason::NotANumber { column, value: excerpt(field) })).transpose()
    }

    fn text(&mut self) -> Option<CompactString> {
        self.available().1.map(Into::into)
    }

    fn time(&mut self) -> Result<Option<CompactString>, Reason> {
        let (column, field) = self.available();
        match field {
            Some(field) if field.parse::<Timestamp>().is_err() => {
                Err(Reason::NoSuchDate(format!("`{column}` is {:?}", excerpt(field)).into()))
            }
            field => Ok(field.map(Into::into)),
        }
    }
}

/// A value for a message: the whole row is beside it, so a long one may be cut.
pub(crate) fn excerpt(value: &str) -> Box<str> {
    match value.char_indices().nth(40) {
        Some((end, _)) => format!("{}..", &value[..end]).into(),
        None => value.into(),
    }
}

/// Makes flights of lines.
pub(crate) struct FlightParser {
    splitter: Splitter,
}

impl FlightParser {
    pub(crate) fn new() -> Self {
        Self { splitter: Splitter::new() }
    }

    /// The flight in the line, or why there is none.
    pub(crate) fn parse(&mut self, line: &Line) -> Result<Flight, Reason> {
        if line.too_long {
            return Err(Reason::TooLong);
        }
        let mut fields = self.splitter.split(&line.raw)?;
        // Fields are taken in the order in which they are written here, which is that of the columns.
        let flight = Flight {
            year: fields.number()?,
            month: fields.number()?,
            day: fields.number()?,
            dep_time: fields.number()?,
            sched_dep_time: fields.number()?,
            dep_delay: fields.number()?,
            arr_time: fields.number()?,
            sched_arr_time: fields.number()?,
            arr_delay: fields.number()?,
            carrier: fields.text(),
            flight: fields.number()?,
            tailnum: fields.text(),
            origin: fields.text(),
            dest: fields.text(),
            air_time: fields.number()?,
            distance: fields.number()?,
            hour: fields.number()?,
            minute: fields.number()?,
            time_hour: fields.time()?,
        };
        flight.check_date()?;
        Ok(flight)
    }
}

impl Flight {
    /// A flight that did not leave.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.dep_time.is_none()
    }

    fn check_date(&self) -> Result<(), Reason> {
        let (Some(year), Some(month), Some(day)) = (self.year, self.month, self.day) else { return Ok(()) };
        let narrow = || Some((i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?));
        match narrow().map(|(year, month, day)| Date::new(year, month, day)) {
            Some(Ok(_)) => Ok(()),
            _ => Err(Reason::NoSuchDate(format!("{year:04}-{month:02}-{day:02}").into())),
        }
    }
}

/// A flight and the line it comes from: the line goes along, so that a later stage can say which row it failed on.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: Line,
    pub(crate) flight: Flight,
}

/// The stage that parses, and drops the flights that were cancelled.
///
/// An operator of our own rather than a closure: it keeps the buffers of its parser, and passes the line on by value.
pub(crate) fn parse_stage(counts: Arc<Counts>) -> impl Stage<In = Line, Out = Row> {
    Custom::new("parse", move || Parse { parser: FlightParser::new(), counts: Arc::clone(&counts) })
}

struct Parse {
    parser: FlightParser,
    counts: Arc<Counts>,
}

impl Operator for Parse {
    type In = Line;
    type Out = Row;

    fn item(&mut self, line: Line, out: &mut impl Emit<Row>) {
        match self.parser.parse(&line) {
            Ok(flight) if flight.is_cancelled() => {
                self.counts.cancelled.add(1);
                out.filtered(1);
            }
            Ok(flight) => out.emit(Row { line, flight }),
            Err(reason) => out.fail(ErrorKind::Failed, reason, line),
        }
    }
}
