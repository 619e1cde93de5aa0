//! Recognizes files that are packed in a way that the programs do not unpack, and names the command that does.

use std::fmt;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Archive {
    name: &'static str,
    /// Unpacks a file to standard output.
    command: &'static str,
}

/// What such files begin with: at most [`START`] bytes.
const KINDS: [(&[u8], Archive); 11] = [
    (b"\xfd7zX", Archive::new("xz", "xz -dc")),
    (b"PK\x03\x04", ZIP),
    // Without any file in it, and in several parts.
    (b"PK\x05\x06", ZIP),
    (b"PK\x07\x08", ZIP),
    (b"\x28\xb5\x2f\xfd", Archive::new("zstd", "zstd -dc")),
    (b"BZh", Archive::new("bzip2", "bzip2 -dc")),
    (b"7z\xbc\xaf", Archive::new("7z", "7z x -so")),
    (b"\x04\x22\x4d\x18", Archive::new("lz4", "lz4 -dc")),
    (b"LZIP", Archive::new("lzip", "lzip -dc")),
    (b"Rar!", Archive::new("rar", "unrar p -inul")),
    (b"\x1f\x9d", Archive::new("compress", "gzip -dc")),
];

const ZIP: Archive = Archive::new("zip", "unzip -p");

/// How many bytes tell how a file is packed.
pub(crate) const START: usize = 4;

impl Archive {
    pub(crate) const fn new(name: &'static str, command: &'static str) -> Self {
        Self { name, command }
    }

    /// How a file that begins with these bytes is packed. `None` if it is not, or with gzip.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        KINDS
            .into_iter()
            .find(|(magic, _)| start.starts_with(magic))
            .map(|(_, archive)| archive)
    }

    /// Says what a user can do; `to` is what reads the unpacked text, such as ` | etl --input -`.
    pub(crate) fn advice(self, to: &str) -> impl fmt::Display {
        let Self { name, command } = self;
        format!("is packed with {name}; unpack it first: `{command} FILE{to}`")
    }
}
