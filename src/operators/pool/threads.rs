//! [`run_all`]: runs the workers of a stage, each on its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::wait::Wake;
use crate::pipeline::Place;
use crate::pipeline::timing::Phase;
use crate::stage::thread::StageThread;

/// Calls `work` on this thread, which is one of the workers, and on a new one in each of the other places. Returns when all
/// calls have returned, and the other threads have released `team`.
///
/// A thread that cannot be started is logged: the others do its work. `work` must not panic.
pub(super) fn run_all<T: Send + Sync + 'static>(
    team: &Arc<T>,
    thread: &StageThread,
    others: Vec<(usize, Place)>,
    work: impl Fn(&T, &StageThread) + Copy + Send + 'static,
) {
    let running = Arc::new(CountLatch::new(Arc::clone(thread.wake())));
    for (index, place) in others {
        let (team, running) = (Arc::clone(team), Arc::clone(&running));
        let (token, stats) = (thread.token.clone(), Arc::clone(&thread.stats));
        // Before the spawn: the worker may have left by the time it returns.
        running.enter();
        place.spawn(move |started| {
            if started.is_ok() {
                work(&team, &StageThread::new(token, stats, index));
            }
            drop(team);
            running.leave();
        });
    }
    work(team, thread);
    while !running.is_open() {
        thread.wait_regardless(Phase::Idle, || running.is_open());
    }
}

/// Counts the workers that run beside its owner, and wakes the owner when none is left. It is open while none runs.
///
/// The one that leaves posts the wake, and still counts as running at the clock while it does: so virtual time does not
/// move between the last worker's end and the owner's return from its wait.
struct CountLatch {
    running: AtomicUsize,
    owner: Arc<Wake>,
}

impl CountLatch {
    fn new(owner: Arc<Wake>) -> Self {
        Self { running: AtomicUsize::new(0), owner }
    }

    /// The owner is about to start a worker.
    fn enter(&self) {
        // Relaxed: the spawn that follows is what orders it before `leave`.
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker's last act in the pool.
    fn leave(&self) {
        // Release, and Acquire in `is_open`: the owner sees everything that this worker did.
        if self.running.fetch_sub(1, Ordering::Release) == 1 {
            // After the count: the wake is sticky, so the owner sees zero before it parks or afterwards.
            self.owner.post();
        }
    }

    fn is_open(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}
