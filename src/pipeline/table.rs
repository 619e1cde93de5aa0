//! Prints a [`Report`] as a table of its stages.
//!
//! The normal form fits into 80 columns, whatever the names and numbers: numbers have at most seven digits, names are
//! shortened to the available room, sentences are wrapped. The wide form shortens nothing.

use std::fmt;
use std::time::Duration;

use super::latency::Latency;
use super::pace::Pace;
use super::report::{OutputReport, Report, StageReport, StepReport};
use super::stats::StageKind;
use super::text::{self, fit, printable, width, wrap};

/// The width of the normal form.
const COLUMNS: usize = 80;

/// Normally 80 columns wide; with `{:#}` as wide as necessary and with more columns.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if f.alternate() { Form::Wide } else { Form::Normal };
        let summary = format!("{}: {} after {}", self.name, self.outcome, form.time(self.elapsed));
        writeln!(f, "{}", form.sentence(&summary, 0))?;
        self.table(form).write(f)?;
        for fault in &self.faults {
            writeln!(f, "{}", form.sentence(&format!("fault: {fault}"), 2))?;
        }
        write!(f, "{}", form.sentence(&format!("bottleneck: {}", self.verdict()), 2))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Normal,
    Wide,
}

impl Form {
    fn count(self, n: u64) -> String {
        if self == Self::Wide { n.to_string() } else { text::count(n) }
    }

    fn time(self, time: Duration) -> String {
        if self == Self::Wide { format!("{time:.3?}") } else { text::time(time) }
    }

    fn latency(self, latency: &Latency) -> String {
        let Latency { p50, p90, p99, max, .. } = latency;
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(|&time| self.time(time));
        format!("p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
    }

    fn queue(self, queued: usize, capacity: usize) -> String {
        let count = if self == Self::Wide { |n: usize| n.to_string() } else { text::short };
        format!("{}/{}", count(queued), count(capacity))
    }

    fn sentence(self, sentence: &str, indent: usize) -> String {
        wrap(sentence, indent, if self == Self::Wide { usize::MAX } else { COLUMNS })
    }

    /// The titles of the columns; the cells of a row are in the same order.
    fn titles(self) -> Vec<&'static str> {
        match self {
            Self::Normal => vec!["in", "out", "removed", "failed", "idle", "busy", "blocked", "queue"],
            Self::Wide => vec![
                "in",
                "out",
                "removed",
                "failed",
                "abandoned",
                "in/s",
                "out/s",
                "idle",
                "asleep",
                "busy",
                "blocked",
                "undelivered",
                "queue",
            ],
        }
    }
}

/// A label, and a cell for some of the titles.
struct Row {
    label: String,
    cells: Vec<(&'static str, String)>,
    /// Lines below it.
    notes: Vec<String>,
}

impl Row {
    fn cell(&self, title: &str) -> &str {
        self.cells.iter().find(|(other, _)| *other == title).map_or("", |(_, cell)| cell)
    }
}

struct Table {
    form: Form,
    rows: Vec<Row>,
}

impl Table {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = self.form.titles();
        let widest = |title: &&str| self.rows.iter().map(|row| row.cell(title).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = titles.iter().map(|title| widest(title).max(title.len())).collect();
        let labels = self.rows.iter().map(|row| width(&row.label)).max().unwrap_or(0).max("stage".len());
        // Two spaces between columns if they fit.
        let taken = |gap: usize| 2 + widths.iter().map(|width| width + gap).sum::<usize>();
        let (gap, labels) = match self.form {
            Form::Normal if taken(2) + labels > COLUMNS => (1, labels.min(COLUMNS.saturating_sub(taken(1)))),
            _ => (2, labels),
        };
        let cells = titles.iter().map(|&title| (title, title.into())).collect();
        let heading = Row { label: "stage".into(), cells, notes: Vec::new() };
        for row in [&heading].into_iter().chain(&self.rows) {
            let label = fit(&row.label, labels);
            let mut line = format!("  {label}{}", " ".repeat(labels.saturating_sub(width(&label))));
            for (title, width) in titles.iter().zip(&widths) {
                line += &format!("{:gap$}{:>width$}", "", row.cell(title));
            }
            writeln!(f, "{}", line.trim_end())?;
            for note in &row.notes {
                writeln!(f, "{}", self.form.sentence(note, 6))?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn table(&self, form: Form) -> Table {
        let mut rows = Vec::new();
        for stage in &self.stages {
            rows.push(self.stage_row(stage, form));
            if stage.steps.len() > 1 {
                rows.extend(stage.steps.iter().map(|step| self.step_row(step, form)));
            }
            // Several outputs are listed one by one, so that one that is not read is visible.
            if stage.outputs.len() > 1 {
                rows.extend(stage.outputs.iter().map(|output| output_row(output, form)));
            }
        }
        Table { form, rows }
    }

    fn stage_row(&self, stage: &StageReport, form: Form) -> Row {
        let threads = if stage.threads > 1 { format!(" x{}", stage.threads) } else { String::new() };
        let mut cells =
            self.counts(form, [stage.received(), stage.emitted(), stage.removed(), stage.failed(), stage.abandoned()]);
        let times = [("idle", stage.idle), ("asleep", stage.asleep), ("busy", stage.busy), ("blocked", stage.blocked)];
        // The way a task spends its time says nothing about the pipeline.
        let is_known = |title: &str| stage.kind != StageKind::Task || title != "busy";
        cells.extend(times.into_iter().filter(|(title, _)| is_known(title)).map(|(title, t)| (title, form.time(t))));
        if !stage.outputs.is_empty() {
            let [queued, capacity] = [|output: &OutputReport| output.queued, |output: &OutputReport| output.capacity]
                .map(|of| stage.outputs.iter().map(of).fold(0, usize::saturating_add));
            cells.push(("queue", form.queue(queued, capacity)));
            let undelivered = stage.outputs.iter().map(|output| output.undelivered).fold(0, u64::saturating_add);
            cells.push(("undelivered", form.count(undelivered)));
        }
        let notes = [("item", &stage.latency), ("age", &stage.age)].into_iter();
        let notes = notes.filter_map(|(what, latency)| Some(format!("{what}: {}", form.latency(latency.as_ref()?))));
        let merged =
            (stage.merged > 0).then(|| format!("and {} later stages that have ended", form.count(stage.merged)));
        let calls = stage.hidden_failures().map(|failed| format!("calls: {} failed", form.count(failed)));
        let notes = merged.into_iter().chain(calls).chain(notes).collect();
        Row { label: printable(&format!("{}{threads}", stage.name)), cells, notes }
    }

    fn step_row(&self, step: &StepReport, form: Form) -> Row {
        let removed = step.filtered.saturating_add(step.total_dropped());
        let counts = [step.received, step.emitted, removed, step.failed, step.abandoned];
        Row { label: printable(&format!("  {}", step.name)), cells: self.counts(form, counts), notes: Vec::new() }
    }

    fn counts(&self, form: Form, counts: [u64; 5]) -> Vec<(&'static str, String)> {
        let titles = ["in", "out", "removed", "failed", "abandoned"];
        let rate = |count| format!("{:.1}", self.per_second(count));
        let rates = [("in/s", rate(counts[0])), ("out/s", rate(counts[1]))];
        titles.into_iter().zip(counts.map(|count| form.count(count))).chain(rates).collect()
    }

    /// What limits the pace, and if it is a stage, for what part of the time.
    pub(crate) fn verdict(&self) -> String {
        let pace = self.pace();
        let Pace::Stage(stage) = pace else { return pace.to_string() };
        let percent = |time| (100.0 * self.share(stage, time)).min(100.0);
        let asleep = match stage.asleep {
            Duration::ZERO => String::new(),
            asleep => format!(", asleep {:.0} %", percent(asleep)),
        };
        format!("{pace} (busy {:.0} %{asleep} of the time)", percent(stage.busy))
    }
}

fn output_row(output: &OutputReport, form: Form) -> Row {
    let cells = vec![
        ("blocked", form.time(output.blocked)),
        ("undelivered", form.count(output.undelivered)),
        ("queue", form.queue(output.queued, output.capacity)),
    ];
    Row { label: printable(&format!("  -> {}", output.name)), cells, notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::clock::real_now;
    use crate::error::{ErrorKind, StreamError};
    use crate::pipeline::node::Cause;
    use crate::pipeline::report::{InputReport, Outcome};
    use crate::pipeline::stats::{DropReason, StageStats};

    /// A report of random values.
    struct Fuzz(fastrand::Rng);

    impl Fuzz {
        fn text(&mut self) -> String {
            let kind = self.0.u8(..4);
            (0..self.0.usize(..200))
                .map(|_| match kind {
                    0 => self.0.char('a'..='z'),
                    1 => self.0.char('\u{4e00}'..='\u{9fff}'),
                    2 => self
                        .0
                        .choice(['a', ' ', '\n', '\t', '\u{301}', '\u{200d}', '\u{fe0f}', '☃', '👩', '…'])
                        .unwrap(),
                    _ => self.0.char(..),
                })
                .collect()
        }

        fn name(&mut self) -> Arc<str> {
            self.text().into()
        }

        fn count(&mut self) -> u64 {
            if self.0.u8(..8) == 0 { u64::MAX } else { self.0.u64(..) >> self.0.u32(..64) }
        }

        fn size(&mut self) -> usize {
            self.count() as usize
        }

        fn time(&mut self) -> Duration {
            Duration::new(self.count() >> self.0.u32(..64), self.0.u32(..1_000_000_000))
        }

        fn some<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
            (0..self.0.usize(..4)).map(|_| make(self)).collect()
        }

        fn step(&mut self) -> StepReport {
            StepReport {
                name: self.name(),
                received: self.count(),
                emitted: self.count(),
                filtered: self.count(),
                failed: self.count(),
                failed_calls: self.count(),
                dropped: vec![(DropReason::Overflow, self.count()), (DropReason::Unmatched, self.count())],
                abandoned: self.count(),
                ..StepReport::of(&StageStats::new("".into(), StageKind::Source, &["".into()], 1).steps[0])
            }
        }

        fn output(&mut self) -> OutputReport {
            OutputReport {
                name: self.name(),
                queued: self.size(),
                capacity: self.size(),
                undelivered: self.count(),
                blocked: self.time(),
                reader: None,
                is_blocking: self.0.bool(),
            }
        }

        fn stage(&mut self) -> StageReport {
            let kinds =
                [StageKind::Source, StageKind::Processor, StageKind::Sink, StageKind::Consumer, StageKind::Task];
            let kind = self.0.choice(kinds).unwrap();
            StageReport {
                threads: self.size(),
                inputs: self.some(|fuzz| InputReport { stage: fuzz.name(), output: fuzz.name() }),
                steps: self.some(Self::step),
                idle: self.time(),
                asleep: self.time(),
                busy: self.time(),
                blocked: self.time(),
                outputs: self.some(Self::output),
                ..StageReport::of(&StageStats::new(self.name(), kind, &["".into()], 1), real_now())
            }
        }

        fn report(&mut self) -> Report {
            let outcome = match self.0.u8(..3) {
                0 => Outcome::Running,
                1 => Outcome::Cut(StreamError::new(ErrorKind::Cancelled, self.name()).with_source(self.text())),
                _ => Outcome::Cancelled(Cause::Because(Arc::from(crate::BoxError::from(self.text())))),
            };
            Report {
                name: self.name(),
                outcome,
                elapsed: self.time(),
                stages: self.some(Self::stage),
                faults: self.some(Self::text),
            }
        }
    }

    #[test]
    fn no_line_of_the_normal_form_is_longer_than_80_columns() {
        for seed in 0..1_000 {
            let printed = Fuzz(fastrand::Rng::with_seed(seed)).report().to_string();
            for line in printed.lines() {
                assert!(line.width() <= 80, "seed {seed}: {} columns: {line}", line.width());
            }
        }
    }

    #[test]
    fn the_wide_form_shortens_and_rounds_nothing() {
        let mut fuzz = Fuzz(fastrand::Rng::with_seed(1));
        for _ in 0..100 {
            let report = fuzz.report();
            let printed = format!("{report:#}");
            for stage in &report.stages {
                assert!(printed.contains(&printable(&stage.name)), "{}", stage.name);
                assert!(printed.contains(&stage.received().to_string()));
            }
        }
    }

    fn report() -> Report {
        let stage = |kind, name: &str, threads, steps: &[&str]| {
            let steps: Vec<Arc<str>> = steps.iter().map(|&step| step.into()).collect();
            StageReport::of(&StageStats::new(name.into(), kind, &steps, threads), real_now())
        };
        let output = |name: &str, queued| OutputReport {
            name: name.into(),
            queued,
            capacity: 256,
            undelivered: 0,
            blocked: Duration::from_micros(queued as u64),
            reader: None,
            is_blocking: false,
        };
        let (idle, busy) = (Duration::from_micros(570), Duration::from_millis(1_234));
        let task = StageReport { idle, busy, ..stage(StageKind::Task, "every", 1, &["every"]) };
        let mut pool = StageReport { idle, busy, ..stage(StageKind::Processor, "fetch", 8, &["fetch"]) };
        (pool.steps[0].received, pool.steps[0].emitted, pool.steps[0].failed) = (12_345_678, 12_345_600, 78);
        pool.steps[0].failed_calls = 12_345_678;
        pool.outputs = vec![output("", 3)];
        let mut split = stage(StageKind::Processor, "split", 1, &["parse", "split"]);
        split.outputs = vec![output("left", 0), output("right", 256)];
        let (elapsed, stages) = (Duration::from_millis(2_000), vec![task, pool, split]);
        Report { name: "shown".into(), outcome: Outcome::Completed, elapsed, stages, faults: vec!["bad luck".into()] }
    }

    #[test]
    fn the_two_forms_of_a_report() {
        let expected = "\
shown: completed after 2.00s
  stage           in     out  removed  failed   idle   busy  blocked    queue
  every            0       0        0       0  570µs              0s
  fetch x8    12.35M  12.35M        0      78  570µs  1.23s       0s    3/256
      calls: 12.35M failed
  split            0       0        0       0     0s     0s       0s  256/512
    parse          0       0        0       0
    split          0       0        0       0
    -> left                                                       0s    0/256
    -> right                                                   256µs  256/256
  fault: bad luck
  bottleneck: fetch (busy 8 % of the time)";
        assert_eq!(report().to_string(), expected);
        let wide = format!("{:#}", report());
        let row = wide.lines().find(|line| line.contains("fetch x8")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().skip(2).collect();
        let expected = [
            "12345678",
            "12345600",
            "0",
            "78",
            "0",
            "6172839.0",
            "6172800.0",
            "570.000µs",
            "0.000ns",
            "1.234s",
            "0.000ns",
            "0",
            "3/256",
        ];
        assert_eq!(cells, expected, "{wide}");
        assert!(wide.contains("\n      calls: 12345678 failed\n"), "{wide}");
    }
}
