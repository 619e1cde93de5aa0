//! Windows in whole pipelines.

use std::time::{Duration, SystemTime};

use streamz::{ErrorKind, Pipeline, Stream, TooLate, TumblingWindow};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(second: &u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(*second)
}

#[test]
fn what_comes_too_late_is_a_dead_letter_with_the_item_in_it() {
    let pipeline = Pipeline::new("late");
    let by_minute = TumblingWindow::new(seconds(60)).with_event_time(at, seconds(10));
    let (windows, failed) = Stream::from_iter(&pipeline, [5, 70, 59, 75, 64, 70]).through(&by_minute).dead_letters();
    let (put_aside, letters) = std::sync::mpsc::channel();
    failed.spawn_for_each(move |letter| put_aside.send(letter.unwrap().into_item::<u64>().unwrap()).unwrap());
    let windows = windows.collect::<Vec<_>>().unwrap();
    let items: Vec<_> = windows.into_iter().map(|window| window.items).collect();
    assert_eq!(items, [vec![5], vec![64, 70, 70, 75]]);
    let late: Vec<_> = letters.iter().collect();
    assert!(late.iter().all(|(_, error)| error.kind() == ErrorKind::Late));
    let told = |(item, error): &(u64, streamz::StreamError)| (*item, error.downcast_ref::<TooLate>().unwrap().by);
    assert_eq!(late.iter().map(told).collect::<Vec<_>>(), [(59, seconds(1))]);
    let report = pipeline.join();
    let step = &report.stage("tumbling_window").unwrap().steps[0];
    assert_eq!((step.received, step.delivered, step.failed), (6, 5, 1));
}
