//! How random pipelines come to their end.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use streamz::{CancelToken, ManualClock};

/// What ends the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The sources come to their end.
    Finish,
    Cancel,
    /// A part of the pipeline is cancelled, and then, if something is endless, all of it.
    Child,
    Drain,
    DrainWithin(Duration),
    Abort,
    DropPipeline,
    Timeout(Duration),
}

impl Ending {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let time = Duration::from_micros([0, 1, 50, 1_000, 3_000][rng.usize(..5)]);
        match rng.u8(..10) {
            0..=2 => Ending::Finish,
            3 => Ending::Cancel,
            4 => Ending::Child,
            5 => Ending::Drain,
            6 => Ending::DrainWithin(time),
            7 => Ending::Abort,
            8 => Ending::DropPipeline,
            _ => Ending::Timeout(time),
        }
    }

    /// It takes the pipeline itself.
    pub(crate) fn takes_pipeline(self) -> bool {
        matches!(self, Ending::DrainWithin(_) | Ending::Abort | Ending::DropPipeline)
    }

    /// It can be brought about with tokens.
    pub(crate) fn by_token(self) -> bool {
        matches!(self, Ending::Cancel | Ending::Child | Ending::Drain)
    }
}

/// The tokens by which a pipeline can be ended from anywhere.
#[derive(Clone)]
pub(crate) struct Switch {
    pub(crate) ending: Ending,
    pub(crate) root: CancelToken,
    pub(crate) child: CancelToken,
    pub(crate) endless: bool,
}

impl Switch {
    pub(crate) fn press(&self, turns: u32) {
        match self.ending {
            Ending::Cancel => self.root.cancel_because("chance"),
            Ending::Child => {
                self.child.cancel();
                if self.endless {
                    spin(turns);
                    self.root.cancel();
                }
            }
            Ending::Drain => self.root.drain(),
            _ => {}
        }
    }
}

/// A thread beside the pipeline that presses the switch at a random moment, if that is its part, and some time later
/// drops what was held back: streams that are not read, senders that are not used.
pub(crate) fn actor(rng: &mut Rng, switch: Option<Switch>, held: Vec<Box<dyn Any + Send>>) -> JoinHandle<()> {
    let (before, between, after) = (turns(rng), turns(rng), turns(rng));
    std::thread::spawn(move || {
        spin(before);
        if let Some(switch) = switch {
            switch.press(between);
        }
        spin(after);
        drop(held);
    })
}

/// A thread beside the pipeline that lets the time of a manual clock pass, as the system's does.
pub(crate) struct Time {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Time {
    /// A pipeline that is endless may never come to rest: there the time passes from when it is told to end.
    pub(crate) fn let_pass(rng: &mut Rng, clock: ManualClock, pipeline: CancelToken, endless: bool) -> Self {
        let (over, mut rng) = (Arc::new(AtomicBool::new(false)), rng.fork());
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let is_over = || is_over.load(Ordering::Relaxed);
            while endless && !is_over() && !pipeline.is_draining() && !pipeline.is_cancelled() {
                spin(1);
            }
            while !is_over() {
                clock.advance(Duration::from_micros(rng.u64(..200)));
                spin(turns(&mut rng) / 10);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Time {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is that of the clock, which says who did not come to rest.
            let passed = thread.join();
            assert!(passed.is_ok() || std::thread::panicking(), "the time could not pass");
        }
    }
}

/// A number of turns to wait: often few, at times many.
pub(crate) fn turns(rng: &mut Rng) -> u32 {
    match rng.u8(..4) {
        0 => 0,
        1 => rng.u32(..10),
        2 => rng.u32(..100),
        _ => rng.u32(..1_000),
    }
}

/// Lets the others have the processor for a while. Not a wait for anything.
pub(crate) fn spin(turns: u32) {
    for _ in 0..turns {
        std::thread::yield_now();
    }
}
