//! [`Diagnosis`]: what a pipeline that makes no progress waits for.
//!
//! A pure function of a [`Report`]. It follows the waits that are bounded by room: a stage that waits for room in an
//! output waits for the stage that reads it, and a stage that waits for input waits for the stages whose outputs it
//! reads and finds empty. The end of such a chain is a finding; so is a chain that returns to its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::report::{OutputReport, Report, StageReport};
use super::stats::StageKind;

/// What a pipeline that makes no progress waits for; returned by [`Report::diagnosis`].
///
/// Its `Display` is one sentence per finding, joined by semicolons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Diagnosis {
    /// In this order: outputs without a reader, consumers that do not ask for items, cycles, senders, work in progress.
    pub findings: Vec<Finding>,
}

/// One thing that a pipeline waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Finding {
    /// An output is full, its stage waits for room in it, and it has never been read. A caller may hold the stream.
    #[non_exhaustive]
    Unread {
        /// The stage that waits.
        stage: Arc<str>,
        /// The branch; empty if the stage has only one output.
        output: Arc<str>,
        /// The number of queued items.
        queued: usize,
        /// The capacity of the output.
        capacity: usize,
    },
    /// An output is full, its stage waits for room in it, and the code that [takes its items one by
    /// one](super::StageKind::Consumer) does not ask for the next one.
    #[non_exhaustive]
    Away {
        /// The stage that waits.
        stage: Arc<str>,
        /// The branch; empty if the stage has no branches.
        output: Arc<str>,
        /// The consumer.
        consumer: Arc<str>,
        /// The time since it took its last item.
        #[cfg_attr(feature = "serde", serde(rename = "away_seconds", with = "crate::data::seconds"))]
        away: Duration,
    },
    /// These stages wait for each other: each for the next one, the last one for the first. Typical of a diamond whose
    /// branches are read in another order than they are filled.
    #[non_exhaustive]
    Cycle {
        /// The stages, each with what it waits for.
        stages: Vec<(Arc<str>, String)>,
    },
    /// The stages behind a channel wait for items that its senders may still send.
    #[non_exhaustive]
    Senders {
        /// The stage of the channel.
        stage: Arc<str>,
        /// The number of [`Sender`](crate::Sender)s.
        senders: usize,
    },
    /// Threads of a stage are busy with an item: in a call, or computing.
    #[non_exhaustive]
    AtWork {
        /// The stage.
        stage: Arc<str>,
        /// The number of busy threads.
        threads: usize,
        /// The time for which the first of them has been busy.
        #[cfg_attr(feature = "serde", serde(rename = "longest_seconds", with = "crate::data::seconds"))]
        longest: Duration,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread { stage, output, queued, capacity } => {
                let arrow = if output.is_empty() { "" } else { " -> " };
                write!(f, "`{stage}{arrow}{output}` is not read ({queued} of {capacity}); `{stage}` waits for it")
            }
            Self::Away { stage, output, consumer, away } => {
                let arrow = if output.is_empty() { "" } else { " -> " };
                write!(
                    f,
                    "`{stage}` waits for room in `{stage}{arrow}{output}`, from which `{consumer}` has taken nothing for {away:.1?}"
                )
            }
            Self::Cycle { stages } => {
                f.write_str("stages wait for each other: ")?;
                for (index, (stage, why)) in stages.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}`{stage}` {why}")?;
                }
                Ok(())
            }
            Self::Senders { stage, senders: 1 } => write!(f, "1 sender of `{stage}` is alive"),
            Self::Senders { stage, senders } => write!(f, "{senders} senders of `{stage}` are alive"),
            Self::AtWork { stage, threads: 1, longest } => write!(f, "`{stage}` has been busy for {longest:.1?}"),
            Self::AtWork { stage, threads, longest } => {
                write!(f, "`{stage}`: {threads} threads are busy, the longest for {longest:.1?}")
            }
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

impl Report {
    /// Returns what the pipeline waits for, if it makes no progress.
    ///
    /// For a pipeline that does make progress, it names the stages that are busy at this moment, and the senders that
    /// are alive. A thread that waits for a pipeline [logs the diagnosis](crate::PipelineBuilder::stall_warning) if
    /// there is no progress for a long time.
    pub fn diagnosis(&self) -> Diagnosis {
        let outputs = || self.stages.iter().flat_map(|stage| stage.outputs.iter().map(move |output| (stage, output)));
        let unread = outputs().filter(|(_, output)| output.is_blocking && output.reader.is_none());
        let unread = unread.map(|(stage, output)| Finding::Unread {
            stage: Arc::clone(&stage.name),
            output: Arc::clone(&output.name),
            queued: output.queued,
            capacity: output.capacity,
        });
        let senders = self.stages.iter().filter(|stage| stage.senders > 0 && stage.is_drained());
        let senders = senders.map(|stage| Finding::Senders { stage: Arc::clone(&stage.name), senders: stage.senders });
        let away = outputs().filter(|(_, output)| output.is_blocking).filter_map(|(stage, output)| {
            let consumer = self.stage(output.reader.as_deref()?).filter(|reader| reader.is_away())?;
            Some(Finding::Away {
                stage: Arc::clone(&stage.name),
                output: Arc::clone(&output.name),
                consumer: Arc::clone(&consumer.name),
                away: consumer.at_work_for,
            })
        });
        // What a consumer does between two calls matters only where a stage waits for it.
        let at_work = self.stages.iter().filter(|stage| stage.at_work > 0 && !stage.is_away());
        let at_work = at_work.map(|stage| Finding::AtWork {
            stage: Arc::clone(&stage.name),
            threads: stage.at_work,
            longest: stage.at_work_for,
        });
        let cycle = self.cycle().map(|stages| Finding::Cycle { stages });
        Diagnosis { findings: unread.chain(away).chain(cycle).chain(senders).chain(at_work).collect() }
    }

    /// The stages that a stage waits for, and how: at most one of each, because any of them is enough to hold it up.
    fn waits_for<'a>(&'a self, stage: &'a StageReport) -> impl Iterator<Item = (&'a StageReport, String)> {
        let for_room = stage.outputs.iter().filter(|output| output.is_blocking).filter_map(|output| {
            let reader = self.stage(output.reader.as_deref()?)?;
            Some((reader, format!("waits for room in {}", place(stage, output))))
        });
        // A stage that waits for room, or is busy, does not wait for input.
        let is_idle = stage.at_work == 0 && !stage.outputs.iter().any(|output| output.is_blocking);
        let feeders = self.stages.iter().filter(move |_| is_idle).flat_map(move |feeder| {
            let empty = |output: &&OutputReport| output.queued == 0 && output.reader.as_ref() == Some(&stage.name);
            feeder.outputs.iter().filter(empty).map(move |output| (feeder, output))
        });
        for_room
            .chain(feeders.map(|(feeder, output)| (feeder, format!("waits for an item of {}", place(feeder, output)))))
    }

    /// The first chain of waits that returns to its start.
    fn cycle(&self) -> Option<Vec<(Arc<str>, String)>> {
        self.stages.iter().find_map(|start| {
            let mut path = Vec::new();
            self.walk(start, start, &mut path).then_some(path)
        })
    }

    fn walk(&self, stage: &StageReport, start: &StageReport, path: &mut Vec<(Arc<str>, String)>) -> bool {
        for (next, why) in self.waits_for(stage) {
            if path.iter().any(|(name, _)| *name == next.name) && next.name != start.name {
                continue;
            }
            path.push((Arc::clone(&stage.name), why));
            if next.name == start.name || self.walk(next, start, path) {
                return true;
            }
            path.pop();
        }
        false
    }
}

impl StageReport {
    /// Whether it is a consumer that is not in a call at this moment.
    fn is_away(&self) -> bool {
        self.kind == StageKind::Consumer && self.at_work > 0
    }

    /// Whether everything it sent has been taken.
    fn is_drained(&self) -> bool {
        self.outputs.iter().all(|output| output.queued == 0)
    }
}

fn place(stage: &StageReport, output: &OutputReport) -> String {
    let arrow = if output.name.is_empty() { "" } else { " -> " };
    format!("`{}{arrow}{}` ({} of {})", stage.name, output.name, output.queued, output.capacity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::report::Outcome;
    use crate::pipeline::stats::{StageKind, StageStats};

    /// A stage with outputs, each a branch with its reader, the number of its 8 places that are taken, and whether the
    /// stage waits for it.
    fn stage(name: &str, at_work: usize, outputs: &[(&str, Option<&str>, usize, bool)]) -> StageReport {
        let stats = StageStats::new(name.into(), StageKind::Processor, &[name.into()], 1);
        let output = |&(branch, reader, queued, is_blocking): &(&str, Option<&str>, usize, bool)| OutputReport {
            name: branch.into(),
            queued,
            capacity: 8,
            undelivered: 0,
            blocked: Duration::ZERO,
            reader: reader.map(Into::into),
            is_blocking,
        };
        let outputs = outputs.iter().map(output).collect();
        let at_work_for = Duration::from_secs(12);
        StageReport { at_work, at_work_for, outputs, ..StageReport::of(&stats, crate::clock::real_now()) }
    }

    fn diagnosis(stages: Vec<StageReport>) -> String {
        let (name, elapsed) = ("diagnosed".into(), Duration::from_secs(20));
        Report { name, outcome: Outcome::Running, elapsed, stages, faults: Vec::new() }.diagnosis().to_string()
    }

    #[test]
    fn an_unread_output_is_named_with_its_fill_level() {
        let split = stage("split", 0, &[("matched", Some("sink"), 0, false), ("rest", None, 8, true)]);
        assert_eq!(
            diagnosis(vec![split, stage("sink", 0, &[])]),
            "`split -> rest` is not read (8 of 8); `split` waits for it"
        );
        assert_eq!(
            diagnosis(vec![stage("map", 0, &[("", None, 8, true)])]),
            "`map` is not read (8 of 8); `map` waits for it"
        );
        // Full, but nothing waits for room; or room is not needed.
        assert_eq!(diagnosis(vec![stage("map", 0, &[("", None, 8, false)])]), "");
    }

    #[test]
    fn a_diamond_that_is_read_in_the_wrong_order_is_a_cycle() {
        let stages = vec![
            stage("source", 0, &[("", Some("split"), 8, true)]),
            stage("split", 0, &[("a", Some("left"), 0, false), ("b", Some("join"), 8, true)]),
            stage("left", 0, &[("", Some("join"), 0, false)]),
            stage("join", 0, &[("", Some("sink"), 0, false)]),
            stage("sink", 0, &[]),
        ];
        assert_eq!(
            diagnosis(stages),
            "stages wait for each other: `split` waits for room in `split -> b` (8 of 8), `join` waits for an item of `left` \
             (0 of 8), `left` waits for an item of `split -> a` (0 of 8)"
        );
    }

    #[test]
    fn a_chain_that_waits_for_a_call_is_not_a_cycle() {
        let stages = vec![
            stage("source", 0, &[("", Some("fetch"), 8, true)]),
            stage("fetch", 3, &[("", Some("sink"), 0, false)]),
            stage("sink", 0, &[]),
        ];
        assert_eq!(diagnosis(stages), "`fetch`: 3 threads are busy, the longest for 12.0s");
        assert_eq!(diagnosis(vec![stage("fetch", 1, &[])]), "`fetch` has been busy for 12.0s");
    }

    #[test]
    fn senders_are_waited_for_once_all_that_they_sent_is_taken() {
        let channel = |queued| {
            let sink = stage("sink", 0, &[]);
            vec![StageReport { senders: 3, ..stage("requests", 0, &[("", Some("sink"), queued, false)]) }, sink]
        };
        assert_eq!(diagnosis(channel(0)), "3 senders of `requests` are alive");
        assert_eq!(diagnosis(channel(1)), "");
    }
}
