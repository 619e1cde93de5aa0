//! [`Race`]: two tries of a call on their own threads, and the caller that waits for their answers.
//!
//! # Invariants
//!
//! - Each try answers once, even if it panics. Its item is dropped before that, so that the caller's is the last.
//! - The tokens of the tries are cancelled when the race is dropped: the loser's, or both if the caller has given up.
//! - Later answers are dropped where they were made. No user value is dropped under the lock.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::helpers::{Done, Job};
use crate::clock::wait::Wake;
use crate::error::Result;
use crate::operators::{Call, CallError, CallFailure};
use crate::panic::{self, discard, guard_drop};
use crate::pipeline::CancelToken;

pub(super) type Answer<C> = Result<<C as Call>::Out, CallError<<C as Call>::Error>>;

/// The caller's side.
pub(super) struct Race<C: Call> {
    finish: Arc<Finish<C>>,
    tokens: Vec<CancelToken>,
}

struct Finish<C: Call>(Mutex<State<C>>);

struct State<C: Call> {
    /// With the numbers of the tries.
    answers: VecDeque<(usize, Answer<C>)>,
    /// `None` once the race has ended.
    caller: Option<Arc<Wake>>,
}

impl<C: Call<Error: Send>> Race<C> {
    pub(super) fn new(caller: &Arc<Wake>) -> Self {
        let state = State { answers: VecDeque::new(), caller: Some(Arc::clone(caller)) };
        Self { finish: Arc::new(Finish(Mutex::new(state))), tokens: Vec::new() }
    }

    /// Returns the next try, to be run.
    pub(super) fn enter(&mut self, call: &Arc<C>, cancel: &CancelToken, item: C::In) -> Job {
        let (number, token) = (self.tokens.len(), cancel.child());
        self.tokens.push(token.clone());
        let (finish, call) = (Arc::clone(&self.finish), Arc::clone(call));
        Box::new(move || {
            let answer = match panic::catch(|| (!token.is_cancelled()).then(|| call.call(&token, &item))) {
                Ok(Some(answer)) => answer,
                // It has lost, or is no longer needed, before it started.
                Ok(None) => Err(CallError::new(CallFailure::Cancelled, 0)),
                Err(_) if token.is_cancelled() => Err(CallError::new(CallFailure::Cancelled, 1)),
                Err(payload) => Err(CallError::raised(&token, CallFailure::Panicked(payload.into()), 1)),
            };
            guard_drop(item);
            // It may hold the last reference.
            guard_drop(call);
            Box::new(move || finish.answer(number, answer)) as Done
        })
    }

    /// The number and the answer of a try that has ended.
    pub(super) fn next(&self) -> Option<(usize, Answer<C>)> {
        self.finish.0.lock().answers.pop_front()
    }
}

impl<C: Call> Finish<C> {
    fn answer(&self, number: usize, answer: Answer<C>) {
        let mut state = self.0.lock();
        let Some(caller) = state.caller.clone() else {
            drop(state);
            return guard_drop(answer);
        };
        state.answers.push_back((number, answer));
        drop(state);
        caller.post();
    }
}

impl<C: Call> Drop for Race<C> {
    fn drop(&mut self) {
        let mut state = self.finish.0.lock();
        state.caller = None;
        let late = std::mem::take(&mut state.answers);
        drop(state);
        self.tokens.iter().for_each(CancelToken::cancel);
        discard(late);
    }
}
