//! [`Pace`]: what limits the pace of a pipeline.
//!
//! Each candidate has a share of the report's time during which it held up the others, and the largest share wins:
//!
//! - A stage: the time in which its threads could not take the next item, because they were occupied with one.
//! - A source: the time in which its reader waited for an item, unless the source itself waited for room.
//! - A consumer: the time between two of its calls, or the time in which the last stage waited for room.
//!
//! The shares are those of the life of the pipeline, not of the candidate: a source that has worked for microseconds
//! has held up nothing, however busy it was. The work of a source without a thread counts as its reader's.

use std::fmt;
use std::time::Duration;

use super::report::{Report, StageReport};
use super::stats::StageKind;

/// What limits the pace of a pipeline; returned by [`Report::pace`].
///
/// Its `Display` is the text after `bottleneck:` in a printed report.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Pace<'a> {
    /// No stage has spent any time yet.
    Unknown,
    /// This stage, the bottleneck: most of the time, its threads are occupied with items.
    Stage(&'a StageReport),
    /// This source: most of the time, the stage that reads it waits for an item.
    Source(&'a StageReport),
    /// The consumer of this stage: code outside the library that takes items one by one, or does not take them. It is
    /// the consumer's own stage if that is fed only by a foreign channel.
    Consumer(&'a StageReport),
}

impl Report {
    /// Returns what limits the pace of the pipeline: a stage, a source, or a consumer outside the library.
    ///
    /// It is judged by shares of the [`elapsed`](Self::elapsed) time, so a report of an [interval](Self::since) tells
    /// what limited the pace in that interval. Tasks are left out.
    pub fn pace(&self) -> Pace<'_> {
        let all = self.stages.iter().flat_map(|stage| self.candidates(stage));
        let slowest = all.filter(|(share, _)| *share > 0.0).max_by(|(a, _), (b, _)| a.total_cmp(b));
        slowest.map_or(Pace::Unknown, |(_, pace)| pace)
    }

    /// Returns the bottleneck: the stage that [limits the pace](Self::pace).
    ///
    /// Returns `None` if a source or a consumer does, or if no stage has spent any time yet.
    pub fn bottleneck(&self) -> Option<&StageReport> {
        match self.pace() {
            Pace::Stage(stage) => Some(stage),
            _ => None,
        }
    }

    /// Returns the part of the pipeline's life that a stage spent in this way, on average over its threads: 0.0 to 1.0.
    /// Without the limit, a row of several stages that ran at the same time could exceed it.
    pub(super) fn share(&self, stage: &StageReport, part: Duration) -> f64 {
        let whole = self.elapsed.as_secs_f64() * stage.threads as f64;
        if whole > 0.0 { (part.as_secs_f64() / whole).min(1.0) } else { 0.0 }
    }

    fn candidates<'a>(&'a self, stage: &'a StageReport) -> impl Iterator<Item = (f64, Pace<'a>)> {
        let share = |part| self.share(stage, part);
        let itself = match stage.kind {
            StageKind::Task => None,
            StageKind::Source => Some((self.awaited(stage), Pace::Source(stage))),
            StageKind::Processor | StageKind::Sink => Some((share(stage.occupied()), Pace::Stage(stage))),
            StageKind::Consumer => {
                let feeder = stage.inputs.first().and_then(|input| self.stage(&input.stage));
                Some((share(stage.occupied()), Pace::Consumer(feeder.unwrap_or(stage))))
            }
        };
        // A sink that waits for room hands items to code outside; a stream may not have been read yet.
        let handed_out = (stage.kind == StageKind::Sink).then_some(stage.blocked);
        let unread = stage.outputs.iter().filter(|output| output.reader.is_none()).map(|output| output.blocked);
        let outside = handed_out.into_iter().chain(unread).map(move |blocked| (share(blocked), Pace::Consumer(stage)));
        outside.chain(itself)
    }

    /// The share of time during which its reader waited for a source.
    fn awaited(&self, source: &StageReport) -> f64 {
        let reads = |stage: &&StageReport| stage.inputs.iter().any(|input| input.stage == source.name);
        let idle = |reader: &StageReport| self.share(reader, reader.idle.saturating_sub(reader.asleep));
        let wanted = self.stages.iter().filter(reads).map(idle).fold(0.0, f64::max);
        // A source without a thread does not know when it waits for room.
        if source.threads == 0 {
            wanted
        } else {
            wanted.min(self.share(source, source.busy.saturating_add(source.idle)))
        }
    }
}

impl fmt::Display for Pace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("none yet"),
            Self::Stage(stage) => f.write_str(&stage.name),
            Self::Source(stage) => write!(f, "none: the source `{}` is the slowest", stage.name),
            Self::Consumer(stage) => write!(f, "none: `{}` waits for its consumer", stage.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::real_now;
    use crate::pipeline::report::{InputReport, Outcome, OutputReport};
    use crate::pipeline::stats::StageStats;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A stage, what it reads, and the milliseconds for which its threads were idle, busy and blocked.
    fn stage(name: &str, kind: StageKind, reads: &str, threads: usize, spent: [u64; 3]) -> StageReport {
        let stats = StageStats::new(name.into(), kind, &[name.into()], threads);
        let input = |stage: &str| InputReport { stage: stage.into(), output: Arc::default() };
        let inputs = Some(reads).filter(|reads| !reads.is_empty()).map(input).into_iter().collect();
        let [idle, busy, blocked] = spent.map(ms);
        StageReport { inputs, idle, busy, blocked, ..StageReport::of(&stats, real_now()) }
    }

    fn source(spent: [u64; 3]) -> StageReport {
        stage("source", StageKind::Source, "", 1, spent)
    }

    fn map(spent: [u64; 3]) -> StageReport {
        stage("map", StageKind::Processor, "source", 1, spent)
    }

    fn sink(spent: [u64; 3]) -> StageReport {
        stage("sink", StageKind::Sink, "map", 1, spent)
    }

    /// Returns what limits the pace of a pipeline that ran for a second.
    fn pace(stages: impl IntoIterator<Item = StageReport>) -> String {
        let stages = stages.into_iter().collect();
        let name = "pace".into();
        let report = Report { name, outcome: Outcome::Completed, elapsed: ms(1_000), stages, faults: Vec::new() };
        report.pace().to_string()
    }

    #[test]
    fn the_stage_that_is_occupied_most_is_the_bottleneck() {
        assert_eq!(pace([source([0, 100, 900]), map([0, 900, 100]), sink([900, 100, 0])]), "map");
        assert_eq!(pace([source([0, 100, 900]), map([0, 100, 900]), sink([100, 900, 0])]), "sink");
    }

    /// Three threads that are each busy for 600 ms have more spare time than one that is busy for 700 ms.
    #[test]
    fn the_time_of_several_threads_counts_as_their_average() {
        let pool = stage("pool", StageKind::Processor, "source", 3, [1_200, 1_800, 0]);
        assert_eq!(pace([source([0, 100, 900]), pool, sink([300, 700, 0])]), "sink");
    }

    #[test]
    fn a_stage_that_sleeps_in_its_closures_is_occupied() {
        let retries = StageReport { asleep: ms(950), ..map([950, 0, 50]) };
        assert_eq!(pace([source([0, 100, 900]), retries, sink([900, 100, 0])]), "map");
    }

    #[test]
    fn a_source_of_microseconds_is_not_the_slowest() {
        assert_eq!(pace([source([0, 1, 0]), map([0, 2, 0]), sink([2, 998, 0])]), "sink");
    }

    #[test]
    fn a_source_that_is_waited_for_is_the_slowest() {
        let slowest = "none: the source `source` is the slowest";
        let rest = || [map([900, 100, 0]), sink([950, 50, 0])];
        assert_eq!(pace([source([0, 1_000, 0])].into_iter().chain(rest())), slowest, "it computes");
        assert_eq!(pace([source([1_000, 0, 0])].into_iter().chain(rest())), slowest, "it waits itself");
        let channel = stage("source", StageKind::Source, "", 0, [0, 0, 0]);
        assert_eq!(pace([channel].into_iter().chain(rest())), slowest, "others feed it");
    }

    /// Its reader waits for a timer, say.
    #[test]
    fn a_source_that_waits_for_room_is_not_the_slowest() {
        assert_eq!(pace([source([0, 10, 990]), map([980, 20, 0]), sink([970, 30, 0])]), "sink");
        let throttle = StageReport { asleep: ms(970), ..map([980, 20, 0]) };
        assert_eq!(pace([source([0, 10, 990]), throttle, sink([970, 30, 0])]), "map");
    }

    #[test]
    fn a_consumer_outside_the_library_is_not_a_bottleneck() {
        let waits = "none: `map` waits for its consumer";
        let consumer = stage("recv", StageKind::Consumer, "map", 1, [10, 990, 0]);
        assert_eq!(pace([source([0, 10, 990]), map([0, 20, 980]), consumer]), waits, "busy between its calls");
        let output = OutputReport {
            name: Arc::default(),
            queued: 8,
            capacity: 8,
            undelivered: 0,
            blocked: ms(980),
            reader: None,
            is_blocking: true,
        };
        let unread = StageReport { outputs: vec![output], ..map([0, 20, 980]) };
        assert_eq!(pace([source([0, 10, 990]), unread]), waits, "it has not come yet");
        let channel = sink([10, 10, 980]);
        assert_eq!(pace([source([0, 10, 990]), map([0, 20, 980]), channel]), "none: `sink` waits for its consumer");
        let foreign = stage("recv", StageKind::Consumer, "receiver", 1, [10, 990, 0]);
        let receiver = StageReport { name: "receiver".into(), threads: 0, ..source([0, 0, 0]) };
        assert_eq!(pace([receiver, foreign]), "none: `receiver` waits for its consumer");
    }

    #[test]
    fn tasks_and_idle_stages_do_not_limit_the_pace() {
        let task = stage("task", StageKind::Task, "", 1, [0, 1_000, 0]);
        assert_eq!(pace([task, source([0, 0, 0]), map([0, 0, 0])]), "none yet");
    }
}
