//! [`Tail`]: one name, the file that has it, and those that had it before.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::options::{Counts, FollowEvent, FollowStart, OnEvent};
use super::place::{Identity, Place, identity};
use super::rotated::{self, Known};
use crate::pipeline::CancelToken;
use crate::stream::origin::file_line::{FileError, FileLine};

/// How often the rotated files are listed, in case they are renamed before they are opened.
const TRIES: usize = 3;

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
    /// The files that had the name before, the oldest first.
    previous: Vec<Place>,
    /// Whether any file has had the name.
    had_a_file: bool,
    /// The rotated files that are accounted for; `None` until they can be listed.
    known: Option<Known>,
    /// When the file had last been changed before it was read to its end, at the last complete look.
    since: Option<SystemTime>,
    /// The error to emit before the next line.
    fault: Option<FileError>,
    /// The last reported failure, until the file can be read again.
    told: Option<String>,
}

/// What was found beside the file.
struct Found {
    /// The files that came between, or copies of the file; the oldest first. None has been read.
    between: Vec<Place>,
    /// Whether others cannot be read any more.
    is_incomplete: bool,
    known: Option<Known>,
}

/// The rotated files beside the file that has the name, and that file: both as they were at one moment, before which
/// following has not begun. If the file is renamed again and again at that time, some of the rotated ones may be new.
fn first_look(path: &Path, start: FollowStart, max_len: usize) -> (Option<Known>, io::Result<Place>) {
    let look = || {
        let holder = std::fs::metadata(path).ok().map(|meta| identity(&meta));
        let known = Known::beside(path, holder);
        let place = Place::open(path, start, max_len);
        (place.as_ref().ok().map(|place| place.identity) == holder, (known, place))
    };
    let mut found = look();
    for _ in 1..TRIES {
        if !found.0 {
            found = look();
        }
    }
    found.1
}

impl Tail {
    /// Opens the current file, if there is one.
    pub(super) fn open(path: PathBuf, start: FollowStart, shared: &mut Shared) -> Self {
        let (known, place) = first_look(&path, start, shared.max_len);
        let mut tail = Self {
            path: path.into(),
            current: None,
            previous: Vec::new(),
            had_a_file: false,
            known,
            since: None,
            fault: None,
            told: None,
        };
        match place {
            Ok(place) => {
                let is_elsewhere = matches!(start, FollowStart::Offset(offset) if offset != place.start);
                tail.current = Some(place);
                tail.had_a_file = true;
                shared.note(&tail.path, FollowEvent::Opened);
                if is_elsewhere {
                    tail.loses(shared);
                }
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
        while self.fault.is_none() {
            if let Some(line) = self.next_of_previous(shared)? {
                return Ok(Some(line));
            }
            if let Some(found) = self.emptied(shared)? {
                if let Some(line) = self.start_over(found, shared)? {
                    return Ok(Some(line));
                }
                continue;
            }
            // If it fails, another file may have the name by now.
            let read = self.current.as_mut().map_or(Ok(None), |it| it.next(&self.path, || shared.is_over()));
            if let Ok(Some(_)) = read {
                return read;
            }
            if shared.is_over() {
                return Ok(None);
            }
            if read.is_ok() && self.current.as_ref().is_some_and(|it| !it.is_at_end()) {
                continue;
            }
            let place = std::fs::metadata(&self.path).and_then(|meta| {
                let is_same = self.current.as_ref().is_some_and(|current| current.identity == identity(&meta));
                if is_same {
                    Ok(None)
                } else {
                    Place::open(&self.path, FollowStart::Beginning, shared.max_len).map(Some)
                }
            });
            match place {
                Ok(None) => {
                    if read.is_ok() {
                        self.told = None;
                        self.since = self.current.as_ref().and_then(Place::changed);
                    }
                    return read;
                }
                Ok(Some(place)) => self.turn_to(place, shared),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if !self.is_missing(shared) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
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
                Ok(None) if shared.is_over() => index += 1,
                Ok(None) if !place.is_at_end() => {}
                Ok(None) if is_over => _ = self.previous.remove(index),
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
        let found = self.find(Some(&place), shared);
        // If it had the name before, it is read from where that ended.
        let old = self.previous.iter().position(|it| it.identity == place.identity);
        let mut place = old.map_or(place, |index| self.previous.remove(index));
        place.is_let_go = false;
        let before = self.current.replace(place);
        self.move_on(before, found, 1, shared);
    }

    /// No file has the name. It was renamed, and may still grow; or it was deleted. Returns whether there may be more
    /// to read.
    fn is_missing(&mut self, shared: &mut Shared) -> bool {
        self.told = None;
        let found = self.find(None, shared);
        let is_deleted = self.current.as_ref().is_some_and(Place::is_deleted);
        if is_deleted {
            shared.note(&self.path, FollowEvent::Deleted);
        }
        if is_deleted || !found.between.is_empty() || found.is_incomplete {
            let before = self.current.take();
            self.move_on(before, found, 0, shared);
            return true;
        }
        self.known = found.known;
        false
    }

    /// After `before`, those that were `found` had the name, and then `more` files.
    fn move_on(&mut self, before: Option<Place>, found: Found, more: usize, shared: &mut Shared) {
        self.told = None;
        let mut times = found.between.len() + more;
        if times > 0 && !std::mem::replace(&mut self.had_a_file, true) {
            shared.note(&self.path, FollowEvent::Opened);
            times -= 1;
        }
        shared.counts.rotations.add(times as u64);
        if times > 0 {
            shared.note(&self.path, FollowEvent::Rotated);
        }
        if times > 1 {
            shared.note(&self.path, FollowEvent::RotatedBetween(times as u64));
        }
        // Then others may have been deleted, too.
        let is_deleted = before.as_ref().is_some_and(Place::is_deleted) && !found.between.is_empty();
        self.previous.extend(before);
        self.previous.extend(found.between);
        // Only the last one may still be written to.
        if let Some((_, older)) = self.previous.split_last_mut() {
            older.iter_mut().for_each(|it| it.is_let_go = true);
        }
        self.known = found.known;
        if is_deleted || found.is_incomplete {
            self.loses(shared);
        }
    }

    /// What is beside the file, if that has been emptied since it was read to its end.
    fn emptied(&mut self, shared: &Shared) -> io::Result<Option<Found>> {
        if !self.current.as_mut().map_or(Ok(false), Place::may_have_changed)? {
            return Ok(None);
        }
        let Some(current) = &self.current else { return Ok(None) };
        let was_emptied = current.was_emptied()?;
        if !was_emptied && !current.is_young() {
            return Ok(None);
        }
        let mut found = self.find(Some(current), shared);
        let copy = found.between.iter().position(|copy| current.is_copied_in(copy).unwrap_or(false));
        if std::fs::metadata(&self.path).is_ok_and(|meta| current.identity == identity(&meta)) {
            // Its contents may not tell. But there may be a copy of what it no longer contains.
            return Ok(Some(found).filter(|_| was_emptied || copy.is_some()));
        }
        // It has been renamed since. The other ones had the name after it, and are found again when that is noticed.
        let copy = copy.map(|index| found.between.remove(index));
        let mut known = self.known.clone();
        known.iter_mut().for_each(|known| known.add(copy.as_ref().map(|it| it.identity)));
        let found = Found { between: copy.into_iter().collect(), is_incomplete: false, known };
        Ok(Some(found).filter(|_| was_emptied))
    }

    /// The file was emptied. Its unread part is in the copy of it, if there is one; otherwise the incomplete last line
    /// becomes a line, which is returned.
    fn start_over(&mut self, found: Found, shared: &mut Shared) -> io::Result<Option<FileLine>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        let mut old = std::mem::replace(current, current.start_over()?);
        let Found { between: mut copies, is_incomplete, known } = found;
        self.known = known;
        shared.counts.truncations.add(copies.len().max(1) as u64);
        shared.note(&self.path, FollowEvent::Truncated);
        if copies.len() > 1 {
            shared.note(&self.path, FollowEvent::RotatedBetween(copies.len() as u64));
        }
        let of_old = copies.iter().position(|copy| old.is_copied_in(copy).unwrap_or(false));
        // The copy of it may have been deleted, if there are others.
        if is_incomplete || of_old.is_none() && !copies.is_empty() {
            self.loses(shared);
        }
        let mut rest = None;
        if let Some(index) = of_old {
            old.go_on_in(copies.remove(index))?;
            self.previous.push(old);
        } else {
            rest = old.rest(&self.path);
        }
        self.previous.extend(copies);
        self.previous.iter_mut().for_each(|it| it.is_let_go = true);
        Ok(rest)
    }

    /// Looks for rotated files that have come since the last time, while the file `holder` has the name.
    fn find(&self, holder: Option<&Place>, shared: &Shared) -> Found {
        let mut found = self.find_once(holder, shared);
        for _ in 1..TRIES {
            if found.is_incomplete {
                found = self.find_once(holder, shared);
            }
        }
        found
    }

    fn find_once(&self, holder: Option<&Place>, shared: &Shared) -> Found {
        let mut found = Found { between: Vec::new(), is_incomplete: false, known: self.known.clone() };
        let Some((folder, mut listed)) = rotated::list(&self.path) else { return found };
        let holder_identity = holder.map(|it| it.identity);
        if let Some(known) = self.known.as_ref().filter(|known| known.folder == folder) {
            found.is_incomplete = known.misses_one_of(&listed, holder_identity);
            let mut unfinished: Vec<Identity> = Vec::new();
            for it in known.new_in(&listed) {
                let mut places = self.current.iter().chain(holder).chain(&self.previous).chain(&found.between);
                if places.any(|place| place.identity == it.identity) {
                    continue;
                }
                let place = match Place::open(&it.path, FollowStart::Beginning, shared.max_len) {
                    Ok(place) if place.identity == it.identity => place,
                    _ => {
                        found.is_incomplete = true;
                        continue;
                    }
                };
                // It is older than what has been read, and no copy of that.
                if it.changed < self.since && !self.current.as_ref().is_some_and(|current| current.is_begun_in(&place))
                {
                    continue;
                }
                // It is about to be emptied. Until then there is nothing in the copy that is not in the file.
                let is_copying = holder
                    .is_some_and(|holder| holder.identity.2 <= it.identity.2 && holder.holds(&place).unwrap_or(false));
                if is_copying {
                    unfinished.push(it.identity);
                } else {
                    found.between.push(place);
                }
            }
            listed.retain(|it| !unfinished.contains(&it.identity));
        }
        found.known = Some(Known::of(folder, &listed, holder_identity));
        found
    }

    /// Reports that lines may be missing.
    fn loses(&mut self, shared: &Shared) {
        shared.counts.losses.add(1);
        self.fault = Some(FileError::Lost { path: Arc::clone(&self.path) });
    }
}
