//! Where the bytes come from: a file or standard input, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::read::MultiGzDecoder;
use streamz::{BoxError, Result};

use crate::args::failure;
use crate::counts::Counts;

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
        let (bytes, stop) = interruptible(io::stdin()).map_err(failure("cannot read", Path::new("standard input")))?;
        return Input::new("standard input".to_owned(), bytes, stop, None, counts);
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
    let (bytes, stop) = interruptible(file).map_err(failure("cannot read", path))?;
    Input::new(name, bytes, stop, None, counts)
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

/// Tells the reader that no more is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    is_set: Arc<AtomicBool>,
    /// To wake a reader that waits for input.
    blocks: Option<SyncSender<io::Result<Vec<u8>>>>,
}

impl Stop {
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        if let Some(blocks) = &self.blocks {
            // After the store. If there is no room, the reader does not wait, and sees the flag before it waits again.
            let _ = blocks.try_send(Err(stopped()));
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }
}

fn stopped() -> io::Error {
    io::Error::other("stopped")
}

/// Reads from something that may keep one waiting for ever, such as a terminal or a pipe, in such a way that the wait can
/// be ended.
///
/// A read that blocks in the operating system cannot be interrupted, and the thread it blocks cannot be joined. So that
/// thread does nothing else, and nobody joins it; it ends with the program. Everything that is counted on happens on
/// the other side of the channel.
fn interruptible(mut source: impl Read + Send + 'static) -> io::Result<(Box<dyn Read + Send>, Stop)> {
    let (sender, blocks) = sync_channel(4);
    let stop = Stop { is_set: Arc::default(), blocks: Some(sender.clone()) };
    std::thread::Builder::new().name("etl/input".to_owned()).spawn(move || {
        let mut more = true;
        while more {
            let mut block = vec![0; BLOCK];
            let block = match source.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|length| {
                    block.truncate(length);
                    block
                }),
            };
            // The end is an empty block.
            more = block.as_ref().is_ok_and(|block| !block.is_empty());
            if sender.send(block).is_err() {
                return;
            }
        }
    })?;
    Ok((Box::new(Interruptible { blocks, block: Cursor::default(), stop: stop.clone() }), stop))
}

struct Interruptible {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Cursor<Vec<u8>>,
    stop: Stop,
}

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.block.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        if self.stop.is_set() {
            return Err(stopped());
        }
        // `stop` holds a sender, so that the channel cannot be closed.
        self.block = Cursor::new(self.blocks.recv().unwrap_or_else(|_| Err(stopped()))?);
        self.block.read(buffer)
    }
}
