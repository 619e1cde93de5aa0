//! Which marks are lost with something that was dropped: [`Losses`]; and the reach of the others: [`Reached`].
//!
//! The place that drops something does not know of which epochs it was made. But the marks of these epochs all come later
//! (invariant 1 of `mod.rs`), and the next one of each source tells how far they reach (invariant 5). A lost mark is
//! forwarded as well: it no longer acknowledges anything, but stages downstream rely on the numbers of a source's marks
//! having no gap.
//!
//! # Invariants
//!
//! 1. After a loss, the next mark of each source is lost, and so are all marks of that source up to the reach of that one.
//! 2. A place forgets a source when neither the source nor any of its marks is left.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{Mark, Place, Series};

/// A value for each source whose marks pass here.
struct PerSeries<V> {
    /// By the address of the series, which is not reused while there is a `Weak`.
    values: HashMap<usize, (Weak<Series>, V)>,
    /// The number of values at which those of ended series are removed.
    limit: usize,
}

impl<V> Default for PerSeries<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), limit: 16 }
    }
}

impl<V: Copy + Default> PerSeries<V> {
    fn get(&mut self, series: &Arc<Series>) -> &mut V {
        if self.values.len() >= self.limit {
            self.values.retain(|_, (series, _)| series.strong_count() > 0);
            self.limit = 16.max(2 * self.values.len());
        }
        let new = || (Arc::downgrade(series), V::default());
        &mut self.values.entry(Arc::as_ptr(series).addr()).or_insert_with(new).1
    }

    fn into_each(self) -> impl Iterator<Item = (Arc<Series>, V)> {
        self.values.into_values().filter_map(|(series, value)| Some((series.upgrade()?, value)))
    }
}

/// For one place at which something may get lost.
#[derive(Default)]
pub(crate) struct Losses {
    /// The number of times that something was lost between two marks.
    count: u64,
    of: PerSeries<Seen>,
}

/// What the marks of a source have seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    count: u64,
    /// The epochs before this one may have lost something.
    until: u64,
}

impl Losses {
    /// Something was lost, or will be if the consumer leaves.
    pub(crate) fn note(&mut self) {
        self.count += 1;
    }

    /// Whether this mark is lost. Must be called with each mark, in their order.
    pub(crate) fn include(&mut self, mark: &Mark) -> bool {
        let Some(Place { series, number, reach }) = &mark.place else { return false };
        let seen = self.of.get(series);
        if seen.count != self.count {
            *seen = Seen { count: self.count, until: seen.until.max(reach + 1) };
        }
        *number < seen.until
    }

    /// Adds the losses at another place, whose marks come here from now on.
    pub(crate) fn append(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        let before = self.count;
        self.count += 1;
        for (series, theirs) in other.of.into_each() {
            let own = self.of.get(&series);
            own.until = own.until.max(theirs.until);
            if theirs.count == other.count && own.count == before {
                own.count = self.count;
            }
        }
    }
}

/// The epochs of which an operator has received something. For one that emits groups of items: such a group may be made of
/// anything that has been received.
#[derive(Default)]
pub(crate) struct Reached {
    of: PerSeries<Latest>,
}

#[derive(Clone, Copy, Default)]
struct Latest {
    /// The epoch after that of the last mark received.
    open: u64,
    /// A mark had a longer reach than its own epoch, so what is received may be of later epochs than `open`.
    is_wide: bool,
}

impl Reached {
    /// A mark has been received.
    pub(crate) fn receive(&mut self, mark: &Mark) {
        let Some(Place { series, number, reach }) = &mark.place else { return };
        let latest = self.of.get(series);
        latest.open = latest.open.max(number + 1);
        latest.is_wide |= reach > number;
    }

    /// Extends the reach of a mark that has waited for a group.
    pub(crate) fn extend(&mut self, mark: &mut Mark) {
        let Some(Place { series, reach, .. }) = &mut mark.place else { return };
        let latest = *self.of.get(series);
        *reach = (*reach).max(latest.open);
        if latest.is_wide {
            mark.widen();
        }
    }
}

#[cfg(test)]
mod tests {
    //! A model: records of two sources pass through a random graph of stages, each of which makes one step at a time, to a
    //! place that drops some of what arrives.

    use std::collections::{BTreeSet, VecDeque};
    use std::rc::Rc;

    use super::*;
    use crate::mark::Epoch;

    /// The source and the epoch of a record.
    type Origin = (usize, u64);

    #[derive(Clone)]
    enum Entry {
        /// Something made of records of these epochs.
        Item(Rc<BTreeSet<Origin>>),
        Mark(Mark, Origin),
    }

    struct Silent;

    impl Epoch for Silent {
        fn lose(&self) {}
    }

    enum Kind {
        Source(usize, Arc<Series>),
        /// One after another.
        Pass,
        /// Items in groups, each of which begins and ends at any time. With one group it is a batch.
        Groups(Groups),
        Merge,
        /// Drops some of what arrives.
        Lossy(Losses),
        /// A copy of everything to each output.
        Copy,
    }

    #[derive(Default)]
    struct Groups {
        most: usize,
        /// Each with the number of marks that had been received when it began.
        open: Vec<(u64, BTreeSet<Origin>)>,
        received: u64,
        /// Each with the number of marks received before it.
        waiting: VecDeque<(u64, Mark, Origin)>,
        reached: Reached,
    }

    /// The indices of queues.
    struct Node {
        kind: Kind,
        inputs: Vec<usize>,
        outputs: Vec<usize>,
    }

    impl Groups {
        fn step(&mut self, rng: &mut fastrand::Rng, entry: Option<Entry>, out: &mut VecDeque<Entry>) {
            match entry {
                Some(Entry::Item(origins)) => {
                    if self.open.len() < self.most && (self.open.is_empty() || rng.bool()) {
                        self.open.push((self.received, (*origins).clone()));
                    } else {
                        let group = rng.usize(..self.open.len());
                        self.open[group].1.extend(&*origins);
                    }
                }
                Some(Entry::Mark(mark, origin)) => {
                    self.reached.receive(&mark);
                    if self.open.is_empty() {
                        out.push_back(Entry::Mark(mark, origin));
                    } else {
                        self.waiting.push_back((self.received, mark, origin));
                        self.received += 1;
                    }
                }
                None if self.open.is_empty() => {}
                None => {
                    let (_, origins) = self.open.remove(rng.usize(..self.open.len()));
                    out.push_back(Entry::Item(Rc::new(origins)));
                    let oldest = self.open.iter().map(|(began, _)| *began).min().unwrap_or(u64::MAX);
                    while self.waiting.front().is_some_and(|(before, ..)| *before < oldest) {
                        if let Some((_, mut mark, origin)) = self.waiting.pop_front() {
                            self.reached.extend(&mut mark);
                            out.push_back(Entry::Mark(mark, origin));
                        }
                    }
                }
            }
        }
    }

    struct Graph {
        nodes: Vec<Node>,
        queues: Vec<VecDeque<Entry>>,
        /// Those that no node reads.
        ends: Vec<usize>,
        outcome: Outcome,
    }

    #[derive(Default)]
    struct Outcome {
        dropped: Vec<Entry>,
        lost: BTreeSet<Origin>,
    }

    impl Outcome {
        /// Handles what arrives at a place that drops some of it. Returns what passes.
        fn drop_some(&mut self, rng: &mut fastrand::Rng, losses: &mut Losses, entry: Entry) -> Option<Entry> {
            match entry {
                Entry::Item(_) if rng.u32(..8) == 0 => {
                    losses.note();
                    self.dropped.push(entry);
                    return None;
                }
                Entry::Item(_) => {}
                Entry::Mark(ref mark, origin) if losses.include(mark) => {
                    self.lost.insert(origin);
                }
                Entry::Mark(..) => {}
            }
            Some(entry)
        }
    }

    impl Graph {
        fn random(rng: &mut fastrand::Rng, plain: bool) -> Self {
            let mut graph =
                Self { nodes: Vec::new(), queues: Vec::new(), ends: Vec::new(), outcome: Outcome::default() };
            for source in 0..rng.usize(1..=2) {
                graph.add(Kind::Source(source, Arc::default()), 0, 1);
            }
            for _ in 0..rng.usize(..6) {
                let of = rng.usize(..graph.ends.len());
                graph.ends.swap(0, of);
                match rng.u32(..6) {
                    0 | 1 if !plain => {
                        let most = rng.usize(1..4);
                        graph.add(Kind::Groups(Groups { most, ..Groups::default() }), 1, 1);
                    }
                    2 if graph.ends.len() > 1 && !plain => graph.add(Kind::Merge, 2, 1),
                    3 if graph.ends.len() < 4 => graph.add(Kind::Copy, 1, 2),
                    4 => graph.add(Kind::Lossy(Losses::default()), 1, 1),
                    _ => graph.add(Kind::Pass, 1, 1),
                }
            }
            graph
        }

        /// It reads the first of the ends.
        fn add(&mut self, kind: Kind, inputs: usize, outputs: usize) {
            let inputs = self.ends.drain(..inputs).collect();
            let new = self.queues.len()..self.queues.len() + outputs;
            self.queues.extend(new.clone().map(|_| VecDeque::new()));
            self.ends.extend(new.clone());
            self.nodes.push(Node { kind, inputs, outputs: new.collect() });
        }

        /// Lets one of the nodes make a step. No source emits anything if `ending`.
        fn step(&mut self, rng: &mut fastrand::Rng, node: usize, ending: bool) {
            let Node { kind, inputs, outputs } = &mut self.nodes[node];
            let mut take = |rng: &mut fastrand::Rng| {
                let input = inputs[rng.usize(..inputs.len())];
                self.queues[input].pop_front()
            };
            let mut new = VecDeque::new();
            match kind {
                Kind::Source(source, series) => {
                    let open = series.open.load(super::super::Ordering::Relaxed);
                    let origin = (*source, open);
                    if !ending {
                        (0..rng.usize(1..4)).for_each(|_| new.push_back(Entry::Item(Rc::new([origin].into()))));
                        new.push_back(Entry::Mark(Mark::end(Arc::new(Silent), series), origin));
                    }
                }
                Kind::Groups(groups) => {
                    let entry = if rng.u32(..4) == 0 { None } else { take(rng) };
                    groups.step(rng, entry, &mut new);
                }
                Kind::Merge => new.extend(take(rng).map(|entry| match entry {
                    Entry::Mark(mut mark, origin) => {
                        mark.widen();
                        Entry::Mark(mark, origin)
                    }
                    item => item,
                })),
                Kind::Lossy(losses) => {
                    let entry = take(rng);
                    new.extend(entry.and_then(|entry| self.outcome.drop_some(rng, losses, entry)));
                }
                Kind::Pass | Kind::Copy => new.extend(take(rng)),
            }
            let Some((last, others)) = outputs.split_last() else { return };
            others.iter().for_each(|output| self.queues[*output].extend(new.iter().cloned()));
            self.queues[*last].append(&mut new);
        }

        /// Calls `arrive` with each entry that arrives at the first of the ends. Returns the outcome of all others.
        fn run(mut self, rng: &mut fastrand::Rng, mut arrive: impl FnMut(&mut fastrand::Rng, Entry)) -> Outcome {
            for step in 0.. {
                let ending = step > 100;
                if ending && self.is_empty() {
                    break;
                }
                let node = rng.usize(..=self.nodes.len());
                if node < self.nodes.len() {
                    self.step(rng, node, ending);
                } else if let Some(entry) = self.queues[self.ends[0]].pop_front() {
                    arrive(rng, entry);
                }
            }
            self.outcome
        }

        /// Whether nothing is left that could arrive.
        fn is_empty(&self) -> bool {
            let is_read = |queue: &usize| *queue == self.ends[0] || !self.ends.contains(queue);
            let holds = |node: &Node| matches!(&node.kind, Kind::Groups(groups) if !groups.open.is_empty());
            (0..self.queues.len()).filter(is_read).all(|queue| self.queues[queue].is_empty())
                && !self.nodes.iter().any(holds)
        }
    }

    fn origins(items: &[Entry]) -> BTreeSet<Origin> {
        items
            .iter()
            .flat_map(|entry| if let Entry::Item(all) = entry { (**all).clone() } else { BTreeSet::new() })
            .collect()
    }

    /// Drops some of what arrives at the end of a random graph, and in it. Returns all epochs of what was dropped, and those
    /// whose marks were lost.
    fn drop_some(rng: &mut fastrand::Rng, plain: bool) -> (BTreeSet<Origin>, BTreeSet<Origin>) {
        let (mut losses, mut at_the_end) = <(Losses, Outcome)>::default();
        let mut arrive = |rng: &mut fastrand::Rng, entry| _ = at_the_end.drop_some(rng, &mut losses, entry);
        let before = Graph::random(rng, plain).run(rng, &mut arrive);
        let dropped = [before.dropped, at_the_end.dropped].concat();
        (origins(&dropped), &before.lost | &at_the_end.lost)
    }

    #[test]
    fn the_mark_of_everything_that_was_dropped_is_lost() {
        for seed in 0..3_000 {
            let (dropped, lost) = drop_some(&mut fastrand::Rng::with_seed(seed), false);
            let missing: Vec<_> = dropped.difference(&lost).copied().collect();
            assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        }
    }

    /// Nothing but the epochs of what was dropped.
    #[test]
    fn no_other_mark_is_lost_if_no_stage_holds_or_merges() {
        for seed in 0..1_000 {
            let (dropped, lost) = drop_some(&mut fastrand::Rng::with_seed(seed), true);
            assert_eq!(lost, dropped, "seed {seed}");
        }
    }

    /// A consumer processes some of what it was sent, leaves, and is forgotten some time later.
    #[test]
    fn the_mark_of_everything_that_a_consumer_left_is_lost() {
        for seed in 0..3_000 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (mut losses, mut branch, mut queue) = (Losses::default(), Some(Losses::default()), VecDeque::new());
            let (mut is_gone, mut left, mut lost) = (false, Vec::new(), BTreeSet::new());
            let before = Graph::random(rng, false).run(rng, |rng, entry| {
                if let Entry::Mark(mark, origin) = &entry
                    && losses.include(mark)
                {
                    lost.insert(*origin);
                }
                match (&mut branch, entry) {
                    (Some(branch), Entry::Mark(mark, origin)) => match branch.include(&mark) {
                        true if is_gone => _ = lost.insert(origin),
                        _ if is_gone => {}
                        _ => queue.push_back(Entry::Mark(mark, origin)),
                    },
                    (None, Entry::Mark(..)) => {}
                    (Some(branch), item) if !is_gone => {
                        branch.note();
                        queue.push_back(item);
                    }
                    (_, Entry::Item(_)) => {}
                }
                match rng.u32(..40) {
                    0..20 => _ = queue.pop_front(),
                    20 => {
                        is_gone = true;
                        for entry in queue.drain(..) {
                            match entry {
                                Entry::Mark(_, origin) => _ = lost.insert(origin),
                                item => left.push(item),
                            }
                        }
                    }
                    21 if is_gone => branch.take().into_iter().for_each(|branch| losses.append(branch)),
                    _ => {}
                }
            });
            let missing: Vec<_> = origins(&left).difference(&(&lost | &before.lost)).copied().collect();
            assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        }
    }

    #[test]
    fn a_source_that_has_ended_is_forgotten() {
        let mut losses = Losses::default();
        for _ in 0..1_000 {
            losses.note();
            let series = Arc::default();
            assert!(losses.include(&Mark::end(Arc::new(Silent), &series)));
            assert!(!losses.include(&Mark::end(Arc::new(Silent), &series)));
        }
        assert!(losses.of.values.len() <= 16);
    }
}
