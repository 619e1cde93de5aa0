//! [`Tail`]: one name, the file that has it, and those that had it before.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::options::{Counts, FollowEvent, FollowStart, OnEvent};
use super::place::{Identity, Place, identity};
use crate::pipeline::CancelToken;
use crate::stream::origin::file_line::{FileError, FileLine};

/// The common part of all names of a source.
pub(super) struct Shared {
    pub(super) token: CancelToken,
    pub(super) max_len: usize,
    pub(super) on_event: Option<OnEvent>,
    pub(super) counts: Arc<Counts>,
}

impl Shared {
    fn note(&mut self, path: &Path, event: FollowEvent) {
        if let Some(on_event) = &mut self.on_event {
            on_event(path, event);
        }
    }

    /// Whether no more lines are wanted.
    fn is_over(&self) -> bool {
        self.token.is_cancelled() || self.token.is_draining()
    }
}

pub(super) struct Tail {
    path: Arc<Path>,
    /// The file that had the name at the last check.
    current: Option<Place>,
    /// Whether `current` has been read to its end at that time, so that it may have grown or shrunk since.
    is_at_end: bool,
    /// The files that had the name before, the oldest first.
    previous: Vec<Place>,
    /// Whether any file has had the name.
    had_a_file: bool,
    /// The rotated files at the last check of the folder.
    rotated: Vec<Identity>,
    /// The error to emit before the next line.
    fault: Option<FileError>,
    /// The last reported failure, until the file can be read again.
    told: Option<String>,
}

impl Tail {
    /// Opens the current file, if there is one.
    pub(super) fn open(path: PathBuf, start: FollowStart, shared: &mut Shared) -> Self {
        let path: Arc<Path> = path.into();
        let mut tail = Self {
            path,
            current: None,
            is_at_end: true,
            previous: Vec::new(),
            had_a_file: false,
            rotated: Vec::new(),
            fault: None,
            told: None,
        };
        tail.rotated = tail.rotated_files().iter().map(|it| it.identity).collect();
        match Place::open(&tail.path, start, shared.max_len) {
            Ok(place) => {
                tail.current = Some(place);
                tail.had_a_file = true;
                shared.note(&tail.path, FollowEvent::Opened);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => shared.note(&tail.path, FollowEvent::Missing),
            Err(error) => tail.fails(error),
        }
        tail
    }

    pub(super) fn unfinished(&self) -> usize {
        self.current.iter().chain(&self.previous).filter(|place| place.is_within_a_line()).count()
    }

    /// The next line that has arrived, if any.
    pub(super) fn next(&mut self, shared: &mut Shared) -> Result<Option<FileLine>, FileError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        match self.look(shared) {
            Ok(None) => {}
            Ok(line) => return Ok(line),
            Err(error) => self.fails(error),
        }
        self.fault.take().map_or(Ok(None), Err)
    }

    /// When nothing more is expected: the rest, after [`next`](Self::next) has returned nothing.
    pub(super) fn last(&mut self, shared: &mut Shared) -> Result<Option<FileLine>, FileError> {
        self.previous.extend(self.current.take());
        self.previous.iter_mut().for_each(|place| place.is_let_go = true);
        if !std::mem::replace(&mut self.had_a_file, true) && self.told.is_none() {
            self.fails(ErrorKind::NotFound.into());
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.next_of_previous(shared).map_err(|source| FileError::Unreadable { path: Arc::clone(&self.path), source })
    }

    /// Reports a failure, unless it is the same as before.
    fn fails(&mut self, error: io::Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            self.told = Some(text);
            self.fault = Some(FileError::Unreadable { path: Arc::clone(&self.path), source: error });
        }
    }

    fn look(&mut self, shared: &mut Shared) -> io::Result<Option<FileLine>> {
        if let Some(line) = self.next_of_previous(shared)? {
            return Ok(Some(line));
        }
        loop {
            let mut failed = None;
            if let Some(current) = &mut self.current {
                if self.is_at_end && current.was_emptied()? {
                    self.is_at_end = false;
                    if let Some(line) = self.truncated(shared)? {
                        return Ok(Some(line));
                    }
                    continue;
                }
                self.is_at_end = false;
                match current.next(&self.path, || shared.is_over()) {
                    Ok(Some(line)) => return Ok(Some(line)),
                    Ok(None) => self.is_at_end = true,
                    // Another file may have the name by now.
                    Err(error) => failed = Some(error),
                }
            }
            if shared.is_over() {
                return Ok(None);
            }
            match std::fs::metadata(&self.path) {
                Ok(meta) if self.current.as_ref().is_some_and(|current| current.identity == identity(&meta)) => {
                    if let Some(error) = failed {
                        return Err(error);
                    }
                    self.told = None;
                    return Ok(None);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return self.missing(shared),
                Err(error) => return Err(error),
            }
            match Place::open(&self.path, FollowStart::Beginning, shared.max_len) {
                Ok(place) => self.turn_to(place, shared),
                Err(error) if error.kind() == ErrorKind::NotFound => return self.missing(shared),
                Err(error) => return Err(error),
            }
            if self.fault.is_some() {
                return Ok(None);
            }
            if let Some(line) = self.next_of_previous(shared)? {
                return Ok(Some(line));
            }
        }
    }

    /// No file has the name. It was renamed, and may still grow; or it was deleted.
    fn missing(&mut self, shared: &mut Shared) -> io::Result<Option<FileLine>> {
        self.told = None;
        if self.current.as_ref().is_some_and(Place::is_deleted) {
            self.previous.extend(self.current.take());
            shared.note(&self.path, FollowEvent::Deleted);
        }
        self.next_of_previous(shared)
    }

    /// The next line of a file that had the name before.
    fn next_of_previous(&mut self, shared: &mut Shared) -> io::Result<Option<FileLine>> {
        let mut index = 0;
        while let Some(place) = self.previous.get_mut(index) {
            // Before it is read: bytes that are added to a deleted file after that are not read.
            let is_over = place.is_let_go || place.is_deleted();
            let line = if is_over {
                place.last(&self.path, || shared.is_over())
            } else {
                place.next(&self.path, || shared.is_over())
            };
            match line {
                Ok(None) if is_over && !shared.is_over() => _ = self.previous.remove(index),
                Ok(None) => index += 1,
                Ok(line) => return Ok(line),
                Err(error) => {
                    // It would only fail again, and prevent the new file from being read.
                    self.previous.remove(index);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Another file now has the name.
    fn turn_to(&mut self, place: Place, shared: &mut Shared) {
        self.told = None;
        self.is_at_end = true;
        let before = self.current.replace(place);
        if !std::mem::replace(&mut self.had_a_file, true) {
            shared.note(&self.path, FollowEvent::Opened);
            return;
        }
        shared.counts.rotations.add(1);
        shared.note(&self.path, FollowEvent::Rotated);
        self.previous.iter_mut().for_each(|previous| previous.is_let_go = true);
        let is_deleted = before.as_ref().is_some_and(Place::is_deleted);
        self.previous.extend(before);
        let mut between = self.rotated_files();
        let all = between.iter().map(|it| it.identity).collect();
        between.retain(|it| {
            let mut places = self.previous.iter().chain(&self.current);
            !self.rotated.contains(&it.identity) && places.all(|place| place.identity != it.identity)
        });
        self.rotated = all;
        if between.is_empty() {
            return;
        }
        shared.note(&self.path, FollowEvent::RotatedBetween(between.len() as u64 + 1));
        // The oldest first.
        between.sort_by(|a, b| a.age().cmp(&b.age()));
        let mut is_complete = !is_deleted;
        for it in between {
            match Place::open(&it.path, FollowStart::Beginning, shared.max_len) {
                Ok(place) if place.identity == it.identity => self.previous.push(place),
                _ => is_complete = false,
            }
        }
        if !is_complete {
            shared.counts.losses.add(1);
            self.fault = Some(FileError::Lost { path: Arc::clone(&self.path) });
        }
    }

    /// The file was truncated. The incomplete last line becomes a line, unless the file was copied before: then the
    /// unread part is in the copy.
    fn truncated(&mut self, shared: &mut Shared) -> io::Result<Option<FileLine>> {
        shared.counts.truncations.add(1);
        shared.note(&self.path, FollowEvent::Truncated);
        let copies = self.rotated_files();
        let before = std::mem::replace(&mut self.rotated, copies.iter().map(|it| it.identity).collect());
        let Some(current) = &mut self.current else { return Ok(None) };
        let mut old = std::mem::replace(current, current.start_over()?);
        let new_copies = copies.iter().filter(|it| !before.contains(&it.identity));
        if new_copies.into_iter().any(|copy| old.go_on_in(&copy.path).unwrap_or(false)) {
            old.is_let_go = true;
            self.previous.push(old);
            return self.next_of_previous(shared);
        }
        Ok(old.rest(&self.path))
    }

    /// The files that may have had the name: `NAME.1`, `NAME.2`, .., or `NAME-20260131`.
    fn rotated_files(&self) -> Vec<Rotated> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default();
        // The folder may appear, like the file; and it may be unreadable, even if the file is not.
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let rotated = entries.filter_map(|entry| {
            let (suffix, path) = (suffix(name, &entry.file_name())?, entry.path());
            let meta = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
            Some(Rotated { suffix, path, changed: meta.modified().ok(), identity: identity(&meta) })
        });
        rotated.collect()
    }
}

/// A file that is named like a followed one, with a number or a date appended.
struct Rotated {
    suffix: OsString,
    path: PathBuf,
    changed: Option<SystemTime>,
    identity: Identity,
}

impl Rotated {
    /// Older files compare as less. A higher number is older, and a later date is younger.
    fn age(&self) -> impl Ord {
        let number = self.suffix.to_str().and_then(|suffix| suffix.strip_prefix('.')?.parse::<u64>().ok());
        (self.changed, number.filter(|number| *number < 100_000).map(Reverse), self.suffix.clone())
    }
}

/// The suffix that makes `other` a rotated `name`: `.1`, `.2026-01-31` or `-20260131`, for example. Files that have
/// been compressed since have been read before.
fn suffix(name: &OsStr, other: &OsStr) -> Option<OsString> {
    let suffix = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?;
    let is_one = matches!(suffix, [b'.' | b'-', rest @ ..]
        if rest.first().is_some_and(u8::is_ascii_digit) && rest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'_')));
    is_one.then(|| std::str::from_utf8(suffix).ok().map(OsString::from)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_behind_the_name_are_of_rotated_files() {
        let is_rotated = |other: &str| suffix("a.log".as_ref(), other.as_ref()).is_some();
        for name in
            ["a.log.1", "a.log.12", "a.log-20260131", "a.log.2026-01-31", "a.log.2026-01-31_14", "a.log-20260131.1"]
        {
            assert!(is_rotated(name), "{name}");
        }
        for name in ["a.log", "a.log.", "a.log.gz", "a.log.1.gz", "a.log2", "b.log.1", "a.log.old", "a.log..1"] {
            assert!(!is_rotated(name), "{name}");
        }
    }

    #[test]
    fn higher_numbers_and_earlier_dates_are_older() {
        let sorted = |suffixes: &[&str]| {
            let file = |suffix: &&str| Rotated {
                suffix: suffix.into(),
                path: PathBuf::new(),
                changed: None,
                identity: (0, 0, None),
            };
            let mut files: Vec<Rotated> = suffixes.iter().map(file).collect();
            files.sort_by(|a, b| a.age().cmp(&b.age()));
            files.into_iter().map(|it| it.suffix.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&[".1", ".10", ".2"]), [".10", ".2", ".1"]);
        assert_eq!(sorted(&["-20260201", "-20260131"]), ["-20260131", "-20260201"]);
        assert_eq!(sorted(&[".20260201", ".20260131"]), [".20260131", ".20260201"]);
    }
}
