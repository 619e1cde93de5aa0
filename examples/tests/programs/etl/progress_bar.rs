//! Tests the progress bar that a terminal shows.

use std::fs;
use std::io::{BufRead, BufReader, Read};

use super::control::named_pipe;
use super::{GOOD, Place, csv, etl};
use crate::program::{self, in_time};

#[test]
fn the_bar_has_the_rate_and_the_time_left() {
    let place = Place::new();
    let letters = named_pipe(&place, "failed.jsonl");
    // More than the pipe takes: the program waits, and the bar stays.
    let bad = "x".repeat(4000);
    let input = place.write("in.csv", csv(&[&[GOOD][..], &vec![&*bad; 2000]].concat()));
    let mut program = etl(["--input"]);
    program
        .arg(&input)
        .arg("--database")
        .arg(place.database())
        .arg("--dead-letters")
        .arg(&letters);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let line: String = words.map(|word| format!("'{}' ", word.display())).collect();
    // A terminal of 200 columns.
    let mut command =
        program::command("script", ["-qec", &format!("stty cols 200; {line}"), "/dev/null"]);
    command.env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    let shown = in_time(move || {
        let letters = fs::File::open(letters).unwrap();
        let (mut shown, mut block) = (Vec::new(), [0; 1000]);
        let mut screen = child.stdout.take().unwrap();
        while !String::from_utf8_lossy(&shown).contains(" left") {
            let read = screen.read(&mut block).unwrap();
            assert_ne!(read, 0, "no bar: {}", String::from_utf8_lossy(&shown));
            shown.extend(&block[..read]);
        }
        BufReader::new(letters).lines().for_each(drop);
        std::io::copy(&mut screen, &mut shown).unwrap();
        child.wait().unwrap();
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert!(shown.contains("B/s") && shown.contains("s left"), "{shown}");
}
