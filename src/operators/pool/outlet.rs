//! The output of a pool: the results, in order if requested.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::crew::Relieved;
use super::reorder::Span;
use super::slots::Numbered;
use super::workers::{Outcome, Pool, PoolOutput, Ready};
use crate::edge::{EdgeSender, End};
use crate::error::{Result, StreamError};
use crate::mark::Label;
use crate::panic::{self, Held};
use crate::pipeline::timing::Phase;
use crate::stage::thread::StageThread;

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    /// Invariant 3. It may have to wait for room, and so requires that another worker keeps watch.
    ///
    /// `run` is empty before the call; both buffers are empty after it.
    pub(super) fn complete(
        &self,
        thread: &StageThread,
        done: &mut Vec<Numbered<Ready<Out>>>,
        run: &mut VecDeque<Ready<Out>>,
        _: &Relieved,
    ) {
        let mut output = self.output.lock();
        output.completed += done.iter().map(|(_, result)| result.span()).sum::<u64>();
        if self.delivers.load(Ordering::Relaxed) && !output.results.is_ordered() {
            self.hold_marks(&mut output, done);
        }
        // Results and sender under one lock: a worker that does not get the sender leaves its results where the emitter
        // looks before it returns the sender.
        let sender = if output.stopped { None } else { output.sender.take() };
        let Some(mut sender) = sender else { return output.results.insert_all(done) };
        // If it is their turn and nothing else waits, they need not queue either.
        let mut all = if output.results.let_pass(done) {
            drop(output);
            let all = self.emit(thread, &mut sender, done.drain(..).map(|(_, result)| result));
            output = self.output.lock();
            all
        } else {
            output.results.insert_all(done);
            true
        };
        while all && (output.results.is_ready() || output.held_marks > 0) {
            let held_marks = std::mem::take(&mut output.held_marks);
            output.results.take_run(run);
            drop(output);
            if held_marks > 0 {
                self.crew.pass(held_marks);
            }
            all = self.emit(thread, &mut sender, run.drain(..));
            output = self.output.lock();
        }
        if !all {
            output.stopped = true;
            output.sender = Some(sender);
        } else if self.is_done() {
            output.finished = true;
            drop(output);
            sender.end(self.end());
        } else {
            output.sender = Some(sender);
        }
    }

    /// Takes in results, with their labels, and the marks before which no item is missing any longer. Leaves `done`
    /// empty.
    #[cold]
    fn hold_marks(&self, output: &mut PoolOutput<Out>, done: &mut Vec<Numbered<Ready<Out>>>) {
        let PoolOutput { results, marks, held_marks, completed, labels, .. } = output;
        let (mut arrived, mut runs) = (Vec::new(), self.runs.as_ref().map(Mutex::lock));
        let each = done.drain(..).flat_map(|(first, result)| (first..).zip(result.into_each()));
        for (number, result) in each {
            let origin = runs.as_mut().and_then(|runs| runs.complete(number));
            match result {
                Ready::Passed(mark) if matches!(mark.label(), Some(Label::Follows(_))) => {
                    *held_marks += 1;
                    mark.complete_mark();
                }
                Ready::Passed(mark) if mark.is_mark() => arrived.push(mark),
                result => {
                    labels.before(origin).into_iter().for_each(|label| results.insert(0, Ready::Held(label)));
                    results.insert(number, result);
                }
            }
            marks.completed(number);
        }
        drop(runs);
        let taken = self.crew.taken();
        *held_marks += arrived.len() as u64;
        arrived.into_iter().for_each(|mark| marks.arrive(mark, taken, *completed));
        while let Some(mark) = marks.pop() {
            // Results of any item that was taken may have left before it.
            results.insert(0, Ready::Held(mark.widened()));
        }
    }

    /// Emits a run of results. Returns false if a stop came first; then the rest of the run is dropped, and its items count
    /// as abandoned.
    fn emit(
        &self,
        thread: &StageThread,
        sender: &mut EdgeSender<Out>,
        mut run: impl Iterator<Item = Ready<Out>>,
    ) -> bool {
        let mut moved = 0;
        while let Some(result) = run.next() {
            if let Ready::Many(items) = result {
                if !self.emit_many(thread, sender, items, &mut moved) {
                    panic::discard(run);
                    return false;
                }
                continue;
            }
            let is_counted = !matches!(result, Ready::Held(_));
            let passed = self.gather(sender, result);
            moved += u64::from(passed && is_counted);
            let is_stuck = passed && sender.is_stuck();
            if is_stuck && moved > 0 {
                // The current one still belongs to the window.
                self.crew.pass(std::mem::replace(&mut moved, 1) - 1);
            }
            if !passed || is_stuck && !self.wait_for_room(thread, sender, false) {
                panic::discard(run);
                return false;
            }
        }
        // A pool hands over at once: this worker's next call may be slow.
        sender.hand_over();
        self.crew.pass(moved);
        if !self.edge.has_worthwhile_room() {
            // The consumer has been woken, but with as many workers as cores it may have no core to run on. If it gets
            // this one now, for the moment that it needs, the workers will not have to stop for lack of room.
            std::thread::yield_now();
        }
        true
    }

    /// Does the same for consecutive results and failures. As many as there is room for are counted and handed over
    /// together. `moved` is the number of emitted results that still count as part of the window.
    fn emit_many(
        &self,
        thread: &StageThread,
        sender: &mut EdgeSender<Out>,
        mut items: Held<Vec<Result<Out>>>,
        moved: &mut u64,
    ) -> bool {
        let step = self.step();
        loop {
            let count = sender.room_for(items.len()).min(items.len());
            // Before they are handed over: the consumer may read the counters.
            let failed = items.iter().take(count).filter(|item| item.is_err()).count() as u64;
            let done = count as u64 - failed;
            step.delivered.add(done);
            step.emitted.add(done);
            if failed > 0 {
                step.failed.add(failed);
                step.errors_out.add(failed);
            }
            sender.gather_first(&mut items, count);
            *moved += count as u64;
            if items.is_empty() {
                return true;
            }
            sender.hand_over();
            self.crew.pass(std::mem::take(moved));
            if !self.wait_for_room(thread, sender, true) {
                return false;
            }
        }
    }

    /// False if there is nothing to pass on, because the work was cancelled.
    #[inline]
    fn gather(&self, sender: &mut EdgeSender<Out>, result: Ready<Out>) -> bool {
        let step = self.step();
        match result {
            Ready::Outcome(Outcome::Done(item)) => {
                step.delivered.add(1);
                step.emitted.add(1);
                sender.gather(Ok(item));
            }
            Ready::Outcome(Outcome::Failed(error)) => {
                step.failed.add(1);
                step.errors_out.add(1);
                sender.gather(Err(error));
            }
            // Counted with the rest by the last worker to leave.
            Ready::Outcome(Outcome::Abandoned) => return false,
            Ready::Many(_) => unreachable!("these are emitted together"),
            Ready::Held(mark) => self.put_mark(sender, mark),
            Ready::Passed(mark) if mark.is_mark() => self.put_mark(sender, mark),
            Ready::Passed(error) => {
                step.errors_out.add(1);
                sender.gather(Err(error));
            }
        }
        true
    }

    #[cold]
    fn put_mark(&self, sender: &mut EdgeSender<Out>, mark: StreamError) {
        self.context.note_mark(&mark);
        sender.put_mark(mark);
    }

    /// Waits until nothing is stuck, and there is room for `more`: false if a stop came first.
    fn wait_for_room(&self, thread: &StageThread, sender: &mut EdgeSender<Out>, more: bool) -> bool {
        loop {
            if self.is_halted(thread) {
                return false;
            }
            sender.hand_over();
            if !(sender.is_stuck() || more && sender.is_full()) {
                return true;
            }
            let wake = thread.wake();
            let out = &*sender;
            thread.wait(
                Phase::Blocked,
                None,
                || out.may_have_room(),
                |_| out.want_room(wake) || self.halted.load(Ordering::Acquire),
            );
        }
    }

    /// Called under the output lock, when no worker holds the sender: invariant 6.
    fn is_done(&self) -> bool {
        self.ended.load(Ordering::SeqCst) && self.crew.taken() == self.crew.passed()
    }

    pub(super) fn finish_if_done(&self) {
        let mut output = self.output.lock();
        if self.is_done()
            && let Some(mut sender) = output.sender.take()
        {
            output.finished = true;
            drop(output);
            sender.end(self.end());
        }
    }

    fn end(&self) -> End {
        self.crew.lock().supply().end.clone()
    }
}
