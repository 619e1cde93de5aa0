//! [`Queue`] and [`Batch`]: items in chunks, first in, first out.
//!
//! Whole chunks go in and out without a look at their items, and are returned empty to be filled again, so a running
//! edge allocates nothing. Two adjacent chunks hold more than [`CHUNK`] items together: a queue of n items has at most
//! 2 n / `CHUNK` + 1 chunks, however the items arrived.

use std::collections::VecDeque;
use std::vec;

use crate::sync::CHUNK;

/// The size of a cache line in bytes, on most machines. On others only speed depends on it.
const CACHE_LINE: usize = 64;

/// A chunk is filled as a vector and emptied as a deque. Turning one into the other is free.
pub(super) struct Queue<I> {
    /// None of them is empty.
    chunks: VecDeque<VecDeque<I>>,
    /// Empty chunks, to be filled again.
    spare: Vec<Vec<I>>,
}

impl<I> Queue<I> {
    pub(super) fn new() -> Self {
        Self { chunks: VecDeque::new(), spare: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &I> {
        self.chunks.iter().flatten()
    }

    pub(super) fn first(&self) -> Option<&I> {
        self.chunks.front()?.front()
    }

    /// Plain loops, here and in [`Batch::each`]: they are compiled for each type of item, and adapters take much more.
    pub(super) fn each(&self, look: &mut dyn FnMut(&I)) {
        for chunk in &self.chunks {
            for item in chunk {
                look(item);
            }
        }
    }

    pub(super) fn push(&mut self, item: I) {
        match self.chunks.back_mut() {
            Some(tail) if tail.len() < CHUNK => tail.push_back(item),
            _ => {
                let mut chunk = self.empty_chunk();
                chunk.push(item);
                self.chunks.push_back(chunk.into());
            }
        }
    }

    /// Moves the first `count` items of `open` to the end of the queue.
    ///
    /// Small items are copied, not handed over with their buffer: the producer continues to write to memory that only
    /// it has in its cache, and the lines that the consumer has read last change hands all at once, not one by one with
    /// each item. That halves the cost of a hop. An item that fills a cache line or more has no neighbours to wait for,
    /// and copying it costs more.
    pub(super) fn append(&mut self, open: &mut Vec<I>, count: usize) {
        match self.chunks.back_mut() {
            _ if count == 0 => {}
            Some(tail) if tail.len() + count <= CHUNK => {
                if count < open.len() {
                    for item in open.drain(..count) {
                        tail.push_back(item);
                    }
                } else {
                    // A copy of memory, which `extend` is not.
                    let mut moved = VecDeque::from(std::mem::take(open));
                    tail.append(&mut moved);
                    *open = moved.into();
                }
            }
            _ => {
                let mut chunk = self.empty_chunk();
                if count < open.len() {
                    chunk.extend(open.drain(..count));
                } else if size_of::<I>() < CACHE_LINE {
                    chunk.append(open);
                } else {
                    std::mem::swap(&mut chunk, open);
                }
                self.chunks.push_back(chunk.into());
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<I> {
        let head = self.chunks.front_mut()?;
        let item = head.pop_front();
        if head.is_empty() {
            self.spare.extend(self.chunks.pop_front().map(Vec::from));
        }
        item
    }

    /// Takes out the first item that `wanted` accepts.
    pub(super) fn remove_first(&mut self, wanted: impl Fn(&I) -> bool) -> Option<I> {
        let find = |chunk: &VecDeque<I>| chunk.iter().position(&wanted);
        let (index, place) = self.chunks.iter().enumerate().find_map(|(index, chunk)| Some((index, find(chunk)?)))?;
        let item = self.chunks[index].remove(place);
        if self.chunks[index].is_empty() {
            self.spare.extend(self.chunks.remove(index).map(Vec::from));
        }
        self.join(index);
        self.join(index.wrapping_sub(1));
        item
    }

    /// Replaces the first item that `wanted` accepts with `item`, and returns it.
    pub(super) fn replace_first(&mut self, wanted: impl Fn(&I) -> bool, item: I) -> Option<I> {
        let first = self.chunks.iter_mut().flatten().find(|item| wanted(item))?;
        Some(std::mem::replace(first, item))
    }

    /// Merges this chunk and the next if they are small enough. Each time there is one chunk less.
    fn join(&mut self, index: usize) {
        let len = |index: usize| self.chunks.get(index).map_or(CHUNK, VecDeque::len);
        if len(index) + len(index.wrapping_add(1)) <= CHUNK
            && let Some(mut next) = self.chunks.remove(index + 1)
        {
            self.chunks[index].append(&mut next);
            self.spare.push(next.into());
        }
    }

    /// Moves all items to an empty batch, and takes its used chunks back.
    pub(super) fn give_all(&mut self, batch: &mut Batch<I>) {
        std::mem::swap(&mut self.chunks, &mut batch.chunks);
        if self.spare.is_empty() {
            std::mem::swap(&mut self.spare, &mut batch.spent);
        } else {
            self.spare.append(&mut batch.spent);
        }
    }

    fn empty_chunk(&mut self) -> Vec<I> {
        self.spare.pop().unwrap_or_default()
    }
}

/// Items that were taken from a queue together.
pub(super) struct Batch<I> {
    /// The chunk that is being consumed.
    head: vec::IntoIter<I>,
    /// The chunks after it; none of them is empty.
    chunks: VecDeque<VecDeque<I>>,
    /// The consumed chunks.
    spent: Vec<Vec<I>>,
}

impl<I> Batch<I> {
    pub(super) fn new() -> Self {
        Self { head: Vec::new().into_iter(), chunks: VecDeque::new(), spent: Vec::new() }
    }

    /// Takes the next item of the open chunk.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<I> {
        self.head.next()
    }

    /// The items left in the open chunk.
    #[inline]
    pub(super) fn open(&self) -> &[I] {
        self.head.as_slice()
    }

    /// Opens the next chunk, once the open one is empty. Returns whether there was one; then it has an item.
    #[cold]
    pub(super) fn open_chunk(&mut self) -> bool {
        let Some(next) = self.chunks.pop_front() else { return false };
        // Collected in place: the result is the empty buffer. Only speed depends on that.
        let spent: Vec<I> = std::mem::replace(&mut self.head, Vec::from(next).into_iter()).take(0).collect();
        if spent.capacity() > 0 {
            self.spent.push(spent);
        }
        true
    }

    pub(super) fn pop(&mut self) -> Option<I> {
        self.next().or_else(|| if self.open_chunk() { self.next() } else { None })
    }

    /// Adds a single item, as the last one.
    pub(super) fn put(&mut self, item: I) {
        let mut chunk = self.spent.pop().unwrap_or_default();
        chunk.push(item);
        self.chunks.push_back(chunk.into());
    }

    /// Adds up to `most` items to `taken`.
    pub(super) fn take_into(&mut self, most: usize, taken: &mut Vec<I>) {
        let full = taken.len() + most;
        while taken.len() < full
            && let Some(item) = self.pop()
        {
            taken.push(item);
            taken.extend(self.head.by_ref().take(full - taken.len()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.as_slice().is_empty() && self.chunks.is_empty()
    }

    pub(super) fn each(&self, look: &mut dyn FnMut(&I)) {
        for item in self.head.as_slice() {
            look(item);
        }
        for chunk in &self.chunks {
            for item in chunk {
                look(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(queue: &Queue<usize>) -> Vec<usize> {
        queue.chunks.iter().map(VecDeque::len).collect()
    }

    #[test]
    fn order_is_kept_and_small_chunks_are_never_adjacent() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut queue, mut batch, mut next, mut expected) = (Queue::new(), Batch::new(), 0, 0);
        for _ in 0..20_000 {
            match random.u8(..8) {
                0 | 1 => {
                    queue.push(next);
                    next += 1;
                }
                2 => {
                    let mut chunk: Vec<usize> = (next..next + random.usize(..2 * CHUNK)).collect();
                    let count = random.usize(..=chunk.len());
                    queue.append(&mut chunk, count);
                    next += count;
                }
                // Items in the batch are older.
                3 if batch.is_empty() => {
                    if let Some(item) = queue.pop() {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                }
                4 if batch.is_empty() => {
                    queue.give_all(&mut batch);
                    assert!(queue.is_empty());
                }
                _ => {
                    for item in std::iter::from_fn(|| batch.pop()).take(CHUNK / 2) {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                }
            }
            let mut left = 0;
            batch.each(&mut |_| left += 1);
            queue.each(&mut |_| left += 1);
            assert_eq!(left, next - expected);
            assert_eq!(queue.first(), queue.iter().next());
            // The head may have been partly consumed.
            assert!(chunks(&queue).windows(2).skip(1).all(|pair| pair[0] + pair[1] > CHUNK), "{:?}", chunks(&queue));
        }
        assert!(expected > 10_000);
    }

    #[test]
    fn removal_from_the_middle_leaves_no_adjacent_small_chunks() {
        let mut random = fastrand::Rng::with_seed(2);
        let (mut queue, mut expected) = (Queue::new(), Vec::new());
        for next in 0..20_000 {
            queue.push(next);
            expected.push(next);
            if expected.len() > 1_000 {
                // Every seventh stays.
                let oldest = expected.iter().position(|item| item % 7 > 0).map(|place| expected.remove(place));
                assert_eq!(queue.remove_first(|item| item % 7 > 0), oldest);
            }
            if random.u8(..8) == 0 {
                assert_eq!(queue.pop(), Some(expected.remove(0)));
            }
            // The head may have been partly consumed.
            assert!(chunks(&queue).windows(2).skip(1).all(|pair| pair[0] + pair[1] > CHUNK), "{:?}", chunks(&queue));
        }
        assert!(queue.iter().eq(&expected));
    }

    #[test]
    fn a_used_chunk_is_filled_again() {
        let (mut queue, mut batch) = (Queue::new(), Batch::new());
        queue.append(&mut (0..CHUNK).collect(), CHUNK);
        let buffer = queue.chunks[0].as_slices().0.as_ptr();
        queue.give_all(&mut batch);
        queue.push(CHUNK);
        while batch.pop().is_some() {}
        queue.give_all(&mut batch);
        assert_eq!(batch.pop(), Some(CHUNK)); // the first chunk has been consumed now
        queue.give_all(&mut batch);
        queue.push(7);
        assert_eq!(queue.chunks[0].as_slices().0.as_ptr(), buffer);
    }
}
