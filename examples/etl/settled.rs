//! Rows that are ready to be stored.

use crate::dead_letters::Letter;
use crate::tables::Enriched;

/// How many of them are stored in one transaction, at most.
pub(crate) const BATCH: usize = 1000;

/// Rows from consecutive lines, whose outcome is known: some will be loaded, the others failed.
///
/// Both are stored in one transaction, in the order of the input. So the last line says how far the job has come.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) rows: Vec<Enriched>,
    pub(crate) letters: Vec<Letter>,
    /// The line of the last row, or 0; all rows before it are stored too, or are cancelled flights.
    pub(crate) line: u64,
}

impl Settled {
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.letters.len()
    }
}
