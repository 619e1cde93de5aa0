//! [`Failure`] and [`StoredRecord`]: dead letters as records of a store.

use std::error::Error;

use crate::error::{ErrorKind, Result, StreamError};
use crate::operators::{Custom, DeadLetter};
use crate::stage::operator::{Emit, Operator};
use crate::stream::Stream;

/// Describes a record that a store delivered, and that can be written to the same store again with other headers.
///
/// Implement it for the record of an [`Inbox`](super::Inbox), so that failed records can be [set
/// aside](Stream::into_records) and [replayed](Stream::replay).
pub trait StoredRecord: Send + 'static {
    /// What an [`Outbox`](super::Outbox) of the same store takes.
    type New: Send + 'static;

    /// Returns the topic, stream or table that the record comes from.
    fn topic(&self) -> &str;

    /// Returns the position of the record in its topic, as text.
    fn position(&self) -> String;

    /// Returns the value of a header, if the record has it.
    fn header(&self, name: &str) -> Option<&[u8]>;

    /// Creates the same record for an outbox: with its key, payload and headers, except the headers in `removed`, and
    /// with those in `added`.
    fn rewrite(self, removed: &[&str], added: Vec<(&'static str, String)>) -> Self::New;
}

/// Describes why a record is a dead letter, and where it came from.
///
/// A dead letter is the failed record with its key, payload and headers as they were, and these headers added. All values
/// are text; numbers are decimal.
///
/// | header | constant | content |
/// |---|---|---|
/// | `streamz-reason` | [`REASON`](Self::REASON) | [`reason`](Self::reason) |
/// | `streamz-stage` | [`STAGE`](Self::STAGE) | [`stage`](Self::stage) |
/// | `streamz-attempts` | [`ATTEMPTS`](Self::ATTEMPTS) | [`attempts`](Self::attempts) |
/// | `streamz-topic` | [`TOPIC`](Self::TOPIC) | [`topic`](Self::topic) |
/// | `streamz-position` | [`POSITION`](Self::POSITION) | [`position`](Self::position) |
/// | `streamz-replays` | [`REPLAYS`](Self::REPLAYS) | [`replays`](Self::replays), if not 0 |
///
/// [`Stream::into_records`] writes them and [`Stream::replay`] reads them, both for any [`StoredRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The source of the error with its causes, separated by `: `; or the error itself if it has no source. At most 1,024
    /// bytes: the rest is cut off.
    pub reason: String,
    /// The stage in which the record failed.
    pub stage: String,
    /// The number of attempts that were made: see [`StreamError::attempts`].
    pub attempts: u32,
    /// The topic that the record came from.
    pub topic: String,
    /// The position of the record in that topic.
    pub position: String,
    /// The number of times that the record had been replayed before it failed.
    pub replays: u32,
}

impl Failure {
    /// Names the header of [`reason`](Self::reason).
    pub const REASON: &str = "streamz-reason";
    /// Names the header of [`stage`](Self::stage).
    pub const STAGE: &str = "streamz-stage";
    /// Names the header of [`attempts`](Self::attempts).
    pub const ATTEMPTS: &str = "streamz-attempts";
    /// Names the header of [`topic`](Self::topic).
    pub const TOPIC: &str = "streamz-topic";
    /// Names the header of [`position`](Self::position).
    pub const POSITION: &str = "streamz-position";
    /// Names the header of [`replays`](Self::replays). A replayed record keeps it, so that the next failure counts on.
    pub const REPLAYS: &str = "streamz-replays";

    const ALL: [&str; 6] = [Self::REASON, Self::STAGE, Self::ATTEMPTS, Self::TOPIC, Self::POSITION, Self::REPLAYS];

    /// Describes the failure of `record`.
    ///
    /// If the record is itself a dead letter, because a stage that reads dead letters failed on it, the topic and position
    /// are those that it first came from.
    pub fn new(error: &StreamError, record: &impl StoredRecord) -> Self {
        let origin = text(record, Self::TOPIC).zip(text(record, Self::POSITION));
        let (topic, position) = origin.unwrap_or_else(|| (record.topic().to_owned(), record.position()));
        Self {
            reason: reason(error),
            stage: error.stage().to_owned(),
            attempts: error.attempts(),
            topic,
            position,
            replays: number(record, Self::REPLAYS).unwrap_or(0),
        }
    }

    /// Reads the failure from the headers of a dead letter. `None` if the reason, topic or position is missing: the record
    /// is not a dead letter. A missing or unreadable stage is empty, and a number is 1 attempt or 0 replays.
    pub fn read(record: &impl StoredRecord) -> Option<Self> {
        Some(Self {
            reason: text(record, Self::REASON)?,
            stage: text(record, Self::STAGE).unwrap_or_default(),
            attempts: number(record, Self::ATTEMPTS).unwrap_or(1),
            topic: text(record, Self::TOPIC)?,
            position: text(record, Self::POSITION)?,
            replays: number(record, Self::REPLAYS).unwrap_or(0),
        })
    }

    /// Returns the headers that describe the failure, for a dead letter in a format of your own.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (Self::REASON, self.reason.clone()),
            (Self::STAGE, self.stage.clone()),
            (Self::ATTEMPTS, self.attempts.to_string()),
            (Self::TOPIC, self.topic.clone()),
            (Self::POSITION, self.position.clone()),
        ];
        if self.replays > 0 {
            headers.push((Self::REPLAYS, self.replays.to_string()));
        }
        headers
    }

    /// Turns `record` into a dead letter: adds these headers, in place of those of an earlier failure.
    pub fn put_aside<R: StoredRecord>(&self, record: R) -> R::New {
        record.rewrite(&Self::ALL, self.headers())
    }

    /// Returns the record as it was before it failed, with one more replay in [`REPLAYS`](Self::REPLAYS).
    pub fn replay<R: StoredRecord>(&self, letter: R) -> R::New {
        let replays = self.replays.saturating_add(1);
        letter.rewrite(&Self::ALL, vec![(Self::REPLAYS, replays.to_string())])
    }
}

fn text(record: &impl StoredRecord, header: &str) -> Option<String> {
    record.header(header).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn number(record: &impl StoredRecord, header: &str) -> Option<u32> {
    std::str::from_utf8(record.header(header)?).ok()?.parse().ok()
}

/// The longest reason, in bytes. Stores limit the size of a record, and some the size of a header.
const LONGEST_REASON: usize = 1_024;

fn reason(error: &StreamError) -> String {
    let mut cause = error.source();
    let mut reason = cause.map_or_else(|| error.to_string(), ToString::to_string);
    while let Some(next) = cause.and_then(Error::source) {
        let text = next.to_string();
        // Some errors include their causes in their text.
        if !reason.ends_with(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        cause = Some(next);
    }
    let end = (0..=LONGEST_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}

impl DeadLetter {
    /// Turns the dead letter into a record for a topic of dead letters: the failed record with the headers of a
    /// [`Failure`].
    ///
    /// # Errors
    /// The letter itself, if it does not carry an `R`: the record failed after it had become something else, or another
    /// clone of the error has given the item away. See [`StreamError::item_type`].
    pub fn into_record<R: StoredRecord>(self) -> Result<R::New, DeadLetter> {
        let (record, error) = self.into_item::<R>()?;
        Ok(Failure::new(&error, &record).put_aside(record))
    }
}

/// The reason of an error item for a dead letter that does not carry a record.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the dead letter carries {}, not `{expected}`", found.as_ref().map_or("no item".to_owned(), |found| format!("`{found}`")))]
struct NotARecord {
    expected: &'static str,
    found: Option<String>,
}

struct IntoRecords<R>(std::marker::PhantomData<fn(R)>);

impl<R: StoredRecord> Operator for IntoRecords<R> {
    type In = DeadLetter;
    type Out = R::New;

    fn item(&mut self, letter: DeadLetter, out: &mut impl Emit<R::New>) {
        match letter.into_record::<R>() {
            Ok(record) => out.emit(record),
            Err(letter) => {
                let found = letter.error().item_type().map(str::to_owned);
                let reason = NotARecord { expected: std::any::type_name::<R>(), found };
                out.fail(ErrorKind::Failed, reason, letter);
            }
        }
    }
}

/// # Records of a store
///
/// Sources and sinks that acknowledge what has been processed: see [`delivery`](crate::delivery).
impl Stream<DeadLetter> {
    /// Turns dead letters into records for an [`Outbox`](super::Outbox): each is the failed record with the headers of a
    /// [`Failure`]. `R` is the record of the inbox.
    ///
    /// A letter that does not carry an `R` becomes an error item, at which [`deliver_to`](Stream::deliver_to) stops: nothing
    /// is acknowledged that could not be kept. So split off the failures before a stage turns the record into something
    /// else, or let that stage fail with the record as its item.
    pub fn into_records<R: StoredRecord>(self) -> Stream<R::New> {
        self.through(&Custom::new("put_aside", || IntoRecords::<R>(std::marker::PhantomData)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Pipeline;

    /// A record in memory.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(in crate::delivery) struct Note {
        pub(in crate::delivery) position: u64,
        pub(in crate::delivery) headers: Vec<(String, String)>,
    }

    impl Note {
        pub(in crate::delivery) fn new(position: u64) -> Self {
            Self { position, headers: vec![("trace".into(), "7".into())] }
        }
    }

    impl StoredRecord for Note {
        type New = Note;

        fn topic(&self) -> &str {
            "notes"
        }

        fn position(&self) -> String {
            self.position.to_string()
        }

        fn header(&self, name: &str) -> Option<&[u8]> {
            self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_bytes())
        }

        fn rewrite(mut self, removed: &[&str], added: Vec<(&'static str, String)>) -> Note {
            self.headers.retain(|(name, _)| !removed.contains(&name.as_str()));
            self.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
            self
        }
    }

    pub(in crate::delivery) fn letter(position: u64, reason: &str) -> Note {
        let note = Note::new(position);
        let error = StreamError::new(ErrorKind::Failed, "pay").with_attempts(3).with_source(reason);
        Failure::new(&error, &note).put_aside(note)
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot pay")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_survives_a_round_trip() {
        let letter = letter(5, "no money");
        let failure = Failure::read(&letter).unwrap();
        let expected = Failure {
            reason: "no money".into(),
            stage: "pay".into(),
            attempts: 3,
            topic: "notes".into(),
            position: "5".into(),
            replays: 0,
        };
        assert_eq!(failure, expected);
        assert_eq!(letter.header("trace"), Some(&b"7"[..]));
        let again = failure.replay(letter);
        assert_eq!(Failure::read(&again), None);
        let headers = [("trace".to_owned(), "7".to_owned()), (Failure::REPLAYS.into(), "1".into())];
        assert_eq!(again, Note { position: 5, headers: headers.into() });
    }

    #[test]
    fn replays_count_on_after_the_next_failure() {
        let first = letter(5, "no money");
        let again = Failure::read(&first).unwrap().replay(first);
        let again = Note { position: 90, ..again };
        let failure = Failure::new(&StreamError::new(ErrorKind::Late, "window"), &again);
        assert_eq!((failure.replays, &*failure.position, &*failure.reason), (1, "90", "stage `window` late"));
        let second = failure.put_aside(again);
        let third = Failure::read(&second).unwrap().replay(second);
        assert_eq!(third.header(Failure::REPLAYS), Some(&b"2"[..]));
        assert_eq!(third.headers.len(), 2);
    }

    #[test]
    fn a_dead_letter_that_fails_again_keeps_its_origin() {
        let first = Note { position: 1, ..letter(5, "no money") };
        let failure = Failure::new(&StreamError::new(ErrorKind::Failed, "repair").with_source("no clue"), &first);
        let second = failure.put_aside(first);
        let found = Failure::read(&second).unwrap();
        assert_eq!((&*found.position, &*found.stage, &*found.reason), ("5", "repair", "no clue"));
        assert_eq!(second.headers.len(), 6);
    }

    #[test]
    fn a_reason_shows_causes_once_and_is_cut_at_a_character() {
        let error = |source: Box<dyn Error + Send + Sync>| {
            reason(&StreamError::new(ErrorKind::Failed, "pay").with_source(source))
        };
        assert_eq!(error(Box::new(Outer(std::io::Error::other("disk full")))), "cannot pay: disk full");
        let nested = std::io::Error::other(Outer(std::io::Error::other("disk full")));
        assert_eq!(error(Box::new(nested)), "cannot pay: disk full");
        // Each has two bytes, behind one of one byte.
        assert_eq!(error(format!("x{}", "ü".repeat(2_000)).into()), format!("x{}", "ü".repeat(511)));
    }

    #[test]
    fn a_letter_without_its_record_is_an_error_item() {
        let pipeline = Pipeline::new("letters");
        let stream = Stream::from_iter(&pipeline, [1_u32]);
        let (items, failed) = stream.try_map(|_: &u32| Err::<(), _>("no")).dead_letters();
        drop(items);
        let error = failed.into_records::<Note>().collect::<Vec<_>>().unwrap_err();
        assert_eq!((error.stage(), error.kind()), ("put_aside", ErrorKind::Failed));
        let reason = error.source().unwrap().to_string();
        assert!(reason.starts_with("the dead letter carries `u32`, not `streamz::delivery"), "{reason}");
        assert_eq!(error.take_item::<DeadLetter>().unwrap().error().take_item::<u32>(), Some(1));
        pipeline.join();
    }
}
