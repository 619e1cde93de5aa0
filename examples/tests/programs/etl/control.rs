//! Helpers for tests that control a running job: signals, named pipes, and a look into its database file.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, OpenFlags};

use super::{Place, csv};
use crate::program::{Ran, in_time};

pub(super) fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

pub(super) fn named_pipe(place: &Place, name: &str) -> PathBuf {
    let path = place.path(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[expect(
    clippy::unbuffered_bytes,
    reason = "nothing but the line is to be taken out of the pipe"
)]
pub(super) fn first_line(reader: &mut impl Read) -> String {
    let bytes = reader.bytes().map(Result::unwrap).take_while(|byte| *byte != b'\n').collect();
    String::from_utf8(bytes).unwrap()
}

/// Counts the rows in the database file, ignoring the write-ahead log.
pub(super) fn count_in_file(database: &Path) -> u64 {
    let uri = format!("file:{}?immutable=1", database.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let count = Connection::open_with_flags(uri, flags).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM flights", [], |row| row.get::<_, i64>(0))
    });
    // There is no table yet, or the file is being written to.
    count.map_or(0, i64::unsigned_abs)
}

/// Runs the program on its standard input, which ends after `step`. That is called when the first of `rows` are in the
/// database, and returns more rows.
pub(super) fn run_stepwise(
    place: &Place,
    rows: &[&str],
    step: impl FnOnce(&Path) -> Vec<&'static str> + Send + 'static,
) -> Ran {
    let (database, rows) = (place.database(), csv(rows));
    let mut child = place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
    in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(rows.as_bytes()).unwrap();
        while count_in_file(&database) == 0 {
            std::thread::yield_now();
        }
        for row in step(&database) {
            writeln!(stdin, "{row}").unwrap();
        }
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .into()
}
