//! [`Stages`]: the stages of a pipeline, each with a unique name.
//!
//! A pipeline may run any number of jobs, so it cannot keep every stage: when there are many, those that have ended are
//! summed up, see `summary.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::identity::{Identity, Likeness};
use super::recording::Latencies;
use super::report::StageReport;
use super::stats::{StageKind, StageStats};
use super::summary::{self, Fold};

/// Up to this number, each stage has a row of its own in the report.
pub(super) const ROWS: usize = 256;

pub(super) struct Stages {
    /// Rows of ended stages that [`sum_up`](Self::sum_up) has processed.
    ended: Vec<StageReport>,
    listed: Vec<Listed>,
    /// The number of stages so far.
    built: u64,
    /// The number of times that each name was requested.
    names: HashMap<Arc<str>, usize>,
    /// The number of stages at which they are summed up next.
    sum_up_at: usize,
}

impl Default for Stages {
    fn default() -> Self {
        Self { ended: Vec::new(), listed: Vec::new(), built: 0, names: HashMap::new(), sum_up_at: ROWS }
    }
}

struct Listed {
    stats: Arc<StageStats>,
    /// That of the stage, from 1 on.
    number: u64,
    /// Known once the stage has been seen.
    identity: Option<Identity>,
    /// The stage had begun when it was seen. Before that, it may still get inputs and outputs.
    is_final: bool,
}

impl Stages {
    /// Adds a stage, under a name that no other stage of the pipeline has.
    pub(super) fn list(&mut self, stage: NewStage<'_>, now: impl FnOnce() -> Instant) -> Arc<StageStats> {
        if self.listed.len() >= self.sum_up_at {
            self.sum_up(now());
        }
        let stats = stage.build(self.unique(stage.name));
        self.built += 1;
        self.listed.push(Listed { stats: Arc::clone(&stats), number: self.built, identity: None, is_final: false });
        stats
    }

    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<StageStats>> {
        self.listed.iter().map(|listed| &listed.stats)
    }

    /// For a report: the rows of stages that are not listed any more, and those that are, with the identities of their rows.
    pub(super) fn all(&mut self) -> (Vec<StageReport>, Vec<(Arc<StageStats>, Identity)>) {
        self.see();
        let seen = |listed: &Listed| Some((Arc::clone(&listed.stats), listed.identity.clone()?));
        (self.ended.clone(), self.listed.iter().filter_map(seen).collect())
    }

    /// Gives its identity to each stage that has none that is final.
    fn see(&mut self) {
        if self.listed.iter().all(|listed| listed.is_final) {
            return;
        }
        let mut alike: HashMap<_, _> =
            self.ended.iter().map(|row| (Arc::clone(&row.name), row.identity.alike)).collect();
        for Listed { stats, number, identity, is_final } in &mut self.listed {
            if !*is_final {
                // Before its inputs and outputs are read.
                *is_final = stats.has_begun();
                *identity = Some(Identity::new(*number, stats, |input| alike.get(input).copied()));
            }
            alike.extend(identity.as_ref().map(|identity| (Arc::clone(&stats.name), identity.alike)));
        }
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    #[cold]
    fn sum_up(&mut self, now: Instant) {
        self.see();
        let ended = self.listed.extract_if(.., has_ended).filter_map(|Listed { stats, identity, .. }| {
            Some(StageReport { identity: identity?, ..StageReport::of(&stats, now) })
        });
        let ended = ended.collect();
        let mut all_renamed = vec![summary::add(&mut self.ended, ended)];
        let numbered = Fold { likeness: Likeness::Pattern, all: false };
        let single = Fold { likeness: Likeness::Form, all: false };
        for (most, fold) in [(ROWS, numbered), (ROWS, single), (4 * ROWS, Fold { all: true, ..single })] {
            if self.ended.len() > most {
                let mut rows = std::mem::take(&mut self.ended);
                all_renamed.push(summary::fold(&mut rows, fold, |name| self.unique(name)));
                self.ended = rows;
            }
        }
        let given: HashSet<_> = self.ended.iter().map(|row| row.identity.names.name()).collect();
        for renamed in all_renamed {
            // While a given name is in use, its numbering continues, so no later stage has the name of an earlier one.
            for name in renamed.gone().filter(|gone| !given.contains(*gone)) {
                self.names.remove(name);
            }
            for stats in self.listed.iter().map(|listed| &listed.stats) {
                stats.inputs.lock().iter_mut().for_each(|input| renamed.apply(&mut input.stage));
                stats.outputs.lock().iter().for_each(|output| output.gauge.rename_reader(|name| renamed.apply(name)));
            }
        }
        // Most of them may be running: then it would be in vain each time.
        self.sum_up_at = ROWS.max(2 * self.listed.len());
    }

    fn unique(&mut self, name: &str) -> Arc<str> {
        let count = self.names.entry(name.into()).or_insert(0);
        *count += 1;
        if *count == 1 {
            return name.into();
        }
        let numbered = format!("{name}-{count}");
        // A stage may have been given this exact name.
        if self.names.contains_key(numbered.as_str()) {
            self.unique(&numbered)
        } else {
            self.names.insert(numbered.as_str().into(), 1);
            numbered.into()
        }
    }
}

/// Whether nothing will be counted any more: neither the stage nor a reader of its outputs remains.
fn has_ended(listed: &mut Listed) -> bool {
    // The list is locked, so no thread can obtain a stage that only the list holds.
    Arc::get_mut(&mut listed.stats)
        .is_some_and(|stats| stats.outputs.get_mut().iter_mut().all(|output| Arc::get_mut(&mut output.gauge).is_some()))
}

/// The description of a stage before it has a unique name.
#[derive(Clone, Copy)]
pub(super) struct NewStage<'a> {
    pub(super) name: &'a str,
    pub(super) kind: StageKind,
    /// Empty, or several if it is fused.
    pub(super) steps: &'a [Arc<str>],
    pub(super) threads: usize,
    pub(super) latencies: &'a Latencies,
}

impl NewStage<'_> {
    /// Builds the statistics under this name.
    pub(super) fn build(self, name: Arc<str>) -> Arc<StageStats> {
        let own = [Arc::clone(&name)];
        let steps = if self.steps.len() > 1 { self.steps } else { &own };
        Arc::new(StageStats::new(name, self.kind, steps, self.threads).given(self.name, self.latencies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use crate::pipeline::stats::OutputStats;
    use crate::pipeline::timing::Timing;
    use crate::pipeline::{InputReport, Pipeline, Report};

    /// Its two maps have the same name, but are in different places.
    fn job(pipeline: &Pipeline) {
        let numbers = Stream::from_iter(pipeline, 0..10).named("grow").map(|n: u32| n + 1);
        let grown = numbers.named("grow").map(|n| n + 1).filter(|n| n % 2 == 0);
        assert_eq!(grown.collect::<Vec<_>>().unwrap().len(), 5);
    }

    fn jobs(pipeline: &Pipeline, count: u64) {
        (0..count).for_each(|_| job(pipeline));
    }

    /// The name that the stage of a row was given, none of which ends in a number.
    fn given(row: &StageReport) -> &str {
        row.name.trim_end_matches(|letter: char| letter == '-' || letter.is_ascii_digit())
    }

    /// Per place of a job: the items it received, divided by the number of its rows.
    fn received(report: &Report) -> [u64; 4] {
        let behind = |upstream: &str, row: &StageReport| {
            row.inputs.first().and_then(|input| report.stage(&input.stage)).is_some_and(|row| given(row) == upstream)
        };
        let sum = |name: &str, upstream: &str| {
            let rows = report.stages.iter().filter(|row| given(row) == name && behind(upstream, row));
            rows.map(StageReport::received).sum()
        };
        [sum("grow", "source"), sum("grow", "grow"), sum("filter", "grow"), sum("collect", "filter")]
    }

    fn check_graph(report: &Report) {
        let names: HashSet<_> = report.stages.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), report.stages.len(), "each name once");
        for row in &report.stages {
            assert!(row.inputs.iter().all(|input| names.contains(&input.stage)), "{}: {:?}", row.name, row.inputs);
            assert!(row.outputs.iter().flat_map(|output| &output.reader).all(|reader| names.contains(reader)));
        }
    }

    #[test]
    fn a_pipeline_that_is_reused_keeps_few_rows_and_all_counts() {
        let pipeline = Pipeline::new("reused");
        jobs(&pipeline, 1_000);
        let earlier = pipeline.report();
        jobs(&pipeline, 500);
        let report = pipeline.join();
        for (report, jobs) in [(&earlier, 1_000), (&report, 1_500), (&report.since(&earlier), 500)] {
            // A stage may take a moment to end.
            assert!(report.stages.len() < 3 * ROWS, "{}", report.stages.len());
            assert_eq!(received(report), [10, 10, 10, 5].map(|n| n * jobs), "{report}");
            check_graph(report);
        }
        let merged = report.stages.iter().filter(|row| row.merged > 0);
        assert!(merged.map(|row| &*row.name).eq(["source", "grow", "grow-2", "filter", "collect"]), "{report}");
        let names = pipeline.scope().names();
        assert!(names < 3 * ROWS, "{names} names");
    }

    /// A job that names all of its stages: `name` is part of the names.
    fn named_job(pipeline: &Pipeline, name: &str) {
        let numbers = Stream::from_iter(&pipeline.named(format!("read {name}")), 0..10);
        let grown = numbers.named(format!("grow {name}")).map(|n: u32| n + 1);
        let even = grown.named(format!("{name}.even")).filter(|n| n % 2 == 0);
        assert_eq!(even.named(name.to_owned()).collect::<Vec<_>>().unwrap().len(), 5);
    }

    #[test]
    fn jobs_with_names_of_their_own_keep_few_rows_and_all_counts() {
        let word = |n: u64| n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
        let number = |n: u64| format!("job-{n}");
        let of_numbers = ["read job-*", "grow job-*", "job-*.even", "job-*"];
        let of_words = ["read *", "grow *", "*.even", "*"];
        for (naming, rows) in [(&number as &dyn Fn(u64) -> String, of_numbers), (&word, of_words)] {
            let pipeline = Pipeline::new("named");
            // Stages with one name are not mistaken for those of jobs, however many rows there are.
            jobs(&pipeline, 100);
            let mut reports = Vec::new();
            for n in 0..1_500 {
                named_job(&pipeline, &naming(n));
                if [200, 1_000].contains(&(n + 1)) {
                    reports.push(pipeline.report());
                }
            }
            let report = pipeline.join();
            assert_eq!(report.stage("grow").unwrap().received(), 1_000);
            for name in rows {
                let row = report.stage(name).unwrap_or_else(|| panic!("no {name} in {report}"));
                assert!(row.merged > 1_000 && *row.steps[0].name == *name, "{row:?}");
            }
            // The other jobs have 100 times 10 from the source, 30 to processors, and 5 to the sink.
            let expect = |report: &Report, named: u64, others: u64| {
                check_graph(report);
                let sum = |kind, count: fn(&StageReport) -> u64| {
                    report.stages.iter().filter(|row| row.kind == kind).map(count).sum::<u64>()
                };
                assert_eq!(sum(StageKind::Source, StageReport::emitted), 10 * (named + others), "{report}");
                let received = |kind| sum(kind, StageReport::received);
                assert_eq!(received(StageKind::Processor), 20 * named + 30 * others, "{report}");
                assert_eq!(received(StageKind::Sink), 5 * (named + others), "{report}");
            };
            expect(&report, 1_500, 100);
            for (earlier, jobs) in reports.iter().zip([200, 1_000]) {
                expect(earlier, jobs, 100);
                expect(&report.since(earlier), 1_500 - jobs, 0);
            }
            let names = pipeline.scope().names();
            assert!(report.stages.len().max(names) < 4 * ROWS, "{} rows, {names} names", report.stages.len());
        }
    }

    #[test]
    fn many_names_that_come_again_keep_a_bounded_number_of_rows() {
        let pipeline = Pipeline::new("tenants");
        let mut earlier = None;
        for n in 0..800 {
            (0..2).for_each(|_| named_job(&pipeline, &format!("tenant {n}")));
            if n == 100 {
                earlier = Some(pipeline.report());
            }
        }
        let report = pipeline.join();
        check_graph(&report);
        assert!(report.stages.len().max(pipeline.scope().names()) < 8 * ROWS, "{}", report.stages.len());
        let processed = |report: &Report| {
            let rows = report.stages.iter().filter(|row| row.kind == StageKind::Processor);
            rows.map(StageReport::received).sum::<u64>()
        };
        assert_eq!((processed(&report), processed(&report.since(&earlier.unwrap()))), (1_600 * 20, 1_398 * 20));
    }

    #[test]
    fn a_stage_that_still_runs_is_not_summed_up() {
        let pipeline = Pipeline::new("held");
        let (source, numbers) = Stream::channel(&pipeline, 1);
        let mut held = numbers.named("grow").map(|n: u32| n + 1);
        jobs(&pipeline, 200);
        source.send(1).unwrap();
        assert_eq!(held.recv().map(Result::unwrap), Some(2));
        drop((source, held));
        let report = pipeline.join();
        let own = report.stage("grow").unwrap();
        assert_eq!((own.received(), own.merged), (1, 0));
        check_graph(&report);
    }

    #[test]
    fn few_stages_are_listed_one_by_one() {
        let pipeline = Pipeline::new("few");
        jobs(&pipeline, ROWS as u64 / 5);
        let report = pipeline.join();
        assert!(report.stages.iter().all(|row| row.merged == 0), "{report}");
        assert_eq!(report.stages.len(), ROWS / 5 * 5);
        assert!(report.stage("grow-102").is_some());
    }

    /// A report may see a stage before it has its inputs, or its outputs, or a thread.
    #[test]
    fn stages_are_alike_however_early_they_are_seen() {
        let mut stages = Stages::default();
        let latencies = Latencies::default();
        let output = || OutputStats { name: Arc::default(), gauge: Arc::default(), waits: Arc::new(Timing::new()) };
        let now = crate::clock::real_now();
        let mut build = |seen: [bool; 4]| {
            let new =
                NewStage { name: "map", kind: StageKind::Processor, steps: &[], threads: 1, latencies: &latencies };
            let stats = stages.list(new, || now);
            let build: [&dyn Fn(&StageStats); 4] = [
                &|_| {},
                &|stats| stats.inputs.lock().push(InputReport { stage: "source".into(), output: Arc::default() }),
                &|stats| stats.outputs.lock().push(output()),
                &|stats| stats.threads[0].start(now),
            ];
            for (build, seen) in build.iter().zip(seen) {
                build(&stats);
                if seen {
                    stages.all();
                }
            }
        };
        (0..16).for_each(|seen| build([1, 2, 4, 8].map(|bit| seen & bit > 0)));
        let (_, listed) = stages.all();
        let alike: HashSet<_> = listed.iter().map(|(_, identity)| identity.alike).collect();
        assert_eq!((listed.len(), alike.len()), (16, 1));
    }

    /// Stages as a pipeline has them, without threads: they are listed, count, and end when the handle is dropped.
    #[derive(Default)]
    struct Model {
        stages: Stages,
        running: Vec<Arc<StageStats>>,
        /// So many of eight tenants have names that differ in letters, the others in numbers.
        words: u32,
        /// What all stages have counted, by kind.
        total: HashMap<StageKind, u64>,
    }

    impl Model {
        /// Builds a job: a source and stages that each read the one before it, or all the same.
        fn build(&mut self, rng: &mut fastrand::Rng, tenant: u32) {
            let shape = rng.u32(..4);
            let latencies = Latencies::default();
            let mut before: Option<Arc<StageStats>> = None;
            for stage in 0..=shape {
                let tenant = match tenant % 8 < self.words {
                    true => tenant.to_string().bytes().map(|digit| char::from(digit + (b'a' - b'0'))).collect(),
                    false => tenant.to_string(),
                };
                let name = match (rng.u32(..8), stage) {
                    (0, _) => "map".to_owned(),
                    (_, 0) => format!("read-{tenant}"),
                    (_, 1) => format!("tenant{tenant}.parse"),
                    (1..4, _) => "map".to_owned(),
                    _ => format!("{tenant} load"),
                };
                let kind = if before.is_none() { StageKind::Source } else { StageKind::Processor };
                let new = NewStage { name: &name, kind, steps: &[], threads: 1, latencies: &latencies };
                let stats = self.stages.list(new, crate::clock::real_now);
                // Some are reported before all of their inputs are known.
                if let Some(before) = before.filter(|_| rng.u32(..20) > 0) {
                    let input = InputReport { stage: Arc::clone(&before.name), output: Arc::default() };
                    stats.inputs.lock().push(input);
                }
                self.running.push(Arc::clone(&stats));
                before = Some(stats);
            }
        }

        fn step(&mut self, rng: &mut fastrand::Rng, tenants: u32) {
            let running = self.running.len();
            match rng.u32(..10) {
                0..3 if running < 60 => {
                    let tenant = rng.u32(..tenants);
                    self.build(rng, tenant);
                }
                0..7 if running > 0 => {
                    let stage = &self.running[rng.usize(..running)];
                    let count = u64::from(rng.u32(1..1_000));
                    stage.steps[0].received.add(count);
                    *self.total.entry(stage.kind).or_insert(0) += count;
                }
                _ if running > 0 => {
                    self.running.swap_remove(rng.usize(..running));
                }
                _ => {}
            }
        }

        fn report(&mut self) -> Report {
            let (mut stages, listed) = self.stages.all();
            let now = crate::clock::real_now();
            let row =
                |(stats, identity): (Arc<StageStats>, _)| StageReport { identity, ..StageReport::of(&stats, now) };
            stages.extend(listed.into_iter().map(row));
            Report { stages, ..Pipeline::new("model").report() }
        }
    }

    fn counted(report: &Report) -> HashMap<StageKind, u64> {
        let mut counted = HashMap::new();
        report.stages.iter().for_each(|row| *counted.entry(row.kind).or_insert(0) += row.received());
        counted.retain(|_, count| *count > 0);
        counted
    }

    #[cfg(feature = "serde")]
    fn stored(report: &Report) -> Report {
        serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap()
    }

    #[cfg(not(feature = "serde"))]
    fn stored(report: &Report) -> Report {
        report.clone()
    }

    /// Of two reports, the difference is what has happened in between.
    #[test]
    fn intervals_add_up_whatever_rows_are_added_and_names_recur() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..9 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut model = Model { words: [0, 1, 8][seed as usize % 3], ..Model::default() };
            // More tenants than rows, about as many, or few.
            let tenants = [5, 60, 400, 3_000, u32::MAX][seed as usize % 5];
            let mut reports = vec![(model.report(), HashMap::new())];
            for _ in 0..6_000 {
                model.step(&mut rng, tenants);
                if rng.u32(..400) > 0 {
                    continue;
                }
                let report = model.report();
                assert_eq!(counted(&report), model.total, "seed {seed}");
                kinds.extend(report.stages.iter().filter(|row| row.merged > 0).map(|row| row.identity.likeness));
                let report = if rng.bool() { stored(&report) } else { report };
                let first = reports.len().saturating_sub(3);
                for (earlier, before) in reports[..first].iter().step_by(4).chain(&reports[first..]) {
                    let interval = report.since(earlier);
                    let mut happened = model.total.clone();
                    happened.iter_mut().for_each(|(kind, count)| *count -= before.get(kind).unwrap_or(&0));
                    happened.retain(|_, count| *count > 0);
                    assert_eq!(counted(&interval), happened, "seed {seed}");
                    let reversed = earlier.since(&report);
                    assert_eq!(counted(&reversed), HashMap::new(), "seed {seed}");
                }
                reports.push((report, model.total.clone()));
            }
            let rows = model.stages.ended.len();
            assert!(rows < 6 * ROWS, "seed {seed}: {rows} rows");
        }
        assert_eq!(kinds.len(), 3, "each kind of row that stands for several stages");
    }
}
