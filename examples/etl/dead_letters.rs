//! The file for rows that could not be loaded.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use streamz::{BoxError, Result, StreamError};

use crate::args::failure;
use crate::database::Database;
use crate::transform::Failed;

/// How many rows failed, by the sort of reason.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// A row that could not be loaded.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) line: u64,
    /// What the file says of it.
    pub(crate) json: String,
    /// The sort of reason.
    pub(crate) category: Box<str>,
}

/// The file. It shows a row as soon as it has failed; the database stores it too, together with the rows around it. So
/// after a crash the file may hold rows that the database does not have yet: it is [restored](Self::restore) then.
pub(crate) struct DeadLetters {
    file: File,
    path: PathBuf,
}

/// One line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    line: u64,
    stage: &'a str,
    reason: &'a str,
    /// Bytes that are not UTF-8 are replaced, because JSON cannot hold them.
    raw: &'a str,
}

impl DeadLetters {
    /// Starts with an empty file.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned() }
    }

    /// Writes the rows that are in the database already.
    pub(crate) fn restore(&mut self, database: &Database) -> Result<(), BoxError> {
        let cannot_write = || failure("cannot write to dead-letter file", &self.path);
        let mut file = BufWriter::new(&self.file);
        database.for_each_letter(|json| writeln!(file, "{json}").map_err(cannot_write()))?;
        file.flush().map_err(cannot_write())
    }

    /// Writes a row. At once: a row that fails is to be seen when it fails, and there should not be many.
    pub(crate) fn write(&mut self, failed: &Failed) -> Result<Letter, BoxError> {
        let Failed { line, stage, reason } = failed;
        let raw = String::from_utf8_lossy(&line.bytes);
        let entry = Entry { line: line.number, stage, reason: &reason.to_string(), raw: &raw };
        let mut json = serde_json::to_string(&entry)?;
        json.push('\n');
        self.file
            .write_all(json.as_bytes())
            .map_err(failure("cannot write to dead-letter file", &self.path))?;
        json.pop();
        Ok(Letter { line: line.number, json, category: reason.category().into() })
    }
}

/// An error and what it came from.
pub(crate) fn describe(error: &StreamError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
