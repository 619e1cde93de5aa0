//! Tests that an output is refused if it is also an input or another output, whatever name it is given.

use std::fs;

use super::{Place, good};
use crate::program;

#[test]
fn a_log_is_never_written_over() {
    let place = Place::new();
    place.write("a.log", good(0));
    place.run(&["a.log", "--json", "./a.log"]).fails_with("--json ./a.log is an input: a.log");
    place
        .run(&["a.log", "--rejects", "a.log"])
        .fails_with("--rejects a.log is an input: a.log");
    place.run(&["a.log", "--json", "x", "--rejects", "x"]).fails_with("are the same file: x");
    assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
}

#[test]
fn outputs_that_are_one_file_are_refused() {
    let place = Place::new();
    place.write("a.log", good(0));
    place
        .run(&["a.log", "--json", "x", "--rejects", "./x"])
        .fails_with("--json and --rejects are the same file: x");
    assert!(!place.path("x").exists(), "what was created for nothing is removed");
    place.write("x", "kept");
    fs::hard_link(place.path("x"), place.path("y")).unwrap();
    place
        .run(&["a.log", "--json", "x", "--rejects", "y"])
        .fails_with("--json and --rejects are the same file: x");
    assert_eq!(fs::read_to_string(place.path("x")).unwrap(), "kept");
    place
        .run(&["--json", "x", "--rejects", "y"])
        .fails_with("--json and --rejects are the same file: x");
}

#[test]
fn a_log_is_never_written_over_by_another_name() {
    let place = Place::new();
    place.write("a.log", good(0));
    fs::hard_link(place.path("a.log"), place.path("b.log")).unwrap();
    for option in ["--json", "--rejects"] {
        place
            .run(&["a.log", option, "b.log"])
            .fails_with(&format!("{option} b.log is an input: a.log"));
        place
            .run(&["--follow", "a.log", option, "b.log"])
            .fails_with(&format!("{option} b.log is an input: a.log"));
        // A file that is not there yet would be followed as soon as it is created.
        place
            .run(&["--follow", "new", option, "new"])
            .fails_with(&format!("{option} new is an input: new"));
        assert!(!place.path("new").exists());
        let mut command = place.command(&["-", option, "a.log"]);
        command.stdin(fs::File::open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with(&format!("{option} a.log is an input: standard input"));
    }
    for name in ["a.log", "b.log"] {
        let mut command = place.command(&[name]);
        command.stdout(fs::OpenOptions::new().append(true).open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with("standard output is an input: ");
    }
    // An input that cannot be read leaves the outputs as they are.
    place.write("c", "kept");
    place.run(&["none.log", "--json", "c"]).fails_with("cannot open none.log");
    place.run(&["--follow", ".", "--json", "c"]).fails_with("cannot follow .");
    assert_eq!(fs::read_to_string(place.path("c")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
}

#[cfg(target_os = "linux")]
#[test]
fn an_input_is_known_by_any_name() {
    let place = Place::new();
    place.write("a.log", good(0));
    std::os::unix::fs::symlink("a.log", place.path("link")).unwrap();
    std::os::unix::fs::symlink("nothing", place.path("to-nothing")).unwrap();
    place.run(&["a.log", "--json", "link"]).fails_with("--json link is an input: a.log");
    place.run(&["link", "--rejects", "a.log"]).fails_with("--rejects a.log is an input: link");
    let both = ["a.log", "--json", "nothing", "--rejects", "to-nothing"];
    place.run(&both).fails_with("--json and --rejects are the same file: nothing");
    for name in ["/dev/stdin", "/proc/self/fd/0"] {
        let mut command = place.command(&["-", "--json", name]);
        command.stdin(fs::File::open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with(&format!("--json {name} is an input: standard input"));
        let mut command = place.command(&[name, "--json", "a.log"]);
        command.stdin(fs::File::open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with(&format!("--json a.log is an input: {name}"));
    }
    assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
}
