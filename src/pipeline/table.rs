//! Prints a [`Report`] as a table of its stages.

use std::fmt;
use std::time::Duration;

use super::pace::Pace;
use super::report::{Report, StageReport};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} after {:.3?}", self.name, self.outcome, self.elapsed)?;
        let width = self.stages.iter().map(|stage| stage.label_width()).max().unwrap_or(0).max("stage".len());
        writeln!(
            f,
            "  {:width$}  {:>10}  {:>10}  {:>8}  {:>8}  {:>9}  {:>9}  {:>9}  {:>11}",
            "stage", "in", "out", "removed", "failed", "idle", "busy", "blocked", "queue"
        )?;
        for stage in &self.stages {
            stage.write_rows(f, width)?;
        }
        let pace = self.pace();
        write!(f, "  bottleneck: {pace}")?;
        if let Pace::Stage(stage) = pace {
            write!(f, " (busy {:.0} %", 100.0 * self.share(stage, stage.busy))?;
            if !stage.asleep.is_zero() {
                write!(f, ", asleep {:.0} %", 100.0 * self.share(stage, stage.asleep))?;
            }
            f.write_str(" of the time)")?;
        }
        Ok(())
    }
}

impl StageReport {
    fn label(&self) -> String {
        if self.threads > 1 { format!("{} x{}", self.name, self.threads) } else { self.name.to_string() }
    }

    fn label_width(&self) -> usize {
        let steps = if self.steps.len() > 1 { &self.steps[..] } else { &[] };
        let steps = steps.iter().map(|step| 2 + step.name.chars().count());
        let outputs = if self.outputs.len() > 1 { &self.outputs[..] } else { &[] };
        let outputs = outputs.iter().map(|output| 5 + output.name.chars().count());
        steps.chain(outputs).chain([self.label().chars().count()]).max().unwrap_or(0)
    }

    fn write_rows(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        let queue = match self.outputs.as_slice() {
            [] => String::new(),
            outputs => {
                let queued: usize = outputs.iter().map(|output| output.queued).sum();
                let capacity: usize = outputs.iter().map(|output| output.capacity).sum();
                format!("{queued}/{capacity}")
            }
        };
        writeln!(
            f,
            "  {:width$}  {:>10}  {:>10}  {:>8}  {:>8}  {:>9}  {:>9}  {:>9}  {queue:>11}",
            self.label(),
            self.received(),
            self.emitted(),
            self.removed(),
            self.failed(),
            seconds(self.idle),
            seconds(self.busy),
            seconds(self.blocked),
        )?;
        if self.steps.len() > 1 {
            for step in &self.steps {
                writeln!(
                    f,
                    "  {:width$}  {:>10}  {:>10}  {:>8}  {:>8}",
                    format!("  {}", step.name),
                    step.received,
                    step.emitted,
                    step.filtered + step.total_dropped(),
                    step.failed
                )?;
            }
        }
        // Of several ways out, each: one that nobody reads is to be seen.
        let several = if self.outputs.len() > 1 { &self.outputs[..] } else { &[] };
        for output in several {
            let queue = format!("{}/{}", output.queued, output.capacity);
            let name = format!("  -> {}", output.name);
            let blocked = seconds(output.blocked);
            writeln!(f, "  {name:width$}  {:>64}  {blocked:>9}  {queue:>11}", "")?;
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}
