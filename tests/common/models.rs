//! Plain sequential models of operators: from the whole input to the whole output.

use std::collections::{BTreeSet, VecDeque};

use super::faults::{Fault, Faults};
use super::seen::{Kind, Seen};

/// An operator whose output for an item depends on that item alone. `carried` says whether the error that is made when
/// its closure fails or panics carries the item.
pub fn each(input: &[Seen], faults: Faults, carried: bool, out: impl Fn(u64) -> Vec<Seen>) -> Vec<Seen> {
    let one = |seen: &Seen| match *seen {
        Seen::Value(value) => hit(faults, value, carried).map_or_else(|| out(value), |error| vec![error]),
        _ => vec![seen.clone()],
    };
    input.iter().flat_map(one).collect()
}

/// The error item that a closure makes of an item, if it does.
pub fn hit(faults: Faults, value: u64, carried: bool) -> Option<Seen> {
    match faults.of(value) {
        Fault::None => None,
        Fault::Fail => Some(Seen::Made(Kind::Failed, carried.then_some(value))),
        Fault::Panic => Some(Seen::Made(Kind::Panicked, carried.then_some(value))),
    }
}

pub fn running_sum(input: &[Seen], faults: Faults) -> Vec<Seen> {
    let mut sum = 0;
    let one = |seen: &Seen| match *seen {
        Seen::Value(value) => hit(faults, value, false).unwrap_or_else(|| {
            sum += value;
            Seen::Value(sum)
        }),
        _ => seen.clone(),
    };
    input.iter().map(one).collect()
}

/// The running sum of each key, of which at most `max_keys` are kept. With a `mark`, what is left of an evicted one, or at the
/// end, is emitted with the mark added.
pub fn sums_by_key(
    input: &[Seen],
    faults: Faults,
    max_keys: usize,
    mark: Option<u64>,
    key: impl Fn(u64) -> u64,
) -> Vec<Seen> {
    let removed = |sum: u64| mark.map(|mark| Seen::Value(mark + sum));
    // Oldest use first.
    let mut sums: Vec<(u64, u64)> = Vec::new();
    let mut out = Vec::new();
    for seen in input {
        let Seen::Value(value) = *seen else {
            out.push(seen.clone());
            continue;
        };
        let known = sums.iter().position(|(other, _)| *other == key(value)).map(|index| sums.remove(index).1);
        if let Some(error) = hit(faults, value, false) {
            out.push(error);
            sums.extend(known.map(|sum| (key(value), sum)));
            continue;
        }
        if known.is_none() && sums.len() == max_keys {
            out.extend(removed(sums.remove(0).1));
        }
        let sum = known.unwrap_or_default() + value;
        sums.push((key(value), sum));
        out.push(Seen::Value(sum));
    }
    out.extend(sums.into_iter().filter_map(|(_, sum)| removed(sum)));
    out
}

pub fn take(input: &[Seen], n: usize) -> Vec<Seen> {
    let mut left = n;
    let mut taken = Vec::new();
    for seen in input {
        if left == 0 {
            break;
        }
        left -= usize::from(matches!(seen, Seen::Value(_)));
        taken.push(seen.clone());
    }
    taken
}

pub fn take_while(input: &[Seen], faults: Faults, passes: impl Fn(u64) -> bool) -> Vec<Seen> {
    let mut taken = Vec::new();
    for seen in input {
        match *seen {
            Seen::Value(value) => match hit(faults, value, true) {
                Some(error) => taken.push(error),
                None if passes(value) => taken.push(seen.clone()),
                None => break,
            },
            _ => taken.push(seen.clone()),
        }
    }
    taken
}

pub fn skip(input: &[Seen], n: usize) -> Vec<Seen> {
    let mut left = n;
    let passes = |seen: &&Seen| {
        let skipped = left > 0 && matches!(seen, Seen::Value(_));
        left -= usize::from(skipped);
        !skipped
    };
    input.iter().filter(passes).cloned().collect()
}

pub fn skip_while(input: &[Seen], faults: Faults, skips: impl Fn(u64) -> bool) -> Vec<Seen> {
    let mut skipping = true;
    let one = |seen: &Seen| match *seen {
        // Once it has stopped skipping, the closure is not asked any more.
        Seen::Value(value) if skipping => match hit(faults, value, true) {
            Some(error) => Some(error),
            None => {
                skipping = skips(value);
                (!skipping).then_some(Seen::Value(value))
            }
        },
        _ => Some(seen.clone()),
    };
    input.iter().filter_map(one).collect()
}

pub fn sample(input: &[Seen], rate: f64, seed: u64) -> Vec<Seen> {
    let mut random = fastrand::Rng::with_seed(seed);
    let passes = |seen: &&Seen| !matches!(seen, Seen::Value(_)) || random.f64() < rate;
    input.iter().filter(passes).cloned().collect()
}

pub fn dedupe(input: &[Seen], faults: Faults, key: impl Fn(u64) -> u64) -> Vec<Seen> {
    let mut keys = BTreeSet::new();
    let one = |seen: &Seen| match *seen {
        Seen::Value(value) => match hit(faults, value, true) {
            Some(error) => Some(error),
            None => keys.insert(key(value)).then_some(Seen::Value(value)),
        },
        _ => Some(seen.clone()),
    };
    input.iter().filter_map(one).collect()
}

/// Groups of at most `size` with the same key, of which at most `max_keys` are open. An error, also one that is made
/// here, comes after all that is open.
pub fn batches(input: &[Seen], faults: Faults, size: usize, max_keys: usize, key: impl Fn(u64) -> u64) -> Vec<Seen> {
    let mut open: Vec<(u64, Vec<u64>)> = Vec::new();
    let mut out = Vec::new();
    for seen in input {
        let made = match *seen {
            Seen::Value(value) => hit(faults, value, true),
            _ => Some(seen.clone()),
        };
        if let Some(error) = made {
            out.extend(open.drain(..).map(|(_, group)| Seen::Group(group)));
            out.push(error);
            continue;
        }
        let Seen::Value(value) = *seen else { continue };
        let index = open.iter().position(|(other, _)| *other == key(value)).unwrap_or_else(|| {
            if open.len() == max_keys {
                out.push(Seen::Group(open.remove(0).1));
            }
            open.push((key(value), Vec::new()));
            open.len() - 1
        });
        open[index].1.push(value);
        if open[index].1.len() == size {
            out.push(Seen::Group(open.remove(index).1));
        }
    }
    out.extend(open.into_iter().map(|(_, group)| Seen::Group(group)));
    out
}

/// Items in the order of their times, which `time` tells: each is held until one comes that is `lateness` younger, and no more
/// than `most` are. An item that is older than one that was emitted fails. Errors do not wait.
pub fn sorted_by_time(
    input: &[Seen],
    faults: Faults,
    (lateness, most): (u64, usize),
    time: impl Fn(u64) -> u64,
) -> Vec<Seen> {
    let (mut held, mut greatest, mut last) = (Vec::<(u64, u64)>::new(), 0, 0);
    let mut out = Vec::new();
    for seen in input {
        let made = match *seen {
            Seen::Value(value) => {
                let late = (time(value) < last).then_some(Seen::Made(Kind::Other, Some(value)));
                hit(faults, value, true).or(late)
            }
            _ => Some(seen.clone()),
        };
        if let Some(error) = made {
            out.push(error);
            continue;
        }
        let Seen::Value(value) = *seen else { continue };
        greatest = greatest.max(time(value));
        let at = held.partition_point(|(other, _)| *other <= time(value));
        held.insert(at, (time(value), value));
        while held.len() > most || held.first().is_some_and(|(first, _)| first + lateness <= greatest) {
            let (first, value) = held.remove(0);
            last = first;
            out.push(Seen::Value(value));
        }
    }
    out.extend(held.into_iter().map(|(_, value)| Seen::Value(value)));
    out
}

/// What closes before an item that fails does so: the closure that fails is called when the item's time has passed, or else
/// before anybody knows its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    BeforeItsTime,
    InItsTime,
}

/// Windows of `size` by `slide` over items that come in the order of their times, which `time` tells. Errors do not wait for
/// a window.
pub fn windows(
    input: &[Seen],
    faults: Faults,
    failing: Failing,
    (size, slide): (u64, u64),
    time: impl Fn(u64) -> u64,
) -> Vec<Seen> {
    // Each with its start; those that begin first are in front.
    let mut open: VecDeque<(u64, Vec<u64>)> = VecDeque::new();
    let mut out = Vec::new();
    for seen in input {
        let Seen::Value(value) = *seen else {
            out.push(seen.clone());
            continue;
        };
        let (now, fault) = (time(value), hit(faults, value, true));
        if fault.is_none() || failing == Failing::InItsTime {
            while open.front().is_some_and(|(start, _)| start + size <= now) {
                out.extend(open.pop_front().map(|(_, values)| Seen::Group(values)));
            }
        }
        if let Some(error) = fault {
            out.push(error);
            continue;
        }
        for start in (0..=now).filter(|start| start % slide == 0 && now < start + size) {
            match open.iter_mut().find(|window| window.0 == start) {
                Some((_, values)) => values.push(value),
                None => open.push_back((start, vec![value])),
            }
        }
    }
    out.extend(open.into_iter().map(|(_, values)| Seen::Group(values)));
    out
}

/// Sessions by key over items that come in the order of their times. Errors do not wait for a session.
pub fn sessions(
    input: &[Seen],
    faults: Faults,
    gap: u64,
    time: impl Fn(u64) -> u64,
    key: impl Fn(u64) -> u64,
) -> Vec<Seen> {
    // Key, time of the last item, items; in the order of the first ones.
    let mut open: Vec<(u64, u64, Vec<u64>)> = Vec::new();
    let mut out = Vec::new();
    for seen in input {
        let Seen::Value(value) = *seen else {
            out.push(seen.clone());
            continue;
        };
        if let Some(error) = hit(faults, value, true) {
            out.push(error);
            continue;
        }
        let now = time(value);
        let (mut over, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|session| session.1 + gap <= now);
        over.sort_by_key(|session| session.1);
        out.extend(over.into_iter().map(|(_, _, values)| Seen::Group(values)));
        open = rest;
        match open.iter_mut().find(|session| session.0 == key(value)) {
            Some((_, last, values)) => {
                *last = now;
                values.push(value);
            }
            None => open.push((key(value), now, vec![value])),
        }
    }
    open.sort_by_key(|session| session.1);
    out.extend(open.into_iter().map(|(_, _, values)| Seen::Group(values)));
    out
}

/// Windows of one endless stretch of time, of at most `max_count` items of one key. Errors do not wait for a window.
pub fn counted_windows(input: &[Seen], faults: Faults, max_count: usize, key: impl Fn(u64) -> u64) -> Vec<Seen> {
    let mut open: Vec<(u64, Vec<u64>)> = Vec::new();
    let mut out = Vec::new();
    for seen in input {
        let Seen::Value(value) = *seen else {
            out.push(seen.clone());
            continue;
        };
        if let Some(error) = hit(faults, value, true) {
            out.push(error);
            continue;
        }
        let index = open.iter().position(|(other, _)| *other == key(value)).unwrap_or(open.len());
        if index == open.len() {
            open.push((key(value), Vec::new()));
        }
        open[index].1.push(value);
        if open[index].1.len() == max_count {
            out.push(Seen::Group(open.remove(index).1));
        }
    }
    out.extend(open.into_iter().map(|(_, values)| Seen::Group(values)));
    out
}

/// The last item of each run of items: errors, and the end, end one.
pub fn last_of_each_run(input: &[Seen]) -> Vec<Seen> {
    let is_superseded = |index: usize| matches!(input[index..], [Seen::Value(_), Seen::Value(_), ..]);
    (0..input.len()).filter(|index| !is_superseded(*index)).map(|index| input[index].clone()).collect()
}

/// Pairs of items that come in the order of their times, which are their values. An item is older than others that may still
/// come until one has come that is `lateness` younger. Errors do not wait.
pub fn delayed_pairs(input: &[Seen], faults: Faults, lateness: u64) -> Vec<Seen> {
    let (mut kept, mut pair): (VecDeque<u64>, Vec<u64>) = (VecDeque::new(), Vec::new());
    let mut out = Vec::new();
    for seen in input {
        let Seen::Value(value) = *seen else {
            out.push(seen.clone());
            continue;
        };
        if let Some(error) = hit(faults, value, true) {
            out.push(error);
            continue;
        }
        kept.push_back(value);
        while kept.front().is_some_and(|oldest| oldest + lateness <= value) {
            pair.extend(kept.pop_front());
            if pair.len() == 2 {
                out.push(Seen::Group(std::mem::take(&mut pair)));
            }
        }
    }
    pair.extend(kept);
    out.extend(pair.chunks(2).map(|pair| Seen::Group(pair.to_vec())));
    out
}
