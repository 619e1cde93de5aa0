//! Every example runs without arguments, and keeps the promises that it makes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::program::{self, Ran, command, in_time};

/// Those that do not end with a list of promises; tests of their own look at what they do.
const WITHOUT_PROMISES: [&str; 2] = ["durable", "etl"];

/// The names that cargo gives to the examples.
fn names() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let is_program = |path: &Path| {
        path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists()
    };
    entries.filter(|path| is_program(path)).map(|path| name(&path)).collect()
}

/// Runs `check` on each, two at a time; says what was wrong with which.
fn each(names: BTreeSet<String>, check: impl Fn(&str) -> Result<(), String> + Sync) {
    assert!(!names.is_empty());
    let (queue, wrong) = (Mutex::new(names.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(name) = next() {
                    if let Err(what) = check(&name) {
                        wrong.lock().unwrap().push(format!("{name}: {what}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// One after the other: a program may write to a place of its own.
#[test]
fn every_example_keeps_its_promises_and_minds_no_closed_pipe() {
    each(names(), |name| {
        let _place = (name == "etl").then(program::own_place_of_etl);
        keeps_its_promises(name)?;
        minds_no_closed_pipe(name)
    });
}

fn keeps_its_promises(name: &str) -> Result<(), String> {
    let ran = program::run(command::<&str>(program::program(name), []));
    let promises =
        ran.stdout.lines().last().is_some_and(|line| line.ends_with("promises kept"));
    match ran.code {
        Some(0) if promises || WITHOUT_PROMISES.contains(&name) => Ok(()),
        code => Err(format!("{code:?}\n{}\n{}", ran.stdout, ran.stderr)),
    }
}

#[test]
fn every_example_answers_help_and_refuses_unknown_arguments() {
    each(names(), |name| {
        for help in ["--help", "-h"] {
            let ran = program::run(command(program::program(name), [help]));
            let says = |text: &str| ran.stdout.contains(text);
            if ran.code != Some(0)
                || !ran.stderr.is_empty()
                || !says(&format!("Usage: {name}"))
                || !says("-h, --help")
                || ran.stdout.lines().any(|line| line.chars().count() > 100)
            {
                return Err(format!("{help}: {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr));
            }
        }
        for unknown in [&["--no-such-option"][..], &["--help=me"], &["--no-such-option", "x"]] {
            let ran = program::run(command(program::program(name), unknown));
            if ran.code != Some(2)
                || !ran.stdout.is_empty()
                || !ran.stderr.contains("error: unexpected")
            {
                return Err(format!(
                    "{unknown:?}: {:?}\n{}\n{}",
                    ran.code, ran.stdout, ran.stderr
                ));
            }
        }
        let mut child = command(program::program(name), ["--help"]).spawn().unwrap();
        drop(child.stdout.take());
        let ran: Ran = in_time(move || child.wait_with_output().unwrap()).into();
        if ran.code == Some(0) {
            Ok(())
        } else {
            Err(format!("unheard: {:?}\n{}", ran.code, ran.stderr))
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn every_example_reports_that_its_help_cannot_be_written() {
    each(names(), |name| {
        let mut command = command(program::program(name), ["--help"]);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ran = program::run(command);
        if ran.code == Some(1)
            && ran.stderr.lines().count() == 1
            && ran.stderr.contains("cannot write to standard output: ")
        {
            Ok(())
        } else {
            Err(format!("{:?}\n{}", ran.code, ran.stderr))
        }
    });
}

fn minds_no_closed_pipe(name: &str) -> Result<(), String> {
    let mut child = command::<&str>(program::program(name), []).spawn().unwrap();
    drop(child.stdout.take());
    let ran: Ran = in_time(move || child.wait_with_output().unwrap()).into();
    if ran.code == Some(0) {
        Ok(())
    } else {
        Err(format!("unheard: {:?}\n{}", ran.code, ran.stderr))
    }
}
