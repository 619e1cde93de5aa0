//! Where the bytes come from: a file or standard input, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use streamz::{BoxError, Result};

use crate::args::failure;
use crate::counts::Counts;
use crate::interruptible::{Stop, interruptible};

const BLOCK: usize = 64 * 1024;

/// The first two bytes of every gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An input that has been opened.
pub(crate) struct Input {
    /// What to call it in messages.
    pub(crate) name: String,
    /// The text, unpacked.
    pub(crate) text: Box<dyn BufRead + Send>,
    pub(crate) stop: Stop,
    /// Its bytes on disk, where that can be known.
    pub(crate) size: Option<u64>,
}

/// Opens a file, or standard input for `-`, and looks whether it is gzip.
pub(crate) fn open(path: &Path, counts: &Arc<Counts>) -> Result<Input, BoxError> {
    let stop = Stop::default();
    if path.as_os_str() == "-" {
        let bytes = interruptible(io::stdin(), &stop).map_err(failure("cannot read", Path::new("standard input")))?;
        return Input::new("standard input".to_owned(), Box::new(bytes), stop, None, counts);
    }
    let cannot_open = || failure("cannot open", path);
    let file = File::open(path).map_err(cannot_open())?;
    let meta = file.metadata().map_err(cannot_open())?;
    let name = path.display().to_string();
    if meta.is_file() {
        return Input::new(name, Box::new(file), stop, Some(meta.len()), counts);
    }
    if meta.is_dir() {
        return Err(format!("cannot read {name}: it is a directory").into());
    }
    // A named pipe, say, which makes one wait as standard input does.
    let bytes = interruptible(file, &stop).map_err(failure("cannot read", path))?;
    Input::new(name, Box::new(bytes), stop, None, counts)
}

impl Input {
    fn new(
        name: String,
        bytes: Box<dyn Read + Send>,
        stop: Stop,
        size: Option<u64>,
        counts: &Arc<Counts>,
    ) -> Result<Self, BoxError> {
        let mut bytes = Counted { bytes, counts: Arc::clone(counts) };
        // A pipe may give one byte at a time, so two bytes are asked for until they are there.
        let mut start = Vec::new();
        bytes.by_ref().take(2).read_to_end(&mut start).map_err(failure("cannot read", Path::new(&name)))?;
        let is_gzip = start == GZIP_MAGIC;
        let bytes = BufReader::with_capacity(BLOCK, Cursor::new(start).chain(bytes));
        let text: Box<dyn BufRead + Send> = if is_gzip {
            // Several gzip files in a row are one file, too.
            Box::new(BufReader::with_capacity(BLOCK, MultiGzDecoder::new(bytes)))
        } else {
            Box::new(bytes)
        };
        Ok(Self { name, text, stop, size })
    }
}

/// Counts the bytes for the progress bar: once per block, not once per line.
struct Counted {
    bytes: Box<dyn Read + Send>,
    counts: Arc<Counts>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.counts.bytes.add(read as u64);
        Ok(read)
    }
}
