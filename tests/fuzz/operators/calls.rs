//! What is wrapped around a call.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use streamz::{
    AdaptiveConcurrency, AsyncMapper, Bulkhead, Call, CallError, CallFailure, CallTimeout, CancelToken, CircuitBreaker,
    Fallback, Hedge, Layered, Mapper, Processor, RateLimit, Recover, Retry, StreamError,
};

use super::{Op, boxed_up, dawdle, faults, panics};
use crate::common::faults::{Faults, Refused, panic_on_purpose};
use crate::common::item::Item;
use crate::common::models::hit;
use crate::common::seen::{Kind, Seen};

const MENU: &[fn(&mut Rng) -> Op] = &[
    retry,
    breaker,
    breaker_with_fallback,
    wrapped_twice,
    combined,
    layered,
    adaptive,
    hedged,
    rate_limited,
    bulkhead,
];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

/// A call that fails as often as the item's value says, and then comes to something.
fn flaky(faults: Faults) -> impl Fn(&Item) -> Result<Item, Refused> + Send + Sync + 'static {
    let attempts: Mutex<BTreeMap<u64, u64>> = Mutex::default();
    move |item| {
        let mut attempts = attempts.lock().unwrap();
        let before = attempts.entry(item.number()).or_insert(0);
        let fails = *before < failures(item.value());
        *before += 1;
        drop(attempts);
        dawdle(u32::try_from(item.value() % 3).unwrap_or(0));
        faults.panic_only(item.value());
        if fails { Err(Refused(item.value())) } else { Ok(item.sibling(item.value() + 9)) }
    }
}

/// How often the call fails for an item of that value.
fn failures(value: u64) -> u64 {
    value % 4
}

fn retry(rng: &mut Rng) -> Op {
    let (faults, ordered, workers) = (panics(rng), rng.bool(), rng.usize(1..5));
    let (attempts, delay) = (rng.u32(1..5), Duration::from_micros([0, 0, 20][rng.usize(..3)]));
    let call = flaky(faults);
    let (fallible, seed) = (rng.u8(..4) == 0, rng.u64(..));
    let processor = if fallible {
        let retry = Retry::new(Mapper::fallible(move |item: &Item| call(item))).with_seed(seed);
        retry.max_attempts(attempts).base_delay(delay).boxed()
    } else {
        let mapper = AsyncMapper::new(move |_: &CancelToken, item: &Item| call(item)).with_workers(workers);
        let retry = Retry::new(mapper.with_ordered(ordered)).with_seed(seed);
        retry.max_attempts(attempts).base_delay(delay).boxed()
    };
    let what = format!(
        "retry, {attempts} attempts, {delay:?}, {workers} workers, ordered {ordered}, of a fallible mapper {fallible}, \
         {faults:?}"
    );
    let op = Op::each(what, boxed_up(processor), faults, true, move |value| {
        let fails = failures(value) >= u64::from(attempts);
        vec![if fails { Seen::Made(Kind::Failed, Some(value)) } else { Seen::Value(value + 9) }]
    });
    Op { ordered: ordered || fallible, hurries: true, ..op }
}

type CallFn = Box<dyn Fn(&CancelToken, &Item) -> Result<Item, Refused> + Send + Sync>;
type Pool = AsyncMapper<Item, Item, Refused, CallFn>;

/// A pool whose calls fail and panic, and whether it keeps the order.
fn pool(rng: &mut Rng, faults: Faults) -> (Pool, bool) {
    let (workers, ordered, turns) = (rng.usize(1..5), rng.bool(), rng.u64(1..4));
    let call: CallFn = Box::new(move |_, item| {
        dawdle(u32::try_from(item.value() % turns).unwrap_or(0));
        faults.check(item.value()).map(|()| item.sibling(item.value() + 9))
    });
    (AsyncMapper::new(call).with_workers(workers).with_ordered(ordered), ordered)
}

fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros([0, 10, 200][rng.usize(..3)])
}

/// Makes good what failed, for want of a call or in it, as long as the item is there.
fn made_good(seen: &Seen) -> Seen {
    match *seen {
        Seen::Value(value) | Seen::Made(_, Some(value)) => Seen::Value(value + 9),
        _ => seen.clone(),
    }
}

/// When it opens is a matter of chance; but whatever does not come to a result is an error item with the item in it.
fn breaker(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let breaker = random_breaker(rng, CircuitBreaker::new(pool));
    let recover = Recover::new(|error: &StreamError| {
        let item = error.take_item::<Item>()?;
        let value = item.value() + 9;
        Some(item.with_value(value))
    });
    let model = |input: &[Seen]| input.iter().map(made_good).collect();
    let op = Op::whole(format!("breaker, ordered {ordered}, {faults:?}"), boxed_up(breaker.then(recover)), model);
    Op { ordered, any_order: true, ..op }
}

fn random_breaker<S>(rng: &mut Rng, breaker: CircuitBreaker<S>) -> CircuitBreaker<S>
where
    S: streamz::CallStage<In = Item, Out = Item, Error = Refused>,
{
    let breaker = match rng.u8(..3) {
        0 => breaker.with_count_window(rng.usize(4..8)),
        1 => breaker.with_time_window(Duration::from_micros(rng.u64(1..300))),
        _ => breaker,
    };
    let panics = rng.u8(..4) == 0;
    let noisy = move || {
        if panics {
            panic_on_purpose()
        }
    };
    breaker
        .failure_threshold([0.01, 0.3, 1.0][rng.usize(..3)])
        .min_requests(rng.u64(1..4))
        .half_open_requests(rng.usize(1..4))
        .recovery_timeout(Duration::from_micros([1, 10, 200][rng.usize(..3)]))
        .on_state_change(move |_, _| noisy())
        .on_open(move |_| noisy())
}

/// Whatever goes wrong, there is another result.
fn breaker_with_fallback(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let breaker = random_breaker(rng, CircuitBreaker::new(pool));
    let other = |_: &CancelToken, item: &Item, _: &CallError<Refused>| Some(item.sibling(item.value() + 9));
    let what = format!("breaker with a fallback, ordered {ordered}, {faults:?}");
    let op = Op::each(what, boxed_up(Fallback::new(breaker, other)), Faults::None, true, |value| {
        vec![Seen::Value(value + 9)]
    });
    Op { ordered, ..op }
}

/// A breaker around a retry, or the other way round, and a fallback around both.
fn wrapped_twice(rng: &mut Rng) -> Op {
    let (faults, attempts, delay) = (faults(rng), rng.u32(1..4), short(rng));
    let (pool, ordered) = pool(rng, faults);
    let other = |_: &CancelToken, item: &Item, _: &CallError<Refused>| Some(item.sibling(item.value() + 9));
    let breaker_inside = rng.bool();
    let processor = if breaker_inside {
        let breaker = random_breaker(rng, CircuitBreaker::new(pool));
        Fallback::new(Retry::new(breaker).max_attempts(attempts).base_delay(delay), other).boxed()
    } else {
        let retry = Retry::new(pool).max_attempts(attempts).base_delay(delay).with_budget(0.2);
        Fallback::new(random_breaker(rng, CircuitBreaker::new(retry)), other).boxed()
    };
    let what = format!(
        "breaker inside retry {breaker_inside}, {attempts} attempts, {delay:?}, with a fallback, ordered {ordered}, {faults:?}"
    );
    let op = Op::each(what, boxed_up(processor), Faults::None, true, |value| vec![Seen::Value(value + 9)]);
    Op { ordered, ..op }
}

/// The item itself continues downstream, whatever the outcome of the call, unless the closure that combines them panics.
fn combined(rng: &mut Rng) -> Op {
    let (faults, loses) = (faults(rng), panics(rng));
    let (pool, ordered) = pool(rng, faults);
    let combined = pool.combine(move |item: Item, _result: Result<Item, _>| {
        loses.panic_only(item.value());
        let value = item.value() + 4;
        Ok(item.with_value(value))
    });
    let what = format!("calls with their items, ordered {ordered}, {faults:?}, then {loses:?}");
    let op = Op::each(what, boxed_up(combined), loses, false, |value| vec![Seen::Value(value + 4)]);
    Op { ordered, ..op }
}

/// A layer that refuses some calls, makes others twice if need be, and panics.
fn layered(rng: &mut Rng) -> Op {
    let (faults, breaks) = (faults(rng), panics(rng));
    let (pool, ordered) = pool(rng, faults);
    let layered = Layered::from_fn(pool, move |call, cancel, item: &Item| {
        breaks.panic_only(item.value());
        match item.value() % 3 {
            0 => Err(CallError::new(CallFailure::Failed(Refused(item.value())), 0)),
            1 => call.call(&cancel.child(), item).or_else(|_| call.call(cancel, item)),
            _ => call.call(cancel, item),
        }
    });
    let what = format!("a layer around a pool, ordered {ordered}, {faults:?}, {breaks:?}");
    let op = Op::each(what, boxed_up(layered), breaks, true, move |value| match value % 3 {
        0 => vec![Seen::Made(Kind::Failed, Some(value))],
        _ => vec![hit(faults, value, true).unwrap_or(Seen::Value(value + 9))],
    });
    Op { ordered, ..op }
}

/// Fewer calls at a time, and the same results.
fn adaptive(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let (min, initial) = (rng.usize(1..4), rng.usize(1..4));
    let adaptive = AdaptiveConcurrency::new(pool).with_min_limit(min).with_initial_limit(initial);
    let what = format!("adaptive, limit {initial}, at least {min}, ordered {ordered}, {faults:?}");
    let op = Op::each(what, boxed_up(adaptive), faults, true, |value| vec![Seen::Value(value + 9)]);
    Op { ordered, ..op }
}

/// Whichever try is the first, it comes to the same.
fn hedged(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let (delay, share, limited) = (short(rng), [0.0, 0.1, 1.0][rng.usize(..3)], rng.bool());
    let processor = if limited {
        Hedge::new(AdaptiveConcurrency::new(pool), delay).with_budget(share).boxed()
    } else {
        Hedge::new(pool, delay).with_percentile(0.5).with_budget(share).boxed()
    };
    let what = format!("hedged after {delay:?}, budget {share}, limited {limited}, ordered {ordered}, {faults:?}");
    let op = Op::each(what, boxed_up(processor), faults, true, |value| vec![Seen::Value(value + 9)]);
    Op { ordered, copies: true, ..op }
}

/// Calls that wait for their turns, or are rejected and then made good for.
fn rate_limited(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let (rate, burst, keys) = ([1e4, 1e6, 1e9][rng.usize(..3)], rng.usize(1..4), rng.u64(1..4));
    let (rejects, max_keys) = (rng.bool(), rng.usize(1..4));
    let limited = RateLimit::new(pool, rate).with_burst(burst).with_key(move |item| item.value() % keys, max_keys);
    let limited = if rejects { limited.with_max_wait(short(rng)) } else { limited };
    // An item that is rejected is spared the failure of its call.
    let other =
        move |_: &CancelToken, item: &Item, _: &CallError<Refused>| rejects.then(|| item.sibling(item.value() + 9));
    let what = format!(
        "rate limit of {rate}, burst {burst}, {keys} keys, {max_keys} kept, rejects {rejects}, ordered {ordered}, {faults:?}"
    );
    let faults = if rejects { Faults::None } else { faults };
    let out = |value| vec![Seen::Value(value + 9)];
    let op = Op::each(what, boxed_up(Fallback::new(limited, other)), faults, true, out);
    // Before a deadline of the pipeline some are rejected.
    Op { ordered, hurries: true, ..op }
}

/// Calls of which few are made at a time, within a time limit that none needs.
fn bulkhead(rng: &mut Rng) -> Op {
    let faults = faults(rng);
    let (pool, ordered) = pool(rng, faults);
    let (max_calls, keys, attempts) = (rng.usize(1..4), rng.u64(1..4), rng.u32(1..3));
    let bulkhead = Bulkhead::new(CallTimeout::new(pool, Duration::from_secs(1_000)), max_calls);
    let bulkhead = bulkhead.with_key(move |item: &Item| item.value() % keys);
    let retry = Retry::new(bulkhead).max_attempts(attempts).base_delay(Duration::ZERO);
    let what = format!("bulkhead of {max_calls}, {keys} keys, {attempts} attempts, ordered {ordered}, {faults:?}");
    let op = Op::each(what, boxed_up(retry), faults, true, |value| vec![Seen::Value(value + 9)]);
    Op { ordered, hurries: true, ..op }
}
