//! [`History`]: the last snapshots of a pipeline, and the rates derived from them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::pipeline::{Report, StageReport};

/// The period over which rates and shares are measured.
const SPAN: Duration = Duration::from_secs(1);

/// The number of columns of history that are stored per stage; no screen is wider.
const COLUMNS: usize = 300;

/// The present and past state of the pipeline.
pub(super) struct History {
    /// The snapshots of the last [`SPAN`], and the one before them.
    looks: VecDeque<Report>,
    /// What happened between the first and the last of these.
    interval: Report,
    /// The snapshot at the end of the last column of history.
    drawn: Report,
    /// The rate of each stage that has a row, one for each [`SPAN`], by the number of the row.
    columns: HashMap<u64, VecDeque<f64>>,
    /// The progress at the last change, and when that was.
    progress: (u64, Duration),
}

impl History {
    pub(super) fn new(first: Report) -> Self {
        Self {
            interval: first.since(&first),
            drawn: first.clone(),
            columns: HashMap::new(),
            progress: (done(&first), first.elapsed),
            looks: VecDeque::from([first]),
        }
    }

    pub(super) fn add(&mut self, report: Report) {
        let passed = |earlier: &Report| report.elapsed.saturating_sub(earlier.elapsed);
        while self.looks.get(1).is_some_and(|second| passed(second) >= SPAN) {
            self.looks.pop_front();
        }
        self.interval = report.since(&self.looks[0]);
        if passed(&self.drawn) >= SPAN {
            let column = report.since(&self.drawn);
            let listed: HashSet<_> = column.stages.iter().map(StageReport::number).collect();
            self.columns.retain(|number, _| listed.contains(number));
            for stage in &column.stages {
                let columns = self.columns.entry(stage.number()).or_default();
                columns.push_back(column.per_second(throughput(stage)));
                if columns.len() > COLUMNS {
                    columns.pop_front();
                }
            }
            self.drawn = report.clone();
        }
        let done = done(&report);
        if done != self.progress.0 {
            self.progress = (done, report.elapsed);
        }
        self.looks.push_back(report);
    }

    /// The last snapshot.
    pub(super) fn now(&self) -> &Report {
        &self.looks[self.looks.len() - 1]
    }

    /// What happened in the last [`SPAN`].
    pub(super) fn interval(&self) -> &Report {
        &self.interval
    }

    /// The last rates of a stage, at most `count`, the newest last.
    pub(super) fn rates(&self, stage: &StageReport, count: usize) -> impl Iterator<Item = f64> + Clone {
        let rates = self.columns.get(&stage.number());
        let known = rates.map_or(0, VecDeque::len);
        let rates = rates.into_iter().flatten();
        rates.skip(known.saturating_sub(count)).copied()
    }

    /// The time since the last progress.
    pub(super) fn silence(&self) -> Duration {
        self.now().elapsed.saturating_sub(self.progress.1)
    }
}

/// The items that a stage handles: those that come in, or go out if it is a source.
pub(super) fn throughput(stage: &StageReport) -> u64 {
    stage.received().max(stage.emitted())
}

/// Differs if there was any progress between two snapshots.
fn done(report: &Report) -> u64 {
    let steps = report.stages.iter().flat_map(|stage| &stage.steps);
    steps.fold(0, |sum, step| {
        [step.received, step.emitted, step.errors_in, step.errors_out].into_iter().fold(sum, u64::wrapping_add)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::live::tests::{report, stage};

    /// A pipeline that has received `received` items after `quarters` quarters of a second.
    fn look(quarters: u32, received: u64) -> Report {
        report(Duration::from_millis(250) * quarters, vec![stage("map", received, received)])
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut history = History::new(look(0, 0));
        for (quarters, received) in [(1, 100), (2, 200), (3, 300), (4, 400), (5, 400), (6, 400)] {
            history.add(look(quarters, received));
        }
        assert_eq!(history.interval().elapsed, Duration::from_secs(1));
        assert_eq!(history.interval().stage("map").unwrap().received(), 200);
    }

    #[test]
    fn each_second_is_a_column_of_history() {
        let mut history = History::new(look(0, 0));
        for quarters in 1..=12 {
            history.add(look(quarters, u64::from(quarters * quarters)));
        }
        // 16 in the first second, then 64 - 16, then 144 - 64.
        let map = history.now().stage("map").unwrap();
        assert_eq!(history.rates(map, 9).collect::<Vec<_>>(), [16.0, 48.0, 80.0]);
        assert_eq!(history.rates(map, 2).collect::<Vec<_>>(), [48.0, 80.0]);
        assert_eq!(History::new(look(0, 0)).rates(map, 2).count(), 0);
    }

    #[test]
    fn a_later_stage_of_the_same_name_has_its_own_history() {
        let mut history = History::new(look(0, 0));
        history.add(look(4, 100));
        // Numbered by position.
        let stages = vec![stage("filter", 100, 100), stage("map", 7, 7)];
        history.add(report(Duration::from_secs(2), stages));
        let map = history.now().stage("map").unwrap();
        assert_eq!(history.rates(map, 9).collect::<Vec<_>>(), [7.0]);
        history.add(look(12, 100));
        assert_eq!(history.columns.len(), 1, "only stages that have a row");
    }

    #[test]
    fn silence_is_counted_from_the_last_progress() {
        let mut history = History::new(look(0, 0));
        history.add(look(1, 5));
        assert_eq!(history.silence(), Duration::ZERO);
        history.add(look(9, 5));
        assert_eq!(history.silence(), Duration::from_secs(2));
        history.add(look(10, 6));
        assert_eq!(history.silence(), Duration::ZERO);
    }
}
