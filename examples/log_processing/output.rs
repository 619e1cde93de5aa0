//! Standard output and standard error.

use std::fs::File;
use std::io::{self, ErrorKind, Write, stderr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use streamz::{BoxError, Result};

/// Where results are written. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    closed: Arc<AtomicBool>,
}

impl Output {
    /// Writes a line, or several. A closed output is not a failure, and is remembered.
    pub(crate) fn say(&self, text: &str) -> Result<(), BoxError> {
        if self.is_closed() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written
                .map_err(|error| format!("cannot write to standard output: {error}").into()),
        }
    }

    /// Whether the output has been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Whether a file that is open has been removed or replaced, so that what is written to it is lost. A file that was renamed
/// has not. Where that cannot be known, it has not either.
pub(crate) fn is_removed(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
        file.metadata().is_ok_and(|meta| {
            // A file without a name may still be what the path leads to, as `/dev/fd/3` does.
            let is_there =
                || path.metadata().is_ok_and(|there| identity(&there) == identity(&meta));
            meta.is_file() && meta.nlink() == 0 && !is_there()
        })
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        false
    }
}

/// Prints a line on standard error. A failure of that cannot be reported anywhere, and is ignored.
pub(crate) fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "log_processing: {text}");
}

pub(crate) fn complain(error: &str) {
    note(&format!("error: {error}"));
}
