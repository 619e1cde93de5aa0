//! The place that every record reaches: counting and watching.

use std::sync::Arc;

use parking_lot::Mutex;
use streamz::{Emit, Operator};

use crate::args::Args;
use crate::record::Record;
use crate::tables::Tables;
use crate::watch::{Alert, Watch};

/// Counts requests and looks for attacks.
pub(crate) struct Examiner {
    pub(crate) tables: Tables,
    pub(crate) watch: Watch,
}

impl Examiner {
    pub(crate) fn new(args: &Args) -> Self {
        Self { tables: Tables::new(args.max_keys as usize), watch: Watch::new(args) }
    }

    pub(crate) fn examine(&mut self, record: &Record, found: impl FnMut(Alert)) {
        let (client, minutes) = self.tables.add(record);
        self.watch.see(record, client, minutes, found);
    }
}

/// As a step of a pipeline: records in, alerts out. The tables can be read when it has ended.
///
/// The lock is never waited for. It is there because the tables are read on another thread than they are filled.
pub(crate) struct Examine(pub(crate) Arc<Mutex<Examiner>>);

impl Operator for Examine {
    type In = Record;
    type Out = Alert;

    fn item(&mut self, record: Record, out: &mut impl Emit<Alert>) {
        let mut alerts = 0;
        self.0.lock().examine(&record, |alert| {
            alerts += 1;
            // The record is settled once.
            out.emit_from(alert, u64::from(alerts == 1));
        });
        if alerts == 0 {
            out.filtered(1);
        }
    }
}
