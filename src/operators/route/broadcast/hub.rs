//! [`Hub`]: creates subscribers; and the state it shares with the stage.
//!
//! # Invariants
//!
//! - A new subscriber is in [`State::arrived`] before `subscribe` returns, and the stage checks that before it sends an
//!   item. So it gets every item that was sent into the input after that.
//! - The stage makes its last check when it has recorded its end, in one critical section. Later subscribers are served
//!   by the hub.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::operator::{Settings, SlowSubscriber};
use super::stage::SUBSCRIBER;
use crate::clock::wait::Wake;
use crate::edge::{EdgeSender, End, LOSSY};
use crate::error::{ErrorKind, PanicMessage, Result};
use crate::panic::{self, Held, PanicPayload};
use crate::pipeline::CancelToken;
use crate::stage::operator::sealed::Context;
use crate::stage::origins::Origins;
use crate::stream::Stream;
use crate::stream::start::{Registered, output_of};

/// Creates streams for the subscribers of a [`Broadcast`](crate::Broadcast). Clones share the same hub.
///
/// As long as there is a hub, subscribers may join, so the stage does not stop when the last one has left.
#[must_use = "when all hubs and all streams of subscribers have been dropped, the stage stops"]
pub struct Hub<T> {
    handle: Arc<Handle<T>>,
}

impl<T> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

/// All clones of the hub.
struct Handle<T>(Arc<Shared<T>>);

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.0.tell(|state| state.has_hub = false);
    }
}

pub(super) struct Shared<T> {
    token: CancelToken,
    context: Context,
    origins: Option<Arc<Origins>>,
    settings: Settings,
    /// Set under the lock when the state has changed: a hint to the stage.
    has_news: AtomicBool,
    state: Mutex<State<T>>,
    /// Once the stage has ended: the items to replay, and its end. Later subscribers clone items under this lock.
    over: Mutex<Option<(Held<Vec<T>>, End)>>,
}

pub(super) struct State<T> {
    arrived: Vec<EdgeSender<T>>,
    has_hub: bool,
    is_over: bool,
    /// The end of the stage.
    end: Option<End>,
    /// The wake of the stage, while it runs.
    stage: Option<Arc<Wake>>,
}

impl<T> Shared<T> {
    /// Changes the state and wakes the stage.
    fn tell(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.has_news.store(true, Ordering::Release);
        let stage = state.stage.clone();
        drop(state);
        if let Some(stage) = stage {
            stage.post();
        }
    }

    /// The stage is about to end.
    pub(super) fn set_end(&self, end: End) {
        self.state.lock().end = Some(end);
    }

    pub(super) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// Returns the subscribers that have arrived since the last check, and whether there still is a hub. From now on
    /// `wake` is posted when there is news.
    pub(super) fn take_news(&self, wake: &Arc<Wake>) -> (Vec<EdgeSender<T>>, bool) {
        let mut state = self.state.lock();
        self.has_news.store(false, Ordering::Relaxed);
        state.stage.get_or_insert_with(|| Arc::clone(wake));
        (std::mem::take(&mut state.arrived), state.has_hub)
    }
}

impl<T: Clone + Send + 'static> Shared<T> {
    pub(super) fn new(registered: &Registered, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            token: registered.token.clone(),
            context: registered.context(),
            origins: registered.origins.clone(),
            settings,
            // So that the stage makes a first check, with which it leaves its wake.
            has_news: AtomicBool::new(true),
            state: Mutex::new(State { arrived: Vec::new(), has_hub: true, is_over: false, end: None, stage: None }),
            over: Mutex::new(None),
        })
    }

    /// The stage has ended.
    pub(super) fn finish(&self, replay: Vec<T>) {
        let end = self.state.lock().end.take().unwrap_or(End::Finished);
        *self.over.lock() = Some((replay.into(), end));
        let mut state = self.state.lock();
        state.is_over = true;
        state.stage = None;
        let arrived = std::mem::take(&mut state.arrived);
        drop(state);
        arrived.into_iter().for_each(|sender| self.serve(sender));
    }

    /// Serves a subscriber that has arrived after the end.
    fn serve(&self, mut sender: EdgeSender<T>) {
        let over = self.over.lock();
        let Some((replay, end)) = &*over else { return };
        let copies = copies_of(replay.iter());
        let end = end.clone();
        drop(over);
        let step = &self.context.stats.steps[0];
        match copies {
            Ok(copies) => {
                step.emitted.add_shared(copies.len() as u64);
                copies.into_iter().for_each(|item| _ = sender.gather(Ok(item)));
            }
            Err(payload) => {
                step.errors_out.add_shared(1);
                let error = self.context.error(ErrorKind::Panicked, 0).with_source(PanicMessage::from(payload));
                let _ = sender.gather(Err(error));
            }
        }
        sender.end(end);
    }
}

/// Copies of the items to replay. If `clone` panics, the copies made before are dropped after it, one by one.
pub(super) fn copies_of<'a, T: Clone + 'a>(items: impl Iterator<Item = &'a T>) -> Result<Vec<T>, PanicPayload> {
    let mut copies = Held::from(Vec::new());
    panic::catch(|| copies.extend(items.cloned()))?;
    Ok(copies.take())
}

impl<T: Clone + Send + 'static> Hub<T> {
    pub(super) fn new(shared: &Arc<Shared<T>>) -> Self {
        Self { handle: Arc::new(Handle(Arc::clone(shared))) }
    }

    /// Returns a stream for a new subscriber: the replayed items, if any, then every item that the stage takes from now
    /// on.
    ///
    /// It may be called on any thread, and never waits for an item or for room. After the end of the input, the stream
    /// yields the replayed items, and ends as the others have.
    pub fn subscribe(&self) -> Stream<T> {
        let shared = &*self.handle.0;
        let Settings { buffer, replay, slow, .. } = shared.settings;
        let lossy = slow == SlowSubscriber::DropOldest;
        let capacity = buffer.unwrap_or(shared.token.scope().default_capacity()).saturating_add(replay);
        let capacity = if lossy { capacity.max(LOSSY) } else { capacity };
        shared.context.stats.sum_up_outputs(SUBSCRIBER);
        let (sender, stream) = output_of(&shared.token, &shared.context.stats, SUBSCRIBER, Some(capacity), lossy);
        let mut late = Some(sender);
        shared.tell(|state| {
            if !state.is_over {
                state.arrived.extend(late.take());
            }
        });
        if let Some(sender) = late {
            shared.serve(sender);
        }
        stream.with_origins(shared.origins.clone())
    }
}

impl<T> fmt::Debug for Hub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stage", &self.handle.0.context.stats.name).finish_non_exhaustive()
    }
}
