//! [`Stream::replay`]: dead letters, turned back into their records.

use std::fmt;
use std::time::Duration;

use super::config::DeliveryConfig;
use super::dead_letters::{Failure, StoredRecord};
use super::inbox::{Delivery, Inbox, StoreError};
use crate::error::{BoxError, ErrorKind, PanicMessage};
use crate::operators::Custom;
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::operator::{Emit, Operator};
use crate::stream::Stream;

/// Selects which dead letters [`Stream::replay`] replays, and how many.
#[must_use = "it does nothing until it is given to `Stream::replay`"]
pub struct Replay<R> {
    filter: Option<Filter<R>>,
    limit: u64,
    config: DeliveryConfig,
}

type Filter<R> = Box<dyn FnMut(&Failure, &R) -> bool + Send>;

impl<R> Default for Replay<R> {
    fn default() -> Self {
        Self { filter: None, limit: u64::MAX, config: DeliveryConfig::default() }
    }
}

impl<R> Replay<R> {
    /// Replays all dead letters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replays only those letters for which `filter` returns true. Defaults to all.
    ///
    /// The others are acknowledged: the group has passed over them. They remain in the topic, and a group with another name
    /// sees them again. If `filter` panics, the letter becomes an error item of kind [`Panicked`](ErrorKind::Panicked).
    pub fn with_filter(mut self, filter: impl FnMut(&Failure, &R) -> bool + Send + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Ends the stream when this many letters have been replayed. Defaults to no limit; 0 replays nothing. Letters that the
    /// filter refuses do not count. No letter behind the last one is taken from the topic.
    pub fn with_limit(mut self, letters: u64) -> Self {
        self.limit = letters;
        self
    }

    /// Sets how letters are fetched and acknowledged. [`max_deliveries`](DeliveryConfig::max_deliveries) has no effect.
    pub fn with_config(mut self, config: DeliveryConfig) -> Self {
        self.config = config;
        self
    }
}

impl<R> fmt::Debug for Replay<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("has_filter", &self.filter.is_some())
            .field("limit", &self.limit)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Reports a record without the headers of a [`Failure`], as the reason of its error item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a dead letter: it has no header `{}`, `{}` or `{}`",
    Failure::REASON,
    Failure::TOPIC,
    Failure::POSITION
)]
#[non_exhaustive]
pub struct NotADeadLetter;

/// The decision about a dead letter.
enum Choice<R: StoredRecord> {
    Replay(R::New),
    PassOver,
    Fail(ErrorKind, BoxError, R),
}

/// An inbox of dead letters that decides about each when it is fetched: a limit that is applied further downstream
/// would leave letters behind it in flight.
struct Letters<I: Inbox> {
    inbox: I,
    filter: Option<Filter<I::Record>>,
    left: u64,
}

impl<I: Inbox<Record: StoredRecord>> Letters<I> {
    fn choose(&mut self, letter: I::Record) -> Choice<I::Record> {
        let Some(failure) = Failure::read(&letter) else {
            return Choice::Fail(ErrorKind::Failed, NotADeadLetter.into(), letter);
        };
        let filter = &mut self.filter;
        match panic::catch(|| filter.as_mut().is_none_or(|filter| filter(&failure, &letter))) {
            Ok(true) => {
                self.left -= 1;
                Choice::Replay(failure.replay(letter))
            }
            Ok(false) => Choice::PassOver,
            Err(payload) => Choice::Fail(ErrorKind::Panicked, PanicMessage::from(payload).into(), letter),
        }
    }
}

impl<I: Inbox<Record: StoredRecord>> Inbox for Letters<I> {
    type Record = Choice<I::Record>;
    type Receipt = I::Receipt;
    type Acker = I::Acker;

    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Self::Record, I::Receipt>>,
    ) -> Result<(), StoreError> {
        let max = max.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if max == 0 {
            return Ok(());
        }
        let mut letters = Vec::new();
        let fetched = self.inbox.fetch(max, wait, &mut letters);
        records.extend(letters.into_iter().map(|letter| {
            let Delivery { record, receipt, attempt } = letter;
            Delivery { record: self.choose(record), receipt, attempt }
        }));
        fetched
    }

    fn is_exhausted(&self) -> bool {
        self.left == 0 || self.inbox.is_exhausted()
    }

    fn lease(&self) -> Option<Duration> {
        self.inbox.lease()
    }

    fn acker(&mut self) -> Result<I::Acker, StoreError> {
        self.inbox.acker()
    }
}

/// Carries out the decisions.
struct Replayed<R>(std::marker::PhantomData<fn(R)>);

impl<R: StoredRecord> Operator for Replayed<R> {
    type In = Choice<R>;
    type Out = R::New;

    fn item(&mut self, choice: Choice<R>, out: &mut impl Emit<R::New>) {
        match choice {
            Choice::Replay(record) => out.emit(record),
            Choice::PassOver => out.filtered(1),
            Choice::Fail(kind, reason, letter) => out.fail(kind, reason, letter),
        }
    }
}

impl<R: Send + 'static> Stream<R> {
    /// Reads dead letters from an inbox and emits the records as they were before they failed, to be written to the
    /// topic that they came from: with [`deliver_to`](Self::deliver_to), which returns how many were replayed.
    ///
    /// A letter is acknowledged after its record has been written, so each is replayed at least once. The replayed record
    /// has the key, payload and headers of the failed one. [`Failure::REPLAYS`] counts its replays, so that a filter can
    /// refuse a record that fails again and again. The documentation of `streamz-journal` has an example.
    ///
    /// The stream ends when the limit is reached, when the inbox is exhausted, and at a drain. To replay slowly, put a
    /// [`Throttle`](crate::Throttle) between. A record that is not a dead letter becomes an error item with the reason
    /// [`NotADeadLetter`]; an error item stops `deliver_to`, so remove it first to continue.
    ///
    /// # Ordering
    /// In the order of the inbox. The records follow those that are in their topic.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    ///
    /// # Panics
    /// As [`deliver`](Self::deliver).
    #[track_caller]
    pub fn replay<I>(cancel: &CancelToken, inbox: I, replay: Replay<I::Record>) -> Result<Self, StoreError>
    where
        I: Inbox<Record: StoredRecord<New = R>>,
    {
        let Replay { filter, limit, config } = replay;
        let config = DeliveryConfig { max_deliveries: None, ..config };
        let choices = Stream::deliver(cancel, Letters { inbox, filter, left: limit }, config)?;
        Ok(choices.through(&Custom::new("replay", || Replayed::<I::Record>(std::marker::PhantomData))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::dead_letters::tests::{Note, letter};
    use super::super::inbox::Acker;
    use super::super::outbox::Outbox;
    use super::*;
    use crate::{BatchConfig, Pipeline};

    /// Letters in memory, and the calls made for their positions.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        letters: std::collections::VecDeque<Note>,
        acknowledged: Vec<u64>,
        written: Vec<Note>,
        /// The write that fails, temporarily.
        fails: Option<usize>,
        /// The number of acknowledged letters at each write.
        acknowledged_at_write: Vec<usize>,
    }

    impl Memory {
        fn with(letters: impl IntoIterator<Item = Note>) -> Self {
            let memory = Self::default();
            memory.0.lock().unwrap().letters.extend(letters);
            memory
        }
    }

    impl Inbox for Memory {
        type Record = Note;
        type Receipt = u64;
        type Acker = Self;

        fn fetch(&mut self, max: usize, _: Duration, records: &mut Vec<Delivery<Note, u64>>) -> Result<(), StoreError> {
            let letters = &mut self.0.lock().unwrap().letters;
            let count = max.min(letters.len());
            records.extend(letters.drain(..count).map(|note| Delivery::new(note.clone(), note.position)));
            Ok(())
        }

        fn is_exhausted(&self) -> bool {
            self.0.lock().unwrap().letters.is_empty()
        }

        fn lease(&self) -> Option<Duration> {
            Some(Duration::from_secs(7))
        }

        fn acker(&mut self) -> Result<Self, StoreError> {
            Ok(self.clone())
        }
    }

    impl Acker for Memory {
        type Receipt = u64;

        fn acknowledge(&mut self, receipts: &mut Vec<u64>) -> Result<(), StoreError> {
            self.0.lock().unwrap().acknowledged.append(receipts);
            Ok(())
        }
    }

    impl Outbox for Memory {
        type Record = Note;

        fn write(&mut self, batch: &mut Vec<Note>) -> Result<(), StoreError> {
            let mut state = self.0.lock().unwrap();
            let acknowledged = state.acknowledged.len();
            state.acknowledged_at_write.push(acknowledged);
            if state.fails.take_if(|left| *left == 0).is_some() {
                return Err(StoreError::permanent("the disk has gone"));
            }
            state.fails = state.fails.map(|left| left - 1);
            state.written.append(batch);
            Ok(())
        }
    }

    fn run(memory: &Memory, replay: Replay<Note>) -> crate::Result<u64> {
        let pipeline = Pipeline::new("replay");
        let config = DeliveryConfig { fetch: 10, epoch: 4, ..DeliveryConfig::default() };
        let batches = BatchConfig { max_size: 4, max_latency: Duration::MAX };
        let written = Stream::replay(&pipeline, memory.clone(), replay.with_config(config))
            .unwrap()
            .deliver_to(memory.clone(), batches);
        pipeline.join();
        memory.0.lock().unwrap().acknowledged.sort_unstable();
        written
    }

    fn positions(notes: &[Note]) -> Vec<u64> {
        notes.iter().map(|note| note.position).collect()
    }

    #[test]
    fn the_lease_is_that_of_the_inbox() {
        let letters = Letters { inbox: Memory::default(), filter: None, left: 1 };
        assert_eq!(letters.lease(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn replays_all_and_acknowledges_them() {
        let memory = Memory::with((0..25).map(|n| letter(n, "no money")));
        assert_eq!(run(&memory, Replay::new()).unwrap(), 25);
        let state = memory.0.lock().unwrap();
        assert_eq!(positions(&state.written), (0..25).collect::<Vec<_>>());
        assert_eq!(state.acknowledged, (0..25).collect::<Vec<_>>());
        assert!(state.written.iter().all(|note| note.header(Failure::REPLAYS) == Some(b"1")));
    }

    #[test]
    fn the_filter_skips_records_and_the_limit_counts_replays() {
        let reason = |n: u64| if n.is_multiple_of(3) { "no money" } else { "no account" };
        let memory = Memory::with((0..40).map(|n| letter(n, reason(n))));
        let replay = || Replay::new().with_filter(|failure, _| failure.reason == "no money").with_limit(7);
        assert_eq!(run(&memory, replay()).unwrap(), 7);
        {
            let state = memory.0.lock().unwrap();
            assert_eq!(positions(&state.written), [0, 3, 6, 9, 12, 15, 18]);
            // Nothing after the last one has been taken.
            assert_eq!(state.acknowledged, (0..=18).collect::<Vec<_>>());
            assert_eq!(state.letters.len(), 21);
        }
        assert_eq!(run(&memory, replay()).unwrap(), 7);
        assert_eq!(run(&memory, replay().with_limit(0)).unwrap(), 0);
        assert_eq!(memory.0.lock().unwrap().letters.len(), 0);
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_written() {
        let memory = Memory::with((0..25).map(|n| letter(n, "no money")));
        memory.0.lock().unwrap().fails = Some(2);
        run(&memory, Replay::new()).unwrap_err();
        let state = memory.0.lock().unwrap();
        let written = positions(&state.written);
        assert_eq!(written, (0..8).collect::<Vec<_>>());
        assert!(state.acknowledged.iter().all(|position| written.contains(position)));
        assert!(state.acknowledged_at_write.iter().enumerate().all(|(write, count)| *count <= write * 4));
    }

    #[test]
    fn foreign_records_and_panics_are_error_items_with_the_record() {
        let memory = Memory::with([Note::new(0), letter(1, "bad"), letter(2, "good")]);
        let pipeline = Pipeline::new("replay");
        let replay = Replay::new().with_filter(|failure, note: &Note| {
            assert_ne!(failure.reason, "bad", "position {}", note.position);
            true
        });
        let items: Vec<_> = Stream::replay(&pipeline, memory, replay).unwrap().into_iter().collect();
        let errors: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
        assert_eq!(
            errors.iter().map(|error| error.kind()).collect::<Vec<_>>(),
            [ErrorKind::Failed, ErrorKind::Panicked]
        );
        assert_eq!(errors[0].downcast_ref::<NotADeadLetter>(), Some(&NotADeadLetter));
        assert_eq!(errors[1].take_item::<Note>().map(|note| note.position), Some(1));
        assert_eq!(items[2].as_ref().unwrap().position, 2);
        pipeline.join();
    }
}
