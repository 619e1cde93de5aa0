//! Workers that take turns at an input, modelled on `src/operators/pool/par_fold.rs`, and the invariants that must hold:
//! each item is processed once, one worker at a time has the input, no worker waits while there is an item that it could
//! take, and all workers leave. A slow item is in progress until all others have begun, so a lost wake-up is a deadlock.

use loom::sync::Condvar;
use loom::thread;
use std::sync::Arc as StdArc;

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
    /// This item is slow.
    pub slow: Option<usize>,
    /// A worker that processes this item ends it for all.
    pub fatal: Option<usize>,
}

/// Its next item.
struct Input(usize);

struct Team {
    scene: Scene,
    lead: Lead<Input>,
    begun: loom::sync::Mutex<usize>,
    all_begun: Condvar,
}

impl Team {
    fn work(&self, wake: &Arc<Wake>) {
        self.lead.join(wake);
        while let Some(mut input) = self.take_lead(wake) {
            let run = input.0..(input.0 + self.scene.run).min(self.scene.items);
            input.0 = run.end;
            // The last run may end with the input.
            _ = match run.len() < self.scene.run {
                true => self.lead.end().or(Some(input)),
                false => self.lead.put_back(input),
            };
            for item in run {
                self.process(item);
                if self.scene.fatal == Some(item) {
                    _ = self.lead.end();
                    return;
                }
            }
        }
    }

    fn process(&self, item: usize) {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        if *begun == self.scene.items {
            self.all_begun.notify_all();
        }
        while self.scene.slow == Some(item) && *begun < self.scene.items {
            begun = self.all_begun.wait(begun).unwrap();
        }
    }

    fn take_lead(&self, wake: &Arc<Wake>) -> Option<Input> {
        loop {
            match self.lead.ask() {
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
        let team = StdArc::new(Team {
            scene,
            lead: Lead::new(Input(0)),
            begun: loom::sync::Mutex::new(0),
            all_begun: Condvar::new(),
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
            assert_eq!(*team.begun.lock().unwrap(), scene.items);
        }
    });
}
