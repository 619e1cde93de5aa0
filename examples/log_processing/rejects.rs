//! Malformed lines, stored in a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use streamz::{BoxError, Result, StreamError};

use crate::args::failure;
use crate::lines::Line;
use crate::output::is_removed;
use crate::record::Reason;

/// The number of lines shown in the report.
const SHOWN: usize = 3;

/// The number of kinds of reasons that are distinguished.
const SORTS: usize = 20;

/// The file for malformed lines, if requested, and their number.
pub(crate) struct Rejects {
    file: Option<(File, PathBuf)>,
    names: Vec<String>,
    buffer: Vec<u8>,
    pub(crate) count: u64,
    /// By the kind of reason.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// The first ones: the position, and the problem.
    pub(crate) first: Vec<(String, String)>,
}

/// One line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    at: &'a str,
    reason: &'a str,
    /// Invalid UTF-8 in it is replaced, because JSON cannot represent it.
    raw: &'a str,
}

impl Rejects {
    pub(crate) fn new(file: Option<(File, PathBuf)>, names: Vec<String>) -> Self {
        let (reasons, first) = (BTreeMap::new(), Vec::new());
        Self { file, names, buffer: Vec::new(), count: 0, reasons, first }
    }

    /// Adds a line, and counts it once it is written. Each is written at once, for users who follow the file.
    pub(crate) fn add(&mut self, line: &Line, reason: &Reason) -> Result<(), BoxError> {
        let at = line.at.describe(&self.names);
        let text = reason.to_string();
        if let Some((file, path)) = &mut self.file {
            self.buffer.clear();
            let raw = String::from_utf8_lossy(&line.bytes);
            serde_json::to_writer(
                &mut self.buffer,
                &Entry { at: &at, reason: &text, raw: &raw },
            )?;
            self.buffer.push(b'\n');
            file.write_all(&self.buffer)
                .map_err(failure("cannot write to rejects file", path))?;
        }
        self.count += 1;
        let sort = text.split(": `").next().unwrap_or_default();
        let sort = if matches!(reason, Reason::Json(_)) { "not JSON" } else { sort };
        let room = self.reasons.len() < SORTS || self.reasons.contains_key(sort);
        *self
            .reasons
            .entry(if room { sort } else { "other reasons" }.to_owned())
            .or_default() += 1;
        if self.first.len() < SHOWN {
            self.first.push((at, text));
        }
        Ok(())
    }

    /// What is wrong if the file has been removed, and the lines in it with it.
    pub(crate) fn loss(&self) -> Option<String> {
        let (file, path) = self.file.as_ref().filter(|_| self.count > 0)?;
        is_removed(file, path).then(|| {
            format!(
                "cannot write to rejects file {}: it has been removed or replaced",
                path.display()
            )
        })
    }

    /// Adds the line that an error item carries.
    pub(crate) fn add_error(&mut self, error: &StreamError) -> Result<(), BoxError> {
        let reason = error.downcast_ref::<Reason>();
        let added =
            reason.and_then(|reason| error.with_item_ref(|line: &Line| self.add(line, reason)));
        // An error that is not caused by a line is a bug of the program.
        added.unwrap_or_else(|| Err(describe(error).into()))
    }
}

/// An error and its causes.
pub(crate) fn describe(error: &StreamError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
