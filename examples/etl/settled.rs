//! A row that is ready to be stored.

use crate::dead_letters::Letter;
use crate::tables::Enriched;

/// How many of them are stored in one transaction.
pub(crate) const BATCH: usize = 1000;

/// A row whose outcome is known: one that will be loaded, or one that failed.
///
/// Both travel in one stream and are stored in one transaction, in the order of the input. So the line of the last one in a
/// batch says how far the job has come.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are rows, which lie side by side in a batch")]
pub(crate) enum Settled {
    Row(Enriched),
    Letter(Letter),
}

impl Settled {
    pub(crate) fn line(&self) -> u64 {
        match self {
            Self::Row(row) => row.line,
            Self::Letter(letter) => letter.line,
        }
    }
}
