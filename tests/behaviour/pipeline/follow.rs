//! `Stream::follow`: files that grow, on virtual time.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use streamz::{
    FileError, FileLine, Follow, FollowEvent, FollowStart, FollowStats, LineError, ManualClock, Outcome, PanicMessage,
    Pipeline, Stream,
};

mod model;

use super::folder::Folder;
use crate::{ms, virtual_pipeline, virtual_pipeline_of};

impl Folder {
    fn log(&self) -> Follow {
        Follow::new(self.path("log"))
    }
}

/// A running source, which is asked what it has found.
struct Run {
    clock: ManualClock,
    pipeline: Pipeline,
    lines: Stream<FileLine>,
    events: Arc<Mutex<Vec<FollowEvent>>>,
    stats: FollowStats,
}

impl Run {
    fn new(follow: Follow) -> Self {
        let (clock, pipeline) = virtual_pipeline();
        let events = Arc::new(Mutex::new(Vec::new()));
        let stats = follow.stats();
        let follow = follow.on_event({
            let events = Arc::clone(&events);
            move |_, event| events.lock().unwrap().push(event)
        });
        let lines = Stream::follow_lines(&pipeline, follow);
        Self { clock, pipeline, lines, events, stats }
    }

    /// What is found without a further look, as lines or messages.
    fn items(&mut self) -> Vec<Result<FileLine, String>> {
        self.clock.settle();
        let mut found = Vec::new();
        while let Ok(item) = self.lines.try_recv() {
            found.push(item.map_err(|error| match error.downcast_ref::<FileError>().expect("a file error") {
                FileError::Line { source, .. } => source.to_string(),
                FileError::Unreadable { source, .. } => source.to_string(),
                other => other.to_string().split('/').next_back().unwrap().to_owned(),
            }));
            self.clock.settle();
        }
        found
    }

    /// The same, with the numbers of the lines.
    fn now(&mut self) -> Vec<String> {
        let text = |line: FileLine| format!("{}:{}", line.number, line.text().unwrap());
        self.items().into_iter().map(|item| item.map_or_else(|message| message, text)).collect()
    }

    /// What the next look finds.
    fn look(&mut self) -> Vec<String> {
        self.clock.advance(ms(100));
        self.now()
    }

    fn events(&self) -> Vec<FollowEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    #[track_caller]
    fn drain(mut self) {
        self.pipeline.drain();
        assert_eq!(self.now(), [""; 0]);
        assert!(self.lines.recv().is_none());
        assert!(matches!(self.pipeline.join().outcome, Outcome::Drained));
    }
}

const NOTHING: [&str; 0] = [];

const LOST: &str = "log may be missing: it was rotated before they were read";

/// Sets when a file was last changed.
fn set_modified(folder: &Folder, name: &str, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().append(true).open(folder.path(name)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_line_comes_when_it_has_its_end() {
    let folder = Folder::new();
    folder.write("log", "one\r\n\ntw");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one", "2:"]);
    assert_eq!(run.stats.unfinished(), 1);
    folder.append("log", "o\nthr");
    // Not before the next look.
    assert_eq!(run.now(), NOTHING);
    assert_eq!(run.look(), ["3:two"]);
    assert_eq!(run.look(), NOTHING);
    assert_eq!(run.events(), [FollowEvent::Opened]);
    run.drain();
}

#[test]
fn lines_have_positions_and_reading_continues_there() {
    let folder = Folder::new();
    folder.write("log", "one\ntwo\n");
    let (_, pipeline) = virtual_pipeline();
    let lines = Stream::follow_lines(&pipeline, folder.log().stop_at_end()).collect::<Vec<_>>().unwrap();
    assert_eq!(
        lines.iter().map(|line| (line.number, line.start, line.end)).collect::<Vec<_>>(),
        [(1, 0, 4), (2, 0, 8)]
    );
    assert_eq!(*lines[0].path, *folder.path("log"));

    folder.append("log", "three\nfour");
    let start = FollowStart::Offset(lines[1].end);
    let rest = Stream::follow_lines(&pipeline, folder.log().with_start(start).stop_at_end());
    let rest = rest.collect::<Vec<_>>().unwrap();
    let rest: Vec<_> = rest.iter().map(|line| (line.number, line.start, line.end, line.text().unwrap())).collect();
    assert_eq!(rest, [(1, 8, 14, "three"), (2, 8, 18, "four")]);
}

#[test]
fn reading_starts_at_the_given_position() {
    let starts = [
        (FollowStart::Beginning, "1:one\n2:two\n3:three"),
        (FollowStart::End, "1:four"),
        (FollowStart::Offset(0), "1:one\n2:two\n3:three"),
        // Behind a line, and within one.
        (FollowStart::Offset(4), "1:two\n2:three"),
        (FollowStart::Offset(5), "1:three"),
        (FollowStart::Offset(8), "1:three"),
        // The file has been replaced.
        (FollowStart::Offset(1000), &format!("{LOST}\n1:one\n2:two\n3:three")),
    ];
    for (start, expected) in starts {
        let folder = Folder::new();
        folder.write("log", "one\ntwo\nthr");
        let mut run = Run::new(folder.log().with_start(start));
        let mut found = run.now();
        folder.append("log", "ee\n");
        found.extend(run.look());
        if start == FollowStart::End {
            // It began within a line.
            assert_eq!(found, NOTHING);
            folder.append("log", "four\n");
            found = run.look();
        }
        assert_eq!(found.join("\n"), expected, "{start:?}");
        run.drain();
    }
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.append("log", "two\n");
    folder.rename("log", "log.1");
    // The program that writes does not know yet.
    folder.append("log.1", "three\n");
    assert_eq!(run.look(), ["2:two", "3:three"]);
    folder.append("log.1", "four\n");
    folder.write("log", "five\n");
    assert_eq!(run.look(), ["4:four", "1:five"]);
    // It may still write to the old file.
    folder.append("log", "seven\n");
    folder.append("log.1", "six\neig");
    assert_eq!(run.look(), ["5:six", "2:seven"]);
    // With the next rotation that ends, and the incomplete line becomes a line.
    folder.rename("log", "log.2");
    folder.write("log", "nine\n");
    assert_eq!(run.look(), ["6:eig", "1:nine"]);
    folder.append("log.1", "too late\n");
    assert_eq!(run.look(), NOTHING);
    assert_eq!(run.events(), [FollowEvent::Opened, FollowEvent::Rotated, FollowEvent::Rotated]);
    assert_eq!(run.stats.rotations(), 2);
    run.drain();
}

#[test]
fn files_between_two_looks_are_found_by_their_names() {
    for names in [["log.3", "log.2", "log.1"], ["log-20260129", "log-20260130", "log-20260131"]] {
        let folder = Folder::new();
        folder.write("log.7", "old\n");
        folder.write("log", "one\n");
        let mut run = Run::new(folder.log());
        assert_eq!(run.now(), ["1:one"]);
        folder.append("log", "two\n");
        folder.rename("log", names[0]);
        for (text, name) in ["three\n", "four\n"].into_iter().zip(&names[1..]) {
            folder.write("log", text);
            folder.rename("log", name);
        }
        folder.write("log", "five\n");
        assert_eq!(run.look(), ["2:two", "1:three", "1:four", "1:five"]);
        assert_eq!(run.look(), NOTHING);
        assert_eq!(run.events(), [FollowEvent::Opened, FollowEvent::Rotated, FollowEvent::RotatedBetween(3)]);
        assert_eq!(run.stats.losses(), 0);
        run.drain();
    }
}

#[test]
fn lines_that_may_be_missing_are_an_error_item() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    // Only one old file is kept.
    for text in ["two\n", "three\n", "four\n"] {
        folder.rename("log", "log.1");
        folder.write("log", text);
    }
    assert_eq!(run.look(), [LOST, "1:three", "1:four"]);
    assert_eq!(run.stats.losses(), 1);
    run.drain();
}

#[cfg(unix)]
#[test]
fn a_deleted_file_is_read_to_its_end_and_closed() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.append("log", "two\nthree");
    folder.remove("log");
    assert_eq!(run.look(), ["2:two", "3:three"]);
    assert_eq!(run.look(), NOTHING);
    folder.write("log", "four\n");
    assert_eq!(run.look(), ["1:four"]);
    assert_eq!(run.events(), [FollowEvent::Opened, FollowEvent::Deleted, FollowEvent::Rotated]);
    run.drain();
}

#[test]
fn an_emptied_file_is_read_from_its_beginning() {
    let folder = Folder::new();
    folder.write("log", "one\ntwo\nthr");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one", "2:two"]);
    folder.write("log", "four\n");
    // No end will come to the last line.
    assert_eq!(run.look(), ["3:thr", "1:four"]);
    folder.write("log", "");
    assert_eq!(run.look(), NOTHING);
    folder.append("log", "five\n");
    assert_eq!(run.look(), ["1:five"]);
    assert_eq!(run.events(), [FollowEvent::Opened, FollowEvent::Truncated, FollowEvent::Truncated]);
    assert_eq!(run.stats.truncations(), 2);
    run.drain();
}

#[test]
fn a_truncated_file_that_has_grown_again_is_noticed() {
    let folder = Folder::new();
    folder.write("log", "");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), NOTHING);
    folder.append("log", "monday one\n");
    assert_eq!(run.look(), ["1:monday one"]);
    folder.write("log", "tuesday one\ntuesday two\ntuesday three\n");
    assert_eq!(run.look(), ["1:tuesday one", "2:tuesday two", "3:tuesday three"]);
    folder.append("log", "tuesday four\n");
    assert_eq!(run.look(), ["4:tuesday four"]);
    run.drain();
}

#[test]
fn data_copied_before_truncation_is_read_from_the_copy() {
    let folder = Folder::new();
    folder.write("log.1", "sunday\n");
    folder.write("log", "monday one\nmon");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:monday one"]);
    // As with `copytruncate`.
    folder.append("log", "day two\nmonday three");
    folder.rename("log.1", "log.2");
    fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
    folder.write("log", "tuesday one\n");
    assert_eq!(run.look(), ["2:monday two", "3:monday three", "1:tuesday one"]);
    folder.append("log", "tuesday two\n");
    assert_eq!(run.look(), ["2:tuesday two"]);
    // The copy was no rotated file to be read.
    folder.rename("log", "log.3");
    folder.write("log", "wednesday\n");
    assert_eq!(run.look(), ["1:wednesday"]);
    run.drain();
}

#[test]
fn a_file_that_appears_and_is_rotated_at_once_is_read() {
    let folder = Folder::new();
    folder.write("log.7", "of last week\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), NOTHING);
    folder.write("log", "one\n");
    folder.rename("log", "log.2");
    folder.write("log", "two\n");
    folder.rename("log", "log.1");
    assert_eq!(run.look(), ["1:one", "1:two"]);
    folder.append("log.1", "three\n");
    folder.write("log", "four\n");
    assert_eq!(run.look(), ["2:three", "1:four"]);
    folder.rename("log", "log-20260131");
    folder.write("log", "five\n");
    assert_eq!(run.look(), ["1:five"]);
    let found = [FollowEvent::Missing, FollowEvent::Opened, FollowEvent::Rotated];
    assert_eq!(run.events(), [&found[..], &[FollowEvent::Rotated; 2]].concat());
    assert_eq!((run.stats.rotations(), run.stats.losses()), (3, 0));
    run.drain();
}

#[test]
fn what_is_rotated_as_soon_as_following_has_begun_is_read() {
    let folder = Arc::new(Folder::new());
    // The lines behind the end of a file that is rotated twice while its first event is told.
    let lines = |expected| {
        let (at_once, mut is_first) = (Arc::clone(&folder), true);
        let follow = folder.log().with_start(FollowStart::End).stop_at_end().on_event(move |_, event| {
            if std::mem::take(&mut is_first) {
                assert_eq!(event, expected);
                if event == FollowEvent::Opened {
                    at_once.append("log", "one\n");
                    fs::rename(at_once.path("log"), at_once.path("log.2")).unwrap();
                }
                at_once.write("log.1", "between\n");
                at_once.write("log", "new\n");
            }
        });
        let (_, pipeline) = virtual_pipeline();
        Stream::follow(&pipeline, follow).collect::<Vec<_>>().unwrap()
    };
    assert_eq!(lines(FollowEvent::Missing), ["between", "new"]);
    fs::remove_file(folder.path("log.1")).unwrap();
    assert_eq!(lines(FollowEvent::Opened), ["one", "between", "new"]);
}

#[test]
fn a_new_file_that_is_copied_and_emptied_at_once_is_noticed() {
    // What was read does not tell whether it was emptied: nothing, or the same beginning as later.
    for (before, is_written_again) in [("", true), ("", false), ("same\n", true)] {
        let folder = Folder::new();
        folder.write("log.1", "of yesterday\n");
        folder.write("log", before);
        let mut run = Run::new(folder.log());
        let same: &[&str] = if before.is_empty() { &[] } else { &["1:same"] };
        assert_eq!(run.now(), same);
        folder.append("log", "one\n");
        folder.rename("log.1", "log.3");
        fs::copy(folder.path("log"), folder.path("log.2")).unwrap();
        folder.write("log", &format!("{before}two\n"));
        fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
        folder.write("log", "");
        let number = same.len() + 1;
        let mut expected = vec![format!("{number}:one")];
        expected.extend(same.iter().map(|line| (*line).to_owned()));
        expected.push(format!("{number}:two"));
        if is_written_again {
            folder.write("log", &format!("{before}three, which is longer\n"));
            expected.extend(same.iter().map(|line| (*line).to_owned()));
            expected.push(format!("{number}:three, which is longer"));
        } else {
            // A file system may give it the same time as before.
            set_modified(&folder, "log", 10_000_000_000);
        }
        assert_eq!(run.look(), expected);
        assert_eq!(run.look(), NOTHING);
        assert_eq!((run.stats.truncations(), run.stats.losses()), (2, 0));
        run.drain();
    }
}

#[test]
fn a_copy_is_not_read_before_the_file_is_emptied() {
    let folder = Folder::new();
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), NOTHING);
    folder.write("log", "one\ntwo\n");
    fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
    assert_eq!(run.look(), ["1:one", "2:two"]);
    // This is not in the copy, but was read.
    folder.append("log", "three\n");
    assert_eq!(run.look(), ["3:three"]);
    folder.write("log", "four\n");
    assert_eq!(run.look(), ["1:four"]);
    assert_eq!((run.stats.truncations(), run.stats.losses()), (1, 0));
    run.drain();
}

#[test]
fn a_file_emptied_while_the_output_is_full_loses_nothing() {
    let folder = Folder::new();
    let text = |day: &str| (0..20_000).map(|number| format!("{day} {number}\n")).collect::<String>();
    folder.write("log", &text("monday"));
    let (clock, pipeline) = virtual_pipeline_of(4);
    let lines = Stream::follow(&pipeline, folder.log().with_poll_interval(ms(100)));
    clock.settle();
    fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
    folder.write("log", &text("tuesday"));
    let mut lines = lines.into_iter();
    for day in ["monday", "tuesday"] {
        for number in 0..20_000 {
            assert_eq!(lines.next().unwrap().unwrap(), format!("{day} {number}"));
        }
    }
}

#[test]
fn copies_of_which_one_was_deleted_are_reported() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.append("log", "lost\n");
    // Only one copy is kept.
    fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
    folder.remove("log.1");
    folder.write("log", "two\n");
    fs::copy(folder.path("log"), folder.path("log.1")).unwrap();
    folder.write("log", "three\n");
    assert_eq!(run.look(), [LOST, "1:two", "1:three"]);
    run.drain();
}

#[test]
fn a_file_compressed_before_it_was_seen_is_reported() {
    for is_copied in [false, true] {
        let folder = Folder::new();
        folder.write("log.2.gz", "\u{1f}\n");
        folder.write("log.1", "of yesterday\n");
        folder.write("log", "one\n");
        let mut run = Run::new(folder.log());
        assert_eq!(run.now(), ["1:one"]);
        // One that is known: no loss.
        folder.rename("log.2.gz", "log.3.gz");
        folder.write("log.2.gz", "\u{1f}\n");
        folder.remove("log.1");
        folder.rename("log", "log.1");
        folder.write("log", "two\n");
        assert_eq!(run.look(), ["1:two"]);
        // One that came between, or was copied.
        folder.append("log", "three\n");
        folder.write("log.0.gz", "\u{1f}\n");
        if !is_copied {
            folder.rename("log", "log.0");
        }
        folder.write("log", "4\n");
        let found: &[&str] = if is_copied { &[LOST, "1:4"] } else { &["2:three", "1:4"] };
        assert_eq!(run.look(), found);
        assert_eq!(run.stats.losses(), u64::from(is_copied));
        run.drain();
    }
}

#[test]
fn a_file_that_gets_its_name_back_is_not_read_twice() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.rename("log", "log.1");
    folder.write("log", "two\n");
    assert_eq!(run.look(), ["1:two"]);
    folder.rename("log", "log.2");
    folder.rename("log.1", "log");
    folder.append("log", "three\n");
    assert_eq!(run.look(), ["2:three"]);
    run.drain();
}

#[test]
fn an_old_file_that_was_unpacked_is_not_read() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.write("log.3", "of last week\n");
    set_modified(&folder, "log.3", 1_000_000_000);
    folder.rename("log", "log.1");
    folder.write("log", "two\n");
    assert_eq!(run.look(), ["1:two"]);
    run.drain();
}

#[test]
fn a_file_may_come_later_and_so_may_its_folder() {
    let folder = Folder::new();
    let path = folder.path("deep/log");
    let mut run = Run::new(Follow::new(&path).with_start(FollowStart::End));
    assert_eq!(run.now(), NOTHING);
    fs::create_dir(folder.path("deep")).unwrap();
    assert_eq!(run.look(), NOTHING);
    fs::write(&path, "one\n").unwrap();
    assert_eq!(run.look(), ["1:one"]);
    assert_eq!(run.events(), [FollowEvent::Missing, FollowEvent::Opened]);
    run.drain();
}

#[test]
fn old_files_in_a_folder_that_comes_later_are_not_read() {
    let folder = Folder::new();
    let mut run = Run::new(Follow::new(folder.path("deep/log")));
    assert_eq!(run.now(), NOTHING);
    for day in ["monday", "tuesday"] {
        // Like a drive that is mounted, or a link that leads to the next folder.
        fs::create_dir(folder.path(day)).unwrap();
        fs::write(folder.path(day).join("log.1"), "of last week\n").unwrap();
        fs::write(folder.path(day).join("log"), format!("{day}\n")).unwrap();
        if day == "tuesday" {
            folder.rename("deep", "deep.1");
        }
        folder.rename(day, "deep");
        assert_eq!(run.look(), [format!("1:{day}")]);
    }
    assert_eq!(run.stats.losses(), 0);
    run.drain();
}

#[test]
fn a_rotated_file_with_two_names_is_read_once() {
    let folder = Folder::new();
    folder.write("log", "one\n");
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["1:one"]);
    folder.rename("log", "log.2");
    folder.write("log", "two\n");
    folder.rename("log", "log.1");
    fs::hard_link(folder.path("log.1"), folder.path("log-20260131")).unwrap();
    folder.write("log", "three\n");
    assert_eq!(run.look(), ["1:two", "1:three"]);
    run.drain();
}

#[test]
fn an_unreadable_file_is_one_error_item_and_may_come_back() {
    let folder = Folder::new();
    fs::create_dir(folder.path("log")).unwrap();
    let mut run = Run::new(folder.log());
    assert_eq!(run.now(), ["only files can be followed"]);
    assert_eq!(run.look(), NOTHING);
    fs::remove_dir(folder.path("log")).unwrap();
    folder.write("log", "one\n");
    assert_eq!(run.look(), ["1:one"]);
    folder.append("log", "two\n");
    folder.rename("log", "old");
    fs::create_dir(folder.path("log")).unwrap();
    assert_eq!(run.look(), ["2:two", "only files can be followed"]);
    // It is still written to.
    folder.append("old", "three\n");
    assert_eq!(run.look(), ["3:three"]);
    fs::remove_dir(folder.path("log")).unwrap();
    folder.write("log", "four\n");
    assert_eq!(run.look(), ["1:four"]);
    run.drain();
}

#[test]
fn bad_lines_are_error_items_that_name_file_and_line() {
    let folder = Folder::new();
    fs::write(folder.path("log"), b"good\nfar too long\nb\xffd\nend\n").unwrap();
    let (_, pipeline) = virtual_pipeline();
    let mut lines = Stream::follow(&pipeline, folder.log().with_max_len(5).stop_at_end()).into_iter();
    assert_eq!(lines.next().unwrap().unwrap(), "good");
    for (number, bytes) in [(2, &b"far t"[..]), (3, b"b\xffd")] {
        let error = lines.next().unwrap().unwrap_err();
        let reason = error.downcast_ref::<FileError>().unwrap();
        assert_eq!(reason.to_string(), format!("bad line at {}:{number}", folder.path("log").display()));
        assert!(matches!(
            reason,
            FileError::Line { source: LineError::TooLong { .. } | LineError::NotUtf8 { .. }, .. }
        ));
        assert_eq!(error.take_item::<FileLine>().unwrap().bytes, bytes);
    }
    assert_eq!(lines.next().unwrap().unwrap(), "end");
    assert!(lines.next().is_none());
    assert!(matches!(pipeline.join().outcome, Outcome::Completed));
}

#[test]
fn stopping_at_the_end_gives_the_unfinished_line() {
    let folder = Folder::new();
    folder.write("a", "one\ntwo");
    folder.write("c", "three");
    let (_, pipeline) = virtual_pipeline();
    let follow = Follow::files(["a", "b", "c"].map(|name| folder.path(name))).stop_at_end();
    let found: Vec<_> = Stream::follow(&pipeline, follow).into_iter().collect();
    let texts: Vec<_> = found.iter().filter_map(|item| item.as_deref().ok()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    let errors: Vec<_> = found.iter().filter_map(|item| item.as_ref().err()?.downcast_ref()).collect();
    assert!(matches!(errors[..], [FileError::Unreadable { path, .. }] if **path == *folder.path("b")), "{errors:?}");
}

#[test]
fn a_busy_file_does_not_keep_the_others_waiting() {
    let folder = Folder::new();
    folder.write("log", &"busy\n".repeat(3000));
    folder.write("quiet", "quiet\n");
    let (_, pipeline) = virtual_pipeline();
    let both = folder.log().and(folder.path("quiet")).stop_at_end();
    let lines = Stream::follow(&pipeline, both).collect::<Vec<_>>().unwrap();
    assert_eq!((lines.len(), lines.iter().position(|line| line == "quiet")), (3001, Some(1000)));
}

#[test]
fn nothing_is_read_ahead_of_a_full_output() {
    let folder = Folder::new();
    folder.write("log", &"x\n".repeat(100));
    let (clock, pipeline) = virtual_pipeline_of(4);
    let lines = Stream::follow(&pipeline, folder.log());
    clock.settle();
    let report = pipeline.report();
    assert!(report.stage("follow").unwrap().emitted() <= 5, "{report}");
    assert_eq!(lines.into_iter().take(100).filter(Result::is_ok).count(), 100);
}

#[test]
fn a_cancellation_ends_the_wait_at_once() {
    let folder = Folder::new();
    let mut run = Run::new(folder.log().with_poll_interval(ms(u64::MAX)));
    assert_eq!(run.now(), NOTHING);
    run.pipeline.cancel();
    // Without any time that passes.
    assert!(run.lines.recv().unwrap().unwrap_err().is_cancelled());
    assert!(run.lines.recv().is_none());
    assert!(matches!(run.pipeline.join().outcome, Outcome::Cancelled(_)));
}

#[test]
fn a_panic_in_the_closure_for_events_cuts_the_stream() {
    let folder = Folder::new();
    let (clock, pipeline) = virtual_pipeline();
    let follow = folder.log().on_event(|_, event| assert_eq!(event, FollowEvent::Missing, "not this one"));
    let mut lines = Stream::follow(&pipeline, follow);
    folder.write("log", "one\n");
    clock.advance(ms(100));
    let error = lines.recv().unwrap().unwrap_err();
    assert!(error.is_cancelled() && error.downcast_ref::<PanicMessage>().is_some(), "{error:?}");
    assert!(lines.recv().is_none());
    pipeline.join();
}
