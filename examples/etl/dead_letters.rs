//! The file for rows that could not be loaded.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use streamz::{BoxError, DeadLetter, Line, Result, StreamError};

use crate::args::failure;
use crate::counts::Counts;
use crate::flight::{Reason, Row};

/// How many rows failed, by the sort of reason.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// The file and what was written to it.
pub(crate) struct DeadLetters {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    counts: Arc<Counts>,
    reasons: Reasons,
}

/// One line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    line: u64,
    stage: &'a str,
    reason: &'a str,
    /// What is not UTF-8 in it is replaced: JSON has no way to say it.
    raw: &'a str,
}

impl DeadLetters {
    pub(crate) fn new(file: File, path: &Path, counts: &Arc<Counts>) -> Self {
        Self { file, path: path.to_owned(), buffer: Vec::new(), counts: Arc::clone(counts), reasons: Reasons::new() }
    }

    /// Adds a row, and counts it once it is written.
    ///
    /// Each is written at once: a row that fails is to be seen when it fails, and there should not be many.
    pub(crate) fn add(&mut self, line: &Line, stage: &str, reason: &str, category: &str) -> Result<(), BoxError> {
        let raw = String::from_utf8_lossy(&line.bytes);
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &Entry { line: line.number, stage, reason, raw: &raw })?;
        self.buffer.push(b'\n');
        self.file.write_all(&self.buffer).map_err(failure("cannot write to dead-letter file", &self.path))?;
        self.counts.failed.add(1);
        match self.reasons.get_mut(category) {
            Some(count) => *count += 1,
            None => drop(self.reasons.insert(category.to_owned(), 1)),
        }
        Ok(())
    }

    /// Adds what a stage of the pipeline has failed on.
    pub(crate) fn add_letter(&mut self, letter: &DeadLetter) -> Result<(), BoxError> {
        let error = letter.error();
        let (reason, category) = match error.downcast_ref::<Reason>() {
            Some(reason) => (reason.to_string(), reason.category().to_owned()),
            // A panic, say: not foreseen, and so told in full.
            None => (describe(error), error.kind().to_string()),
        };
        let mut add = |line: &Line| self.add(line, error.stage(), &reason, &category);
        let added =
            error.with_item_ref(|line: &Line| add(line)).or_else(|| error.with_item_ref(|row: &Row| add(&row.line)));
        // What carries no row is a fault of the job.
        added.unwrap_or_else(|| Err(describe(error).into()))
    }

    pub(crate) fn into_reasons(self) -> Reasons {
        self.reasons
    }
}

/// An error and what it came from.
pub(crate) fn describe(error: &StreamError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
