//! `CircuitBreaker`: the whole state machine, and how it gets on with its neighbours.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use streamz::{
    AsyncMapper, Call, CallFailure, CallStage, CancelToken, Circuit, CircuitBreaker, CircuitState, ErrorKind, Fallback,
    ManualClock, Mapper, Outcome, Pipeline, Retry, Stream, StreamError,
};

use crate::{ms, virtual_pipeline};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ApiError {
    #[error("down")]
    Down,
    #[error("no such thing")]
    Unknown,
}

// ---- The state machine, step by step. ----

/// What a call is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Work,
    Fail,
    Panic,
    /// An error that is ignored.
    Unknown,
    /// Its token is cancelled during the call.
    Cancelled,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A call begins, on a thread of its own, and is let in.
    Begin(u32),
    /// A call is refused.
    Refused,
    /// A call in progress ends.
    End(u32, Do),
    /// This many calls begin and end, one after the other.
    Calls(u32, Do),
    Advance(u64),
    Is(CircuitState),
    ForceOpen,
    ForceClosed,
    Reset,
}

use CircuitState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
use Do::{Cancelled, Fail, Panic, Unknown, Work};
use Step::{Advance, Begin, Calls, End, ForceClosed, ForceOpen, Is, Refused, Reset};

type Made = Result<(), streamz::CallError<ApiError>>;

/// The calls in progress: the channel that tells each what to do, its token, and its thread.
struct Calling {
    tell: Sender<Do>,
    token: CancelToken,
    thread: JoinHandle<Made>,
}

fn steps(name: &str, change: fn(Breaker) -> Breaker, steps: &[Step]) {
    let clock = ManualClock::new();
    let root = CancelToken::with_clock(&clock);
    let (began, begun) = unbounded::<(u32, Sender<Do>)>();
    let call = AsyncMapper::new(boxed(move |_: &CancelToken, id: &u32| {
        let (tell, told) = bounded(1);
        began.send((*id, tell)).unwrap();
        match told.recv().unwrap() {
            Work => Ok(()),
            Fail | Cancelled => Err(ApiError::Down),
            Unknown => Err(ApiError::Unknown),
            Panic => panic!("on purpose"),
        }
    }));
    let breaker = change(breaker_of(call));
    let (circuit, call) = (breaker.circuit(), Arc::new(breaker.to_call()));
    let mut calling = HashMap::new();
    let begin = |id: u32| -> Option<Calling> {
        let (call, token, (done, ended)) = (Arc::clone(&call), root.child(), bounded::<()>(0));
        let here = token.clone();
        let thread = std::thread::spawn(move || {
            let result = call.call(&here, &id);
            drop(done);
            result
        });
        let wait: Receiver<()> = ended;
        select! {
            recv(begun) -> begun => {
                let (began, tell) = begun.unwrap();
                assert_eq!(began, id);
                Some(Calling { tell, token, thread })
            }
            recv(wait) -> _ => {
                let error = thread.join().unwrap().unwrap_err();
                assert!(error.is_circuit_open() && error.attempts == 0, "{error:?}");
                None
            }
        }
    };
    let end = |calling: Calling, how| {
        if how == Cancelled {
            calling.token.cancel();
        }
        calling.tell.send(how).unwrap();
        let failure = calling.thread.join().unwrap().map_err(|error| error.failure);
        match how {
            Work => assert!(failure.is_ok()),
            Fail => assert!(matches!(failure, Err(CallFailure::Failed(ApiError::Down)))),
            Unknown => assert!(matches!(failure, Err(CallFailure::Failed(ApiError::Unknown)))),
            Panic => assert!(matches!(failure, Err(CallFailure::Panicked(_)))),
            Cancelled => assert!(matches!(failure, Err(CallFailure::Cancelled))),
        }
    };
    for (number, step) in steps.iter().enumerate() {
        let at = format!("{name}, step {number}: {step:?}");
        match *step {
            Begin(id) => drop(calling.insert(id, begin(id).unwrap_or_else(|| panic!("{at}: refused")))),
            Refused => assert!(begin(u32::MAX).is_none(), "{at}: let in"),
            End(id, how) => end(calling.remove(&id).unwrap(), how),
            Calls(count, how) => (0..count).for_each(|_| end(begin(0).unwrap_or_else(|| panic!("{at}: refused")), how)),
            Advance(millis) => clock.advance(ms(millis)),
            Is(state) => assert_eq!(circuit.state(), state, "{at}"),
            ForceOpen => circuit.force_open(),
            ForceClosed => circuit.force_closed(),
            Reset => circuit.reset(),
        }
    }
    calling.into_values().for_each(|calling| end(calling, Work));
}

type CallFn = Box<dyn Fn(&CancelToken, &u32) -> Result<(), ApiError> + Send + Sync>;
type Breaker = CircuitBreaker<AsyncMapper<u32, (), ApiError, CallFn>>;

fn boxed(f: impl Fn(&CancelToken, &u32) -> Result<(), ApiError> + Send + Sync + 'static) -> CallFn {
    Box::new(f)
}

/// Opens at 2 failures of 4, for 100 ms; 2 probes.
fn breaker_of(call: AsyncMapper<u32, (), ApiError, CallFn>) -> Breaker {
    CircuitBreaker::new(call)
        .failure_threshold(0.5)
        .min_requests(4)
        .with_count_window(4)
        .recovery_timeout(ms(100))
        .half_open_requests(2)
        .ignore_if(|error| *error == ApiError::Unknown)
}

fn same(breaker: Breaker) -> Breaker {
    breaker
}

// D-16: the rate was cumulative, "exceeds" was "reaches", cancellation was a failure, a slow call was one.
#[test]
fn closed_opens_at_the_threshold_of_recent_failures() {
    steps("too few calls", same, &[Calls(3, Fail), Is(Closed), Calls(1, Work), Is(Open), Refused]);
    steps("below", same, &[Calls(3, Work), Calls(1, Fail), Is(Closed), Calls(9, Work), Calls(1, Fail), Is(Closed)]);
    steps("reached", same, &[Calls(2, Work), Calls(1, Fail), Is(Closed), Calls(1, Fail), Is(Open)]);
    steps("what is long ago does not count", same, &[Calls(100, Work), Calls(2, Fail), Is(Open)]);
    steps("old failures do not, either", same, &[Calls(1, Fail), Calls(4, Work), Calls(1, Fail), Is(Closed)]);
    steps("a panic is a failure", same, &[Calls(2, Work), Calls(2, Panic), Is(Open)]);
    steps(
        "what is ignored or cancelled does not count",
        same,
        &[
            Calls(50, Unknown),
            Calls(50, Cancelled),
            Calls(3, Work),
            Calls(1, Fail),
            Is(Closed),
            Calls(9, Unknown),
            Calls(1, Fail),
            Is(Open),
        ],
    );
    steps(
        "all must fail",
        |breaker| breaker.failure_threshold(1.0),
        &[Calls(3, Fail), Calls(1, Work), Calls(3, Fail), Is(Closed), Calls(1, Fail), Is(Open)],
    );
}

#[test]
fn counts_agree_with_a_plain_list_of_the_last_calls() {
    let token = CancelToken::with_clock(ManualClock::new());
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (window, bad) = (random.usize(1..8), random.f64() * 0.6);
        let call = AsyncMapper::new(|cancel: &CancelToken, &(fails, is_slow): &(bool, bool)| {
            cancel.sleep(ms(if is_slow { 10 } else { 9 })).unwrap();
            if fails { Err(ApiError::Down) } else { Ok(()) }
        });
        let breaker = CircuitBreaker::new(call)
            .with_count_window(window)
            .min_requests(window as u64)
            .failure_threshold(1.0)
            .slow_call(ms(10), 1.0);
        let (call, mut all) = (breaker.to_call(), Vec::new());
        for n in 0..100 {
            let made = (random.f64() < bad, random.f64() < bad);
            all.push(made);
            _ = call.call(&token, &made);
            let last = all.iter().rev().take(window);
            let count = |which: fn(&(bool, bool)) -> bool| last.clone().filter(|call| which(call)).count() as u64;
            let (requests, failures, slow) = (count(|_| true), count(|call| call.0), count(|call| call.1));
            let stats = breaker.stats();
            assert_eq!(
                (stats.requests, stats.failures, stats.slow),
                (requests, failures, slow),
                "seed {seed}, call {n}"
            );
            let in_a_row = all.iter().rev().take_while(|call| call.0).count() as u64;
            assert_eq!(stats.consecutive_failures, in_a_row, "seed {seed}, call {n}");
            let is_open = requests == window as u64 && failures.max(slow) == requests;
            assert_eq!(stats.state, if is_open { Open } else { Closed }, "seed {seed}, call {n}");
            if is_open {
                break;
            }
        }
    }
}

#[test]
fn open_refuses_exactly_until_the_recovery_time_has_passed() {
    let open = Calls(4, Fail);
    steps("to the moment", same, &[open, Advance(99), Refused, Is(Open), Advance(1), Begin(1), Is(HalfOpen)]);
    steps("without calls it stays open", same, &[open, Advance(100_000), Is(Open), Begin(1), Is(HalfOpen)]);
    steps("for ever", |breaker| breaker.recovery_timeout(Duration::MAX), &[open, Advance(1 << 40), Refused, Is(Open)]);
}

// D-17: an extra call ended the round, a failed first probe let the others through.
#[test]
fn half_open_admits_a_number_of_probes_and_decides_by_them() {
    let open = [Calls(4, Fail), Advance(100)];
    let with = |steps: &[Step]| [&open[..], steps].concat();
    steps("no more than allowed", same, &with(&[Begin(1), Begin(2), Refused, Refused, Is(HalfOpen)]));
    steps(
        "all succeed",
        same,
        &with(&[Begin(1), Begin(2), End(2, Work), Refused, Is(HalfOpen), End(1, Work), Is(Closed)]),
    );
    steps(
        "closed with nothing counted",
        same,
        &with(&[Calls(2, Work), Is(Closed), Calls(3, Fail), Is(Closed), Calls(1, Fail), Is(Open)]),
    );
    steps(
        "the first failure reopens",
        same,
        &with(&[Begin(1), Begin(2), End(1, Fail), Is(Open), Refused, End(2, Work), Is(Open)]),
    );
    steps("for as long again", same, &with(&[Calls(1, Fail), Advance(99), Refused, Advance(1), Begin(1)]));
    steps("one good probe is not enough", same, &with(&[Calls(1, Work), Is(HalfOpen), Calls(1, Fail), Is(Open)]));
    steps("a panic reopens", same, &with(&[Calls(1, Panic), Is(Open)]));
    steps(
        "cancelled and ignored probes give their places back",
        same,
        &with(&[
            Begin(1),
            Begin(2),
            Refused,
            End(1, Cancelled),
            End(2, Unknown),
            Is(HalfOpen),
            Begin(3),
            Begin(4),
            Refused,
            End(3, Work),
            End(4, Work),
            Is(Closed),
        ]),
    );
    steps(
        "few calls do not wedge it",
        same,
        &with(&[Calls(1, Work), Advance(1 << 40), Is(HalfOpen), Calls(1, Work), Is(Closed)]),
    );
}

#[test]
fn a_probe_that_never_returns_fails_after_the_recovery_time() {
    steps(
        "overdue",
        same,
        &[
            Calls(4, Fail),
            Advance(100),
            Begin(1),
            Advance(60),
            Begin(2),
            Advance(39),
            Refused,
            Is(HalfOpen),
            Advance(1),
            Refused,
            Is(Open),
            Advance(99),
            Refused,
            Advance(1),
            Begin(3),
            Begin(4),
            Refused,
            End(3, Work),
            End(4, Work),
            Is(Closed),
            // The first two are still out, and say nothing any more.
            End(1, Fail),
            End(2, Fail),
            Calls(3, Work),
            Calls(1, Fail),
            Is(Closed),
        ],
    );
    steps("overdue, and not full", same, &[Calls(4, Fail), Advance(100), Begin(1), Advance(100), Refused, Is(Open)]);
    steps(
        "late, but no call came before it",
        same,
        &[Calls(4, Fail), Advance(100), Begin(1), Advance(500), End(1, Work), Is(HalfOpen), Calls(1, Work), Is(Closed)],
    );
}

// D-17: results of calls that had started earlier were recorded in the state that was current by then.
#[test]
fn results_of_calls_from_an_earlier_state_do_not_count() {
    steps(
        "failures in half-open",
        same,
        &[
            Begin(1),
            Begin(2),
            Calls(4, Fail),
            Is(Open),
            End(1, Fail),
            Is(Open),
            Advance(100),
            Begin(3),
            End(2, Fail),
            Is(HalfOpen),
            End(3, Work),
            Calls(1, Work),
            Is(Closed),
        ],
    );
    steps(
        "successes in half-open",
        same,
        &[Begin(1), Begin(2), Calls(4, Fail), Advance(100), Begin(3), End(1, Work), End(2, Work), Is(HalfOpen)],
    );
    steps(
        "probes of the round before",
        same,
        &[
            Calls(4, Fail),
            Advance(100),
            Begin(1),
            Begin(2),
            End(1, Fail),
            Advance(100),
            Begin(3),
            End(2, Fail),
            Is(HalfOpen),
            End(3, Work),
            Is(HalfOpen),
            Calls(1, Work),
            Is(Closed),
        ],
    );
    steps(
        "probes when it is closed",
        same,
        &[Begin(9), Calls(4, Fail), Advance(100), Calls(2, Work), Is(Closed), Calls(3, Fail), End(9, Fail), Is(Closed)],
    );
}

#[test]
fn forced_states_stay_until_they_are_reset() {
    steps(
        "open",
        same,
        &[ForceOpen, Is(ForcedOpen), Refused, Advance(1 << 40), Refused, Reset, Is(Closed), Calls(1, Work)],
    );
    steps(
        "closed",
        same,
        &[ForceClosed, Calls(100, Fail), Is(ForcedClosed), Reset, Calls(3, Fail), Is(Closed), Calls(1, Fail), Is(Open)],
    );
    steps(
        "out of open",
        same,
        &[Calls(4, Fail), Is(Open), ForceClosed, Calls(9, Fail), Is(ForcedClosed), ForceOpen, Refused],
    );
    steps(
        "out of half-open",
        same,
        &[
            Calls(4, Fail),
            Advance(100),
            Begin(1),
            ForceClosed,
            End(1, Fail),
            Is(ForcedClosed),
            Reset,
            Is(Closed),
            Calls(3, Fail),
            Is(Closed),
        ],
    );
    steps("reset", same, &[Calls(4, Fail), Is(Open), Reset, Is(Closed), Calls(3, Fail), Is(Closed)]);
}

#[test]
fn slow_calls_open_it_and_a_slow_probe_reopens_it() {
    let slow = |breaker: Breaker| breaker.slow_call(ms(10), 0.75);
    let late = |id| [Begin(id), Advance(10), End(id, Work)];
    let all = |parts: &[&[Step]]| parts.concat();
    let three = all(&[&late(1), &late(2), &late(3)]);
    steps("reached", slow, &all(&[&[Calls(1, Work)], &three, &[Is(Open)]]));
    steps("below", slow, &all(&[&[Calls(2, Work)], &late(1), &late(2), &[Is(Closed)]]));
    steps(
        "just quick enough",
        slow,
        &[
            Begin(1),
            Begin(2),
            Begin(3),
            Advance(9),
            End(1, Work),
            End(2, Work),
            End(3, Work),
            Calls(1, Work),
            Is(Closed),
        ],
    );
    steps("probe", slow, &all(&[&[Calls(4, Fail), Advance(100)], &late(1), &[Is(Open)]]));
    steps("not asked for", same, &all(&[&[Calls(1, Work)], &three, &late(4), &[Is(Closed)]]));
}

#[test]
fn a_time_window_forgets_older_calls() {
    let window = |breaker: Breaker| breaker.with_time_window(ms(1_000));
    steps("within", window, &[Calls(3, Fail), Advance(999), Calls(1, Work), Is(Open)]);
    steps(
        "gone",
        window,
        &[
            Calls(3, Fail),
            Advance(1_000),
            Calls(3, Work),
            Is(Closed),
            Calls(2, Fail),
            Is(Closed),
            Calls(1, Fail),
            Is(Open),
        ],
    );
}

// ---- With pools, and with others. ----

#[derive(Clone, Default)]
struct Service {
    down: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Service {
    /// Ten milliseconds for each call.
    fn call(&self, cancel: &CancelToken, _: &u32) -> Result<(), ApiError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let slept = cancel.sleep(ms(10));
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        slept.map_err(|_| ApiError::Down)?;
        if self.down.load(Ordering::SeqCst) { Err(ApiError::Down) } else { Ok(()) }
    }

    fn mapper(&self) -> AsyncMapper<u32, (), ApiError, CallFn> {
        let service = self.clone();
        AsyncMapper::new(boxed(move |cancel, item| service.call(cancel, item)))
    }
}

fn kinds(results: &mut Stream<()>) -> HashMap<Option<ErrorKind>, usize> {
    let mut kinds = HashMap::new();
    while let Ok(result) = results.try_recv() {
        *kinds.entry(result.err().map(|error| error.kind())).or_insert(0) += 1;
    }
    kinds
}

#[test]
fn concurrent_workers_make_no_more_probes_than_allowed() {
    let (clock, pipeline) = virtual_pipeline();
    let service = Service::default();
    service.down.store(true, Ordering::SeqCst);
    let breaker = breaker_of(service.mapper().with_workers(16).with_ordered(false));
    let (input, stream) = Stream::channel(&pipeline, 64);
    let mut results = stream.through(&breaker);
    (0..16).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(10));
    assert_eq!(breaker.state(), Open);
    assert_eq!(kinds(&mut results), HashMap::from([(Some(ErrorKind::Failed), 16)]));
    for round in 1..=20 {
        // It has been open since the last result of the previous round.
        clock.advance(ms(100));
        let before = service.calls.load(Ordering::SeqCst);
        service.most_at_once.store(0, Ordering::SeqCst);
        (0..50).for_each(|n| input.send(n).unwrap());
        clock.settle();
        assert_eq!(service.calls.load(Ordering::SeqCst) - before, 2, "round {round}");
        assert_eq!(breaker.state(), HalfOpen);
        assert_eq!(kinds(&mut results), HashMap::from([(Some(ErrorKind::CircuitOpen), 48)]));
        clock.advance(ms(10));
        assert_eq!((breaker.state(), service.most_at_once.load(Ordering::SeqCst)), (Open, 2));
        assert_eq!(kinds(&mut results), HashMap::from([(Some(ErrorKind::Failed), 2)]));
    }
    service.down.store(false, Ordering::SeqCst);
    clock.advance(ms(100));
    (0..2).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(10));
    assert_eq!(breaker.state(), Closed);
    (0..16).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(10));
    assert_eq!(kinds(&mut results), HashMap::from([(None, 18)]));
    assert_eq!(breaker.stats().rejected, 20 * 48);
    drop(input);
    pipeline.join();
}

#[test]
fn refused_items_keep_their_place_and_carry_the_item() {
    let pipeline = Pipeline::new("breaker");
    let call = Mapper::fallible(|item: &u32| if *item < 5 { Err(ApiError::Down) } else { Ok(()) });
    let breaker = CircuitBreaker::new(call).min_requests(5);
    let errors: Vec<StreamError> =
        Stream::from_iter(&pipeline, 0..8).through(&breaker).into_iter().map(Result::unwrap_err).collect();
    for (n, error) in (0..).zip(&errors) {
        let refused = n >= 5;
        assert_eq!(error.kind() == ErrorKind::CircuitOpen, refused);
        assert_eq!(error.attempts(), u32::from(!refused));
        assert_eq!(error.take_item::<u32>(), Some(n));
        assert_eq!(error.stage(), "map");
    }
    assert_eq!(errors[7].to_string(), "stage `map` circuit open");
    pipeline.join();
}

#[test]
fn the_state_is_one_for_all_runs_and_clones() {
    let breaker = CircuitBreaker::new(Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Down)));
    let run = |breaker: &CircuitBreaker<_>, items| {
        let pipeline = Pipeline::new("breaker");
        let results = Stream::from_iter(&pipeline, 0..items).through(breaker).into_iter();
        results.filter(|result| result.as_ref().unwrap_err().kind() == ErrorKind::CircuitOpen).count()
    };
    assert_eq!(run(&breaker, 9), 0);
    assert_eq!(run(&breaker.clone(), 2), 1);
    assert_eq!(run(&breaker, 3), 3);
    assert_eq!(breaker.stats().rejected, 4);
}

#[test]
fn hooks_see_all_changes_in_order_and_may_use_the_circuit() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let handle: Arc<Mutex<Option<Circuit>>> = Arc::default();
    let (tell, tell_too, own) = (Arc::clone(&told), Arc::clone(&told), Arc::clone(&handle));
    let breaker = CircuitBreaker::new(Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Down)))
        .on_open(move |stats| {
            tell_too.lock().unwrap().push(format!("{} of {}", stats.failures, stats.requests));
            own.lock().unwrap().as_ref().unwrap().force_closed();
            panic!("in a hook");
        })
        .on_state_change(move |from, to| {
            tell.lock().unwrap().push(format!("{from} -> {to}"));
            panic!("in a hook");
        });
    *handle.lock().unwrap() = Some(breaker.circuit());
    let pipeline = Pipeline::new("breaker");
    Stream::from_iter(&pipeline, 0..50).through(&breaker).for_each(drop).unwrap();
    breaker.circuit().reset();
    assert_eq!(
        *told.lock().unwrap(),
        ["closed -> open", "10 of 10", "open -> forced closed", "forced closed -> closed"]
    );
    pipeline.join();
}

// D-16: a healthy service that took 100 ms was "failing"; the last failure of a fresh breaker was in 1754.
#[test]
fn a_slow_service_is_healthy_and_a_new_breaker_reports_none() {
    let clock = ManualClock::new();
    let call = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(Duration::from_secs(60)));
    let breaker = CircuitBreaker::new(call);
    let fresh = breaker.stats();
    assert_eq!((fresh.last_failure, fresh.failure_rate(), fresh.state), (None, 0.0, Closed));
    let call = breaker.to_call();
    for n in 0..100 {
        call.call(&CancelToken::with_clock(&clock), &n).unwrap();
    }
    assert_eq!((breaker.state(), breaker.stats().requests), (Closed, 100));
}

// D-16: cancellation was a failure, and a refusal was silent and not counted.
#[test]
fn cancellation_of_a_run_does_not_count() {
    let (clock, pipeline) = virtual_pipeline();
    let service = Service::default();
    let breaker = breaker_of(service.mapper().with_workers(20));
    let results = Stream::from_iter(&pipeline, 0..100).through(&breaker);
    clock.settle();
    assert!(matches!(pipeline.abort().outcome, Outcome::Cancelled(_)));
    drop(results);
    let stats = breaker.stats();
    assert_eq!((stats.requests, stats.failures, stats.state), (0, 0, Closed));
}

#[test]
fn a_breaker_around_a_retry_counts_an_item_once() {
    let call = Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Down));
    let retry = Retry::new(call).base_delay(Duration::ZERO).max_attempts(4);
    let breaker = CircuitBreaker::new(retry);
    let call = breaker.to_call();
    let error = call.call(&CancelToken::new(), &1).unwrap_err();
    assert_eq!((error.attempts, breaker.stats().requests), (4, 1));
    let seen: Vec<_> = (0..11).map(|n| call.call(&CancelToken::new(), &n).unwrap_err()).collect();
    assert!(seen[..9].iter().all(|error| error.attempts == 4) && seen[9..].iter().all(|error| error.is_circuit_open()));
}

#[test]
fn a_retry_around_a_breaker_gives_up_when_it_opens() {
    let call = Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Down));
    let breaker = CircuitBreaker::new(call).min_requests(6);
    let circuit = breaker.circuit();
    let retry = Retry::new(breaker).base_delay(Duration::ZERO).max_attempts(4);
    let call = retry.to_call();
    let errors: Vec<_> = (0..3).map(|n| call.call(&CancelToken::new(), &n).unwrap_err()).collect();
    let seen: Vec<_> = errors.iter().map(|error| (error.kind(), error.attempts)).collect();
    // Two more attempts of the second item open it; its next one is refused, and so is the third item.
    assert_eq!(seen, [(ErrorKind::Failed, 4), (ErrorKind::CircuitOpen, 2), (ErrorKind::CircuitOpen, 0)]);
    assert_eq!((circuit.stats().requests, circuit.stats().rejected), (6, 2));
}

#[test]
fn a_fallback_answers_for_failed_and_refused_calls() {
    let (clock, pipeline) = virtual_pipeline();
    let service = Service::default();
    service.down.store(true, Ordering::SeqCst);
    let breaker = CircuitBreaker::new(Retry::new(service.mapper().with_workers(1)).with_jitter(false)).min_requests(2);
    let circuit = breaker.circuit();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&asked);
    let fallback = Fallback::new(breaker, move |_, item, error| {
        tell.lock().unwrap().push((*item, error.kind(), error.attempts));
        (*item != 3).then_some(())
    });
    let results = Stream::from_iter(&pipeline, 0..5).through(&fallback.with_workers(1));
    clock.advance(Duration::from_secs(2));
    let results: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
    let open = ErrorKind::CircuitOpen;
    assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(open), Ok(())]);
    let failed = ErrorKind::Failed;
    assert_eq!(*asked.lock().unwrap(), [(0, failed, 3), (1, failed, 3), (2, open, 0), (3, open, 0), (4, open, 0)]);
    assert_eq!((service.calls.load(Ordering::SeqCst), circuit.state()), (6, Open));
    pipeline.join();
}

#[test]
fn a_fallback_inside_keeps_the_breaker_from_seeing_failures() {
    let call = Mapper::fallible(|_: &u32| Err::<u32, _>(ApiError::Down));
    let breaker = CircuitBreaker::new(Fallback::new(call, |_, item, _| Some(item + 1)));
    let call = breaker.to_call();
    assert!((0..100).all(|n| call.call(&CancelToken::new(), &n).is_ok_and(|out| out == n + 1)));
    assert_eq!(breaker.stats().failures, 0);
}

#[test]
fn a_panicking_fallback_fails_the_item() {
    let call = Mapper::fallible(|_: &u32| Err::<u32, _>(ApiError::Down));
    let fallback = Fallback::new(call, |_, _, _| panic!("in the fallback"));
    let error = fallback.to_call().call(&CancelToken::new(), &1).unwrap_err();
    assert_eq!((error.kind(), error.attempts), (ErrorKind::Panicked, 1));
    let cancelled = CancelToken::new();
    cancelled.cancel();
    assert!(fallback.to_call().call(&cancelled, &1).unwrap_err().is_cancelled());
}

#[test]
fn bad_arguments_are_refused() {
    type Change = fn(Breaker) -> Breaker;
    let cases: [(&str, Change); 8] = [
        ("`failure_threshold` must be greater than 0.0 and at most 1.0, not 0", |b| b.failure_threshold(0.0)),
        ("`failure_threshold` must be greater than 0.0 and at most 1.0, not NaN", |b| b.failure_threshold(f64::NAN)),
        ("`min_requests` must be at least 1", |b| b.min_requests(0)),
        ("`recovery_timeout` must be greater than zero", |b| b.recovery_timeout(Duration::ZERO)),
        ("`half_open_requests` must be at least 1", |b| b.half_open_requests(0)),
        ("`share` must be greater than 0.0 and at most 1.0, not 1.5", |b| b.slow_call(ms(1), 1.5)),
        ("`min_requests` (5) must not be more than `count_window` (4)", |b| {
            drop(b.to_call());
            drop(b.min_requests(5).to_call());
            unreachable!()
        }),
        ("the options of a breaker must be set before it is used, cloned, or watched", |b| {
            let _watch = b.circuit();
            b.min_requests(1)
        }),
    ];
    for (message, change) in cases {
        let service = Service::default();
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(breaker_of(service.mapper()))));
        let payload = refused.err().unwrap_or_else(|| panic!("not refused: {message}"));
        let said = payload.downcast_ref::<String>().cloned();
        let said = said.unwrap_or_else(|| payload.downcast_ref::<&str>().unwrap().to_string());
        assert_eq!(said, message);
    }
}

#[test]
fn calls_rejected_by_several_workers_are_counted_exactly() {
    /// So many that two workers count at the same moment.
    const CALLS: u64 = 100_000;
    let pipeline = Pipeline::new("rejected");
    let breaker = CircuitBreaker::new(AsyncMapper::new(|_: &CancelToken, n: &u64| streamz::ok(*n)).with_workers(3));
    let circuit = breaker.circuit();
    circuit.force_open();
    let results = Stream::from_iter(&pipeline, 0..CALLS).through(&breaker);
    let open = |result: streamz::Result<u64>| result.is_err_and(|error| error.kind() == ErrorKind::CircuitOpen);
    assert_eq!(results.into_iter().map(open).filter(|&open| open).count() as u64, CALLS);
    pipeline.join();
    assert_eq!(circuit.stats().rejected, CALLS);
    circuit.reset();
    assert_eq!(circuit.stats().rejected, CALLS, "it counts since the breaker was created");
}
