//! [`Writer`]: appends to a topic.

use std::ops::Range;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use streamz::delivery::{Outbox, StoreError};

use crate::error::{JournalError, Place, Reason};
use crate::journal::{Shared, make_topic, records, write};
use crate::record::{Record, encode_headers, to_millis};
use crate::retention::{self, Turn};

/// Appends records to a topic. Returned by [`Journal::writer`](crate::Journal::writer).
///
/// It is an [`Outbox`]: [`Stream::deliver_to`](streamz::Stream::deliver_to) writes to it, each batch in one
/// transaction, entirely or not at all. A record that is too large is [refused](StoreError::refused), and the rest of
/// its batch can be written.
///
/// # Ordering
/// The records of a batch have consecutive positions, in their order. Batches of several writers are not interleaved.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    place: Place,
    file: Connection,
    topic: i64,
    insert: String,
    turn: Turn,
}

impl Writer {
    pub(crate) fn open(shared: Arc<Shared>, topic: &str) -> Result<Self, JournalError> {
        let place = shared.place.topic(topic);
        let mut file = shared.connect(&place)?;
        let topic = make_topic(&mut file, topic).map_err(|e| place.error("make the topic", e))?;
        let insert = format!(
            "INSERT INTO {} (position, time, key, payload, headers) VALUES (?1, ?2, ?3, ?4, ?5)",
            records(topic)
        );
        Ok(Self { shared, place, file, topic, insert, turn: Turn::default() })
    }

    /// Appends a batch in one transaction, and returns the positions of its records. When it returns, the records
    /// survive a crash of this process; whether they survive a crash of the machine depends on
    /// [`Synchronous`](crate::Synchronous).
    ///
    /// A transaction costs about as much as 50 small records, so append several hundred at a time where that is possible.
    ///
    /// # Errors
    /// If a record is too large, or the file cannot be written. Then nothing of the batch has been appended.
    pub fn append(&mut self, batch: &[Record]) -> Result<Range<i64>, JournalError> {
        let limit = self.shared.options.max_record_bytes;
        if let Some(index) = batch.iter().position(|record| record.bytes() > limit) {
            let bytes = batch[index].bytes();
            return Err(self.place.error("append", Reason::TooLarge { index, bytes, limit }));
        }
        let (topic, insert, now) = (self.topic, &self.insert, self.shared.now());
        let written = write(&mut self.file, |file| append(file, topic, insert, batch, now));
        let positions = written.map_err(|e| self.place.error("append", e))?;
        if !batch.is_empty() {
            self.shared.changed.notify();
        }
        if self.turn.is_due(&self.shared.options.retention, batch.len()) {
            retention::trim_in_passing(&mut self.file, topic, &self.shared.options.retention, now);
        }
        Ok(positions)
    }
}

fn append(
    file: &Transaction<'_>,
    topic: i64,
    insert: &str,
    batch: &[Record],
    now: i64,
) -> rusqlite::Result<Range<i64>> {
    let bytes: i64 = batch.iter().map(|record| i64::try_from(record.bytes()).unwrap_or(i64::MAX)).sum();
    let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
    let sql = "UPDATE topics SET next = next + ?2, bytes = bytes + ?3 WHERE id = ?1 RETURNING next";
    let end: i64 = file.prepare_cached(sql)?.query_row([topic, count, bytes], |row| row.get(0))?;
    let mut insert = file.prepare_cached(insert)?;
    for (position, record) in (end - count..).zip(batch) {
        let time = record.time.map_or(now, to_millis);
        insert.execute((position, time, &record.key, &record.payload, encode_headers(&record.headers)))?;
    }
    Ok(end - count..end)
}

impl Outbox for Writer {
    type Record = Record;

    fn write(&mut self, batch: &mut Vec<Record>) -> Result<(), StoreError> {
        self.append(batch)?;
        batch.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Journal;

    #[test]
    fn a_full_database_is_transient_and_takes_all_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path().join("full")).unwrap();
        let mut writer = journal.writer("t").unwrap();
        let record = Record::new([7; 10_000]);
        writer.append(&vec![record.clone(); 10]).unwrap();
        let limit = |writer: &Writer, pages: u32| {
            writer.file.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        };
        limit(&writer, 60);
        let mut batch = vec![record; 100];
        let error = writer.write(&mut batch).unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("topic `t`: cannot append: database or disk is full")
        );
        assert_eq!((batch.len(), journal.read("t", 0, 1_000).unwrap().len()), (100, 10));
        limit(&writer, 100_000);
        writer.write(&mut batch).unwrap();
        assert_eq!((batch.len(), journal.read("t", 0, 1_000).unwrap().len()), (0, 110));
    }
}
