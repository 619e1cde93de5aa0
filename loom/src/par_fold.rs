//! Workers that take turns at an input, modelled on `src/operators/pool/par_fold.rs`, and the invariants that must hold:
//! each item is processed once, one worker at a time has the input, what waits for all runs is met when none is in
//! progress, and all workers leave. A lost wake-up is a deadlock.

use loom::thread;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as Ghost, Ordering::SeqCst};

use crate::clock::wait::Wake;
use crate::lead::{Lead, Turn};
use crate::models::check;
use crate::sync::Arc;

/// The input and its workers.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub workers: usize,
    pub items: usize,
    /// The number of items taken at a time.
    pub run: usize,
    /// The item before which there is a mark.
    pub mark: Option<usize>,
    /// A worker that processes this item ends it for all.
    pub fatal: Option<usize>,
}

struct Input {
    next: usize,
    mark: Option<usize>,
    /// The mark has been met and waits.
    waits: bool,
}

struct Team {
    scene: Scene,
    lead: Lead<Input>,
    /// Not part of the model: they order nothing.
    processed: Ghost,
    in_progress: Ghost,
    marks: Ghost,
}

impl Team {
    fn work(&self, wake: &Arc<Wake>) {
        self.lead.join(wake);
        let mut has_finished = false;
        while let Some(mut input) = self.take_lead(wake, has_finished) {
            let (run, is_barrier) = self.take(&mut input);
            has_finished = !run.is_empty();
            self.in_progress.fetch_add(usize::from(has_finished), SeqCst);
            // The last run may end with the input.
            _ = match run.len() < self.scene.run && !is_barrier {
                true => self.lead.end().or(Some(input)),
                false => self.lead.put_back(input, has_finished, is_barrier),
            };
            for item in run {
                self.processed.fetch_add(1, SeqCst);
                if self.scene.fatal == Some(item) {
                    _ = self.lead.end();
                    return;
                }
            }
            self.in_progress.fetch_sub(usize::from(has_finished), SeqCst);
        }
    }

    fn take(&self, input: &mut Input) -> (Vec<usize>, bool) {
        if std::mem::take(&mut input.waits) {
            assert_eq!(self.in_progress.load(SeqCst), 0, "it did not wait for all runs");
            self.marks.fetch_add(1, SeqCst);
        }
        let mut run = Vec::new();
        while run.len() < self.scene.run && input.next < self.scene.items {
            if input.mark.take_if(|mark| *mark == input.next).is_some() {
                input.waits = true;
                return (run, true);
            }
            run.push(input.next);
            input.next += 1;
        }
        (run, false)
    }

    fn take_lead(&self, wake: &Arc<Wake>, mut has_finished: bool) -> Option<Input> {
        loop {
            match self.lead.ask(std::mem::take(&mut has_finished)) {
                Turn::Yours(input) => return Some(input),
                Turn::Over => return None,
                Turn::NotYet => {}
            }
            if !self.lead.wait(wake) {
                wake.park();
            }
            self.lead.rise(wake);
        }
    }
}

/// Runs the scene in every interleaving.
pub fn every_item_is_processed_once(scene: Scene, preemptions: usize) {
    check(preemptions, move || {
        let input = Input { next: 0, mark: scene.mark, waits: false };
        let team = StdArc::new(Team {
            scene,
            lead: Lead::new(input),
            processed: Ghost::new(0),
            in_progress: Ghost::new(0),
            marks: Ghost::new(0),
        });
        let others: Vec<_> = (1..scene.workers)
            .map(|_| {
                let team = StdArc::clone(&team);
                thread::spawn(move || team.work(&Arc::new(Wake::new())))
            })
            .collect();
        team.work(&Arc::new(Wake::new()));
        others.into_iter().for_each(|other| other.join().unwrap());
        if scene.fatal.is_none() {
            assert_eq!(team.processed.load(SeqCst), scene.items);
            assert_eq!(team.marks.load(SeqCst), usize::from(scene.mark.is_some()));
        }
    });
}
