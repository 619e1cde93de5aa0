//! The lines of files, one file after another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use streamz::{BoxError, LineReader, Result};

use crate::archive::{self, Archive};
use crate::args::{Args, failure, is_std};
use crate::gunzip::{self, Garbage, Gunzip};
use crate::interruptible::{Stop, interruptible};
use crate::lines::{Line, lines};

const BLOCK: usize = 128 * 1024;

/// The number of bytes that identify the type of a file.
pub(crate) const START: u64 = archive::START as u64;

/// The progress of reading. There is one writer.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    lines: AtomicU64,
    /// As stored on disk.
    bytes: AtomicU64,
    /// Incomplete lines at the point where a file could not be read further.
    unfinished: AtomicU64,
    /// Whether everything was read to its end.
    at_end: AtomicBool,
    /// The inputs that could not be read.
    faults: Mutex<Vec<String>>,
}

// Relaxed: these are figures for display; the final ones are read after the thread that wrote them was joined.
impl Reading {
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// For the progress bar: bytes, and a message.
    pub(crate) fn progress(&self) -> (u64, String) {
        (self.bytes(), format!("{} lines", self.lines()))
    }

    pub(crate) fn unfinished(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().clone()
    }

    pub(crate) fn add_line(&self) {
        self.lines.store(self.lines() + 1, Ordering::Relaxed);
    }

    /// Notes a fault. Returns true if it is a new one.
    pub(crate) fn add_fault(&self, fault: String) -> bool {
        let mut faults = self.faults.lock();
        let is_new = !faults.contains(&fault);
        if is_new {
            faults.push(fault);
        }
        is_new
    }
}

/// The names of the files in messages.
pub(crate) fn names(args: &Args) -> Vec<String> {
    let name = |file: &PathBuf| match file.strip_prefix(&args.folder) {
        _ if is_std(file) => "standard input".to_owned(),
        Ok(inside) => inside.display().to_string(),
        Err(_) => file.display().to_string(),
    };
    args.files.iter().map(name).collect()
}

/// Checks whether all files can be opened, and how many bytes they have, if that can be known.
pub(crate) fn check(files: &[PathBuf]) -> Result<Option<u64>, BoxError> {
    let mut size = Some(0);
    for path in files {
        let meta = if is_std(path) { None } else { Some(meta(path)?) };
        let bytes = meta.filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        size = size.zip(bytes).map(|(sum, bytes): (u64, u64)| sum.saturating_add(bytes));
    }
    Ok(size)
}

fn meta(path: &Path) -> Result<std::fs::Metadata, BoxError> {
    let meta = std::fs::metadata(path).map_err(failure("cannot open", path))?;
    if meta.is_dir() {
        return Err(format!("cannot read {}: it is a directory", path.display()).into());
    }
    // Anything but a regular file may allow only one reader, and waits for its writer: it is opened when its turn
    // comes.
    if meta.is_file() {
        File::open(path).map_err(failure("cannot open", path))?;
    }
    Ok(meta)
}

/// All lines of all files. If a file cannot be read further, the next one follows; the fault is noted.
///
/// It says how many lines have been read already: the pipeline passes those on together.
pub(crate) struct Lines {
    files: Vec<PathBuf>,
    names: Vec<String>,
    reading: Arc<Reading>,
    stop: Stop,
    next_file: usize,
    open: Option<Open>,
}

struct Open {
    reader: LineReader<Box<dyn BufRead + Send>>,
    file: u32,
    /// The number of the last line.
    number: u64,
    /// The next lines, as far as they were in the buffer.
    ahead: VecDeque<streamz::Line>,
}

/// The number of lines that are taken out of the buffer at a time.
const AHEAD: usize = 64;

impl Open {
    fn next_line(&mut self) -> io::Result<Option<streamz::Line>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        let line = self.reader.next_line()?;
        // Fails only where the next read fails.
        while self.ahead.len() < AHEAD
            && let Ok(Some(line)) = self.reader.next_buffered_line()
        {
            self.ahead.push_back(line);
        }
        Ok(line)
    }
}

impl Lines {
    pub(crate) fn new(args: &Args, reading: &Arc<Reading>, stop: &Stop) -> Self {
        let (files, names) = (args.files.clone(), names(args));
        Self {
            files,
            names,
            reading: Arc::clone(reading),
            stop: stop.clone(),
            next_file: 0,
            open: None,
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
        let bytes: Box<dyn Read + Send> = if is_std(path) {
            Box::new(interruptible(io::stdin(), &self.stop)?)
        } else if std::fs::metadata(path)?.is_file() {
            Box::new(File::open(path)?)
        } else {
            // A named pipe, for example, blocks like standard input, and even opening it waits for its writer.
            Box::new(interruptible(ToOpen { path: path.to_owned(), file: None }, &self.stop)?)
        };
        let mut bytes = Counted { bytes, reading: Arc::clone(&self.reading) };
        // A pipe may return one byte at a time, so these are read until they are there.
        let mut start = Vec::new();
        bytes.by_ref().take(START).read_to_end(&mut start)?;
        let is_gzip = is_gzip(&start)?;
        let bytes = BufReader::with_capacity(BLOCK, Cursor::new(start).chain(bytes));
        Ok(if is_gzip {
            Box::new(BufReader::with_capacity(BLOCK, Gunzip::new(bytes)))
        } else {
            Box::new(bytes)
        })
    }

    /// Notes that a file cannot be read, unless that is because the pipeline has stopped.
    fn give_up(&self, what: &str, name: &str, after: &str, error: &io::Error) {
        if !self.stop.is_set() {
            self.reading.add_fault(format!("cannot {what} {name}{after}: {error}"));
        }
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        while !self.stop.is_set() {
            let Some(open) = &mut self.open else {
                let Some(path) = self.files.get(self.next_file) else {
                    self.reading.at_end.store(true, Ordering::Relaxed);
                    return None;
                };
                match self.open(path) {
                    Ok(text) => {
                        self.open = Some(Open {
                            reader: lines(text),
                            file: self.next_file as u32,
                            number: 0,
                            ahead: VecDeque::new(),
                        })
                    }
                    Err(error) => self.give_up("open", &self.names[self.next_file], "", &error),
                }
                self.next_file += 1;
                continue;
            };
            match open.next_line() {
                Ok(Some(line)) => {
                    open.number = line.number;
                    self.reading.add_line();
                    return Some(Line::new(open.file, false, line));
                }
                Ok(None) => self.open = None,
                // Earlier lines are complete.
                Err(error) if Garbage::is(&error) => {
                    self.reading
                        .add_fault(format!("{}: {error}", self.names[open.file as usize]));
                }
                // The part of a line before that is not a line.
                Err(error) => {
                    let (file, number) = (open.file, open.number);
                    self.reading
                        .unfinished
                        .fetch_add(u64::from(open.reader.partial_len() > 0), Ordering::Relaxed);
                    self.open = None;
                    self.give_up(
                        "read",
                        &self.names[file as usize],
                        &format!(" after line {number}"),
                        &error,
                    );
                }
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.open.as_ref().map_or(0, |open| open.ahead.len()), None)
    }
}

/// Whether a file that starts like this is gzip.
///
/// # Errors
/// If it is compressed in a way that is not supported: its bytes are not lines.
pub(crate) fn is_gzip(start: &[u8]) -> io::Result<bool> {
    match Archive::of(start) {
        Some(archive) => {
            Err(io::Error::other(format!("it {}", archive.advice(" | log_processing -"))))
        }
        None => Ok(start.starts_with(&gunzip::MAGIC)),
    }
}

/// A file that is opened when it is first read.
struct ToOpen {
    path: PathBuf,
    file: Option<File>,
}

impl Read for ToOpen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.read(buffer),
            none => none.insert(File::open(&self.path)?).read(buffer),
        }
    }
}

/// Counts the bytes for the progress bar: once per block, not once per line.
struct Counted {
    bytes: Box<dyn Read + Send>,
    reading: Arc<Reading>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.reading.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
