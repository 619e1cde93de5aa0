//! `--live`: a view of the stages, in a real terminal.

use std::fs::File;
use std::io::Write;

use streamz::{Pipeline, Stream};

use crate::program::{self, command, program};
use crate::scratch::Scratch;
use crate::terminal::Terminal;

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,\
                      tailnum,origin,dest,air_time,distance,hour,minute,time_hour";
const FLIGHT: &str =
    "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";
const REQUEST: &str = "10.0.0.1 - - [14/Mar/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 17\n";

/// What the view has on the screen as long as it is there.
const VIEW: &str = "q leaves";

fn flights(count: usize) -> String {
    std::iter::once(HEADER)
        .chain(std::iter::repeat_n(FLIGHT, count))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The ETL program, whose input stays open until what is returned is dropped.
fn etl(more: &str) -> Option<(Terminal, impl Write)> {
    let line = format!("$PROGRAM --live --input - --database out.db {more} < input");
    let terminal = Terminal::start(program("etl"), &line)?;
    let mut input = terminal.input();
    input.write_all(flights(100).as_bytes()).unwrap();
    Some((terminal, input))
}

#[test]
fn stages_are_shown_and_follow_the_size_of_the_terminal() {
    let Some((terminal, input)) = etl("") else { return };
    // The rows have been loaded; more may come.
    let screen = terminal.until("no progress for");
    let rows: Vec<&str> = screen.lines().skip_while(|line| !line.contains(VIEW)).collect();
    assert!(rows[0].starts_with("etl  running"), "{screen}");
    assert!(rows[1].starts_with("stage "), "{screen}");
    let names = ["source", "transform", "put aside", "load"];
    assert!(names.iter().zip(&rows[2..]).all(|(name, row)| row.starts_with(name)), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");

    terminal.resize(200, 50);
    let screen = terminal.until("removed");
    assert_eq!(screen.lines().filter(|line| line.contains(VIEW)).count(), 1, "{screen}");
    assert!(screen.trim_end().lines().count() > 40, "it is at the bottom:\n{screen}");
    terminal.resize(20, 5);
    terminal.until("\netl  running");
    terminal.resize(80, 24);
    terminal.until(VIEW);
    drop(input);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 0") && !screen.contains(VIEW), "{screen}");
}

#[test]
fn ctrl_c_reaches_the_program_and_the_terminal_is_restored() {
    let Some((terminal, _input)) = etl("") else { return };
    terminal.until(VIEW);
    terminal.press(&["C-c"]);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 130") && !screen.contains(VIEW), "{screen}");
    assert!(screen.contains("interrupted, what was read is loaded"), "{screen}");
}

#[test]
fn closing_the_view_lets_the_program_run() {
    let Some((terminal, input)) = etl("--json > out.json") else { return };
    terminal.until(VIEW);
    terminal.press(&["q"]);
    terminal.until_without(VIEW);
    drop(input);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 0"), "{screen}");
    let loaded =
        r#"{"read":100,"loaded":100,"cancelled_flights":0,"failed":0,"complete":true}"#;
    assert_eq!(terminal.file("out.json").trim_end(), loaded);
}

#[test]
fn the_programs_output_stays_above_the_view() {
    let line = "$PROGRAM --live --max-errors 2 - < input";
    let Some(terminal) = Terminal::start(program("log_processing"), line) else { return };
    let mut input = terminal.input();
    terminal.until(VIEW);
    for client in 1..=30 {
        let wrong =
            REQUEST.replace("0.0.1", &format!("0.0.{client}")).replace(" 200 ", " 404 ");
        input.write_all(wrong.repeat(2).as_bytes()).unwrap();
        // After a minute of the log there may be more alerts.
        let later = format!("09:{client:02}:00");
        let wrong = wrong.replace("09:00:00", &later);
        input.write_all(wrong.repeat(2).as_bytes()).unwrap();
    }
    let screen = terminal.until("10.0.0.30");
    let view = screen.lines().position(|line| line.contains(VIEW)).unwrap();
    let alerts: Vec<usize> = (0..)
        .zip(screen.lines())
        .filter(|(_, line)| line.contains("errors within"))
        .map(|(row, _)| row)
        .collect();
    assert!(alerts.len() > 2 && alerts.iter().all(|row| *row < view), "{screen}");
    drop(input);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 0") && !screen.contains(VIEW), "{screen}");
}

/// Waits until the test closes the input.
fn wait_for_the_test() {
    assert_eq!(std::io::stdin().read_line(&mut String::new()).unwrap(), 0);
}

/// A program of the tests that draws a view and panics when it is told to.
#[test]
#[ignore = "a part of the next test"]
fn panics_below_a_view() {
    let pipeline = Pipeline::new("panics");
    let _live = pipeline.live();
    wait_for_the_test();
    panic!("told to");
}

/// A line that runs one of the tests here as a program.
fn program_of_the_tests(name: &str) -> String {
    // With a backtrace the message of a panic would leave the screen.
    format!("RUST_BACKTRACE=0 $PROGRAM --ignored --exact --nocapture live::{name} < input")
}

fn start(line: &str) -> Option<(Terminal, File)> {
    let terminal = Terminal::start(std::env::current_exe().unwrap(), line)?;
    let input = terminal.input();
    Some((terminal, input))
}

#[test]
fn a_panic_restores_the_terminal() {
    let Some((terminal, input)) = start(&program_of_the_tests("panics_below_a_view")) else {
        return;
    };
    terminal.until(VIEW);
    drop(input);
    let screen = terminal.until_restored();
    assert!(
        screen.contains("told to") && screen.contains("exit 101") && !screen.contains(VIEW),
        "{screen}"
    );
}

/// A program of the tests that ends when it is told to, also if it is drained. At the second Ctrl-C it ends at once.
#[test]
#[ignore = "a part of the next tests"]
fn drains_below_a_view() {
    let pipeline = Pipeline::new("drains");
    let token = pipeline.token();
    let on_ctrl_c = move || match token.is_draining() {
        false => token.drain(),
        true => std::process::exit(130),
    };
    ctrlc::set_handler(on_ctrl_c).unwrap();
    let process = |_| {
        // Not before there is an item: if the source were drained before it, there would be nothing to wait for.
        let _live = pipeline.live();
        wait_for_the_test();
    };
    Stream::from_iter(&pipeline, [()]).for_each(process).unwrap();
}

#[test]
fn the_view_comes_back_while_the_pipeline_drains() {
    let Some((terminal, input)) = start(&program_of_the_tests("drains_below_a_view")) else {
        return;
    };
    terminal.until("drains  running");
    terminal.press(&["C-c"]);
    let screen = terminal.until("drains  draining");
    assert!(screen.contains(VIEW), "{screen}");
    drop(input);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 0") && !screen.contains(VIEW), "{screen}");
}

#[test]
fn a_second_ctrl_c_restores_the_terminal_before_exit() {
    let Some((terminal, _input)) = start(&program_of_the_tests("drains_below_a_view")) else {
        return;
    };
    terminal.until("drains  running");
    terminal.press(&["C-c"]);
    terminal.until("drains  draining");
    terminal.press(&["C-c"]);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 130") && !screen.contains(VIEW), "{screen}");
}

#[test]
fn ctrl_z_returns_the_terminal_and_fg_restores_the_view() {
    let stopped = "code=$?\nstty -a > stopped\necho \"stopped $code\"\nread -r _\nfg";
    let line = format!("set -m\n{}\n{stopped}", program_of_the_tests("drains_below_a_view"));
    let Some((terminal, input)) = start(&line) else { return };
    terminal.until(VIEW);
    terminal.press(&["C-z"]);
    // 128 and the number of the signal.
    let screen = terminal.until("\nstopped 148\n");
    assert!(!screen.contains(VIEW), "{screen}");
    assert_eq!(terminal.file("stopped"), terminal.file("before"));
    terminal.press(&["Enter"]);
    terminal.until(VIEW);
    drop(input);
    let screen = terminal.until_restored();
    assert!(screen.contains("exit 0") && !screen.contains(VIEW), "{screen}");
}

#[test]
fn without_a_terminal_nothing_is_shown() {
    let scratch = Scratch::new();
    let input = scratch.write("in.csv", flights(3));
    let args = ["--live", "--json", "--input", input.to_str().unwrap(), "--database"];
    let mut etl = command(program("etl"), args);
    etl.arg(scratch.path("out.db"));
    let ran = program::run(etl);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let log = scratch.write("a.log", REQUEST);
    let ran =
        program::run(command(program("log_processing"), ["--live", log.to_str().unwrap()]));
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert!(!ran.stdout.contains('\x1b'), "{}", ran.stdout);
}
