//! Tests how outputs are created, and that `--force` replaces a database and no other file.

use std::fs;
use std::path::Path;

use super::{BAD, GOOD, Place, count, csv, etl};
use crate::program::{self, Ran};

fn run(input: &Path, database: &Path, dead_letters: &Path, more: &[&str]) -> Ran {
    let mut command = etl(["--input"]);
    command.arg(input).arg("--database").arg(database);
    command.arg("--dead-letters").arg(dead_letters).args(more);
    program::run(command)
}

#[test]
fn a_database_that_exists_is_replaced_only_by_force() {
    let place = Place::new();
    let one = place.write("one.csv", csv(&[GOOD]));
    let two = place.write("two.csv", csv(&[GOOD, GOOD, BAD]));
    assert_eq!(place.run(&two, &[]).code, Some(0));
    place.run(&one, &[]).fails_with(&format!(
        "database {} exists; --resume continues it, --force replaces it",
        place.database().display()
    ));
    assert_eq!(
        (count(&place.database()), place.dead_letters().len()),
        (2, 1),
        "nothing was touched"
    );
    assert_eq!(place.run(&one, &["--force"]).code, Some(0));
    assert_eq!((count(&place.database()), place.dead_letters().len()), (1, 0));
}

#[test]
fn force_replaces_databases_and_never_an_input_or_another_file() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    fs::write(place.database(), "my notes").unwrap();
    place.run(&input, &["--force"]).fails_with("is not an SQLite database; it is not replaced");
    assert_eq!(fs::read_to_string(place.database()).unwrap(), "my notes");

    let run = |database: &Path, letters: &Path| run(&input, database, letters, &["--force"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let link = place.path("link");
        symlink("/dev/null", &link).unwrap();
        run(&link, &place.path("letters")).fails_with("it is not a regular file");
        fs::remove_file(&link).unwrap();
        // What a link names is replaced, not the link.
        let target = place.path("target.db");
        fs::write(&target, "").unwrap();
        symlink(&target, &link).unwrap();
        for _ in 0..2 {
            assert_eq!(run(&link, &place.path("letters")).code, Some(0));
            assert!(link.is_symlink());
            assert_eq!(count(&target), 1);
        }
        // The files of SQLite are beside what the link names.
        let log = place.path("target.db-wal");
        run(&link, &log).fails_with("are the same file");
        fs::write(&log, csv(&[GOOD])).unwrap();
        let mut command = etl(["--force", "--input"]);
        command.arg(&log).arg("--database").arg(&link);
        program::run(command).fails_with("is an input");
        assert_eq!(fs::read_to_string(&log).unwrap(), csv(&[GOOD]));
        fs::remove_file(&log).unwrap();
        // What it names need not be there.
        for option in ["--quiet", "--resume", "--force"] {
            fs::remove_file(&target).unwrap();
            let mut command = etl([option, "--input"]);
            command.arg(&input).arg("--database").arg(&link);
            let ran = program::run(command);
            assert_eq!(ran.code, Some(0), "{option}: {}", ran.stderr);
            assert!(link.is_symlink());
            assert_eq!(count(&target), 1);
        }
    }

    let other = place.path("other");
    run(&input, &other).fails_with("is an input");
    run(&other, &input).fails_with("is an input");
    run(&other, &other).fails_with("are the same file");
    // Another name for it; neither is there yet.
    run(
        &other,
        &place.path(".").join("..").join(place.folder().file_name().unwrap()).join("other"),
    )
    .fails_with("are the same file");
    assert_eq!(fs::read_to_string(&input).unwrap(), csv(&[GOOD]));
}

#[test]
fn outputs_that_cannot_be_created_are_named() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    let run = |database: &Path, letters: &str| run(&input, database, &place.path(letters), &[]);
    let nowhere = place.path("nowhere/out.db");
    let no_folder =
        format!("cannot create database {}: its folder does not exist", nowhere.display());
    for more in [&[][..], &["--resume"], &["--force"]] {
        // Its dead letters would lie beside it.
        let mut command = etl(["--input"]);
        command.arg(&input).arg("--database").arg(&nowhere).args(more);
        program::run(command).fails_with(&no_folder);
    }
    run(&nowhere, "a").fails_with(&no_folder);
    run(&input.join("out.db"), "b").fails_with("cannot create database");
    run(place.folder(), "c").fails_with("it is a directory");
    for left in ["a", "b", "c"] {
        assert!(!place.path(left).exists(), "an empty dead-letter file is left behind: {left}");
    }
    let nowhere = place.path("nowhere/failed.jsonl");
    run(&place.path("d.db"), "nowhere/failed.jsonl")
        .fails_with(&format!("cannot create dead-letter file {}", nowhere.display()));
    assert!(!place.path("d.db").exists());
}
