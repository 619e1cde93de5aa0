//! Tails a log file and counts its lines by the minute in which they happened. What comes too late for its minute is not
//! counted silently elsewhere: it is reported.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use streamz::prelude::*;
use streamz::{ErrorKind, Follow, TumblingWindow};

/// `seconds level text`.
#[derive(Debug)]
struct Entry {
    time: SystemTime,
    is_error: bool,
    line: String,
}

fn parse(line: &String) -> Result<Entry, BoxError> {
    let (seconds, rest) = line.split_once(' ').ok_or_else(|| format!("no time in {line:?}"))?;
    let seconds: u64 = seconds.parse().map_err(|error| format!("time {seconds:?}: {error}"))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Ok(Entry { time, is_error: rest.starts_with("ERROR"), line: line.clone() })
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A minute since the epoch, with how many lines and how many errors it had.
    Minute(u64, u64, u64),
    Late(String),
    Bad(String),
}

/// Passes what it sees to `tell`, until the pipeline is drained.
fn tail(pipeline: &Pipeline, path: &Path, tell: impl Fn(Seen) + Send + Sync + 'static) {
    let per_minute = TumblingWindow::new(Duration::from_secs(60))
        .with_event_time(|entry: &Entry| entry.time, Duration::from_secs(5))
        .aggregate(
            || (0, 0),
            |(lines, errors), entry: &Entry| {
                *lines += 1;
                *errors += u64::from(entry.is_error);
            },
        );
    let follow = Follow::new(path).with_poll_interval(Duration::from_secs(1));
    Stream::follow(pipeline, follow).try_map(parse).through(&per_minute).spawn_for_each(
        move |result| {
            tell(match result {
                Ok(window) => {
                    let minute = window
                        .start
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .unwrap_or_default()
                        .as_secs()
                        / 60;
                    Seen::Minute(minute, window.result.0, window.result.1)
                }
                Err(error) if error.kind() == ErrorKind::Late => Seen::Late(
                    error.with_item_ref(|entry: &Entry| entry.line.clone()).unwrap_or_default(),
                ),
                Err(error) => Seen::Bad(format!("{error:#}")),
            });
        },
    );
}

#[test]
fn minutes_are_counted_and_late_lines_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let (clock, seen) = (ManualClock::new(), std::sync::mpsc::channel());
    let pipeline = Pipeline::builder("tail").clock(&clock).build();
    tail(&pipeline, &path, move |what| _ = seen.0.send(what));
    let seen = seen.1;
    // At every poll the pipeline becomes idle before the test continues.
    let poll = || {
        clock.advance(Duration::from_secs(1));
        seen.try_iter().collect::<Vec<_>>()
    };
    let append = |text: &str| {
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };

    assert_eq!(poll(), [], "the file is not there yet");
    append("60 INFO a\n61 ERROR b\n");
    assert_eq!(poll(), []);
    append("122 INFO c\nnonsense\n119 INFO d\n");
    let seen_so_far = poll();
    assert!(
        matches!(&seen_so_far[..], [Seen::Bad(why)] if why.contains("no time in \"nonsense\"")),
        "{seen_so_far:?}"
    );
    append("126 INFO e\n");
    // Rotated: the rest of the old file comes first.
    std::fs::rename(&path, directory.path().join("app.log.1")).unwrap();
    append("90 INFO too late\n200 INFO f\n");
    assert_eq!(
        poll(),
        [Seen::Minute(1, 3, 1), Seen::Late("90 INFO too late".into()), Seen::Minute(2, 2, 0)]
    );
    pipeline.drain();
    assert!(pipeline.join().faults.is_empty());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [Seen::Minute(3, 1, 0)]);
}
