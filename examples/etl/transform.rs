//! From rows to what is loaded of them, or why they fail.

use std::sync::Arc;

use streamz::{Line, Result, StreamError};

use crate::counts::Counts;
use crate::dead_letters::describe;
use crate::flight::{FlightParser, Layout, Reason};
use crate::lines::Chunk;
use crate::tables::{Enriched, Tables};

/// What became of the rows of consecutive lines. Cancelled flights have been dropped.
#[derive(Debug)]
pub(crate) struct Transformed {
    pub(crate) rows: Vec<Enriched>,
    pub(crate) failed: Vec<Failed>,
    /// The number of the last line of them; 0 if all flights were cancelled.
    pub(crate) line: u64,
}

/// A row that cannot be loaded. The line goes along, so that it can be corrected and loaded again.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) line: Line,
    pub(crate) stage: &'static str,
    pub(crate) reason: Reason,
}

/// Parses and enriches rows. It keeps the buffers of its parser.
pub(crate) struct Transform {
    parser: FlightParser,
    tables: Arc<Tables>,
    counts: Arc<Counts>,
}

impl Transform {
    pub(crate) fn new(layout: Layout, tables: &Arc<Tables>, counts: &Arc<Counts>) -> Self {
        Self {
            parser: FlightParser::new(layout),
            tables: Arc::clone(tables),
            counts: Arc::clone(counts),
        }
    }

    /// What is loaded of a row: nothing of a cancelled flight, which is counted.
    pub(crate) fn row(&mut self, line: &Line) -> Result<Option<Enriched>, Failed> {
        let failed = |stage| move |reason| Failed { line: line.clone(), stage, reason };
        let flight = self.parser.parse(line).map_err(failed("parse"))?;
        if flight.is_cancelled() {
            self.counts.cancelled_flights.add(1);
            return Ok(None);
        }
        self.tables.enrich(line.number, flight).map(Some).map_err(failed("enrich"))
    }

    pub(crate) fn rows(&mut self, lines: &[Line]) -> Transformed {
        let mut rows = Vec::with_capacity(lines.len());
        let mut failed = Vec::new();
        for line in lines {
            match self.row(line) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => {}
                Err(row) => failed.push(row),
            }
        }
        let loaded = rows.last().map_or(0, |row: &Enriched| row.line);
        let line = failed.last().map_or(loaded, |row: &Failed| row.line.number.max(loaded));
        Transformed { rows, failed, line }
    }
}

impl Transformed {
    /// What to do with rows on which a stage failed as a whole, on a panic, say: all of them fail. `None` if the error carries
    /// no rows, which is a fault of the job.
    pub(crate) fn recover(error: &StreamError) -> Option<Self> {
        let reason = Reason::Unforeseen {
            category: error.kind().to_string().into(),
            message: describe(error).into(),
        };
        let failed = |lines: &Vec<Line>| {
            let fail = |line: &Line| Failed {
                line: line.clone(),
                stage: "transform",
                reason: reason.clone(),
            };
            Self {
                rows: Vec::new(),
                failed: lines.iter().map(fail).collect(),
                line: last(lines),
            }
        };
        error.with_item_ref(|chunk: &Chunk| chunk.as_ref().ok().map(failed)).flatten()
    }
}

fn last(lines: &[Line]) -> u64 {
    lines.last().map_or(0, |line| line.number)
}
