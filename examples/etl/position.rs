//! How far a job has come: stored in the transaction that stores the rows, so that `--resume` continues behind it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use streamz::{BoxError, Result};

use crate::fingerprint::{Fingerprint, Source};

/// The position of a job in its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The line of the last row that is stored, in whatever table; 0 before the first. All rows before it are stored too, or
    /// are cancelled flights.
    pub(crate) line: u64,
    /// How many rows the input has. Known when the job is complete.
    pub(crate) rows: Option<u64>,
    pub(crate) input: Fingerprint,
}

/// What an earlier run has left in a database.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) position: Position,
    pub(crate) loaded: u64,
    pub(crate) failed: u64,
}

impl Earlier {
    /// How many bytes of an input to read, to compare it with that of the earlier run: one more if that was read to its end,
    /// to see whether it has grown.
    pub(crate) fn head(&self) -> usize {
        self.position.input.head + usize::from(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.position.rows.is_some()
    }

    /// Refuses an input that is not the one of the earlier run. Of the input, at least [`head`](Self::head) bytes have been
    /// read, unless it has fewer.
    pub(crate) fn check_input(&self, source: &Source, database: &Path) -> Result<(), BoxError> {
        let (first_input, database) = (&self.position.input, database.display());
        first_input.compare(source, self.is_complete()).map_err(|difference| {
            let (expected, found) = (&first_input.name, source.name());
            let refusal = if expected == found {
                format!("{found} has changed since it was first loaded into database {database}: {difference}")
            } else {
                format!("database {database} is loaded from {expected}, and {found} is a different input: {difference}")
            };
            refusal.into()
        })
    }
}
