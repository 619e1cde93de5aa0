//! [`Report::since`]: what a pipeline did between two reports.
//!
//! The result is a report, so everything that reads one works for an interval as well: the table, the bottleneck, the
//! shares of time.

use std::borrow::Cow;
use std::time::Duration;

use super::latency::Latency;
use super::report::{OutputReport, Report, StageReport, StepReport};

impl Report {
    /// Returns a report of the interval between an earlier report of the same pipeline and this one.
    ///
    /// - Counts, times, latencies and `elapsed` are differences. A stage that `earlier` does not list counts from zero.
    ///   `faults` contains the new ones.
    /// - Everything that describes a moment is taken from this report: the outcome, `queued`, `capacity`, `reader`,
    ///   `is_blocking`, `at_work`, `at_work_for`, `senders`.
    ///
    /// So [`bottleneck`](Self::bottleneck) and [`utilization`](StageReport::utilization) are those of the interval, and
    /// [`per_second`](Self::per_second) turns a count into a rate. [`held`](StepReport::held) and
    /// [`balances`](StepReport::balances) have no meaning for an interval: a stage may settle items that it received before.
    ///
    /// Rows are matched by the number of their stage, which no other stage of the pipeline ever has, and not by name. A
    /// stage that was [added to another row](StageReport::merged) in the meantime counts there. So the intervals between
    /// the reports of a pipeline add up to what it has done, also if the reports have been stored with the feature
    /// `serde` and read back. Latencies and ages are not read back, so with such a report they are those since the start.
    /// Reports written by version 0.1 have no numbers, and are matched by name.
    ///
    /// Two reports in the wrong order give an empty interval in which nothing happened. The reports of two different
    /// pipelines give a meaningless result. Neither panics.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{ManualClock, Pipeline, Stream};
    ///
    /// let clock = ManualClock::new();
    /// let pipeline = Pipeline::builder("rates").clock(&clock).build();
    /// let (input, numbers) = Stream::channel(&pipeline, 16);
    /// numbers.map(|n: u32| n + 1).spawn_for_each(drop);
    ///
    /// input.send(1)?;
    /// clock.advance(Duration::from_secs(10));
    /// let before = pipeline.report();
    /// (0..6).try_for_each(|n| input.send(n))?;
    /// clock.advance(Duration::from_secs(2));
    ///
    /// let interval = pipeline.report().since(&before);
    /// let map = interval.stage("map").unwrap();
    /// assert_eq!(interval.elapsed, Duration::from_secs(2));
    /// assert_eq!(map.received(), 6);
    /// assert_eq!(interval.per_second(map.received()), 3.0);
    /// # Ok::<(), streamz::SendError<u32>>(())
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.stages_so_far() > self.stages_so_far() {
            return self.since(self);
        }
        let stage = |(stage, before): (&StageReport, Option<Cow<'_, StageReport>>)| match before {
            Some(before) => stage.since(&before),
            None => stage.clone(),
        };
        Self {
            name: self.name.clone(),
            outcome: self.outcome.clone(),
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            stages: self.stages.iter().zip(self.rows_before(earlier)).map(stage).collect(),
            faults: self.faults.iter().skip(earlier.faults.len()).cloned().collect(),
        }
    }

    /// Each stage of the pipeline is counted in one row.
    fn stages_so_far(&self) -> u64 {
        self.stages.iter().map(|row| row.merged.saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// Returns `count` divided by the report's [`elapsed`](Self::elapsed) in seconds, or 0.0 if no time has passed.
    ///
    /// For a report of an [interval](Self::since), this is the rate in the interval; for any other, the average over
    /// the life of the pipeline.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { count as f64 / self.elapsed.as_secs_f64() }
    }
}

/// The difference. Two reports in the wrong order have none.
fn latency_since(later: Option<&Latency>, earlier: Option<&Latency>) -> Option<Latency> {
    match earlier {
        Some(earlier) => later?.since(earlier),
        None => later.cloned(),
    }
}

impl StageReport {
    fn since(&self, earlier: &Self) -> Self {
        let time = |of: fn(&Self) -> Duration| of(self).saturating_sub(of(earlier));
        let step = |(index, step): (usize, &StepReport)| match earlier.steps.get(index) {
            Some(before) => step.since(before),
            None => step.clone(),
        };
        let output = |output: &OutputReport| match earlier.outputs.iter().find(|before| before.name == output.name) {
            Some(before) => output.since(before),
            None => output.clone(),
        };
        Self {
            idle: time(|stage| stage.idle),
            asleep: time(|stage| stage.asleep),
            busy: time(|stage| stage.busy),
            blocked: time(|stage| stage.blocked),
            steps: self.steps.iter().enumerate().map(step).collect(),
            outputs: self.outputs.iter().map(output).collect(),
            latency: latency_since(self.latency.as_ref(), earlier.latency.as_ref()),
            age: latency_since(self.age.as_ref(), earlier.age.as_ref()),
            ..self.clone()
        }
    }
}

impl StepReport {
    fn since(&self, earlier: &Self) -> Self {
        let count = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let dropped = self.dropped.iter().map(|&(reason, count)| {
            let before = earlier.dropped.iter().find(|(other, _)| *other == reason);
            (reason, count.saturating_sub(before.map_or(0, |(_, before)| *before)))
        });
        Self {
            name: self.name.clone(),
            received: count(|step| step.received),
            emitted: count(|step| step.emitted),
            delivered: count(|step| step.delivered),
            filtered: count(|step| step.filtered),
            failed: count(|step| step.failed),
            dropped: dropped.filter(|&(_, count)| count > 0).collect(),
            abandoned: count(|step| step.abandoned),
            errors_in: count(|step| step.errors_in),
            errors_out: count(|step| step.errors_out),
            errors_absorbed: count(|step| step.errors_absorbed),
            failed_calls: count(|step| step.failed_calls),
            evicted_keys: count(|step| step.evicted_keys),
            expired_keys: count(|step| step.expired_keys),
        }
    }
}

impl OutputReport {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            undelivered: self.undelivered.saturating_sub(earlier.undelivered),
            blocked: self.blocked.saturating_sub(earlier.blocked),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::real_now;
    use crate::pipeline::identity::Identity;
    use crate::pipeline::report::Outcome;
    use crate::pipeline::stats::{DropReason, StageKind, StageStats};

    const SECOND: Duration = Duration::from_secs(1);

    fn report(seconds: u32, stages: Vec<StageReport>) -> Report {
        let faults = (0..seconds / 10).map(|fault| fault.to_string()).collect();
        Report { name: "report".into(), outcome: Outcome::Running, elapsed: SECOND * seconds, stages, faults }
    }

    /// A stage in which each count and time is a different multiple of `n`.
    fn stage(name: &str, n: u32) -> StageReport {
        let stats = StageStats::new(name.into(), StageKind::Processor, &[name.into(), "step".into()], 1);
        let empty = StageReport::of(&stats, real_now());
        let count = u64::from(n);
        let step = |step: StepReport| StepReport {
            received: count,
            emitted: count * 2,
            delivered: count * 3,
            filtered: count * 4,
            failed: count * 5,
            dropped: vec![(DropReason::Overflow, count * 6), (DropReason::Unmatched, 7)],
            abandoned: count * 8,
            errors_in: count * 9,
            errors_out: count * 10,
            errors_absorbed: count * 11,
            failed_calls: count * 18,
            evicted_keys: count * 19,
            expired_keys: count * 20,
            ..step
        };
        let output = OutputReport {
            name: "branch".into(),
            queued: n as usize,
            capacity: 64,
            undelivered: count * 12,
            blocked: SECOND * n * 13,
            reader: Some("reader".into()),
            is_blocking: n > 3,
        };
        StageReport {
            identity: Identity::default(),
            merged: 0,
            steps: empty.steps.into_iter().map(step).collect(),
            idle: SECOND * n * 14,
            asleep: SECOND * n * 15,
            busy: SECOND * n * 16,
            blocked: SECOND * n * 17,
            latency: None,
            age: None,
            at_work: n as usize,
            at_work_for: SECOND * n,
            senders: n as usize,
            outputs: vec![output],
            name: empty.name,
            kind: empty.kind,
            threads: 1,
            inputs: Vec::new(),
        }
    }

    /// What a report of a whole stage must look like.
    fn shown(report: &Report) -> String {
        format!("{report:?}")
    }

    #[test]
    fn counts_and_times_are_subtracted_and_levels_are_the_later() {
        let (earlier, later) = (report(10, vec![stage("map", 3)]), report(30, vec![stage("map", 8)]));
        let interval = later.since(&earlier);
        let mut expected = report(20, vec![stage("map", 5)]);
        expected.faults = vec!["1".into(), "2".into()];
        let StageReport { at_work, at_work_for, senders, outputs, steps, .. } = &mut expected.stages[0];
        (*at_work, *at_work_for, *senders, outputs[0].queued) = (8, SECOND * 8, 8, 8);
        // The other reason had the same count before.
        steps.iter_mut().for_each(|step| step.dropped.truncate(1));
        assert_eq!(shown(&interval), shown(&expected));
        assert_eq!(interval.per_second(interval.stages[0].received()), 0.25);
    }

    #[test]
    fn a_stage_added_between_two_reports_counts_from_zero() {
        let later = report(30, vec![stage("old", 3), stage("new", 8)]);
        let interval = later.since(&report(10, vec![stage("old", 3)]));
        assert_eq!(interval.stage("old").unwrap().received(), 0);
        assert_eq!(format!("{:?}", interval.stage("new")), format!("{:?}", Some(stage("new", 8))));
    }

    #[test]
    fn reports_in_the_wrong_order_have_an_empty_interval() {
        let (earlier, later) = (report(10, vec![stage("map", 3)]), report(30, vec![stage("map", 8)]));
        let interval = earlier.since(&later);
        assert_eq!((interval.elapsed, interval.stages[0].busy), (Duration::ZERO, Duration::ZERO));
        assert_eq!((interval.stages[0].emitted(), interval.stages[0].steps[1].dropped.len()), (0, 0));
        assert_eq!((interval.per_second(7), interval.faults.len()), (0.0, 0));
    }

    #[test]
    fn reports_of_different_pipelines_do_not_panic() {
        let mut other = stage("map", 9);
        other.steps.truncate(1);
        other.outputs.clear();
        let interval = report(30, vec![stage("map", 8)]).since(&report(10, vec![other]));
        assert_eq!(interval.stages[0].steps[1].received, 8);
    }
}
