//! Tests that an output is refused if it is also an input or another output, whatever name it is given.

use std::fs;
use std::path::{Path, PathBuf};

use super::{GOOD, Place, count, csv, data, etl};
use crate::program::{self, Ran};

#[test]
fn no_output_destroys_an_input_whatever_it_is_called() {
    let place = Place::new();
    let path = |name: &str| place.path(name);
    let content = csv(&[GOOD]);
    let input = place.write("in.csv", &content);
    let airlines = place.write("airlines.csv", fs::read(data("airlines.csv")).unwrap());
    fs::hard_link(&input, path("hard")).unwrap();
    fs::hard_link(&airlines, path("hard-airlines")).unwrap();
    std::os::unix::fs::symlink(&input, path("soft")).unwrap();
    std::os::unix::fs::symlink(path("hard"), path("soft-hard")).unwrap();
    fs::hard_link(&input, path("q.db-wal")).unwrap();
    fs::hard_link(&input, path("r.db-journal")).unwrap();
    fs::hard_link(&input, path("s.db-shm")).unwrap();
    let names = || -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(place.folder()).unwrap().map(|it| it.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = names();
    let run = |given: &Path, database: &str, letters: &str, appends: bool| {
        let mut command = etl(["--force", "--airlines"]);
        command.arg(&airlines).arg("--input").arg(given).arg("--database").arg(path(database));
        command.arg("--dead-letters").arg(path(letters));
        command.stdin(fs::File::open(&input).unwrap());
        if appends {
            command.stdout(fs::OpenOptions::new().append(true).open(path("hard")).unwrap());
        }
        let ran = program::run(command);
        assert_eq!(names(), before, "{database}, {letters}: {}", ran.stderr);
        assert_eq!(
            fs::read_to_string(&input).unwrap(),
            content,
            "{database}, {letters}: {}",
            ran.stderr
        );
        ran
    };
    for given in [input.as_path(), Path::new("-"), Path::new("/dev/stdin")] {
        for file in ["hard", "soft", "soft-hard", "in.csv", "hard-airlines"] {
            run(given, "out.db", file, false).fails_with("is an input");
            run(given, file, "letters", false).fails_with("is an input");
        }
        for database in ["q.db", "r.db", "s.db"] {
            run(given, database, "letters", false).fails_with("is an input");
        }
        run(given, "out.db", "letters", true).fails_with("standard output is an input");
    }
    for letters in ["out.db", "out.db-wal", "out.db-journal", "out.db-shm"] {
        run(&input, "out.db", letters, false).fails_with("are the same file");
    }
}

#[test]
fn two_outputs_are_never_one_file() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    assert_eq!(place.run(&input, &[]).code, Some(0));
    fs::hard_link(place.database(), place.path("hard")).unwrap();
    std::os::unix::fs::symlink("none", place.path("dangling")).unwrap();
    let run = |database: &str, letters: &Path, stdout: Option<&str>| -> Ran {
        let mut command = etl(["--force", "--input"]);
        command
            .arg(&input)
            .arg("--database")
            .arg(place.path(database))
            .arg("--dead-letters")
            .arg(letters);
        if let Some(name) = stdout {
            command.stdout(
                fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(place.path(name))
                    .unwrap(),
            );
        }
        program::run(command)
    };
    run("out.db", &place.path("hard"), None).fails_with("are the same file");
    run("none", &place.path("dangling"), None).fails_with("are the same file");
    run("new.db", &place.path("said"), Some("said")).fails_with("are the same file");
    run("new.db", Path::new("/dev/stdout"), Some("said")).fails_with("are the same file");
    run("said", &place.path("letters"), Some("said")).fails_with("are the same file");
    assert_eq!(count(&place.database()), 1, "nothing was touched");
    // What stores nothing may be both.
    let mut command = etl(["--quiet", "--input"]);
    command
        .arg(&input)
        .arg("--database")
        .arg(place.path("new.db"))
        .args(["--dead-letters", "/dev/null"]);
    let ran = program::run(command);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}
