//! From a line to a flight, or to the reason why it is none.

use std::fmt;

use compact_str::{CompactString, format_compact};
use csv_core::ReadRecordResult;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use streamz::{Line, Result};

use crate::columns::{self, HeaderError};
use crate::lines::MAX_LINE;

/// The columns that a file of flights must have.
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

/// The end of a day, as a time of day.
const MIDNIGHT: i32 = 2400;

/// Represents a missing value, like an empty field.
const NOT_AVAILABLE: &str = "NA";

/// Where the columns stand in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    places: [usize; COLUMNS.len()],
    /// How many fields each row has, with those of other columns.
    width: usize,
}

impl Layout {
    /// Reads a header. Columns that are not known are ignored.
    pub(crate) fn of(header: &[u8]) -> Result<Self, HeaderError> {
        let mut splitter = Splitter::new(header.len() + 1);
        let Ok(width) = splitter.split(header) else { return Err(HeaderError::NoneFound) };
        let names = (0..width)
            .map(|place| String::from_utf8_lossy(splitter.field(place)))
            .collect::<Vec<_>>();
        let names = names.iter().map(AsRef::as_ref).collect::<Vec<_>>();
        Ok(Self { places: columns::locate(&names, &COLUMNS)?, width })
    }
}

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
    #[error("wrong number of fields: {} instead of {expected}", AtMost(*.found, *.expected))]
    FieldCount { found: usize, expected: usize },
    #[error("quote not closed: a field may not contain a line break")]
    OpenQuote,
    #[error("no values: every field is missing")]
    NoValues,
    #[error("not a number: `{column}` is {value:?}")]
    NotANumber { column: &'static str, value: Box<str> },
    #[error("no such date: {0}")]
    NoSuchDate(Box<str>),
    #[error("no such time: `{column}` is {value}")]
    NoSuchTime { column: &'static str, value: i32 },
    #[error(
        "hour and minute do not match: `sched_dep_time` is {sched}, `hour` {hour}, `minute` {minute}"
    )]
    OtherTime { sched: i32, hour: i32, minute: i32 },
    #[error("no offset from UTC: `time_hour` is {0:?}")]
    NoOffset(Box<str>),
    #[error("less than zero: `{column}` is {value}")]
    Negative { column: &'static str, value: i32 },
    #[error("unknown airline: `carrier` is {0:?}")]
    UnknownAirline(Box<str>),
    #[error("unknown airport: `{column}` is {code:?}")]
    UnknownAirport { column: &'static str, code: Box<str> },
    /// A panic, say: told in full.
    #[error("{message}")]
    Unforeseen { category: Box<str>, message: Box<str> },
}

impl Reason {
    /// What rows are counted by.
    pub(crate) fn category(&self) -> &str {
        match self {
            Reason::TooLong => "line too long",
            Reason::NotUtf8 => "not UTF-8",
            Reason::FieldCount { .. } => "wrong number of fields",
            Reason::OpenQuote => "quote not closed",
            Reason::NoValues => "no values",
            Reason::NotANumber { .. } => "not a number",
            Reason::NoSuchDate(_) => "no such date",
            Reason::NoSuchTime { .. } => "no such time",
            Reason::OtherTime { .. } => "hour and minute do not match",
            Reason::NoOffset(_) => "no offset from UTC",
            Reason::Negative { .. } => "less than zero",
            Reason::UnknownAirline(_) => "unknown airline",
            Reason::UnknownAirport { .. } => "unknown airport",
            Reason::Unforeseen { category, .. } => category,
        }
    }
}

/// A number of fields, counted up to one more than there should be.
struct AtMost(usize, usize);

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found, most) = self;
        if found > most { write!(f, "more than {most}") } else { write!(f, "{found}") }
    }
}

/// Splits a line into fields, by the rules of CSV.
///
/// The csv crate reads whole files and does not keep the bytes that a record came from. Its state machine, csv-core, can
/// be given one line at a time, so that the line is still there for the dead letters.
struct Splitter {
    csv: csv_core::Reader,
    text: Vec<u8>,
    /// Where each field ends in the text; one more than there may be.
    ends: Vec<usize>,
}

impl Splitter {
    /// For lines of at most `width` fields.
    fn new(width: usize) -> Self {
        // A carriage return in the middle of a line is not its end.
        let csv =
            csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Self { csv, text: vec![0; MAX_LINE + 1], ends: vec![0; width + 1] }
    }

    /// Splits a line, and counts its fields up to one more than there may be.
    fn split(&mut self, line: &[u8]) -> Result<usize, Reason> {
        self.csv.reset();
        let (result, _, length, count) =
            self.csv.read_record(line, &mut self.text, &mut self.ends);
        if result != ReadRecordResult::InputEmpty || count == self.ends.len() {
            return Ok(self.ends.len());
        }
        // The end of the line ends its last field, unless it stands between quotes.
        let (result, _, _, last) =
            self.csv.read_record(b"\n", &mut self.text[length..], &mut self.ends[count..]);
        if result == ReadRecordResult::InputEmpty {
            Err(Reason::OpenQuote)
        } else {
            Ok(count + last)
        }
    }

    /// A field of the line that was split, unquoted.
    fn field(&self, place: usize) -> &[u8] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.text[start..self.ends[place]]
    }
}

/// The fields of a row, in the order of [`COLUMNS`].
struct Fields<'a> {
    splitter: &'a Splitter,
    layout: &'a Layout,
    next: usize,
    /// Whether any value was there.
    any: bool,
}

impl<'a> Fields<'a> {
    /// The next column and its value; there is one for each column.
    fn available(&mut self) -> Result<(&'static str, Option<&'a str>), Reason> {
        let (column, place) = (COLUMNS[self.next], self.layout.places[self.next]);
        self.next += 1;
        let field =
            std::str::from_utf8(self.splitter.field(place)).map_err(|_| Reason::NotUtf8)?;
        let value = Some(field).filter(|field| !field.is_empty() && *field != NOT_AVAILABLE);
        self.any |= value.is_some();
        Ok((column, value))
    }

    fn number(&mut self) -> Result<Option<i32>, Reason> {
        let (column, value) = self.available()?;
        let not_a_number = |value| Reason::NotANumber { column, value: excerpt(value) };
        value.map(|value| whole(value).ok_or_else(|| not_a_number(value))).transpose()
    }

    fn text(&mut self) -> Result<Option<CompactString>, Reason> {
        Ok(self.available()?.1.map(Into::into))
    }

    /// A moment, in UTC.
    fn moment(&mut self) -> Result<Option<CompactString>, Reason> {
        let (column, value) = self.available()?;
        let Some(value) = value else { return Ok(None) };
        match value.parse::<Timestamp>() {
            // Nearly all are written like this already, and to print one costs as much as to read it.
            Ok(_) if is_plain_utc(value) => Ok(Some(value.into())),
            Ok(moment) => Ok(Some(format_compact!("{moment}"))),
            Err(_) if value.parse::<DateTime>().is_ok() => {
                Err(Reason::NoOffset(excerpt(value)))
            }
            Err(_) => {
                Err(Reason::NoSuchDate(format!("`{column}` is {:?}", excerpt(value)).into()))
            }
        }
    }
}

/// Whether a moment is written like `2013-01-01T10:00:00Z`, which is how it would be printed. A leap second is not.
fn is_plain_utc(moment: &str) -> bool {
    matches!(moment.as_bytes(), [date @ .., b'T', _, _, b':', _, _, b':', b'0'..=b'5', _, b'Z'] if date.len() == 10)
}

/// A whole number. It may be written `517.0`, as tools do that keep a column with missing values as floating point.
fn whole(value: &str) -> Option<i32> {
    let without_fraction = || {
        let (digits, zeros) = value.split_once('.')?;
        (!zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0'))
            .then(|| digits.parse().ok())?
    };
    value.parse().ok().or_else(without_fraction)
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
    layout: Layout,
    splitter: Splitter,
}

impl FlightParser {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, splitter: Splitter::new(layout.width) }
    }

    /// The flight in the line, or why there is none.
    pub(crate) fn parse(&mut self, line: &Line) -> Result<Flight, Reason> {
        if line.is_truncated {
            return Err(Reason::TooLong);
        }
        let (found, expected) = (self.splitter.split(&line.bytes)?, self.layout.width);
        if found != expected {
            // Text of another encoding may well have other separators.
            std::str::from_utf8(&line.bytes).map_err(|_| Reason::NotUtf8)?;
            return Err(Reason::FieldCount { found, expected });
        }
        let mut fields =
            Fields { splitter: &self.splitter, layout: &self.layout, next: 0, any: false };
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
            carrier: fields.text()?,
            flight: fields.number()?,
            tailnum: fields.text()?,
            origin: fields.text()?,
            dest: fields.text()?,
            air_time: fields.number()?,
            distance: fields.number()?,
            hour: fields.number()?,
            minute: fields.number()?,
            time_hour: fields.moment()?,
        };
        if !fields.any {
            // Spreadsheets leave rows of nothing but commas: no cancelled flights.
            return Err(Reason::NoValues);
        }
        flight.check_date()?;
        flight.check_times()?;
        flight.check_amounts()?;
        Ok(flight)
    }
}

impl Flight {
    /// Whether the flight was cancelled: it has no time of departure.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.dep_time.is_none()
    }

    fn check_date(&self) -> Result<(), Reason> {
        let Self { year, month, day, .. } = *self;
        // For a part that is missing, one in which every date exists.
        let narrow = || {
            Some((
                i16::try_from(year.unwrap_or(2000)).ok()?,
                i8::try_from(month.unwrap_or(1)).ok()?,
                i8::try_from(day.unwrap_or(1)).ok()?,
            ))
        };
        match narrow().map(|(year, month, day)| Date::new(year, month, day)) {
            Some(Ok(_)) => Ok(()),
            _ => {
                let part = |part: Option<i32>, width| match part {
                    Some(part) => format!("{part:0width$}"),
                    None => NOT_AVAILABLE.to_owned(),
                };
                let date = [part(year, 4), part(month, 2), part(day, 2)].join("-");
                Err(Reason::NoSuchDate(date.into()))
            }
        }
    }

    /// Each time of day exists; hour and minute are those of the scheduled departure.
    fn check_times(&self) -> Result<(), Reason> {
        let Self { dep_time, sched_dep_time, arr_time, sched_arr_time, hour, minute, .. } =
            *self;
        let is_no_time = |time: i32| !(0..=MIDNIGHT).contains(&time) || time % 100 >= 60;
        let last_hour = if minute == Some(0) { 24 } else { 23 };
        refuse("dep_time", dep_time, is_no_time)?;
        refuse("sched_dep_time", sched_dep_time, is_no_time)?;
        refuse("arr_time", arr_time, is_no_time)?;
        refuse("sched_arr_time", sched_arr_time, is_no_time)?;
        refuse("hour", hour, |hour| !(0..=last_hour).contains(&hour))?;
        refuse("minute", minute, |minute| !(0..60).contains(&minute))?;
        match (sched_dep_time, hour, minute) {
            (Some(sched), Some(hour), Some(minute))
                if (hour * 100 + minute - sched) % MIDNIGHT != 0 =>
            {
                Err(Reason::OtherTime { sched, hour, minute })
            }
            _ => Ok(()),
        }
    }

    fn check_amounts(&self) -> Result<(), Reason> {
        for (column, value) in [("air_time", self.air_time), ("distance", self.distance)] {
            if let Some(value) = value.filter(|value| *value < 0) {
                return Err(Reason::Negative { column, value });
            }
        }
        Ok(())
    }
}

/// Refuses a time, or a part of one, that is there and wrong.
fn refuse(
    column: &'static str,
    value: Option<i32>,
    is_wrong: impl Fn(i32) -> bool,
) -> Result<(), Reason> {
    match value {
        Some(value) if is_wrong(value) => Err(Reason::NoSuchTime { column, value }),
        _ => Ok(()),
    }
}
