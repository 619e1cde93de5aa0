//! The lines of files, one file after another.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use parking_lot::Mutex;
use streamz::{BoxError, Result};

use crate::args::{Args, failure, is_std};
use crate::interruptible::{Stop, interruptible};
use crate::lines::{At, Cutter, Line, Raw};

const BLOCK: usize = 128 * 1024;

/// The first two bytes of every gzip file.
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How the reading goes. There is one writer.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    lines: AtomicU64,
    /// As they lie on disk.
    bytes: AtomicU64,
    /// Whether everything was read to its end.
    at_end: AtomicBool,
    /// What could not be read.
    faults: Mutex<Vec<String>>,
}

// Relaxed: these are figures to look at; the final ones are read after the thread that wrote them was joined.
impl Reading {
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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

    /// Notes a fault; true if it is a new one.
    pub(crate) fn add_fault(&self, fault: String) -> bool {
        let mut faults = self.faults.lock();
        let is_new = !faults.contains(&fault);
        if is_new {
            faults.push(fault);
        }
        is_new
    }
}

/// What the files are called in messages.
pub(crate) fn names(args: &Args) -> Vec<String> {
    let name = |file: &PathBuf| match file.strip_prefix(&args.folder) {
        _ if is_std(file) => "standard input".to_owned(),
        Ok(inside) => inside.display().to_string(),
        Err(_) => file.display().to_string(),
    };
    args.files.iter().map(name).collect()
}

/// Looks whether all files can be opened, and how many bytes they have, if that can be known.
pub(crate) fn check(files: &[PathBuf]) -> Result<Option<u64>, BoxError> {
    let mut size = Some(0);
    for path in files {
        let meta = if is_std(path) { None } else { Some(meta(path)?) };
        let bytes = meta.filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        size = size.zip(bytes).map(|(sum, bytes)| sum + bytes);
    }
    Ok(size)
}

fn meta(path: &Path) -> Result<std::fs::Metadata, BoxError> {
    let meta = std::fs::metadata(path).map_err(failure("cannot open", path))?;
    if meta.is_dir() {
        return Err(format!("cannot read {}: it is a directory", path.display()).into());
    }
    // What is no file may have one reader only, and waits for its writer: it is opened when its turn comes.
    if meta.is_file() {
        File::open(path).map_err(failure("cannot open", path))?;
    }
    Ok(meta)
}

/// All lines of all files. One that cannot be read further is left for the next; the fault is noted.
pub(crate) struct Lines {
    files: Vec<PathBuf>,
    names: Vec<String>,
    reading: Arc<Reading>,
    stop: Stop,
    next_file: usize,
    open: Option<Open>,
}

struct Open {
    text: Box<dyn BufRead + Send>,
    cutter: Cutter,
    at: At,
}

impl Lines {
    pub(crate) fn new(args: &Args, reading: &Arc<Reading>, stop: &Stop) -> Self {
        let (files, names) = (args.files.clone(), names(args));
        Self { files, names, reading: Arc::clone(reading), stop: stop.clone(), next_file: 0, open: None }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
        let bytes: Box<dyn Read + Send> = if is_std(path) {
            Box::new(interruptible(io::stdin(), &self.stop)?)
        } else {
            let file = File::open(path)?;
            // A named pipe, say, makes one wait as standard input does.
            if file.metadata()?.is_file() { Box::new(file) } else { Box::new(interruptible(file, &self.stop)?) }
        };
        let mut bytes = Counted { bytes, reading: Arc::clone(&self.reading) };
        // A pipe may give one byte at a time, so two bytes are asked for until they are there.
        let mut start = Vec::new();
        bytes.by_ref().take(2).read_to_end(&mut start)?;
        let is_gzip = start == GZIP_MAGIC;
        let bytes = BufReader::with_capacity(BLOCK, Cursor::new(start).chain(bytes));
        Ok(if is_gzip {
            // Several gzip files in a row are one file, too.
            Box::new(BufReader::with_capacity(BLOCK, MultiGzDecoder::new(bytes)))
        } else {
            Box::new(bytes)
        })
    }

    /// The next line of the file that is open; nothing at its end.
    fn read(open: &mut Open) -> io::Result<Option<Raw>> {
        Ok(match open.cutter.next(&mut *open.text)? {
            Some(raw) => Some(raw),
            None => open.cutter.rest(),
        })
    }

    /// Notes that a file cannot be read, unless that is because nobody wants it any more.
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
                        let at = At { file: self.next_file as u32, number: 0, relative: false };
                        self.open = Some(Open { text, cutter: Cutter::default(), at });
                    }
                    Err(error) => self.give_up("open", &self.names[self.next_file], "", &error),
                }
                self.next_file += 1;
                continue;
            };
            match Self::read(open) {
                Ok(Some(raw)) => {
                    open.at.number += 1;
                    self.reading.add_line();
                    return Some(Line { at: open.at, raw });
                }
                Ok(None) => self.open = None,
                // The part of a line that came before is no line.
                Err(error) => {
                    let at = open.at;
                    self.open = None;
                    let after = format!(" after line {}", at.number);
                    self.give_up("read", &self.names[at.file as usize], &after, &error);
                }
            }
        }
        None
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
