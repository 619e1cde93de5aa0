//! Windows of event time behind a merge: its inputs are each in order, and not equally fast.
//!
//! All on virtual time: `sources` are fed by hand, so one of them is behind exactly as far as a test says.

use std::time::{Duration, SystemTime};

use streamz::testing::Recorder;
use streamz::{
    Aggregate, AsyncMapper, BatchConfig, Batcher, ErrorKind, FanIn, GroupBy, ManualClock, Pipeline, Processor, Removal,
    Scan, Sender, SessionWindow, SlidingWindow, SortByTime, Stream, TumblingWindow, Window,
};

use super::{ms, virtual_pipeline, virtual_pipeline_of};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(second: &u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(*second)
}

/// Windows of ten seconds whose items must come in order.
fn tens() -> impl Processor<In = u64, Out = Window<u64>> {
    TumblingWindow::new(seconds(10)).with_event_time(at, Duration::ZERO)
}

fn channels<const N: usize>(pipeline: &Pipeline) -> ([Sender<u64>; N], [Stream<u64>; N]) {
    let pairs = [(); N].map(|()| Stream::channel(pipeline, 256));
    let mut streams = Vec::new();
    let senders = pairs.map(|(sender, stream)| {
        streams.push(stream);
        sender
    });
    (senders, streams.try_into().unwrap_or_else(|_| unreachable!()))
}

fn send(clock: &ManualClock, sender: &Sender<u64>, times: impl IntoIterator<Item = u64>) {
    times.into_iter().for_each(|time| sender.send(time).unwrap());
    clock.settle();
}

/// The items of the windows that have come.
fn come(recorder: &Recorder<Window<u64>>) -> Vec<Vec<u64>> {
    outputs(recorder).into_iter().map(|window| window.unwrap().items).collect()
}

fn outputs<T: Send + 'static>(recorder: &Recorder<T>) -> Vec<streamz::Result<T>> {
    recorder.timed_outputs().into_iter().map(|(_, output)| output).collect()
}

#[test]
fn an_input_that_is_ahead_makes_no_other_items_late() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let windows = Recorder::new(fast.merge([slow]).through(&tens()));
    send(&clock, &ahead, [0, 15, 100]);
    assert!(come(&windows).is_empty(), "the other has not begun");
    send(&clock, &behind, [1, 9, 10]);
    assert_eq!(come(&windows), [[0, 1, 9]]);
    send(&clock, &behind, [11, 20]);
    assert_eq!(come(&windows), [[10, 11, 15]]);
    drop((ahead, behind));
    assert_eq!(come(&windows), [[20], [100]]);
}

#[test]
fn a_branch_that_is_not_read_makes_nothing_late_in_the_others() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let [read, left] = fast.merge([slow]).fan_out();
    drop(left);
    let windows = Recorder::new(read.through(&tens()));
    send(&clock, &ahead, [0, 15, 100]);
    send(&clock, &behind, [1, 9, 10]);
    assert_eq!(come(&windows), [[0, 1, 9]]);
    drop((ahead, behind));
    assert_eq!(come(&windows), [vec![10, 15], vec![100]]);
}

#[test]
fn each_subscriber_of_a_broadcast_knows_the_inputs() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let hub = fast.merge([slow]).broadcast();
    let first = Recorder::new(hub.subscribe().through(&tens()));
    send(&clock, &ahead, [0, 100]);
    send(&clock, &behind, [1]);
    // The last item came from the input that is behind, and so does the next one.
    let second = Recorder::new(hub.subscribe().through(&tens()));
    send(&clock, &behind, [9]);
    send(&clock, &ahead, [101]);
    send(&clock, &behind, [10]);
    assert_eq!((come(&first), come(&second)), (vec![vec![0, 1, 9]], vec![vec![9]]));
    drop(ahead);
    send(&clock, &behind, [110]);
    // One that comes now waits for no input that has ended.
    let third = Recorder::new(hub.subscribe().through(&tens()));
    send(&clock, &behind, [111, 120]);
    assert_eq!(come(&first), [vec![10], vec![100, 101], vec![110, 111]]);
    assert_eq!(come(&third), [[111]]);
    drop((behind, hub));
    clock.settle();
}

#[test]
fn inputs_that_are_each_in_order_are_sorted_together() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    // With a state for each key on the way, which changes nothing.
    let same = Scan::new(|| (), |(), time| time).with_key(|time: &u64| time % 3, 10);
    let sorted = Recorder::new(fast.merge([slow]).through(&same).through(&SortByTime::new(at, Duration::ZERO)));
    let come = || outputs(&sorted).into_iter().map(Result::unwrap).collect::<Vec<_>>();
    send(&clock, &ahead, [0, 15, 100]);
    assert_eq!(come(), []);
    send(&clock, &behind, [1, 9, 20]);
    assert_eq!(come(), [0, 1, 9, 15, 20]);
    drop(behind);
    clock.settle();
    assert_eq!(come(), [100]);
    drop(ahead);
}

#[test]
fn a_channel_without_a_buffer_is_an_input_like_any_other() {
    let (clock, pipeline) = virtual_pipeline();
    let ([behind], [slow]) = channels(&pipeline);
    let (ahead, fast) = crossbeam_channel::bounded(0);
    let windows = Recorder::new(slow.merge([Stream::from_receiver(&pipeline, fast)]).through(&tens()));
    send(&clock, &behind, [1]);
    [15, 100].into_iter().for_each(|time| ahead.send(time).unwrap());
    clock.settle();
    send(&clock, &behind, [2, 9, 10]);
    assert_eq!(come(&windows), [[1, 2, 9]]);
    drop((ahead, behind));
    assert_eq!(come(&windows), [vec![10, 15], vec![100]]);
}

#[test]
fn an_item_that_is_behind_its_own_input_is_late() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, right], [one, other]) = channels(&pipeline);
    let windows = Recorder::new(one.merge([other]).through(&tens()));
    send(&clock, &left, [12]);
    send(&clock, &right, [15, 9]);
    let late = outputs(&windows).pop().unwrap().unwrap_err();
    assert_eq!((late.kind(), late.take_item::<u64>()), (ErrorKind::Late, Some(9)));
}

#[test]
fn an_input_that_has_ended_holds_back_nothing() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let windows = Recorder::new(fast.merge([slow]).through(&tens()));
    send(&clock, &ahead, [5, 25, 35]);
    send(&clock, &behind, [2]);
    assert!(come(&windows).is_empty());
    drop(behind);
    clock.settle();
    assert_eq!(come(&windows), [vec![2, 5], vec![25]]);
}

#[test]
fn an_input_that_ended_earlier_holds_back_no_window() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, right], [one, other]) = channels(&pipeline);
    let merged = one.merge([other]);
    send(&clock, &right, [7]);
    drop(right);
    clock.settle();
    let windows = Recorder::new(merged.through(&tens()));
    send(&clock, &left, [5, 25]);
    assert_eq!(come(&windows), [[5, 7]]);
}

#[test]
fn an_input_that_fails_holds_back_nothing() {
    let (clock, pipeline) = virtual_pipeline();
    let child = pipeline.child();
    let ([left, _kept], [one, other]) = channels(&pipeline);
    let other = other.with_token(&child).map(|n| n).with_token(&pipeline);
    let windows = Recorder::new(one.merge([other]).through(&tens()));
    send(&clock, &left, [5, 25]);
    assert!(come(&windows).is_empty());
    child.cancel();
    clock.settle();
    assert_eq!(come(&windows), [[5]]);
}

#[test]
fn an_idle_input_holds_back_nothing_after_exactly_the_timeout() {
    for (timeout, fan_in) in [(seconds(10), FanIn::new()), (ms(1), FanIn::new().with_idle_timeout(ms(1)))] {
        let (clock, pipeline) = virtual_pipeline();
        let ([left, idle], [one, other]) = channels(&pipeline);
        let windows = Recorder::new(fan_in.process(&pipeline, [one, other]).through(&tens()));
        send(&clock, &idle, [3]);
        send(&clock, &left, [5, 25]);
        clock.advance(timeout - Duration::from_nanos(1));
        send(&clock, &left, [26]);
        assert!(come(&windows).is_empty());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(come(&windows), [[3, 5]]);
        // It is not late for being idle, and it counts again.
        send(&clock, &idle, [24, 27]);
        send(&clock, &left, [40]);
        assert!(come(&windows).is_empty());
        send(&clock, &idle, [31]);
        assert_eq!(come(&windows), [[24, 25, 26, 27]]);
    }
}

#[test]
fn the_remaining_items_of_an_idle_input_are_late() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, idle], [one, other]) = channels(&pipeline);
    let windows = Recorder::new(one.merge([other]).through(&tens()));
    send(&clock, &left, [5, 25]);
    clock.advance(seconds(10));
    assert_eq!(come(&windows), [[5]]);
    send(&clock, &idle, [4]);
    assert_eq!(outputs(&windows).pop().unwrap().unwrap_err().kind(), ErrorKind::Late);
}

#[test]
fn if_all_inputs_are_idle_the_one_that_is_ahead_counts() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [one, other]) = channels(&pipeline);
    let windows = Recorder::new(one.merge([other]).through(&tens()));
    send(&clock, &ahead, [5, 25]);
    send(&clock, &behind, [7]);
    clock.advance(seconds(10));
    assert_eq!(come(&windows), [[5, 7]]);
}

/// The other input has come to its end before a window asked for labels, and nothing wakes the merge but the question.
#[test]
fn an_input_that_is_idle_from_the_start_is_found_to_be() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, _idle], [one, other]) = channels(&pipeline);
    send(&clock, &left, [5, 25]);
    drop(left);
    let merged = one.merge([other]);
    clock.settle();
    let windows = Recorder::new(merged.through(&tens()));
    assert!(come(&windows).is_empty());
    clock.advance(seconds(10));
    assert_eq!(come(&windows), [[5]]);
}

/// What stands between the merge and the window.
type Between = fn(Stream<u64>) -> Stream<u64>;

const KEEPING: &[(&str, Between)] = &[
    ("nothing", |stream| stream),
    ("a map", |stream| stream.map(|n| n)),
    ("fused steps", |stream| stream.stage("steps", |s| s.map(|n| n).filter(|_| true).flat_map(|n| [n]).take(1_000))),
    ("one item of several", |stream| stream.flat_map(|n| [Some(n), None]).filter_map(|n| n)),
    ("a buffer", |stream| stream.buffer(100)),
    ("a pool", |stream| stream.async_map(2, |_, n: &u64| streamz::ok(*n))),
    ("a keyed pool", |stream| {
        // One worker keeps the order.
        let pool =
            AsyncMapper::keyed(|n: &u64| n % 5, |_, n: &u64| streamz::ok(*n)).with_workers(1).with_ordered(false);
        stream.through(&pool)
    }),
    ("a pool of rayon's", |stream| stream.par_map(|n| n)),
    ("a pool out of order", |stream| {
        // One worker keeps the order, but the pool does not promise it.
        let pool = AsyncMapper::new(|_, n: &u64| streamz::ok(*n)).with_workers(1).with_ordered(false);
        stream.through(&pool)
    }),
    ("a delay", |stream| stream.delay(ms(1))),
    ("a throttle", |stream| stream.throttle(1e6)),
    ("another merge", |stream| {
        let token = stream.token().clone();
        Stream::fan_in(&token, [stream])
    }),
];

#[test]
fn any_ordered_stages_may_be_between_merge_and_window() {
    for (what, between) in KEEPING {
        let (clock, pipeline) = virtual_pipeline();
        let ([ahead, behind], [fast, slow]) = channels(&pipeline);
        let windows = Recorder::new(between(fast.map(|n| n).merge([slow.filter(|_| true)])).through(&tens()));
        let send = |sender: &Sender<u64>, times: &[u64]| {
            times.iter().for_each(|time| sender.send(*time).unwrap());
            clock.settle();
            clock.advance(ms(50));
        };
        send(&ahead, &[0, 15, 100]);
        assert!(come(&windows).is_empty(), "{what}");
        send(&behind, &[1, 9, 10]);
        send(&behind, &[11, 20]);
        assert_eq!(come(&windows).concat(), [0, 1, 9, 10, 11, 15], "{what}");
        drop((ahead, behind));
        clock.advance(ms(50));
        assert_eq!(come(&windows).concat(), [20, 100], "{what}");
    }
}

#[test]
fn merges_of_merges_tell_all_inputs_apart() {
    let (clock, pipeline) = virtual_pipeline();
    let ([a, b, c, d], [one, two, three, four]) = channels(&pipeline);
    let inner = one.merge([two]).map(|n| n);
    let whole = three.merge([inner, four.merge([]).map(|n| n)]);
    let windows = Recorder::new(whole.through(&tens()));
    send(&clock, &a, [0, 50, 100]);
    send(&clock, &c, [1, 60]);
    send(&clock, &d, [2, 70]);
    assert!(come(&windows).is_empty());
    send(&clock, &b, [3, 12]);
    assert_eq!(come(&windows), [[0, 1, 2, 3]]);
    drop(b);
    clock.settle();
    assert_eq!(come(&windows), [vec![12], vec![50]]);
    send(&clock, &c, [80]);
    send(&clock, &d, [75]);
    assert_eq!(come(&windows), [[60]]);
    // Both inputs of the inner merge are idle, and so is that: what is behind is the last.
    clock.advance(seconds(5));
    send(&clock, &d, [95]);
    send(&clock, &c, [110]);
    clock.advance(seconds(5));
    assert_eq!(come(&windows), [vec![70, 75], vec![80]]);
}

#[test]
fn every_kind_of_window_waits_for_the_input_that_is_behind() {
    fn check<W>(windows: impl Processor<In = u64, Out = W>, count: impl Fn(&W) -> u64)
    where
        W: Send + std::fmt::Debug + 'static,
    {
        let (clock, pipeline) = virtual_pipeline();
        let ([ahead, behind], [fast, slow]) = channels(&pipeline);
        let windows = Recorder::new(fast.merge([slow]).through(&windows));
        send(&clock, &ahead, (0..100).map(|n| 2 * n));
        send(&clock, &behind, (0..100).map(|n| 2 * n + 1));
        drop((ahead, behind));
        let counts = outputs(&windows).into_iter().map(|window| count(&window.unwrap()));
        assert_eq!(counts.sum::<u64>(), 200);
    }
    check(tens(), |window| window.items.len() as u64);
    check(SlidingWindow::new(seconds(10)).with_slide(seconds(5)).with_event_time(at, Duration::ZERO), |window| {
        window.items.iter().filter(|time| **time % 10 < 5).count() as u64
    });
    let sessions = SessionWindow::new(|n: &u64| n % 3).with_gap(seconds(20)).with_event_time(at, Duration::ZERO);
    check(sessions, |keyed| keyed.window.items.len() as u64);
    let by_key = TumblingWindow::new(seconds(10)).with_key(|n: &u64| n % 7).with_event_time(at, Duration::ZERO);
    check(by_key, |keyed| keyed.window.items.len() as u64);
    let sums = Aggregate::new(|| 0, |_: &mut u64, _: &u64| ()).with_time_window(seconds(10));
    check(sums.with_event_time(at, Duration::ZERO), |window| window.count);
}

/// An item that a keyed scan makes of a removed state stems from items of any input.
#[test]
fn what_a_keyed_scan_makes_of_a_state_moves_no_watermark() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, right], [one, other]) = channels(&pipeline);
    // A removed state tells when it was evicted or expired: a time that is ahead of both inputs.
    let scan = Scan::new(|| (), |(), time: u64| time)
        .with_key(|time: &u64| *time, 1)
        .with_ttl(seconds(5))
        .on_removal(|_, (), why| (why != Removal::Ended).then_some(500));
    let windows = Recorder::new(one.merge([other]).through(&scan).through(&tens()));
    send(&clock, &left, [1, 12]);
    send(&clock, &right, [2, 13]);
    clock.advance(seconds(5));
    send(&clock, &left, [14, 31]);
    send(&clock, &right, [15, 32]);
    drop((left, right));
    clock.settle();
    assert_eq!(come(&windows), [vec![1, 2], vec![12, 13, 14, 15], vec![31, 32], vec![500; 7]]);
}

/// All items of an input may be removed on the way to a window, which then must not wait for it for ever.
#[test]
fn a_filtered_out_input_holds_nothing_back_after_its_timeout() {
    let (clock, pipeline) = virtual_pipeline();
    let ([left, beats], [one, other]) = channels(&pipeline);
    let windows = Recorder::new(one.merge([other]).filter(|time| *time < 1_000).through(&tens()));
    let round = |time: u64, beat: u64| {
        send(&clock, &left, [time]);
        send(&clock, &beats, [beat]);
        clock.advance(seconds(4));
        come(&windows)
    };
    for time in [5, 25, 35] {
        assert!(round(time, 9_999).is_empty());
    }
    // Nothing has come of it for 12 s.
    assert_eq!(round(36, 9_999), [[5], [25]]);
    // It counts again as soon as something of it comes.
    assert!(round(38, 39).is_empty());
    assert!(round(50, 39).is_empty());
    assert_eq!(round(51, 40), [[35, 36, 38, 39, 39]]);
}

#[test]
fn streams_that_are_read_in_turn_are_distinguished() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let windows = Recorder::new(fast.interleave([slow]).through(&tens()));
    send(&clock, &ahead, [0, 15, 100]);
    send(&clock, &behind, [1, 9, 10]);
    assert_eq!(come(&windows), [[0, 1, 9]]);
    drop(behind);
    clock.settle();
    send(&clock, &ahead, [101]);
    assert_eq!(come(&windows), [[10, 15]]);
    drop(ahead);
    clock.settle();
    assert_eq!(come(&windows), [[100, 101]]);
}

#[test]
fn merges_that_are_chained_keep_their_inputs_apart() {
    let (clock, pipeline) = virtual_pipeline();
    let ([first, ahead, behind, last], [one, fast, slow, four]) = channels(&pipeline);
    let windows = Recorder::new(one.chain([fast.merge([slow]), four]).through(&tens()));
    // A stream whose turn has not come holds back nothing.
    send(&clock, &first, [1, 12]);
    assert_eq!(come(&windows), [[1]]);
    send(&clock, &ahead, [13, 35, 100]);
    send(&clock, &behind, [14, 21]);
    drop(first);
    clock.settle();
    assert_eq!(come(&windows), [[12, 13, 14]]);
    drop(ahead);
    send(&clock, &behind, [36, 45]);
    assert_eq!(come(&windows), [vec![21], vec![35, 36]]);
    send(&clock, &last, [46, 102, 120]);
    drop(behind);
    clock.settle();
    drop(last);
    clock.settle();
    let (come, late): (Vec<_>, Vec<_>) = outputs(&windows).into_iter().partition(|output| output.is_ok());
    // As in any stream, what is older than what came before it is late.
    assert_eq!(late.into_iter().filter_map(|late| late.unwrap_err().take_item::<u64>()).collect::<Vec<_>>(), [46]);
    assert_eq!(
        come.into_iter().map(|window| window.unwrap().items).collect::<Vec<_>>(),
        [vec![45], vec![100, 102], vec![120]]
    );
}

#[test]
fn pairs_keep_the_inputs_of_the_merged_side_apart() {
    for is_first in [true, false] {
        let (clock, pipeline) = virtual_pipeline();
        let ([ahead, behind], [fast, slow]) = channels(&pipeline);
        let (merged, numbers) = (fast.merge([slow]), Stream::from_iter(&pipeline, 0_u32..));
        let times = match is_first {
            true => merged.zip(numbers).map(|(time, _)| time),
            false => numbers.zip(merged).map(|(_, time)| time),
        };
        let windows = Recorder::new(times.through(&tens()));
        send(&clock, &ahead, [0, 15, 100]);
        assert!(come(&windows).is_empty(), "{is_first}");
        send(&clock, &behind, [1, 9, 10]);
        assert_eq!(come(&windows), [[0, 1, 9]], "{is_first}");
        send(&clock, &behind, [11, 20]);
        assert_eq!(come(&windows), [[10, 11, 15]], "{is_first}");
    }
}

/// Of two merges, the first counts; the labels of the other one would name inputs that there are not.
#[test]
fn pairs_of_two_merges_have_the_inputs_of_the_first() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind, other, another], [fast, slow, third, fourth]) = channels(&pipeline);
    let pairs = fast.merge([slow]).zip(third.merge([fourth])).map(|(time, _)| time);
    let windows = Recorder::new(pairs.through(&tens()));
    for time in 0..10 {
        send(&clock, &other, [time]);
        send(&clock, &another, [100 + time]);
    }
    send(&clock, &ahead, [0, 15, 100]);
    assert!(come(&windows).is_empty());
    send(&clock, &behind, [1, 9, 10]);
    assert_eq!(come(&windows), [[0, 1, 9]]);
}

#[test]
fn windows_in_a_group_distinguish_the_inputs_of_the_merge() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind, ended], [fast, slow, third]) = channels(&pipeline);
    let groups = GroupBy::new(|time: &u64| time % 2, |_, group: Stream<u64>| group.through(&tens()));
    let windows = Recorder::new(fast.merge([slow, third]).through(&groups));
    send(&clock, &ended, [2]);
    drop(ended);
    send(&clock, &ahead, [0, 14, 100]);
    send(&clock, &behind, [4, 8, 10]);
    assert_eq!(come(&windows), [[0, 2, 4, 8]]);
    // This group begins only now, behind the ends of two inputs.
    drop(ahead);
    send(&clock, &behind, [11, 15, 21, 102]);
    let mut rest = come(&windows);
    rest.sort();
    assert_eq!(rest, [[10, 14], [11, 15]]);
}

/// On threads that run as they like: one source waits now and then, and so is behind by an unknown part of the other.
#[test]
fn nothing_of_two_ordered_sources_is_late_at_any_speed() {
    let pipeline = Pipeline::new("skew");
    let fast = Stream::from_iter(&pipeline, 0..50_000_u64);
    let slow = Stream::from_iter(
        &pipeline,
        (0..50_000_u64).inspect(|n| {
            if n % 100 == 0 {
                std::thread::yield_now();
            }
        }),
    );
    let minutes = TumblingWindow::new(seconds(60)).with_event_time(at, Duration::ZERO);
    let windows = fast.merge([slow]).through(&minutes).collect::<Vec<_>>().unwrap();
    assert_eq!(windows.iter().map(|window| window.items.len()).sum::<usize>(), 100_000);
}

/// Batches mix items of all inputs: what is late behind them is what is late without a merge.
#[test]
fn inputs_are_not_distinguished_behind_a_mixing_stage() {
    let (clock, pipeline) = virtual_pipeline();
    let ([ahead, behind], [fast, slow]) = channels(&pipeline);
    let mixed =
        fast.merge([slow]).through(&Batcher::new(BatchConfig { max_size: 2, ..BatchConfig::default() })).flatten();
    let windows = Recorder::new(mixed.through(&tens()));
    send(&clock, &ahead, [0, 100]);
    assert_eq!(come(&windows), [[0]]);
    send(&clock, &behind, [1, 2]);
    assert_eq!(outputs(&windows).iter().filter(|late| late.is_err()).count(), 2);
}

/// More labels than may be under way at a time: the window is slow, and a filter leaves nothing of most runs.
#[test]
fn labels_that_cannot_be_sent_make_nothing_late() {
    let (clock, pipeline) = virtual_pipeline_of(0);
    let ([left, right], [one, other]) = channels(&pipeline);
    let merged = one.merge([other]).buffer(10_000).through(&AsyncMapper::new(|token, n: &u64| {
        let _ = token.sleep(ms(1));
        streamz::ok(*n)
    }));
    let windows = Recorder::new(merged.through(&tens()));
    for n in 0..3_000 {
        left.send(2 * n).unwrap();
        clock.settle();
        right.send(n).unwrap();
        clock.settle();
    }
    drop((left, right));
    clock.advance(seconds(10));
    assert_eq!(come(&windows).concat().len(), 6_000);
}
