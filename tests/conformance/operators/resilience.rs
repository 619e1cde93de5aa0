//! Operators that handle failures.

use std::time::Duration;

use streamz::{
    AdaptiveConcurrency, AsyncMapper, Bulkhead, Call, CallError, CallFailure, CallStage, CallTimeout, CancelToken,
    CircuitBreaker, DeadLetterQueue, ErrorKind, Fallback, Hedge, Layered, Mapper, ProcessorFn, RateLimit, Retry,
    Stream,
};

use super::pool::{call, plus_one};
use super::{ITEMS, Registry};
use crate::common::faults::{Fault, Faults, Refused};
use crate::common::item::{Census, Item};
use crate::common::models::each;
use crate::common::seen::{Kind, Seen};
use crate::subject::{Closure, Subject};

pub fn register(registry: &mut Registry) {
    // It has two outputs; here the failures are not read, so that the stage stops when its items are not read either.
    registry.add(
        Subject::new(
            "DeadLetterQueue: items",
            &["DeadLetterQueue", "DlqOutput"],
            ITEMS,
            |_| {
                ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                    let output = DeadLetterQueue::new().process(cancel, items);
                    drop(output.failed);
                    output.items
                })
            },
            |input, _| input.iter().filter(|seen| matches!(seen, Seen::Value(_))).cloned().collect(),
        )
        .unread(),
    );
    registry.add(
        Subject::new(
            "Retry",
            &["Retry"],
            ITEMS,
            |site| Retry::new(AsyncMapper::new(call(site)).with_workers(3)).base_delay(Duration::ZERO).max_attempts(2),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Retry: of a fallible mapper, unordered, small window",
            &["Retry"],
            ITEMS,
            |site| {
                let fallible = Mapper::fallible(move |item: &Item| {
                    site.faults.check(item.value()).map(|()| item.sibling(item.value() + 1))
                });
                Retry::new(fallible).base_delay(Duration::ZERO).with_workers(2).with_window(2).with_ordered(false)
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .unordered(),
    );
    registry.add(
        Subject::new(
            "CircuitBreaker",
            &["CircuitBreaker"],
            ITEMS,
            // It never opens: there are too few items.
            |site| CircuitBreaker::new(AsyncMapper::new(call(site)).with_workers(3)).min_requests(100),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "AdaptiveConcurrency",
            &["AdaptiveConcurrency"],
            ITEMS,
            |site| AdaptiveConcurrency::new(AsyncMapper::new(call(site)).with_workers(3)).with_initial_limit(2),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Hedge: no second tries",
            &["Hedge"],
            ITEMS,
            |site| Hedge::new(AsyncMapper::new(call(site)).with_workers(3), Duration::MAX),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Hedge: always two tries",
            &["Hedge"],
            ITEMS,
            |site| Hedge::new(AsyncMapper::new(call(site)).with_workers(3), Duration::ZERO).with_budget(1.0),
            plus_one,
        )
        .closure(Closure::Fails)
        .copies()
        .sleeps(),
    );
    registry.add(Subject::new(
        "CircuitBreaker: open",
        &["CircuitBreaker"],
        ITEMS,
        |site| {
            let breaker = CircuitBreaker::new(AsyncMapper::new(call(site)).with_workers(2));
            breaker.circuit().force_open();
            breaker
        },
        |input, _| each(input, Faults::None, true, |value| vec![Seen::Made(Kind::Other, Some(value))]),
    ));
    registry.add(
        Subject::new(
            "Layered",
            &["Layered"],
            ITEMS,
            |site| {
                let calls = AsyncMapper::new(call(site)).with_workers(3);
                Layered::from_fn(calls, |call, cancel, item| call.call(&cancel.child(), item))
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Layered: a layer that fails and panics itself",
            &["Layered"],
            ITEMS,
            |site| {
                let calls = Mapper::fallible(|item: &Item| Ok::<_, Refused>(item.sibling(item.value() + 1)));
                Layered::from_fn(calls, move |call, cancel, item: &Item| {
                    site.wait(cancel);
                    site.faults.check(item.value()).map_err(|error| CallError::new(CallFailure::Failed(error), 0))?;
                    call.call(cancel, item)
                })
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "RateLimit: by key",
            &["RateLimit"],
            ITEMS,
            |site| {
                let calls = AsyncMapper::new(call(site)).with_workers(3);
                // No call waits: in some cases no time passes.
                RateLimit::new(calls, 1e6).with_burst(usize::MAX).with_key(|item: &Item| item.value() % 3, 2)
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(Subject::new(
        "RateLimit: rejecting",
        &["RateLimit"],
        ITEMS,
        |site| {
            let calls = AsyncMapper::new(call(site)).with_workers(2);
            let limited = RateLimit::new(calls, f64::MIN_POSITIVE).with_max_wait(Duration::ZERO);
            // This takes the only turn.
            let token = CancelToken::new();
            token.cancel();
            let _ = limited.to_call().call(&token, &Census::default().item(0));
            limited
        },
        |input, _| each(input, Faults::None, true, |value| vec![Seen::Made(Kind::Other, Some(value))]),
    ));
    registry.add(
        Subject::new(
            "Bulkhead: fewer calls than workers",
            &["Bulkhead"],
            ITEMS,
            |site| Bulkhead::new(AsyncMapper::new(call(site)).with_workers(3), 2),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Bulkhead: one call of each key",
            &["Bulkhead"],
            ITEMS,
            |site| {
                let calls = AsyncMapper::new(call(site)).with_workers(4);
                Bulkhead::new(calls, 1).with_key(|item: &Item| item.value() % 2)
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "CallTimeout",
            &["CallTimeout"],
            ITEMS,
            |site| CallTimeout::new(AsyncMapper::new(call(site)).with_workers(3), Duration::MAX),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Fallback: around a breaker around a retry",
            &["Fallback"],
            ITEMS,
            |site| {
                let retry = Retry::new(AsyncMapper::new(call(site)).with_workers(3)).base_delay(Duration::ZERO);
                let breaker = CircuitBreaker::new(retry).min_requests(100);
                Fallback::new(breaker, |_, item: &Item, error: &CallError<Refused>| {
                    (error.kind() == ErrorKind::Failed).then(|| item.sibling(item.value() + 2000))
                })
            },
            |input, faults| {
                let other = |seen| match seen {
                    Seen::Made(Kind::Failed, Some(value)) if faults.of(value) == Fault::Fail => {
                        Seen::Value(value + 2000)
                    }
                    seen => seen,
                };
                plus_one(input, faults).into_iter().map(other).collect()
            },
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
}
