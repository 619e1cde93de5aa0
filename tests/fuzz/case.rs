//! One random pipeline, from its making to its end.

use std::any::Any;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use streamz::{
    CancelToken, FanIn, ManualClock, Outcome, PanicMessage, Pipeline, Report, Stream, StreamError, TryRecvError,
};

use crate::Log;
use crate::common::books;
use crate::common::inbox::Letter;
use crate::common::item::{Census, Item};
use crate::common::seen::Seen;
use crate::common::threads;
use crate::endings::{Ending, Switch, Time, actor, spin, turns};
use crate::expected::Expected;
use crate::operators::Op;
use crate::sources::{self, Delivered, Length};
use crate::trace::{Facts, Trace};
use crate::{forks, operators, outbox};

/// A stream in the making.
pub(crate) struct Branch {
    pub(crate) stream: Stream<Item>,
    /// The stage that feeds it.
    pub(crate) feeder: String,
    pub(crate) trace: Rc<Trace>,
    /// It comes in the order that the trace foretells.
    pub(crate) ordered: bool,
    /// Chance has no part in it.
    pub(crate) known: bool,
    /// Some of it may be left out.
    pub(crate) drops: bool,
}

/// A stream that is read.
struct Reading {
    seen: Arc<Mutex<Read>>,
    thread: Option<JoinHandle<()>>,
    what: &'static str,
    feeder: String,
    trace: Rc<Trace>,
    ordered: bool,
    known: bool,
    drops: bool,
}

/// What a reader has seen.
#[derive(Default)]
struct Read {
    seen: Vec<Seen>,
    /// It has come to the end of the stream, and the stream was not cut.
    complete: bool,
}

pub(crate) struct Case<'a> {
    pub(crate) rng: Rng,
    pub(crate) log: &'a Log,
    pub(crate) census: Census,
    clock: Option<ManualClock>,
    ending: Ending,
    /// Something runs forever unless it is stopped, and time cannot be waited for on a manual clock.
    endless: bool,
    child: CancelToken,
    readings: Vec<Reading>,
    feeders: Vec<JoinHandle<()>>,
    pub(crate) actors: Vec<JoinHandle<()>>,
    pub(crate) held: Vec<Box<dyn Any + Send>>,
    pub(crate) delivered: Vec<Delivered>,
    /// All that comes out of the sources comes to a sink, unless the pipeline is stopped.
    pub(crate) all_read: bool,
    /// An end of the pipeline may stop it.
    pub(crate) may_stop: bool,
}

pub(crate) fn run(seed: u64, log: &Log) {
    let mut rng = Rng::with_seed(seed);
    let ending = Ending::random(&mut rng);
    let clock = rng.bool().then(|| ManualClock::new().with_watchdog(crate::LIMIT));
    // With a name that other cases have as well, stages run on threads that have served these.
    let name = if rng.bool() { threads::unique_name('f') } else { "shared".to_owned() };
    let mut builder = Pipeline::builder(name.as_str());
    if let Some(clock) = &clock {
        builder = builder.clock(clock);
    }
    let capacity = operators::capacity(&mut rng);
    if let Some(items) = capacity {
        builder = builder.capacity(items);
    }
    if let Ending::Timeout(timeout) = ending {
        builder = builder.timeout(timeout);
    }
    let pipeline = builder.build();
    log.note(format!("{ending:?}, manual clock {}, capacity {capacity:?}", clock.is_some()));
    // On a manual clock only a pipeline at rest lets time pass, and one that is endless may never be.
    let may_be_endless = ending != Ending::Finish && !(clock.is_some() && matches!(ending, Ending::Timeout(_)));
    let case = Case {
        endless: may_be_endless && rng.bool(),
        child: pipeline.child(),
        rng,
        log,
        census: Census::default(),
        clock,
        ending,
        readings: Vec::new(),
        feeders: Vec::new(),
        actors: Vec::new(),
        held: Vec::new(),
        delivered: Vec::new(),
        all_read: true,
        may_stop: false,
    };
    let census = case.census.clone();
    let delivered = case.run(pipeline);
    if name == "shared" {
        // A thread that is kept for reuse may be the last to let go of the pipeline, and of the error that cancelled it.
        while census.check().is_err() {
            std::thread::yield_now();
        }
    } else {
        threads::wait_until_gone(&name);
    }
    for Delivered { fates, .. } in delivered {
        fates.check().unwrap_or_else(|what| panic!("{what}"));
        let settled = fates.acknowledged().len() + fates.given_back().len();
        assert!(settled as u64 <= fates.fetched(), "{settled} of {} settled", fates.fetched());
    }
    census.check().unwrap_or_else(|what| panic!("{what}"));
}

impl Case<'_> {
    /// Gives what became of the records, which may change until all threads are gone.
    fn run(mut self, pipeline: Pipeline) -> Vec<Delivered> {
        let early = self.rng.u8(..8) == 0;
        let switch =
            Switch { ending: self.ending, root: pipeline.token(), child: self.child.clone(), endless: self.endless };
        // One time in eight the end comes while the pipeline is being built.
        let mut switch = self.ending.by_token().then_some(switch);
        if early {
            self.actors.push(actor(&mut self.rng, switch.take(), Vec::new()));
        }
        let (rng, token, endless) = (&mut self.rng, pipeline.token(), self.endless);
        let time = self.clock.clone().map(|clock| Time::let_pass(rng, clock, token, endless));
        let mut branches = self.build(&pipeline);
        let main = branches.swap_remove(self.rng.usize(..branches.len()));
        branches.into_iter().for_each(|branch| self.read_elsewhere(branch));
        self.extras(&pipeline);
        let by_main = if self.rng.bool() { switch.take() } else { None };
        let held = std::mem::take(&mut self.held);
        self.actors.push(actor(&mut self.rng, switch, held));
        let report = self.read_and_end(pipeline, main, by_main);
        join_all(&mut self.actors);
        join_all(&mut self.feeders);
        drop(time);
        if let Some((report, is_final)) = report {
            self.check(&report, is_final);
        }
        self.delivered
    }

    /// One or two sources, and what hangs on them.
    fn build(&mut self, pipeline: &Pipeline) -> Vec<Branch> {
        let (mut done, mut is_strict) = (Vec::new(), false);
        for _ in 0..=self.rng.usize(..5) / 4 {
            let length = if self.endless { Length::Endless } else { Length::Finite(self.rng.u64(..150)) };
            let timed = self.clock.is_none() || !self.endless;
            let source = sources::random(&mut self.rng, pipeline, &self.census, length, timed);
            self.log.note(format!("source: {}", source.what));
            let strict = source.delivered.as_ref().is_some_and(|delivered| delivered.strict);
            let to_outbox = if source.delivered.is_some() { 2 } else { 8 };
            self.delivered.extend(source.delivered);
            self.feeders.extend(source.feeders);
            self.held.extend(source.open.map(|sender| Box::new(sender) as Box<dyn Any + Send>));
            let branch = Branch {
                stream: source.stream,
                feeder: sources::last_stage(pipeline),
                trace: Rc::new(Trace::Source(source.input)),
                ordered: true,
                known: true,
                drops: false,
            };
            if strict {
                is_strict = true;
                done.push(self.strict(pipeline, branch));
                continue;
            }
            let mut open = vec![branch];
            while let Some(mut branch) = open.pop() {
                for _ in 0..self.rng.usize(..4) {
                    branch = self.scope(pipeline, branch);
                    let fork = done.len() + open.len() < 4 && self.rng.u8(..6) == 0;
                    if !fork {
                        branch = self.extend(pipeline, branch);
                        continue;
                    }
                    let mut ways = forks::random(self, pipeline, branch);
                    branch = ways.swap_remove(self.rng.usize(..ways.len()));
                    open.append(&mut ways);
                }
                if self.rng.u8(..to_outbox) == 0 {
                    branch = outbox::behind(self, pipeline, branch);
                }
                done.push(branch);
            }
        }
        while done.len() > 1 && !is_strict && self.rng.u8(..3) == 0 {
            let mut branch = self.merge(pipeline, &mut done);
            for _ in 0..self.rng.usize(..3) {
                branch = self.scope(pipeline, branch);
                branch = self.extend(pipeline, branch);
            }
            done.push(branch);
        }
        done
    }

    /// Nothing is lost on purpose before the outbox, and nothing comes behind it.
    fn strict(&mut self, pipeline: &Pipeline, mut branch: Branch) -> Branch {
        for _ in 0..self.rng.usize(..4) {
            branch = self.scope(pipeline, branch);
            let op = operators::keeping(&mut self.rng);
            branch = self.put_behind(pipeline, branch, op);
        }
        outbox::behind(self, pipeline, branch)
    }

    /// Makes one of two or more.
    fn merge(&mut self, pipeline: &Pipeline, done: &mut Vec<Branch>) -> Branch {
        self.rng.shuffle(done);
        let parts = done.split_off(self.rng.usize(..done.len() - 1));
        let child = self.ending == Ending::Child && self.rng.bool();
        let token = if child { self.child.clone() } else { pipeline.token() };
        let feeders: Vec<_> = parts.iter().map(|part| part.feeder.as_str()).collect();
        self.log.note(format!("[{}] -> fan_in, child token {child}", feeders.join(", ")));
        let (mut known, mut drops, mut streams, mut traces) = (true, false, Vec::new(), Vec::new());
        for part in parts {
            known &= part.known;
            drops |= part.drops;
            streams.push(part.stream);
            traces.push(part.trace);
        }
        let fan_in = FanIn::new();
        let fan_in = operators::capacity(&mut self.rng).map_or(FanIn::new(), |items| fan_in.with_capacity(items));
        let stream = fan_in.process(&token, streams);
        let (feeder, trace) = (sources::last_stage(pipeline), Rc::new(Trace::Merged(traces)));
        Branch { stream, feeder, trace, ordered: false, known, drops }
    }

    /// Now and then what follows is in another scope.
    fn scope(&mut self, pipeline: &Pipeline, mut branch: Branch) -> Branch {
        if self.ending == Ending::Child && self.rng.bool() {
            let child = self.rng.bool();
            let token = if child { self.child.clone() } else { pipeline.token() };
            self.log.note(format!("after {}: child token {child}", branch.feeder));
            branch.stream = branch.stream.with_token(&token);
        }
        branch
    }

    fn extend(&mut self, pipeline: &Pipeline, branch: Branch) -> Branch {
        let mut op = operators::random(&mut self.rng);
        while op.copies && !self.delivered.is_empty() {
            op = operators::random(&mut self.rng);
        }
        self.put_behind(pipeline, branch, op)
    }

    fn put_behind(&mut self, pipeline: &Pipeline, mut branch: Branch, op: Op) -> Branch {
        let before = pipeline.report().stages.len();
        branch.stream = (op.wire)(branch.stream);
        self.log.note(format!("{} -> {}", branch.feeder, op.what));
        // Not everything is a stage of its own.
        if pipeline.report().stages.len() > before {
            branch.feeder = sources::last_stage(pipeline);
            self.log.note(format!("   makes {}", branch.feeder));
        }
        branch.known &= op.known && ((branch.ordered && !branch.drops) || op.any_order);
        branch.known &= !(op.hurries && matches!(self.ending, Ending::Timeout(_)));
        self.all_read &= !op.ends_early;
        branch.ordered &= op.ordered;
        branch.drops |= op.drops;
        branch.trace = Rc::new(Trace::Behind(branch.trace, op.model));
        branch
    }

    /// Work beside the streams.
    fn extras(&mut self, pipeline: &Pipeline) {
        if self.rng.u8(..8) == 0 && (self.clock.is_none() || !self.endless) {
            let period = Duration::from_micros(self.rng.u64(100..2_000));
            self.log.note(format!("every {period:?}"));
            pipeline.every(period, || {});
        }
        let is_cancelled = matches!(self.ending, Ending::Cancel | Ending::Abort | Ending::DropPipeline);
        if is_cancelled && self.rng.u8(..8) == 0 {
            self.log.note("a task that waits");
            pipeline.spawn("waits", |cancel| drop(cancel.wait()));
        }
    }

    /// Finds a reader for a stream that the case does not read itself.
    fn read_elsewhere(&mut self, branch: Branch) {
        let seen = Arc::new(Mutex::new(Read::default()));
        let shared = Arc::clone(&seen);
        let Branch { mut stream, feeder, trace, ordered, known, drops } = branch;
        let count = self.rng.usize(..20);
        let mut thread = None;
        let mut on_thread = |work: Box<dyn FnOnce() + Send>| thread = Some(std::thread::spawn(work));
        // An end is a stage, which cannot be added to a pipeline that has finished.
        let kind = match self.rng.u8(..11) {
            5 | 7 | 8 | 10 if self.ending.takes_pipeline() => 9,
            kind => kind,
        };
        self.all_read &= !matches!(kind, 0 | 1 | 4 | 6 | 7);
        let what = match kind {
            0 => {
                drop(stream);
                "dropped at once"
            }
            1 => {
                self.held.push(Box::new(stream));
                "never read"
            }
            2 | 3 => {
                stream.spawn_for_each(move |item| shared.lock().unwrap().note(&item));
                "spawn_for_each"
            }
            4 => {
                on_thread(Box::new(move || {
                    for _ in 0..count {
                        let Some(item) = stream.recv() else { break };
                        shared.lock().unwrap().note(&item);
                    }
                }));
                "dropped in the middle"
            }
            5 => {
                let inline = self.rng.bool();
                on_thread(Box::new(move || {
                    let note = |item| shared.lock().unwrap().note(&item);
                    let result = match inline {
                        true => stream.inline().tap(|_: &Item| {}).for_each(note),
                        false => stream.for_each(note),
                    };
                    shared.lock().unwrap().complete = result.is_ok();
                }));
                "for_each"
            }
            6 => {
                let receiver = stream.into_receiver(count);
                on_thread(Box::new(move || receiver.iter().for_each(|item| shared.lock().unwrap().note(&item))));
                "into_receiver"
            }
            7 => {
                on_thread(Box::new(move || {
                    for item in stream.into_iter().take(count) {
                        shared.lock().unwrap().note(&item);
                    }
                }));
                "iterated over in part"
            }
            8 if self.ending != Ending::Finish || self.rng.bool() => {
                self.may_stop = true;
                on_thread(Box::new(move || {
                    let _ = stream.try_for_each(|item| {
                        shared.lock().unwrap().seen.push((&item).into());
                        streamz::ok(())
                    });
                }));
                "try_for_each"
            }
            10 => {
                let ((shelf, _), batches) =
                    (outbox::random(&mut self.rng, &self.census), outbox::batches(&mut self.rng));
                self.may_stop = true;
                self.log.note(format!("{shelf:?}, {batches:?}"));
                on_thread(Box::new(move || drop(stream.deliver_to(shelf, batches))));
                "deliver_to"
            }
            _ => {
                on_thread(Box::new(move || {
                    while let Some(item) = stream.recv() {
                        shared.lock().unwrap().note(&item);
                    }
                    shared.lock().unwrap().complete_unless_cut();
                }));
                "by hand"
            }
        };
        self.log.note(format!("{feeder}: {what}"));
        self.readings.push(Reading { seen, thread, what, feeder, trace, ordered, known, drops });
    }

    /// Reads the main stream, and brings about the end if that is left to this thread. Gives the report, and whether
    /// it cannot change any more.
    fn read_and_end(&mut self, pipeline: Pipeline, main: Branch, switch: Option<Switch>) -> Option<(Report, bool)> {
        let Branch { stream, feeder, trace, ordered, known, drops: lossy } = main;
        let seen = Arc::new(Mutex::new(Read::default()));
        let (drops, holds) = (self.rng.u8(..6) == 0, self.rng.bool());
        self.log.note(format!("{feeder}: main, by hand, drops {drops}, holds {holds}"));
        let mut stream = Some(stream);
        if switch.is_some() || self.ending.takes_pipeline() || drops {
            self.read_some(&mut stream, &seen);
        }
        if let Some(switch) = switch {
            switch.press(turns(&mut self.rng));
        }
        if drops || (self.ending.takes_pipeline() && !holds) {
            stream = None;
        }
        self.all_read &= !drops && !self.ending.takes_pipeline();
        self.readings.push(Reading {
            seen: Arc::clone(&seen),
            thread: None,
            what: "main",
            feeder,
            trace,
            ordered,
            known,
            drops: lossy,
        });
        match self.ending {
            Ending::Abort => return Some((self.then_drop(stream, || pipeline.abort()), false)),
            Ending::DrainWithin(limit) => {
                return Some((self.then_drop(stream, || pipeline.drain_within(limit)), false));
            }
            Ending::DropPipeline => {
                self.then_drop(stream, || drop(pipeline));
                return None;
            }
            _ => {}
        }
        self.read_to_the_end(stream, &seen);
        if let (Ending::Timeout(timeout), Some(clock)) = (self.ending, &self.clock) {
            // No other thread may be there that waits for time to pass.
            clock.advance(timeout);
        }
        self.join_readers();
        // They drop the streams that are not read.
        join_all(&mut self.actors);
        Some((pipeline.join(), true))
    }

    /// Ends the pipeline with a stream in hand that is not read any more.
    fn then_drop<R>(&mut self, stream: Option<Stream<Item>>, end: impl FnOnce() -> R) -> R {
        let result = end();
        drop(stream);
        self.join_readers();
        result
    }

    fn join_readers(&mut self) {
        for reading in &mut self.readings {
            if let Some(thread) = reading.thread.take() {
                thread
                    .join()
                    .unwrap_or_else(|_| panic!("the reader of {} ({}) panicked", reading.feeder, reading.what));
            }
        }
    }

    /// Takes a few items, if they come.
    fn read_some(&mut self, stream: &mut Option<Stream<Item>>, seen: &Mutex<Read>) {
        let (mut wanted, patience) = (self.rng.u32(..30), turns(&mut self.rng));
        for _ in 0..patience {
            let Some(open) = stream.as_mut().filter(|_| wanted > 0) else { return };
            match open.try_recv() {
                Ok(item) => {
                    seen.lock().unwrap().note(&item);
                    wanted -= 1;
                }
                Err(TryRecvError::Ended) => {
                    seen.lock().unwrap().complete_unless_cut();
                    *stream = None;
                }
                Err(TryRecvError::Empty) => spin(1),
            }
        }
    }

    fn read_to_the_end(&mut self, stream: Option<Stream<Item>>, seen: &Mutex<Read>) {
        let Some(mut stream) = stream else { return };
        let may_pass_time = self.clock.is_none() || !self.endless;
        let how = self.rng.u8(..4);
        let mut patience = 100;
        loop {
            let item = match how {
                0 if may_pass_time && patience > 0 => {
                    patience -= 1;
                    match stream.recv_timeout(Duration::from_micros(20)) {
                        Err(streamz::RecvTimeoutError::Timeout) => continue,
                        item => item.ok(),
                    }
                }
                1 if may_pass_time && patience > 0 => {
                    patience -= 1;
                    if let Some(clock) = &self.clock {
                        clock.advance(Duration::from_micros(self.rng.u64(..100)));
                    }
                    match stream.try_recv() {
                        Err(TryRecvError::Empty) => continue,
                        item => item.ok(),
                    }
                }
                _ => stream.recv(),
            };
            match item {
                Some(item) => seen.lock().unwrap().note(&item),
                None => return seen.lock().unwrap().complete_unless_cut(),
            }
        }
    }

    fn check(&self, report: &Report, is_final: bool) {
        if is_final {
            books::check(report).unwrap_or_else(|what| panic!("the report does not balance: {what}"));
        } else {
            books::check_steps(report).unwrap_or_else(|what| panic!("the report does not balance: {what}"));
        }
        let over = matches!(report.outcome, Outcome::Completed | Outcome::Drained);
        if self.ending == Ending::Finish {
            // A source that panics cuts its stream.
            let died = matches!(&report.outcome, Outcome::Cut(error) if error.downcast_ref::<PanicMessage>().is_some());
            assert!(over || died || self.may_stop, "it should have come to its end: {report}");
        }
        if self.all_read && over && is_final && self.ending != Ending::Child {
            self.delivered.iter().for_each(|delivered| delivered.check_all(report));
        }
        let drained = matches!(self.ending, Ending::Drain | Ending::DrainWithin(_));
        for reading in &self.readings {
            reading.check(report, is_final, over && self.ending != Ending::Child, drained);
        }
    }
}

fn join_all(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        thread.join().expect("a helper of the case");
    }
}

impl Delivered {
    /// All that was given is acknowledged.
    fn check_all(&self, report: &Report) {
        let step = &report.stage(&self.stage).expect("the source").steps[0];
        let given: Vec<u64> = (0..step.emitted + step.errors_out).collect();
        assert_eq!(self.fates.acknowledged(), given, "what is acknowledged, and what was given\n{report}");
    }
}

impl Read {
    fn note(&mut self, item: &Result<Item, StreamError>) {
        self.seen.push(match item {
            Ok(item) => item.into(),
            Err(error) => {
                error.with_item_ref(Item::account);
                error.with_item_ref(|letter: &Letter<Item>| letter.item.account());
                Seen::error(error)
            }
        });
    }

    fn complete_unless_cut(&mut self) {
        self.complete = !self.seen.iter().any(Seen::is_cut);
    }
}

impl Reading {
    /// Compares what came out with what should have.
    fn check(&self, report: &Report, is_final: bool, over: bool, drained: bool) {
        let read = self.seen.lock().unwrap();
        // This one is told of a cut, but not of a normal end, which is in the report.
        let told_of_cut = read.seen.iter().any(Seen::is_cut);
        let complete = read.complete || (over && self.what == "spawn_for_each" && !told_of_cut);
        let Some((all, whole)) = self.trace.foretell(&Facts { report, is_final, complete, drained }) else { return };
        let expected = Expected { all, ordered: self.ordered, known: self.known, drops: self.drops };
        let checked = if whole { expected.check_whole(&read.seen) } else { expected.check_part(&read.seen) };
        checked.unwrap_or_else(|what| panic!("{} ({}): {what}\n{report}", self.feeder, self.what));
    }
}
