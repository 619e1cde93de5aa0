//! Detects whether two names refer to the same file, so that no output destroys an input.
//!
//! A file is identified by its device and its number there, whatever its name: another name, a symbolic or a hard link,
//! and `/dev/stdin` are the same file. [`Outputs`] opens files for writing without truncating them, compares each with
//! all inputs and all other outputs, and truncates them only when all of them differ.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    #[cfg(unix)]
    file: (u64, u64),
    #[cfg(not(unix))]
    file: PathBuf,
}

impl Identity {
    /// The file of that name. `None` if there is none, or if reading and writing it at the same time does no harm: a
    /// terminal, `/dev/null`.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        Self::new(path, &std::fs::metadata(path).ok()?)
    }

    /// The file that standard input reads, where that is known.
    pub(crate) fn of_stdin() -> Option<Self> {
        #[cfg(unix)]
        return Self::of_descriptor(&io::stdin(), |_| true);
        #[cfg(not(unix))]
        None
    }

    /// The files that standard output and standard error write to, if they are files: they may well be the socket that
    /// standard input reads.
    pub(crate) fn of_std_outputs() -> Vec<(&'static str, Self)> {
        #[cfg(unix)]
        return [
            ("standard output", Self::of_descriptor(&io::stdout(), Metadata::is_file)),
            ("standard error", Self::of_descriptor(&io::stderr(), Metadata::is_file)),
        ]
        .into_iter()
        .filter_map(|(name, identity)| Some((name, identity?)))
        .collect();
        #[cfg(not(unix))]
        Vec::new()
    }

    #[cfg(unix)]
    fn of_descriptor(
        descriptor: &impl std::os::fd::AsFd,
        counts: fn(&Metadata) -> bool,
    ) -> Option<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned().ok()?);
        let meta = file.metadata().ok().filter(counts)?;
        Self::new(Path::new(""), &meta)
    }

    #[cfg(unix)]
    fn new(_path: &Path, meta: &Metadata) -> Option<Self> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        (!meta.file_type().is_char_device()).then(|| Self { file: (meta.dev(), meta.ino()) })
    }

    #[cfg(not(unix))]
    fn new(path: &Path, meta: &Metadata) -> Option<Self> {
        let file = path.canonicalize().ok()?;
        meta.is_file().then_some(Self { file })
    }
}

/// Files to write that are different from all inputs and from each other. One that it has created and that is not
/// [taken](Self::take) is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Outputs {
    opened: Vec<Opened>,
}

#[derive(Debug)]
struct Opened {
    /// The option that names it.
    option: &'static str,
    path: PathBuf,
    file: File,
    identity: Option<Identity>,
    /// Whether it did not exist before.
    is_new: bool,
}

/// Why an output is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("cannot create {what} {}: {error}", path.display())]
    Open { what: &'static str, path: PathBuf, error: io::Error },
    #[error("{option} {} is {other}", path.display())]
    Used { option: &'static str, path: PathBuf, other: String },
    #[error("{first} and {second} are the same file: {}", path.display())]
    Same { first: &'static str, second: &'static str, path: PathBuf },
}

impl Outputs {
    /// Opens the files, given as option, purpose, and path; creates those that do not exist. Their content stays until
    /// [`take`](Self::take).
    ///
    /// # Errors
    /// If one cannot be opened, is the same as another one, or is one of `used`: other files that the program reads or
    /// writes, with their names in messages.
    pub(crate) fn open<'a>(
        outputs: impl IntoIterator<Item = (&'static str, &'static str, &'a Path)>,
        used: impl FnOnce() -> Vec<(String, Identity)>,
    ) -> Result<Self, Refusal> {
        let mut all = Self { opened: Vec::new() };
        all.open_all(outputs)?;
        all.compare(&used())?;
        Ok(all)
    }

    fn open_all<'a>(
        &mut self,
        outputs: impl IntoIterator<Item = (&'static str, &'static str, &'a Path)>,
    ) -> Result<(), Refusal> {
        for (option, what, path) in outputs {
            let refuse = |error| Refusal::Open { what, path: path.to_owned(), error };
            let (file, is_new) = open(path).map_err(refuse)?;
            let identity = Identity::new(path, &file.metadata().map_err(refuse)?);
            self.opened.push(Opened { option, path: path.to_owned(), file, identity, is_new });
        }
        Ok(())
    }

    fn compare(&self, used: &[(String, Identity)]) -> Result<(), Refusal> {
        for (index, it) in
            self.opened.iter().enumerate().filter(|(_, it)| it.identity.is_some())
        {
            if let Some((name, _)) =
                used.iter().find(|(_, other)| it.identity.as_ref() == Some(other))
            {
                return Err(Refusal::Used {
                    option: it.option,
                    path: it.path.clone(),
                    other: name.clone(),
                });
            }
            if let Some(other) =
                self.opened[..index].iter().find(|other| other.identity == it.identity)
            {
                return Err(Refusal::Same {
                    first: other.option,
                    second: it.option,
                    path: other.path.clone(),
                });
            }
        }
        Ok(())
    }

    /// Truncates the output of an option, and returns it; `None` if that option was not given.
    pub(crate) fn take(&mut self, option: &str) -> io::Result<Option<(File, PathBuf)>> {
        let Some(index) = self.opened.iter().position(|it| it.option == option) else {
            return Ok(None);
        };
        let Opened { file, path, .. } = self.opened.swap_remove(index);
        // Pipes and devices have no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(Some((file, path)))
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for it in self.opened.iter().filter(|it| it.is_new) {
            // It is empty, and ours, unless it has been replaced.
            if Identity::of_path(&it.path) == it.identity {
                let _ = std::fs::remove_file(&it.path);
            }
        }
    }
}

/// Opens a file for writing without truncating it; also returns whether it has been created.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        // A dangling link also counts as existing.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok((options.create(true).open(path)?, false))
        }
        Err(error) => Err(error),
    }
}
