//! Tells whether an input is the one that an earlier run has read a part of.

use std::fmt;
use std::sync::Arc;

use flate2::Crc;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How many bytes at the beginning of an input are compared.
const HEAD: usize = 64 * 1024;

/// What tells one input from another: its size and its first bytes, as they lie on disk.
///
/// It finds a mistake on the command line, and a file that was replaced or has grown. A change of a few bytes further on
/// that leaves the size as it was goes unnoticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// What to call the input in messages.
    pub(crate) name: String,
    /// In bytes; a pipe has none.
    size: Option<u64>,
    /// How many bytes the checksum covers: fewer than 64 KiB if no more had been read.
    pub(crate) head: usize,
    checksum: u32,
}

/// Why an input is not the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    Size { expected: u64, found: u64 },
    Head(usize),
    Longer(usize),
}

/// An input that is being read, with its first bytes as far as they are known. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    name: Arc<str>,
    /// In bytes on disk, where that can be known.
    size: Option<u64>,
    head: Arc<Mutex<Head>>,
}

/// The first bytes, and their checksum.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    crc: Crc,
}

impl Source {
    pub(crate) fn new(name: &str, size: Option<u64>) -> Self {
        Self { name: name.into(), size, head: Arc::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Takes in the next bytes of the input. Returns whether it wants more of them.
    pub(crate) fn take_in(&self, bytes: &[u8]) -> bool {
        let mut head = self.head.lock();
        let missing = HEAD - head.bytes.len();
        let bytes = &bytes[..bytes.len().min(missing)];
        head.bytes.extend(bytes);
        head.crc.update(bytes);
        head.bytes.len() < HEAD
    }

    /// The fingerprint of what has been read so far.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let head = self.head.lock();
        Fingerprint {
            name: self.name.to_string(),
            size: self.size,
            head: head.bytes.len(),
            checksum: head.crc.sum(),
        }
    }
}

impl Fingerprint {
    /// Compares it with an input of which at least [`head`](Self::head) bytes have been read, unless it has fewer. If its own
    /// input `was_read_to_end`, it takes one more, which shows that there is more of the other.
    ///
    /// The name does not count: a file may have been moved, or come through a pipe.
    pub(crate) fn compare(
        &self,
        source: &Source,
        was_read_to_end: bool,
    ) -> Result<(), Difference> {
        if let (Some(expected), Some(found)) = (self.size, source.size)
            && expected != found
        {
            return Err(Difference::Size { expected, found });
        }
        let found = source.head.lock();
        let bytes = &found.bytes;
        let is_same =
            bytes.get(..self.head).is_some_and(|head| checksum(head) == self.checksum);
        match is_same {
            false => Err(Difference::Head(self.head)),
            true if was_read_to_end && bytes.len() > self.head => {
                Err(Difference::Longer(self.head))
            }
            true => Ok(()),
        }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { expected, found } => {
                write!(f, "it has {found} bytes instead of {expected}")
            }
            Self::Head(bytes) => write!(f, "its first {bytes} bytes differ"),
            Self::Longer(bytes) => write!(f, "it has more than {bytes} bytes"),
        }
    }
}
