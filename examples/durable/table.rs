//! The table that grows while the processes work.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::work::Progress;

pub(crate) struct Table {
    began: Instant,
    next: Instant,
    lines: u32,
}

impl Table {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, next: now, lines: 0 }
    }

    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(crate) fn show(
        &mut self,
        out: &mut impl Write,
        progress: &Progress,
        kills: u32,
    ) -> io::Result<()> {
        if self.lines.is_multiple_of(20) {
            writeln!(
                out,
                "{:>7} {:>9} {:>9} {:>9} {:>13} {:>12} {:>6} {:>6}",
                "seconds",
                "appended",
                "backlog",
                "in flight",
                "acknowledged",
                "redelivered",
                "dead",
                "kills"
            )?;
        }
        let number = |count: Option<u64>| {
            count.map_or_else(|| "-".to_owned(), |count| count.to_string())
        };
        writeln!(
            out,
            "{:>7.1} {:>9} {:>9} {:>9} {:>13} {:>12} {:>6} {:>6}",
            self.began.elapsed().as_secs_f64(),
            progress.appended,
            number(progress.group.backlog.or(Some(progress.group.unacknowledged))),
            number(progress.group.in_flight),
            progress.acknowledged(),
            number(progress.group.redelivered),
            progress.dead,
            kills
        )?;
        self.lines += 1;
        self.next = Instant::now() + Duration::from_millis(500);
        Ok(())
    }
}
