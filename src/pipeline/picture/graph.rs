//! [`Graph`]: the picture of a [`Report`], independent of the language.
//!
//! - A stage is identified by its place in the report; two stages may have the same name.
//! - Each node comes after those that feed it. A report that was made by hand may have a cycle: it is broken at the
//!   stage that comes first in the report.
//! - A text is a list of lines, and the first line of a node is the name of its stage. A line may contain any
//!   character.

use std::collections::BTreeSet;

use crate::pipeline::{OutputReport, Pace, Report, StageKind, StageReport};

pub(super) struct Graph {
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    /// In the order of the nodes where they start.
    pub(super) links: Vec<Link>,
}

pub(super) struct Node {
    /// The place of the stage in the report, or a number beyond those.
    pub(super) id: usize,
    pub(super) shape: Shape,
    pub(super) lines: Vec<String>,
    pub(super) pace: Option<PaceMark>,
    /// The stage waits for room at this moment.
    pub(super) is_waiting: bool,
}

/// How a stage limits the pace of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PaceMark {
    Bottleneck,
    SlowSource,
    SlowConsumer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A source or a sink.
    Terminal,
    Stage,
    Task,
    /// Code outside the library that reads an output, or will read it.
    Outside,
}

pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// None for a source that runs on the thread of the stage that reads it.
    pub(super) lines: Vec<String>,
    /// A stage waits for room in it at this moment.
    pub(super) is_blocking: bool,
}

impl Graph {
    pub(super) fn of(report: &Report) -> Self {
        let stages = &report.stages;
        let (mut links, mut outside) = (Vec::new(), Vec::new());
        for (from, stage) in stages.iter().enumerate() {
            for output in &stage.outputs {
                let to = reader(stages, stage, output).unwrap_or_else(|| {
                    outside.push(Node::outside(stages.len() + outside.len(), output));
                    stages.len() + outside.len() - 1
                });
                let is_one_of_several = stage.outputs.len() > 1;
                links.push(Link {
                    from,
                    to,
                    lines: link_lines(report, output, is_one_of_several),
                    is_blocking: output.is_blocking,
                });
            }
        }
        links.extend(inlined(stages));

        let order = order(stages.len(), &links);
        let mut rank = vec![0; stages.len()];
        order.iter().enumerate().for_each(|(place, &stage)| rank[stage] = place);
        links.sort_by_key(|link| rank[link.from]);
        let pace = report.pace();
        let nodes = order.iter().map(|&id| Node::of(report, id, pace)).chain(outside).collect();
        Self { title: format!("{}: {} after {:.3?}", report.name, report.outcome, report.elapsed), nodes, links }
    }
}

impl Node {
    fn of(report: &Report, id: usize, pace: Pace<'_>) -> Self {
        let stage = &report.stages[id];
        let shape = match stage.kind {
            StageKind::Source | StageKind::Sink => Shape::Terminal,
            StageKind::Processor => Shape::Stage,
            StageKind::Consumer => Shape::Outside,
            StageKind::Task => Shape::Task,
        };
        let pace = PaceMark::of(pace, stage);
        let is_waiting = stage.blocking().next().is_some();
        Self { id, shape, lines: node_lines(report, stage, pace, is_waiting), pace, is_waiting }
    }

    fn outside(id: usize, output: &OutputReport) -> Self {
        let text = output.reader.as_deref().unwrap_or("no stage reads this");
        Self { id, shape: Shape::Outside, lines: vec![text.to_owned()], pace: None, is_waiting: false }
    }
}

impl PaceMark {
    fn of(pace: Pace<'_>, stage: &StageReport) -> Option<Self> {
        let (slowest, mark) = match pace {
            Pace::Unknown => return None,
            Pace::Stage(slowest) => (slowest, Self::Bottleneck),
            Pace::Source(slowest) => (slowest, Self::SlowSource),
            Pace::Consumer(feeder) => (feeder, Self::SlowConsumer),
        };
        std::ptr::eq(slowest, stage).then_some(mark)
    }

    fn caption(self) -> &'static str {
        match self {
            Self::Bottleneck => "bottleneck",
            Self::SlowSource => "the slowest",
            Self::SlowConsumer => "waits for its consumer",
        }
    }
}

/// The stage that reads the output. If several have its name, one that lists the output as its input.
fn reader(stages: &[StageReport], feeder: &StageReport, output: &OutputReport) -> Option<usize> {
    let name = output.reader.as_ref()?;
    let candidates = || stages.iter().enumerate().filter(|(_, stage)| stage.name == *name);
    let knows = |(_, stage): &(usize, &StageReport)| {
        stage.inputs.iter().any(|input| input.stage == feeder.name && input.output == output.name)
    };
    candidates().find(knows).or_else(|| candidates().next()).map(|(index, _)| index)
}

/// Links that are not outputs: from a source to the stage on whose thread it runs.
fn inlined(stages: &[StageReport]) -> impl Iterator<Item = Link> {
    let inputs = stages.iter().enumerate().flat_map(|(to, stage)| stage.inputs.iter().map(move |input| (to, input)));
    inputs.filter_map(|(to, input)| {
        let is_feeder = |stage: &StageReport| stage.name == input.stage && stage.outputs.is_empty();
        let from = stages.iter().position(is_feeder)?;
        Some(Link { from, to, lines: Vec::new(), is_blocking: false })
    })
}

/// The stages, each after those that feed it, otherwise in their order.
fn order(stages: usize, links: &[Link]) -> Vec<usize> {
    let mut behind = vec![Vec::new(); stages];
    let mut feeders = vec![0_usize; stages];
    for link in links.iter().filter(|link| link.to < stages) {
        behind[link.from].push(link.to);
        feeders[link.to] += 1;
    }
    let mut left: BTreeSet<usize> = (0..stages).collect();
    let mut ready: BTreeSet<usize> = (0..stages).filter(|&stage| feeders[stage] == 0).collect();
    let mut order = Vec::with_capacity(stages);
    while let Some(next) = ready.pop_first().or_else(|| left.first().copied()) {
        left.remove(&next);
        order.push(next);
        for &stage in &behind[next] {
            feeders[stage] = feeders[stage].saturating_sub(1);
            if feeders[stage] == 0 && left.contains(&stage) {
                ready.insert(stage);
            }
        }
    }
    order
}

fn node_lines(report: &Report, stage: &StageReport, pace: Option<PaceMark>, is_waiting: bool) -> Vec<String> {
    let name = if stage.name.trim().is_empty() { "(no name)" } else { &stage.name };
    let threads = if stage.threads > 1 { format!(" x{}", stage.threads) } else { String::new() };
    let mut lines = vec![format!("{name}{threads}")];
    if stage.kind == StageKind::Task {
        return lines;
    }
    if stage.steps.len() > 1 {
        lines.extend(stage.steps.iter().map(|step| format!("- {}", step.name)));
    }
    let [received, emitted] = [stage.received(), stage.emitted()].map(grouped);
    lines.push(match stage.kind {
        StageKind::Source => format!("{emitted} out"),
        StageKind::Sink | StageKind::Consumer => format!("{received} in"),
        _ => format!("{received} in, {emitted} out"),
    });
    let losses = [(stage.failed(), "failed"), (stage.removed(), "removed"), (stage.abandoned(), "abandoned")];
    lines.extend(listed(losses.map(|(count, word)| (count > 0).then(|| format!("{} {word}", grouped(count))))));
    lines.extend(stage.hidden_failures().map(|failed| format!("{} failed calls", grouped(failed))));
    let shares = [("busy", stage.busy), ("asleep", stage.asleep), ("blocked", stage.blocked)];
    lines.extend(listed(shares.map(|(word, time)| {
        let percent = 100.0 * report.share(stage, time);
        (percent >= 0.5).then(|| format!("{word} {percent:.0} %"))
    })));
    lines.extend(stage.latency.as_ref().map(|time| format!("p50 {:.1?}, p99 {:.1?}", time.p50, time.p99)));
    lines.extend(pace.map(|mark| mark.caption().to_owned()));
    lines.extend(is_waiting.then(|| "waits for room".to_owned()));
    lines
}

fn link_lines(report: &Report, output: &OutputReport, is_one_of_several: bool) -> Vec<String> {
    let branch = if output.name.is_empty() { String::new() } else { format!("{}: ", output.name) };
    let mut lines = vec![format!("{branch}{} of {}", grouped(output.queued as u64), grouped(output.capacity as u64))];
    if output.undelivered > 0 {
        lines.push(format!("{} undelivered", grouped(output.undelivered)));
    }
    // A stage with only one output shows it in its node.
    if is_one_of_several && output.blocked > report.elapsed / 200 {
        lines.push(format!("blocked {:.1?}", output.blocked));
    }
    lines
}

fn listed<const N: usize>(parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::real_now;
    use crate::pipeline::stats::StageStats;
    use crate::pipeline::{InputReport, Outcome};

    /// A stage, the stages whose output `out` it reads, and the stages that read its own.
    fn stage(name: &str, inputs: &[&str], readers: &[&str]) -> StageReport {
        let stats = StageStats::new(name.into(), StageKind::Processor, &[name.into()], 1);
        let output = |reader: &&str| OutputReport {
            name: "out".into(),
            queued: 0,
            capacity: 1,
            undelivered: 0,
            blocked: Duration::ZERO,
            reader: Some((*reader).into()),
            is_blocking: false,
        };
        let input = |feeder: &&str| InputReport { stage: (*feeder).into(), output: "out".into() };
        let (inputs, outputs) = (inputs.iter().map(input).collect(), readers.iter().map(output).collect());
        StageReport { inputs, outputs, ..StageReport::of(&stats, real_now()) }
    }

    /// The nodes, and the start and end of each link.
    fn drawn(stages: Vec<StageReport>) -> (Vec<usize>, Vec<(usize, usize)>) {
        let (name, elapsed) = ("drawn".into(), Duration::ZERO);
        let graph = Graph::of(&Report { name, outcome: Outcome::Running, elapsed, stages, faults: Vec::new() });
        let ids = graph.nodes.iter().map(|node| node.id).collect();
        (ids, graph.links.iter().map(|link| (link.from, link.to)).collect())
    }

    #[test]
    fn nodes_come_after_those_that_feed_them() {
        let stages =
            vec![stage("c", &["b"], &[]), stage("b", &["a"], &["c"]), stage("x", &[], &[]), stage("a", &[], &["b"])];
        assert_eq!(drawn(stages), (vec![2, 3, 1, 0], vec![(3, 1), (1, 0)]));
    }

    #[test]
    fn a_cycle_is_drawn_from_its_first_stage() {
        let stages = vec![stage("z", &["b"], &[]), stage("a", &["b"], &["b"]), stage("b", &["a"], &["a", "z"])];
        assert_eq!(drawn(stages), (vec![0, 1, 2], vec![(1, 2), (2, 1), (2, 0)]));
        assert_eq!(drawn(vec![stage("a", &["a"], &["a"])]), (vec![0], vec![(0, 0)]));
    }

    #[test]
    fn of_two_stages_with_one_name_the_reader_is_linked() {
        let stages = vec![stage("a", &[], &["same"]), stage("same", &[], &[]), stage("same", &["a"], &[])];
        assert_eq!(drawn(stages), (vec![0, 1, 2], vec![(0, 2)]));
    }

    #[test]
    fn a_reader_that_the_report_does_not_list_is_a_node() {
        let stages = vec![stage("a", &[], &["late", "b", "later"]), stage("b", &["a"], &[])];
        assert_eq!(drawn(stages), (vec![0, 1, 2, 3], vec![(0, 2), (0, 1), (0, 3)]));
    }

    #[test]
    fn a_source_on_the_thread_of_its_reader_is_linked_to_it() {
        assert_eq!(drawn(vec![stage("lines", &[], &[]), stage("parse", &["lines"], &[])]).1, [(0, 1)]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0, 999, 1_000, 12_345, 123_456, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345", "123,456", "1,234,567"]);
    }
}
