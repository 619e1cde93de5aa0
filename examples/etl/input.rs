//! Where the bytes come from: a file or standard input, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use streamz::{BoxError, Result};

use crate::archive::{self, Archive};
use crate::args::{failure, is_std};
use crate::counts::Counts;
use crate::fingerprint::Source;
use crate::gunzip::{self, Gunzip};
use crate::interruptible::{Stop, interruptible};

const BLOCK: usize = 64 * 1024;

/// How many bytes tell what a text is.
const START: usize = archive::START;

/// How an input is unpacked by another program. A table is not read from standard input.
pub(crate) const PIPE: &str = " | etl --input -";

/// An input that has been opened.
pub(crate) struct Input {
    /// What to call it in messages.
    pub(crate) name: String,
    /// The text, unpacked.
    pub(crate) text: Box<dyn BufRead + Send>,
    pub(crate) stop: Stop,
    pub(crate) source: Source,
}

/// Opens a file, or standard input for `-`, and looks whether it is gzip. Reads at least `head` bytes, if it has as many.
pub(crate) fn open(path: &Path, head: usize, counts: &Arc<Counts>) -> Result<Input, BoxError> {
    let stop = Stop::default();
    if is_std(path) {
        let name = "standard input";
        // Must stay before the thread that reads: then standard input is still at its beginning.
        let source = Source::new(name, size_of_stdin());
        let bytes = interruptible(io::stdin(), &stop)
            .map_err(failure("cannot read", Path::new(name)))?;
        return Input::new(name.to_owned(), Box::new(bytes), stop, source, head, counts);
    }
    let file = open_file(path)?;
    let meta = file.metadata().map_err(failure("cannot open", path))?;
    let absolute = std::path::absolute(path).map_err(failure("cannot find", path))?;
    let source = |size| Source::new(&absolute.display().to_string(), size);
    let name = path.display().to_string();
    if meta.is_file() {
        return Input::new(name, Box::new(file), stop, source(Some(meta.len())), head, counts);
    }
    // A named pipe, say, which makes one wait as standard input does.
    let bytes = interruptible(file, &stop).map_err(failure("cannot read", path))?;
    Input::new(name, Box::new(bytes), stop, source(None), head, counts)
}

/// The size of standard input, if it is a file that is read from its beginning.
fn size_of_stdin() -> Option<u64> {
    #[cfg(unix)]
    {
        use std::io::Seek;
        use std::os::fd::AsFd;
        let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        let meta = file.metadata().ok()?;
        (meta.is_file() && file.stream_position().ok()? == 0).then_some(meta.len())
    }
    #[cfg(not(unix))]
    None
}

/// Opens a table that is read at once.
pub(crate) fn open_table(path: &Path) -> Result<impl BufRead + use<>, BoxError> {
    text(Box::new(open_file(path)?), "").map_err(failure("cannot read", path))
}

fn open_file(path: &Path) -> Result<File, BoxError> {
    let file = File::open(path).map_err(failure("cannot open", path))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(format!("cannot read {}: it is a directory", path.display()).into());
    }
    Ok(file)
}

impl Input {
    fn new(
        name: String,
        bytes: Box<dyn Read + Send>,
        stop: Stop,
        source: Source,
        head: usize,
        counts: &Arc<Counts>,
    ) -> Result<Self, BoxError> {
        let bytes = Counted { bytes, counts: Arc::clone(counts), source: Some(source.clone()) };
        let open = || text(Box::new(peek(bytes, head)?.1), PIPE);
        let text = open().map_err(failure("cannot read", Path::new(&name)))?;
        Ok(Self { name, text, stop, source })
    }
}

/// The text of a plain or gzip file, buffered. `pipe` is what would read it if it were packed otherwise.
///
/// # Errors
/// If it is packed otherwise, or in an encoding in which no line could be found.
fn text(bytes: Box<dyn Read + Send>, pipe: &str) -> io::Result<Box<dyn BufRead + Send>> {
    let (start, bytes) = peek(bytes, START)?;
    let bytes = BufReader::with_capacity(BLOCK, bytes);
    let (start, text): (_, Box<dyn BufRead + Send>) = if start.starts_with(&gunzip::MAGIC) {
        let (start, text) = peek(Gunzip::new(bytes), START)?;
        (start, Box::new(BufReader::with_capacity(BLOCK, text)))
    } else {
        (start, Box::new(bytes))
    };
    if let Some(archive) = Archive::of(&start) {
        return Err(io::Error::other(format!("it {}", archive.advice(pipe))));
    }
    match wide_encoding(&start) {
        Some(encoding) => {
            Err(io::Error::other(format!("it is {encoding}; convert it to UTF-8 first")))
        }
        None => Ok(text),
    }
}

/// The first bytes of a reader, and a reader that begins with them again.
fn peek<R: Read>(mut reader: R, length: usize) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    // A pipe may give one byte at a time, so these are asked for until they are there.
    let mut start = Vec::new();
    reader.by_ref().take(length as u64).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(reader)))
}

/// The encoding of a text whose characters have two bytes or more, with or without a byte order mark.
fn wide_encoding(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        // Two characters of ASCII.
        [a, 0, b, 0] | [0, a, 0, b] if *a != 0 && *b != 0 => Some("UTF-16"),
        _ => None,
    }
}

/// Counts the bytes for the progress bar: once per block, not once per line. Shows the first ones to the source.
struct Counted {
    bytes: Box<dyn Read + Send>,
    counts: Arc<Counts>,
    /// `None` when it has seen enough.
    source: Option<Source>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.counts.bytes.add(read as u64);
        if self.source.as_ref().is_some_and(|source| !source.take_in(&buffer[..read])) {
            self.source = None;
        }
        Ok(read)
    }
}
