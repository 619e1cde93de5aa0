//! [`Known`]: the files beside a followed one that have had its name, or are copies of it, as their names tell.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::place::{Identity, identity};

/// The extensions of compressed files.
const PACKED: [&str; 6] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z"];

/// The rotated files that are not looked for any more: they are old, or are being read, or have been read.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The files of another folder are not those that had the name in this one.
    pub(super) folder: Identity,
    /// Includes the file that had the name at that time.
    plain: Vec<Identity>,
    packed: Vec<Identity>,
}

impl Known {
    /// What is known when following begins: the files that are beside `path` now. `None` if they cannot be listed.
    pub(super) fn beside(path: &Path, holder: Option<Identity>) -> Option<Self> {
        list(path).map(|(folder, listed)| Self::of(folder, &listed, holder))
    }

    /// What is known when `listed` has been looked at, and the file `holder` has the name.
    pub(super) fn of(folder: Identity, listed: &[Rotated], holder: Option<Identity>) -> Self {
        let mut known = Self { folder, plain: holder.into_iter().collect(), packed: Vec::new() };
        for it in listed {
            if it.is_packed { &mut known.packed } else { &mut known.plain }.push(it.identity);
        }
        known
    }

    pub(super) fn add(&mut self, files: impl IntoIterator<Item = Identity>) {
        self.plain.extend(files);
    }

    /// The uncompressed files in `listed` that are not known, the oldest first.
    pub(super) fn new_in<'a>(&self, listed: &'a [Rotated]) -> Vec<&'a Rotated> {
        let mut new: Vec<_> = listed.iter().filter(|it| !it.is_packed && !self.plain.contains(&it.identity)).collect();
        new.sort_by(|a, b| a.age().cmp(&b.age()));
        new
    }

    /// Whether a file was compressed that was never known: there are more new compressed files than known ones have
    /// disappeared, not counting those whose original is still there.
    pub(super) fn misses_one_of(&self, listed: &[Rotated], holder: Option<Identity>) -> bool {
        let has_original = |packed: &Rotated| listed.iter().any(|it| !it.is_packed && it.suffix == packed.suffix);
        let is_new = |it: &&Rotated| it.is_packed && !self.packed.contains(&it.identity) && !has_original(it);
        let is_gone = |known: &&Identity| {
            holder.as_ref() != Some(*known) && listed.iter().all(|it| it.is_packed || it.identity != **known)
        };
        listed.iter().filter(is_new).count() > self.plain.iter().filter(is_gone).count()
    }
}

/// A file that is named like a followed one, with a number or a date appended, and perhaps compressed.
pub(super) struct Rotated {
    suffix: OsString,
    is_packed: bool,
    pub(super) path: PathBuf,
    pub(super) changed: Option<SystemTime>,
    pub(super) identity: Identity,
}

impl Rotated {
    /// Older files compare as less. A higher number is older, and a later date is younger.
    fn age(&self) -> impl Ord {
        let number = self.suffix.to_str().and_then(|suffix| suffix.strip_prefix('.')?.parse::<u64>().ok());
        (self.changed, number.filter(|number| *number < 100_000).map(Reverse), self.suffix.clone())
    }
}

/// The folder of `path`, and the files in it that may have had this name: `NAME.1`, `NAME.2.gz`, .., or `NAME-20260131`.
/// `None` if the folder cannot be listed, which may be so even if the file can be read.
pub(super) fn list(path: &Path) -> Option<(Identity, Vec<Rotated>)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let meta = std::fs::metadata(folder).ok()?;
    let entries = std::fs::read_dir(folder).ok()?.collect::<io::Result<Vec<_>>>().ok()?;
    let rotated = entries.into_iter().filter_map(|entry| {
        let ((suffix, is_packed), path) = (suffix(name, &entry.file_name())?, entry.path());
        let meta = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
        Some(Rotated { suffix, is_packed, path, changed: meta.modified().ok(), identity: identity(&meta) })
    });
    Some((identity(&meta), rotated.collect()))
}

/// The suffix that makes `other` a rotated `name`: `.1`, `.2026-01-31` or `-20260131`, for example; and whether that is
/// compressed.
fn suffix(name: &OsStr, other: &OsStr) -> Option<(OsString, bool)> {
    let suffix = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?;
    let suffix = std::str::from_utf8(suffix).ok()?;
    let original = PACKED.iter().find_map(|extension| suffix.strip_suffix(extension));
    let bare = original.unwrap_or(suffix);
    let is_one = matches!(bare.as_bytes(), [b'.' | b'-', rest @ ..]
        if rest.first().is_some_and(u8::is_ascii_digit) && rest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'_')));
    is_one.then(|| (bare.into(), original.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_behind_the_name_are_of_rotated_files() {
        let is_packed = |other: &str| suffix("a.log".as_ref(), other.as_ref()).map(|(_, is_packed)| is_packed);
        for name in
            ["a.log.1", "a.log.12", "a.log-20260131", "a.log.2026-01-31", "a.log.2026-01-31_14", "a.log-20260131.1"]
        {
            assert_eq!(is_packed(name), Some(false), "{name}");
            assert_eq!(is_packed(&format!("{name}.gz")), Some(true), "{name}");
        }
        for name in ["a.log", "a.log.", "a.log.gz", "a.log2", "b.log.1", "a.log.old", "a.log..1", "a.log.1.gz.gz"] {
            assert_eq!(is_packed(name), None, "{name}");
        }
    }

    const FOLDER: Identity = (0, 0, None);

    /// Its inode has the number `file`.
    fn rotated(suffix: &str, is_packed: bool, file: u64) -> Rotated {
        Rotated { suffix: suffix.into(), is_packed, path: PathBuf::new(), changed: None, identity: (0, file, None) }
    }

    #[test]
    fn higher_numbers_and_earlier_dates_are_older() {
        let sorted = |suffixes: &[&str]| {
            let files: Vec<_> = (0..).zip(suffixes).map(|(file, suffix)| rotated(suffix, false, file)).collect();
            let sorted = Known::of(FOLDER, &[], None).new_in(&files);
            sorted.into_iter().map(|it| it.suffix.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&[".1", ".10", ".2"]), [".10", ".2", ".1"]);
        assert_eq!(sorted(&["-20260201", "-20260131"]), ["-20260131", "-20260201"]);
        assert_eq!(sorted(&[".20260201", ".20260131"]), [".20260131", ".20260201"]);
    }

    #[test]
    fn a_file_that_was_compressed_unseen_is_noticed() {
        let known = Known::of(FOLDER, &[rotated(".1", false, 1), rotated(".2", true, 2)], Some((0, 9, None)));
        let misses = |files: &[(&str, bool, u64)], holder| {
            let listed: Vec<_> =
                files.iter().map(|(suffix, is_packed, file)| rotated(suffix, *is_packed, *file)).collect();
            known.misses_one_of(&listed, Some((0, holder, None)))
        };
        // Nothing has happened; one that was known has been compressed, or is being compressed.
        assert!(!misses(&[(".1", false, 1), (".2", true, 2)], 9));
        assert!(!misses(&[(".2", true, 3), (".3", true, 2), (".1", false, 9)], 10));
        assert!(!misses(&[(".2", true, 3), (".2", false, 1), (".3", true, 2), (".1", false, 9)], 10));
        // The file that had the name, and one after it.
        assert!(!misses(&[(".1", true, 3), (".2", false, 1), (".3", true, 2)], 10));
        assert!(misses(&[(".1", true, 4), (".2", true, 3), (".3", false, 1), (".4", true, 2)], 10));
        // A copy.
        assert!(misses(&[(".1", true, 3), (".2", false, 1), (".3", true, 2)], 9));
    }
}
