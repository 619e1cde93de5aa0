//! `Stream::directory` and `Stream::file_lines`: the files of a folder, and their lines.

use std::fs;
use std::path::PathBuf;

use streamz::{Directory, FileError, FileLine, Files, LineError, ManualClock, Outcome, PanicMessage, Result, Stream};

use super::folder::Folder;
use crate::{ms, virtual_pipeline, virtual_pipeline_of};

/// Names in the folder, and what cannot be read as `!name`.
fn names(folder: &Folder, found: impl IntoIterator<Item = Result<PathBuf>>) -> Vec<String> {
    let name = |path: &std::path::Path| path.strip_prefix(&folder.0).unwrap().display().to_string();
    let name = |item: Result<PathBuf>| match item {
        Ok(path) => name(&path),
        Err(error) => format!("!{}", name(error.downcast_ref::<FileError>().expect("a file error").path())),
    };
    found.into_iter().map(name).collect()
}

fn walk(folder: &Folder, directory: Directory) -> Vec<String> {
    let (_, pipeline) = virtual_pipeline();
    let found = names(folder, Stream::directory(&pipeline, directory));
    assert!(matches!(pipeline.join().outcome, Outcome::Completed));
    found
}

fn tree() -> Folder {
    let folder = Folder::new();
    for name in ["b", "d"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    for name in ["e", "a", "b/2", "b/1.txt", "d/x", "c.txt"] {
        folder.write(name, name);
    }
    folder
}

#[test]
fn files_come_in_the_order_of_their_names() {
    let folder = tree();
    assert_eq!(walk(&folder, Directory::new(&folder.0)), ["a", "c.txt", "e"]);
    let all = Directory::new(&folder.0).recursive();
    assert_eq!(walk(&folder, all), ["a", "b/1.txt", "b/2", "c.txt", "d/x", "e"]);
    let texts = Directory::new(&folder.0).recursive().with_filter(|path| path.extension().is_some());
    assert_eq!(walk(&folder, texts), ["b/1.txt", "c.txt"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_item() {
    let folder = Folder::new();
    for directory in [Directory::new(folder.path("none")), Directory::new(folder.path("none")).recursive()] {
        assert_eq!(walk(&folder, directory), ["!none"]);
    }
    folder.write("file", "");
    assert_eq!(walk(&folder, folder.path("file").into()), ["!file"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_not() {
    use std::os::unix::fs::symlink;
    let folder = tree();
    symlink(&folder.0, folder.path("b/up")).unwrap();
    symlink("../b", folder.path("d/b")).unwrap();
    symlink("a", folder.path("link")).unwrap();
    symlink("nothing", folder.path("dangling")).unwrap();
    let all = Directory::new(&folder.0).recursive();
    assert_eq!(walk(&folder, all), ["a", "b/1.txt", "b/2", "c.txt", "d/x", "!dangling", "e", "link"]);
}

#[test]
fn a_vanished_file_is_an_error_item_and_reading_continues() {
    let folder = tree();
    let (clock, pipeline) = virtual_pipeline_of(1);
    let mut paths = Stream::directory(&pipeline, Directory::new(&folder.0).recursive());
    let first = paths.recv().unwrap();
    // Two more may be on their way.
    clock.settle();
    fs::remove_dir_all(folder.path("d")).unwrap();
    folder.remove("e");
    let rest: Vec<_> = std::iter::once(first).chain(paths).collect();
    assert_eq!(names(&folder, rest), ["a", "b/1.txt", "b/2", "c.txt", "!d", "!e"]);
}

#[test]
fn new_files_of_a_watched_folder_come_once_each() {
    let folder = Folder::new();
    let (clock, pipeline) = virtual_pipeline();
    let directory = Directory::new(folder.path("in")).watch(ms(100));
    let mut paths = Stream::directory(&pipeline, directory);
    let mut now = |clock: &ManualClock| {
        clock.settle();
        let found: Vec<_> = std::iter::from_fn(|| paths.try_recv().ok()).collect();
        names(&folder, found)
    };
    let nothing: [&str; 0] = [];
    // Told once.
    assert_eq!(now(&clock), ["!in"]);
    clock.advance(ms(100));
    assert_eq!(now(&clock), nothing);
    fs::create_dir(folder.path("in")).unwrap();
    folder.write("in/b", "");
    clock.advance(ms(99));
    assert_eq!(now(&clock), nothing);
    clock.advance(ms(1));
    assert_eq!(now(&clock), ["in/b"]);
    folder.write("in/c", "");
    folder.write("in/a", "");
    clock.advance(ms(100));
    assert_eq!(now(&clock), ["in/a", "in/c"]);
    // One that comes back is a new one.
    folder.remove("in/a");
    clock.advance(ms(100));
    folder.write("in/a", "");
    clock.advance(ms(100));
    assert_eq!(now(&clock), ["in/a"]);
    pipeline.drain();
    assert_eq!(now(&clock), nothing);
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
#[cfg(unix)]
fn a_file_is_found_once_it_can_be_read() {
    let folder = Folder::new();
    let (clock, pipeline) = virtual_pipeline();
    fs::create_dir(folder.path("in")).unwrap();
    std::os::unix::fs::symlink(folder.path("later"), folder.path("in/link")).unwrap();
    let mut paths = Stream::directory(&pipeline, Directory::new(folder.path("in")).watch(ms(100)));
    let mut now = || {
        clock.settle();
        let found: Vec<_> = std::iter::from_fn(|| paths.try_recv().ok()).collect();
        clock.advance(ms(100));
        clock.settle();
        names(&folder, found)
    };
    let nothing: [&str; 0] = [];
    // It leads nowhere. Told once.
    assert_eq!(now(), ["!in/link"]);
    assert_eq!(now(), nothing);
    folder.write("later", "");
    // The walk of the last advance came before that.
    assert_eq!(now(), nothing);
    assert_eq!(now(), ["in/link"]);
    assert_eq!(now(), nothing);
}

#[test]
#[cfg(unix)]
fn files_of_a_folder_once_unreadable_are_not_repeated() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("in/sub/deep")).unwrap();
    ["in/sub/a", "in/sub/deep/b", "in/suburb"].into_iter().for_each(|name| folder.write(name, ""));
    let (clock, pipeline) = virtual_pipeline();
    let directory = Directory::new(folder.path("in")).recursive().watch(ms(100));
    let mut paths = Stream::directory(&pipeline, directory);
    let mut next = || {
        clock.settle();
        let found: Vec<_> = std::iter::from_fn(|| paths.try_recv().ok()).collect();
        names(&folder, found)
    };
    let nothing: [&str; 0] = [];
    assert_eq!(next(), ["in/sub/a", "in/sub/deep/b", "in/suburb"]);
    // A link to itself: there is something, but it cannot be read.
    fs::rename(folder.path("in/sub"), folder.path("away")).unwrap();
    std::os::unix::fs::symlink("sub", folder.path("in/sub")).unwrap();
    for told in [&["!in/sub"][..], &[]] {
        clock.advance(ms(100));
        assert_eq!(next(), told);
    }
    folder.remove("in/sub");
    fs::rename(folder.path("away"), folder.path("in/sub")).unwrap();
    folder.write("in/sub/deep/c", "");
    clock.advance(ms(100));
    assert_eq!(next(), ["in/sub/deep/c"]);
    // A folder that was gone has new files when it is back.
    fs::rename(folder.path("in/sub"), folder.path("away")).unwrap();
    clock.advance(ms(100));
    assert_eq!(next(), nothing);
    fs::rename(folder.path("away"), folder.path("in/sub")).unwrap();
    clock.advance(ms(100));
    assert_eq!(next(), ["in/sub/a", "in/sub/deep/b", "in/sub/deep/c"]);
}

#[test]
fn lines_of_a_watched_folder_come_as_its_files_do() {
    let folder = Folder::new();
    folder.write("a", "1\n2");
    let (clock, pipeline) = virtual_pipeline();
    let mut lines = Stream::file_lines(&pipeline, Directory::new(&folder.0).watch(ms(100)));
    let mut now = |clock: &ManualClock| {
        clock.settle();
        let lines = std::iter::from_fn(|| lines.try_recv().ok());
        lines.map(|line| line.unwrap().text().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(now(&clock), ["1", "2"]);
    folder.write("b", "3\n");
    clock.advance(ms(100));
    assert_eq!(now(&clock), ["3"]);
    pipeline.cancel();
    pipeline.join();
}

#[test]
fn lines_know_their_file_and_number() {
    let folder = Folder::new();
    folder.write("a", "one\r\n\ntwo");
    folder.write("b", "");
    folder.write("c", "three\n");
    let (_, pipeline) = virtual_pipeline();
    let list = Files::list(["a", "b", "c"].map(|name| folder.path(name)));
    let lines = Stream::file_lines(&pipeline, list).collect::<Vec<_>>().unwrap();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            let name = line.path.file_name().unwrap().to_str().unwrap();
            (name, line.number, line.start, line.end, line.text().unwrap())
        })
        .collect();
    assert_eq!(seen, [("a", 1, 0, 5, "one"), ("a", 2, 0, 6, ""), ("a", 3, 0, 9, "two"), ("c", 1, 0, 6, "three")]);
    let one = Stream::file_lines(&pipeline, folder.path("c")).collect::<Vec<_>>().unwrap();
    assert_eq!(one, lines[3..]);
}

#[test]
fn unreadable_lines_name_file_and_line_and_reading_continues() {
    let folder = Folder::new();
    folder.write("a", "short\nmuch too long\nend\n");
    folder.write("c", "last\n");
    let (_, pipeline) = virtual_pipeline();
    let list = Files::list(["a", "b", "c"].map(|name| folder.path(name))).with_max_len(5);
    let found: Vec<_> = Stream::file_lines(&pipeline, list).into_iter().collect();
    let texts: Vec<_> = found.iter().filter_map(|item| item.as_ref().ok()?.text().ok()).collect();
    assert_eq!(texts, ["short", "end", "last"]);
    let long = found[1].as_ref().unwrap_err();
    let reason = long.downcast_ref::<FileError>().unwrap();
    assert_eq!(reason.to_string(), format!("bad line at {}:2", folder.path("a").display()));
    assert!(matches!(reason, FileError::Line { source: LineError::TooLong { max_len: 5, .. }, .. }));
    assert_eq!(long.take_item::<FileLine>().unwrap().bytes, b"much ");
    let missing = found[3].as_ref().unwrap_err().downcast_ref::<FileError>().unwrap();
    assert_eq!(missing.to_string(), format!("cannot read {}", folder.path("b").display()));
    assert!(matches!(pipeline.join().outcome, Outcome::Completed));
}

#[test]
fn a_panic_in_the_filter_cuts_the_stream() {
    let folder = tree();
    let (_, pipeline) = virtual_pipeline();
    let directory =
        Directory::new(&folder.0).with_filter(|path| if path.ends_with("c.txt") { panic!("no") } else { true });
    let mut found: Vec<_> = Stream::directory(&pipeline, directory).into_iter().collect();
    let error = found.pop().unwrap().unwrap_err();
    assert!(error.is_cancelled() && error.downcast_ref::<PanicMessage>().is_some());
    assert_eq!(names(&folder, found), ["a"]);
}
