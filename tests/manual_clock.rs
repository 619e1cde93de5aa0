//! Virtual time is exact: real pipelines with real threads, and always one outcome.
//!
//! Each scenario runs many times, alone and beside threads that keep all processors busy, and must come out as it is
//! written here every time. `STREAMZ_RUNS` sets how often; 200 unless it is set. Half as often beside busy threads,
//! where each wake takes its time.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::watchdog::{self, Trouble};
use streamz::{
    AsyncMapper, BatchConfig, CancelToken, Cause, Dedupe, ErrorKind, ManualClock, Outcome, Pipeline, RecvTimeoutError,
    Stream, StreamError, TryRecvError, Unbatcher,
};

/// What happened, and when.
#[derive(Clone)]
struct Diary {
    clock: ManualClock,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn note(&self, what: impl std::fmt::Display) {
        self.lines.lock().unwrap().push(format!("{} ms: {what}", self.clock.elapsed().as_millis()));
    }

    /// Notes all that is in the stream now.
    fn note_all<T: std::fmt::Debug + Send + 'static>(&self, stream: &mut Stream<T>) {
        while let Ok(item) = stream.try_recv() {
            match item {
                Ok(item) => self.note(format!("{item:?}")),
                Err(error) => self.note(what_it_is(&error)),
            }
        }
    }
}

fn what_it_is(error: &StreamError) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string);
    format!("{}: {}", error.kind(), reason.unwrap_or_default())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn batches(millis: u64) -> BatchConfig {
    BatchConfig { max_size: 100, max_latency: ms(millis) }
}

/// Runs a scenario again and again, with and without busy threads beside it.
fn always(expected: &'static [&'static str], scenario: fn(&Pipeline, &ManualClock, &Diary)) {
    let runs = std::env::var("STREAMZ_RUNS").map_or(200, |runs| runs.parse::<u32>().expect("STREAMZ_RUNS is a number"));
    for (busy, runs) in [(0, runs), (2, runs.div_ceil(2))] {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..busy {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let mut wrong = None;
            for run in 0..runs {
                let outcome = watchdog::run(Duration::from_secs(60), "scenario", move || once(scenario));
                wrong = match outcome {
                    Ok(lines) if lines == expected => continue,
                    Ok(lines) => Some(format!("came out as {lines:#?}\ninstead of  {expected:#?}")),
                    Err(Trouble::Hung) => Some("did not end".to_owned()),
                    Err(Trouble::Panicked(message)) => Some(message),
                };
                wrong = wrong.map(|what| format!("run {run} of {runs}, beside {busy} busy threads: {what}"));
                break;
            }
            stop.store(true, Ordering::Relaxed);
            if let Some(wrong) = wrong {
                panic!("{wrong}");
            }
        });
    }
}

fn once(scenario: fn(&Pipeline, &ManualClock, &Diary)) -> Vec<String> {
    let clock = ManualClock::new();
    let diary = Diary { clock: clock.clone(), lines: Arc::default() };
    let pipeline = Pipeline::builder("scenario").clock(&clock).capacity(16).build();
    scenario(&pipeline, &clock, &diary);
    drop(pipeline);
    std::mem::take(&mut *diary.lines.lock().unwrap())
}

#[test]
fn an_interval_ticks_only_at_whole_multiples() {
    always(
        &["999 ms: after 999", "1000 ms: \"tick 1\"", "3500 ms: \"tick 2\"", "3500 ms: \"tick 3\""],
        |pipeline, clock, diary| {
            let mut ticks = Stream::interval(pipeline, ms(1000)).map(|tick| format!("tick {tick}"));
            clock.advance(ms(999));
            diary.note_all(&mut ticks);
            diary.note("after 999");
            clock.advance(ms(1));
            diary.note_all(&mut ticks);
            clock.advance(ms(2500));
            diary.note_all(&mut ticks);
        },
    );
}

#[test]
fn a_batch_is_timed_from_its_first_item_and_excludes_its_end() {
    always(&["10 ms: [0, 4, 9]", "20 ms: [10, 11]", "25 ms: [25]"], |pipeline, clock, diary| {
        let (input, items) = Stream::channel(pipeline, 16);
        let mut batches = items.batch(batches(10));
        let mut now = 0;
        for at in [0, 4, 9, 10, 11] {
            clock.advance(ms(at - now));
            diary.note_all(&mut batches);
            input.send(at).unwrap();
            now = at;
        }
        clock.advance(ms(9));
        diary.note_all(&mut batches);
        clock.advance(ms(5));
        input.send(25).unwrap();
        clock.settle();
        pipeline.drain();
        clock.settle();
        diary.note_all(&mut batches);
    });
}

#[test]
fn timers_due_together_fire_in_the_order_of_their_stages() {
    always(&["10 ms: first [1]", "10 ms: second [2]", "10 ms: third [3]"], |pipeline, clock, diary| {
        for (name, item) in [("first", 1), ("second", 2), ("third", 3)] {
            let (input, items) = Stream::channel(pipeline, 1);
            let diary = diary.clone();
            items.batch(batches(10)).spawn_for_each(move |batch| diary.note(format!("{name} {:?}", batch.unwrap())));
            input.send(item).unwrap();
            input.finish_later(pipeline);
        }
        clock.advance(ms(30));
    });
}

/// Keeps a stream open until its pipeline is cancelled.
trait FinishLater {
    fn finish_later(self, pipeline: &Pipeline);
}

impl<T: Send + 'static> FinishLater for streamz::Sender<T> {
    fn finish_later(self, pipeline: &Pipeline) {
        pipeline.spawn("keeps open", move |cancel| {
            cancel.wait();
            drop(self);
        });
    }
}

#[test]
fn latencies_of_stages_in_a_row_add_up() {
    always(&["59 ms: nothing yet", "60 ms: 7"], |pipeline, clock, diary| {
        let (input, items) = Stream::channel(pipeline, 4);
        let mut out = items
            .batch(batches(10))
            .through(&Unbatcher::new())
            .batch(batches(20))
            .through(&Unbatcher::new())
            .stage("last", |s| s.batch(batches(30)).with(Unbatcher::new()));
        input.send(7).unwrap();
        clock.advance(ms(59));
        diary.note_all(&mut out);
        diary.note("nothing yet");
        clock.advance(ms(1));
        diary.note_all(&mut out);
    });
}

#[test]
fn sleeping_calls_end_on_time_and_are_emitted_in_order() {
    always(&["5 ms: 5", "5 ms: 1", "5 ms: 2", "5 ms: 1", "8 ms: 4"], |pipeline, clock, diary| {
        sleeping_calls(pipeline, clock, diary, true);
    });
}

#[test]
fn unordered_calls_that_sleep_come_out_as_they_end() {
    always(&["1 ms: 1", "3 ms: 2", "4 ms: 1", "5 ms: 5", "8 ms: 4"], |pipeline, clock, diary| {
        sleeping_calls(pipeline, clock, diary, false);
    });
}

/// Two workers; the first is busy with the first item for five milliseconds.
fn sleeping_calls(pipeline: &Pipeline, clock: &ManualClock, diary: &Diary, ordered: bool) {
    let call = |cancel: &CancelToken, millis: &u64| cancel.sleep(ms(*millis)).map(|()| *millis);
    let mapper = AsyncMapper::new(call).with_workers(2).with_ordered(ordered);
    let mut out = Stream::from_iter(pipeline, [5, 1, 2, 1, 4]).through(&mapper);
    for _ in 0..10 {
        clock.advance(ms(1));
        diary.note_all(&mut out);
    }
}

#[test]
fn a_call_that_takes_too_long_fails_at_its_limit() {
    always(&["3 ms: timed out: no result within 3ms", "5 ms: 2"], |pipeline, clock, diary| {
        let call = |cancel: &CancelToken, millis: &u64| cancel.sleep(ms(*millis)).map(|()| *millis);
        let mapper = AsyncMapper::new(call).with_workers(1).with_timeout(ms(3));
        let mut out = Stream::from_iter(pipeline, [100, 2]).through(&mapper);
        for _ in 0..10 {
            clock.advance(ms(1));
            diary.note_all(&mut out);
        }
    });
}

#[test]
fn a_consumer_that_stalls_misses_the_same_ticks_every_time() {
    // One tick waits, one is in the consumer's hands. The next is made when there is room, whatever the pipeline's capacity.
    let expected = &["1 ms: 1", "6 ms: 2", "11 ms: 6", "16 ms: 11", "21 ms: 16", "26 ms: 21", "31 ms: 26", "36 ms: 31"];
    always(expected, |_, clock, diary| {
        let pipeline = Pipeline::builder("stalling").clock(clock).capacity(2).build();
        let (token, diary) = (pipeline.token(), diary.clone());
        Stream::interval(&pipeline, ms(1)).spawn_for_each(move |tick| {
            diary.note(tick.unwrap());
            let _ = token.sleep(ms(5));
        });
        clock.advance(ms(40));
        pipeline.abort();
    });
}

#[test]
fn a_sender_waits_for_room_within_its_limit() {
    let expected = &["0 ms: sent a", "0 ms: sent b", "4 ms: no room for c", "10 ms: sent c", "10 ms: done"];
    always(expected, |pipeline, _, diary| {
        let (input, items) = Stream::channel(pipeline, 1);
        let token = pipeline.token();
        items.spawn_for_each(move |_| drop(token.sleep(ms(10))));
        // With the first item in the consumer's hands there is room for one more.
        input.send("a").unwrap();
        diary.note("sent a");
        diary.clock.settle();
        input.send_timeout("b", ms(4)).unwrap();
        diary.note("sent b");
        let back = input.send_timeout("c", ms(4)).unwrap_err();
        assert!(back.is_full());
        diary.note("no room for c");
        input.send_timeout(back.into_inner(), ms(100)).unwrap();
        diary.note("sent c");
        diary.note("done");
    });
}

#[test]
fn a_receiver_that_waits_lets_time_pass_up_to_its_limit() {
    let expected = &["4 ms: nothing in 4 ms", "5 ms: 1", "10 ms: 2", "17 ms: 3", "18 ms: nothing in 1 ms"];
    always(expected, |pipeline, clock, diary| {
        let mut ticks = Stream::interval(pipeline, ms(5)).map(|tick| tick);
        let mut wait = |millis| match ticks.recv_timeout(ms(millis)) {
            Ok(tick) => diary.note(tick.unwrap()),
            Err(RecvTimeoutError::Timeout) => diary.note(format!("nothing in {millis} ms")),
            Err(error) => panic!("{error}"),
        };
        wait(4);
        // The tick comes at the very moment at which the wait would end.
        wait(1);
        wait(1_000);
        clock.advance(ms(7));
        wait(1);
        wait(1);
    });
}

#[test]
fn a_sleeping_guest_moves_the_time_for_all_threads() {
    let expected = &["300 ms: slept", "300 ms: 1", "300 ms: 2", "300 ms: 3", "1000 ms: over"];
    always(expected, |pipeline, clock, diary| {
        let mut ticks = Stream::interval(pipeline, ms(100)).map(|tick| tick);
        let (token, inner) = (pipeline.token(), diary.clone());
        let guest = std::thread::spawn(move || {
            token.sleep(ms(300)).unwrap();
            inner.note("slept");
        });
        guest.join().unwrap();
        diary.note_all(&mut ticks);
        drop(ticks);
        clock.advance(ms(700));
        diary.note("over");
    });
}

#[test]
fn a_stage_must_not_move_the_time() {
    // The panic is wanted, and many times: it is not shown.
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|message| message.starts_with("ManualClock::advance called")) {
            show(info);
        }
    }));
    always(&["0 ms: told"], |pipeline, clock, diary| {
        let mover = clock.clone();
        pipeline.spawn("mover", move |_| mover.advance(ms(1)));
        let cancelled = pipeline.wait().to_string();
        assert!(cancelled.contains("`mover` panicked: ManualClock::advance called on a thread"), "{cancelled}");
        diary.note("told");
    });
}

#[test]
fn a_foreign_channel_is_read_before_time_passes() {
    let expected = &["0 ms: sent", "9 ms: still waiting", "10 ms: [0, 1, 2]", "20 ms: [3]", "20 ms: ended"];
    always(expected, |pipeline, clock, diary| {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut batches = Stream::from_receiver(pipeline, receiver).batch(batches(10));
        (0..3).for_each(|n| sender.send(n).unwrap());
        diary.note("sent");
        clock.advance(ms(9));
        diary.note_all(&mut batches);
        diary.note("still waiting");
        clock.advance(ms(1));
        diary.note_all(&mut batches);
        sender.send(3).unwrap();
        clock.advance(ms(10));
        diary.note_all(&mut batches);
        drop(sender);
        clock.settle();
        assert!(batches.recv().is_none());
        diary.note("ended");
    });
}

#[test]
fn every_runs_at_whole_multiples_and_skips_missed_calls() {
    let expected = &["10 ms: beat", "20 ms: beat", "55 ms: long beat over", "55 ms: beat", "60 ms: beat"];
    always(expected, |pipeline, clock, diary| {
        let (token, inner) = (pipeline.token(), diary.clone());
        let mut count = 0;
        pipeline.every(ms(10), move || {
            count += 1;
            if count == 3 {
                token.sleep(ms(25)).unwrap();
                inner.note("long beat over");
            } else {
                inner.note("beat");
            }
        });
        clock.advance(ms(69));
    });
}

#[test]
fn a_drain_that_takes_longer_than_its_limit_is_cut_there() {
    let expected = &["0 ms: item 0", "10 ms: item 1", "20 ms: item 2", "25 ms: drain took longer than 25ms"];
    always(expected, |_, clock, diary| {
        let pipeline = Pipeline::builder("slow").clock(clock).build();
        let (token, inner) = (pipeline.token(), diary.clone());
        Stream::from_iter(&pipeline, 0..10).spawn_for_each(move |item| {
            inner.note(format!("item {}", item.unwrap()));
            let _ = token.sleep(ms(10));
        });
        clock.settle();
        let report = pipeline.drain_within(ms(25));
        assert!(matches!(report.outcome, Outcome::Cancelled(Cause::DrainTimedOut(_))));
        diary.note(report.outcome);
    });
}

#[test]
fn a_drain_within_its_limit_ends_when_the_work_is_done() {
    always(&["30 ms: drained"], |_, clock, diary| {
        let pipeline = Pipeline::builder("slow").clock(clock).build();
        let token = pipeline.token();
        Stream::from_iter(&pipeline, 0..3).spawn_for_each(move |_| drop(token.sleep(ms(10))));
        clock.settle();
        let report = pipeline.drain_within(ms(1_000));
        diary.note(match report.outcome {
            Outcome::Completed | Outcome::Drained => "drained".to_owned(),
            other => other.to_string(),
        });
    });
}

#[test]
fn a_deadline_comes_before_timers_due_at_the_same_moment() {
    let expected = &["1 ms: 1", "2 ms: 2", "3 ms: cancelled: deadline passed"];
    always(expected, |pipeline, clock, diary| {
        let child = pipeline.with_timeout(ms(3));
        let mut ticks = Stream::interval(&child, ms(1)).map(|tick| tick).with_token(pipeline);
        for _ in 0..5 {
            clock.advance(ms(1));
            diary.note_all(&mut ticks);
        }
    });
}

#[test]
fn work_on_a_rayon_pool_holds_the_time() {
    let expected = &["3 ms: 10", "3 ms: 20", "3 ms: 30"];
    always(expected, |pipeline, clock, diary| {
        let mut out = Stream::interval(pipeline, ms(1)).par_map(|tick| tick * 10);
        clock.advance(ms(3));
        diary.note_all(&mut out);
    });
}

#[test]
fn a_key_is_forgotten_when_exactly_its_time_has_passed() {
    always(&["0 ms: \"a\"", "10 ms: \"a\"", "19 ms: \"b\""], |pipeline, clock, diary| {
        let (input, items) = Stream::channel(pipeline, 4);
        let mut out = items.through(&Dedupe::new(|item: &&str| *item).with_ttl(ms(10)));
        for (wait, item) in [(0, "a"), (9, "a"), (1, "a"), (9, "a"), (0, "b")] {
            clock.advance(ms(wait));
            input.send(item).unwrap();
            clock.settle();
            diary.note_all(&mut out);
        }
    });
}

#[test]
fn two_pipelines_may_share_a_clock() {
    always(&["5 ms: left 1", "5 ms: right 1", "10 ms: left 2", "10 ms: right 2"], |_, clock, diary| {
        let pipelines = ["left", "right"].map(|name| {
            let pipeline = Pipeline::builder(name).clock(clock).build();
            let diary = diary.clone();
            Stream::interval(&pipeline, ms(5))
                .spawn_for_each(move |tick| diary.note(format!("{name} {}", tick.unwrap())));
            pipeline
        });
        clock.advance(ms(12));
        drop(pipelines);
    });
}

#[test]
fn an_error_is_dated_by_the_virtual_calendar() {
    always(&["1500 ms: failed after 1.5s"], |pipeline, clock, diary| {
        let start = pipeline.clock().wall();
        let mut out =
            Stream::interval(pipeline, ms(1_500)).try_map(|_| Err::<(), _>(std::io::Error::other("on purpose")));
        clock.advance(ms(1_500));
        let error = out.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        diary.note(format!("failed after {:?}", error.time().duration_since(start).unwrap()));
    });
}

/// All that is to come from a consumer that is slow by one item: the channel, the edge, and two hands are full.
#[test]
fn no_tick_is_left_out_for_which_a_channel_has_room() {
    let trouble = watchdog::run(Duration::from_secs(300), "ticks", || {
        for capacity in [0, 1, 2] {
            for _ in 0..200 {
                let clock = ManualClock::new();
                let pipeline = Pipeline::builder("ticks").clock(&clock).capacity(1).build();
                let ticks = Stream::interval(&pipeline, ms(1)).map(|tick| tick);
                let receiver = ticks.map(|tick| tick).into_receiver(capacity);
                clock.advance(ms(20));
                let mut ticks = Vec::new();
                for _ in 0..100 {
                    // Makes room for one tick, and one is due before the next is received.
                    ticks.push(receiver.recv().unwrap().unwrap());
                    clock.advance(ms(1));
                }
                let since = ticks.iter().position(|&tick| tick > 20).unwrap();
                let gaps = ticks[since..].windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
                assert_eq!(gaps, 0, "capacity {capacity}: {ticks:?}");
                drop(receiver);
                pipeline.abort();
            }
        }
    });
    trouble.unwrap_or_else(|trouble| panic!("{trouble:?}"));
}

#[test]
fn a_limit_that_never_passes_lets_time_pass() {
    for never in [Duration::MAX, Duration::from_secs(1 << 40)] {
        let run = watchdog::run(Duration::from_secs(60), "never", move || {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("never").clock(&clock).build();
            let mut ticks = Stream::interval(&pipeline, ms(5)).map(|tick| tick);
            assert_eq!(ticks.recv_timeout(never).unwrap().unwrap(), 1);
            assert_eq!(clock.elapsed(), ms(5));
            drop(ticks);

            // Its consumer takes the first, and has slept by 15 ms.
            let (input, items) = Stream::channel(&pipeline, 1);
            let token = pipeline.token();
            items.spawn_for_each(move |_| drop(token.sleep(ms(10))));
            input.send(1).unwrap();
            clock.settle();
            input.send(2).unwrap();
            input.send_timeout(3, never).unwrap();
            assert_eq!(clock.elapsed(), ms(15));

            let child = pipeline.child();
            let canceller = child.clone();
            pipeline.spawn("cancel", move |token| {
                token.sleep(ms(2)).unwrap();
                canceller.cancel();
            });
            child.sleep(never).unwrap_err();
            assert_eq!(clock.elapsed(), ms(17));

            // What was sent second and third is asleep until 35 ms.
            let report = pipeline.drain_within(never);
            assert!(matches!(report.outcome, Outcome::Drained), "{report}");
            assert_eq!(clock.elapsed(), ms(35));
        });
        run.unwrap_or_else(|trouble| panic!("{never:?}: {trouble:?}"));
    }
}

/// There is no timer when the wait begins: it must not end, and what is set later must fire. A feeder does one thing only:
/// the clock does not know it, so time may pass between any two.
#[test]
fn a_limit_that_never_comes_waits_for_timers_to_be_set() {
    always(&["10 ms: [1]", "10 ms: 2", "10 ms: the end", "10 ms: 3"], |pipeline, _, diary| {
        let (input, items) = Stream::channel(pipeline, 4);
        let mut batched = items.batch(batches(10));
        let feeder = std::thread::spawn(move || input.send(1).map(|()| input).unwrap());
        diary.note(format!("{:?}", batched.recv_timeout(Duration::MAX).unwrap().unwrap()));
        drop((feeder.join().unwrap(), batched));

        let (input, items) = Stream::channel(pipeline, 4);
        let mut plain = items.map(|n| n);
        let feeder = std::thread::spawn(move || input.send(2).map(|()| input).unwrap());
        diary.note(plain.recv_timeout(Duration::MAX).unwrap().unwrap());
        let input = feeder.join().unwrap();
        let feeder = std::thread::spawn(move || input.finish());
        assert_eq!(plain.recv_timeout(Duration::MAX).map(drop), Err(RecvTimeoutError::Ended));
        diary.note("the end");
        feeder.join().unwrap();

        let (sender, receiver) = crossbeam_channel::bounded(0);
        let mut foreign = Stream::from_receiver(pipeline, receiver);
        let feeder = std::thread::spawn(move || sender.send(3).unwrap());
        diary.note(foreign.recv_timeout(Duration::MAX).unwrap().unwrap());
        feeder.join().unwrap();
    });
}

/// It is refused before any timer fires: an interval would tick for centuries first.
#[test]
fn an_advance_beyond_the_clocks_range_changes_nothing() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("range").clock(&clock).build();
    let mut late = Stream::from_iter(&pipeline, [1]).delay(ms(10));
    for by in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_nanos(u64::MAX) + Duration::from_nanos(1)] {
        catch_unwind(AssertUnwindSafe(|| clock.advance(by))).unwrap_err();
        assert_eq!((clock.elapsed(), late.try_recv().unwrap_err()), (Duration::ZERO, TryRecvError::Empty));
    }
    clock.advance(ms(10));
    assert_eq!((clock.elapsed(), late.try_recv().unwrap().unwrap()), (ms(10), 1));
    pipeline.join();
}
