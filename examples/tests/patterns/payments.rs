//! Retry inside a circuit breaker: an order is one call to the breaker, however often it is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{
    CancelToken, CircuitState, DeadLetter, ErrorKind, ManualClock, Pipeline, StreamError,
};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../payments.rs"]
mod example;

use example::{Bank, Order, PaymentError, Receipt, pay};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn order(id: u32) -> Order {
    Order { id, cents: 100 }
}

fn ids(letters: &[DeadLetter]) -> Vec<u32> {
    let id =
        |letter: &DeadLetter| letter.error().with_item_ref(|order: &Order| order.id).unwrap();
    letters.iter().map(id).collect()
}

#[test]
fn the_circuit_opens_after_ten_orders_and_closes_on_recovery() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("payments").clock(&clock).build();
    let (is_down, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (weather, count) = (Arc::clone(&is_down), Arc::clone(&calls));
    let charge = move |_: &CancelToken, order: &Order| {
        count.fetch_add(1, Ordering::Relaxed);
        match weather.load(Ordering::Relaxed) {
            _ if order.cents == 0 => Err(PaymentError::Declined),
            true => Err(PaymentError::Unavailable(503)),
            false => Ok(Receipt { order: order.id }),
        }
    };
    let changes = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&changes);
    let (source, orders) = TestSource::new(&pipeline);
    let payments = pay(orders, charge, move |from, to| note.lock().push((from, to)));
    let (paid, failed) = (Recorder::new(payments.paid), Recorder::new(payments.failed));
    let made = || calls.load(Ordering::Relaxed);

    // A declined card is charged once, and is not a failure of the service.
    source.push_all((0..20).map(|id| Order { id, cents: 0 }));
    clock.settle();
    let letters = failed.items();
    assert!(letters.iter().all(|letter| letter.error().attempts() == 1));
    assert_eq!((ids(&letters), made()), (Vec::from_iter(0..20), 20));

    // Ten orders, all at the same time, three attempts each. The pauses are 50 and 100 ms at most, once and not ten times.
    source.push_all((20..29).map(order));
    clock.advance(ms(150));
    assert_eq!(
        (failed.items().len(), made(), payments.circuit.state()),
        (9, 20 + 27, CircuitState::Closed)
    );
    source.push(order(29));
    clock.advance(ms(150));
    let letters = failed.items();
    assert_eq!((ids(&letters), letters[0].error().attempts(), made()), (vec![29], 3, 20 + 30));
    assert!(matches!(letters[0].error().downcast_ref(), Some(PaymentError::Unavailable(503))));
    assert_eq!(payments.circuit.state(), CircuitState::Open);

    // From now on no call waits, and the service is left alone.
    source.push_all((30..80).map(order));
    let letters = failed.timed_items();
    assert!(letters.iter().all(|(at, letter)| *at == clock.elapsed()
        && letter.error().kind() == ErrorKind::CircuitOpen));
    assert_eq!((letters.len(), made()), (50, 20 + 30));

    // A probe that fails opens it for as long again; three that do not close it.
    clock.advance(ms(700));
    source.push(order(80));
    clock.advance(ms(150));
    assert_eq!(
        (ids(&failed.items()), payments.circuit.state()),
        (vec![80], CircuitState::Open)
    );
    is_down.store(false, Ordering::Relaxed);
    clock.advance(ms(700));
    source.push_all((81..84).map(order));
    assert_eq!(paid.items(), [81, 82, 83].map(|order| Receipt { order }));
    assert_eq!(payments.circuit.state(), CircuitState::Closed);

    source.push_all((84..184).map(order));
    source.end();
    assert_eq!((paid.items().len(), failed.items().len()), (100, 0));
    assert!(pipeline.join().is_complete());
    use CircuitState::{Closed, HalfOpen, Open};
    let expected = [
        (Closed, Open),
        (Open, HalfOpen),
        (HalfOpen, Open),
        (Open, HalfOpen),
        (HalfOpen, Closed),
    ];
    assert_eq!(*changes.lock(), expected);
}

#[test]
fn a_call_that_takes_too_long_is_abandoned_and_retried() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("payments").clock(&clock).build();
    let slow = |cancel: &CancelToken, _: &Order| match cancel.sleep(ms(400)) {
        Ok(()) => Ok(Receipt { order: 0 }),
        Err(_) => Err(PaymentError::Unreachable("given up".to_owned())),
    };
    let (source, orders) = TestSource::new(&pipeline);
    let payments = pay(orders, slow, |_, _| {});
    let (_paid, failed) = (Recorder::new(payments.paid), Recorder::new(payments.failed));
    source.push(order(0));
    // The longest that one can take: shorter than the recovery time.
    clock.advance(ms(3 * 150 + 50 + 100));
    let error: StreamError = failed.items().remove(0).into();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 3));
    source.end();
    pipeline.join();
}

#[test]
fn the_service_charges_an_order_once_however_often_it_is_asked() {
    let clock = ManualClock::new();
    let cancel = CancelToken::with_clock(&clock);
    let bank = Bank::new(clock.now());
    let statuses =
        ["7 500", "7 500", "8 49001", "eight"].map(|order| bank.answer(&cancel, order).status);
    assert_eq!(statuses, [200, 200, 402, 400]);
    assert_eq!(bank.charged(), [(7, 500)].into());
}
