//! The messages to the user.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use serde::Serialize;
use streamz::{BoxError, Report, Result};

use crate::Ended;
use crate::args::Places;
use crate::counts::Totals;
use crate::dead_letters::Reasons;

pub(crate) struct Summary<'a> {
    pub(crate) totals: Totals,
    pub(crate) ended: &'a Ended,
    pub(crate) places: &'a Places,
    /// What earlier runs have done; this one has continued.
    pub(crate) resumed: Option<Resumed>,
    pub(crate) reasons: &'a Reasons,
    pub(crate) elapsed: Duration,
}

/// Where a run has continued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed {
    /// The last line that was loaded before, and how many rows there are up to it.
    pub(crate) line: u64,
    pub(crate) rows: u64,
    pub(crate) was_complete: bool,
}

#[derive(Serialize)]
struct Json {
    read: u64,
    loaded: u64,
    /// Flights, not rows that were lost to an interruption.
    cancelled_flights: u64,
    failed: u64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    abandoned: Option<u64>,
    /// The line that a resumed run continues behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_after: Option<u64>,
}

impl Summary<'_> {
    /// Whether all there was has been read and dealt with.
    pub(crate) fn is_complete(&self) -> bool {
        self.totals.at_end && !self.ended.was_cut()
    }

    /// Rows that were read and given up.
    fn abandoned(&self) -> Option<u64> {
        self.ended.was_cut().then(|| self.totals.read.saturating_sub(self.totals.settled()))
    }

    /// Rows that were lost or counted twice. There are none.
    pub(crate) fn imbalance(&self) -> Option<String> {
        let Totals { read, .. } = self.totals;
        let settled = self.totals.settled().saturating_add(self.abandoned().unwrap_or(0));
        (settled != read).then(|| {
            format!(
                "a fault in this program: {read} rows were read, {settled} are accounted for"
            )
        })
    }

    /// What to say if every row that should have been loaded failed: the input is likely to be another one than meant.
    pub(crate) fn all_failed(&self) -> Option<String> {
        let Totals { loaded, failed, .. } = self.totals;
        let letters = self.places.dead_letters.display();
        (self.is_complete() && loaded == 0 && failed > 0).then(|| {
            format!("no row was loaded: all {failed} failed; the reasons are in {letters}")
        })
    }

    pub(crate) fn print_json(&self) -> Result<(), BoxError> {
        let Totals { read, loaded, cancelled_flights, failed, .. } = self.totals;
        let complete = self.is_complete();
        let (abandoned, resumed_after) =
            (self.abandoned(), self.resumed.map(|resumed| resumed.line));
        let json = Json {
            read,
            loaded,
            cancelled_flights,
            failed,
            complete,
            abandoned,
            resumed_after,
        };
        print(&serde_json::to_string(&json)?)
    }

    pub(crate) fn print_picture(&self) -> Result<(), BoxError> {
        print(self.ended.report.as_ref().map(Report::to_mermaid).unwrap_or_default().trim_end())
    }

    pub(crate) fn print(&self) -> Result<(), BoxError> {
        print(&self.to_string())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { totals, ended, places, resumed, reasons, elapsed } = self;
        writeln!(f, "database      {}", places.database.display())?;
        writeln!(f, "dead letters  {}", places.dead_letters.display())?;
        match resumed {
            Some(resumed) if resumed.was_complete => {
                writeln!(f, "complete already: nothing was left to do")?
            }
            Some(resumed) => {
                writeln!(f, "resumed after line {}; the totals are of all runs", resumed.line)?
            }
            None => {}
        }
        writeln!(f)?;
        writeln!(f, "read               {:>9}", totals.read)?;
        writeln!(f, "loaded             {:>9}", totals.loaded)?;
        writeln!(f, "cancelled flights  {:>9}", totals.cancelled_flights)?;
        writeln!(f, "failed             {:>9}", totals.failed)?;
        for (reason, count) in *reasons {
            writeln!(f, "  {count:>7} {reason}")?;
        }
        if let Some(abandoned) = self.abandoned() {
            writeln!(f, "abandoned          {abandoned:>9}")?;
        }
        if !self.is_complete() {
            let why = match self.ended {
                Ended { fault: Some(_), .. } => "stopped by an error",
                Ended { aborted: true, .. } => "aborted",
                _ => "interrupted, what was read is loaded",
            };
            writeln!(f, "not complete: {why}")?;
        }
        let rows = totals.read - resumed.map_or(0, |resumed| resumed.rows);
        let rate = rows as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        write!(f, "\n{:.3} s, {rate:.0} rows/s", elapsed.as_secs_f64())?;
        if let Some(report) = &ended.report {
            write!(f, "\n\n{report}")?;
        }
        Ok(())
    }
}

/// Prints to standard output. A closed output is not a failure: the work has been done.
fn print(text: &str) -> Result<(), BoxError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        _ => Ok(()),
    }
}

/// Prints a line on standard error. A failure of that cannot be reported anywhere, and is ignored.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "etl: {text}");
}

pub(crate) fn complain(error: &BoxError) {
    note(&format!("error: {error}"));
}
