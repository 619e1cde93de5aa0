//! Reading from a source that may block forever, such as a terminal or a pipe, so that the wait can be ended.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;

const BLOCK: usize = 64 * 1024;

/// Tells the readers to stop. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_set: AtomicBool,
    /// Wakes readers that wait for input.
    readers: Mutex<Vec<SyncSender<Block>>>,
}

type Block = io::Result<Vec<u8>>;

impl Stop {
    pub(crate) fn set(&self) {
        self.inner.is_set.store(true, Ordering::Release);
        for reader in &*self.inner.readers.lock() {
            // After the store. If there is no room, the reader is not waiting, and sees the flag before it waits again.
            let _ = reader.try_send(Err(stopped()));
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.inner.is_set.load(Ordering::Acquire)
    }
}

fn stopped() -> io::Error {
    io::Error::other("stopped")
}

/// Reads on its own thread, so that a thread that waits for the bytes can be told to stop.
///
/// A read that blocks in the operating system cannot be interrupted, and the thread it blocks cannot be joined. So that
/// thread does nothing else and is not joined; it ends with the program. Everything that matters happens on the other
/// side of the channel.
pub(crate) fn interruptible(
    mut source: impl Read + Send + 'static,
    stop: &Stop,
) -> io::Result<impl Read + Send + 'static> {
    let (sender, blocks) = sync_channel(4);
    // Before the reader first checks the flag: it either sees it or can be woken.
    stop.inner.readers.lock().push(sender.clone());
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
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
    Ok(Interruptible { blocks, block: Cursor::default(), is_over: false, stop: stop.clone() })
}

struct Interruptible {
    blocks: Receiver<Block>,
    block: Cursor<Vec<u8>>,
    /// Whether the thread has sent its last block. Nothing follows it, and a reader may be asked again after its end.
    is_over: bool,
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
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        // `stop` holds a sender, so that the channel cannot be closed.
        let block = self.blocks.recv().unwrap_or_else(|_| Err(stopped()));
        self.is_over = block.as_ref().map_or(true, Vec::is_empty);
        self.block = Cursor::new(block?);
        self.block.read(buffer)
    }
}
