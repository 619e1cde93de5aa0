//! Pictures of pipelines: what is drawn, and that Graphviz and Mermaid can draw it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, FanIn, Mapper, Pipeline, Report, Router, Stream};

use crate::virtual_pipeline_of;

/// A diamond with a pool in one of its arms, and a branch that is not read. The times and the mark of a wait are written
/// into it, because real ones differ from run to run.
fn diamond() -> Report {
    let (clock, pipeline) = virtual_pipeline_of(16);
    let fetch = AsyncMapper::new(|_: &CancelToken, n: &u32| Ok::<_, BoxError>(n * 2));
    let [left, right, unread] = Stream::from_iter(&pipeline, 0..12_u32).fan_out();
    let left = left.through(&fetch.with_workers(4).with_name("fetch"));
    let right = right.through(&Mapper::fallible(|n: &u32| n.checked_sub(2).ok_or("small")).with_name("less"));
    FanIn::new().process(&pipeline, [left, right]).named("store").spawn_for_each(drop);
    clock.settle();

    let mut report = pipeline.report();
    drop(unread);
    report.elapsed = Duration::from_secs(10);
    for (name, idle, busy, blocked) in [("fan_out", 1, 1, 8), ("fetch", 4, 36, 0)] {
        let stage = report.stages.iter_mut().find(|stage| &*stage.name == name).unwrap();
        [stage.idle, stage.busy, stage.blocked] = [idle, busy, blocked].map(Duration::from_secs);
    }
    let fetch = report.stages.iter_mut().find(|stage| &*stage.name == "fetch").unwrap();
    fetch.steps[0].failed_calls = 1_234;
    let fan_out = report.stages.iter_mut().find(|stage| &*stage.name == "fan_out").unwrap();
    fan_out.outputs[2].is_blocking = true;
    fan_out.outputs[2].blocked = Duration::from_secs(8);
    report
}

#[test]
fn a_diamond_is_drawn_for_mermaid() {
    let expected = r##"flowchart LR
    subgraph pipeline["test: running after 10.000s"]
    direction LR
    s0("source<br/>12 out")
    s1["fan_out<br/>12 in, 36 out<br/>busy 10 %, blocked 80 %<br/>waits for room"]
    s2["fetch x4<br/>12 in, 12 out<br/>1,234 failed calls<br/>busy 90 %<br/>bottleneck"]
    s3["less<br/>12 in, 10 out<br/>2 failed"]
    s4["fan_in<br/>22 in, 22 out"]
    s5("store<br/>22 in")
    s6["no stage reads this"]
    end
    s0 -->|"0 of 16"| s1
    s1 -->|"0: 0 of 16"| s2
    s1 -->|"1: 0 of 16"| s3
    s1 ==>|"2: 12 of 16<br/>blocked 8.0s"| s6
    s2 -->|"0 of 16"| s4
    s3 -->|"0 of 16"| s4
    s4 -->|"0 of 16"| s5
    style pipeline fill:none
    classDef bottleneck fill:#ffd8a8,color:#000
    classDef waiting stroke:#e03131,stroke-width:3px
    classDef outside stroke-dasharray:4
    class s2 bottleneck
    class s1 waiting
    class s6 outside
    linkStyle 3 stroke:#e03131
"##;
    let drawn = diamond().to_mermaid();
    assert_eq!(drawn, expected, "\n{drawn}");
}

#[test]
fn a_diamond_is_drawn_for_graphviz() {
    let expected = r##"digraph {
    graph [rankdir=LR labelloc=t fontname="sans-serif" label="test: running after 10.000s"]
    node [shape=box style=filled fillcolor=white fontname="sans-serif"]
    edge [fontname="sans-serif"]
    s0 [label="source\n12 out" style="rounded,filled"]
    s1 [label="fan_out\n12 in, 36 out\nbusy 10 %, blocked 80 %\nwaits for room" color="#e03131" penwidth=3]
    s2 [label="fetch x4\n12 in, 12 out\n1,234 failed calls\nbusy 90 %\nbottleneck" fillcolor="#ffd8a8"]
    s3 [label="less\n12 in, 10 out\n2 failed"]
    s4 [label="fan_in\n22 in, 22 out"]
    s5 [label="store\n22 in" style="rounded,filled"]
    s6 [label="no stage reads this" style=dashed]
    s0 -> s1 [label="0 of 16"]
    s1 -> s2 [label="0: 0 of 16"]
    s1 -> s3 [label="1: 0 of 16"]
    s1 -> s6 [label="2: 12 of 16\nblocked 8.0s" color="#e03131" penwidth=3]
    s2 -> s4 [label="0 of 16"]
    s3 -> s4 [label="0 of 16"]
    s4 -> s5 [label="0 of 16"]
}
"##;
    let drawn = diamond().to_dot();
    assert_eq!(drawn, expected, "\n{drawn}");
}

/// The lines that differ in the picture of a report of one second, in which the threads of a source, a map and a sink had that
/// many milliseconds of idle, busy and blocked time.
fn pace_drawn(spent: [[u64; 3]; 3]) -> (Vec<String>, Vec<String>) {
    let pipeline = Pipeline::new("pace");
    let received = Stream::from_iter(&pipeline, 0..3).map(|n: u32| n).into_receiver(4);
    assert_eq!(received.iter().count(), 3);
    let mut report = pipeline.join();
    report.elapsed = Duration::from_secs(1);
    let mut drawn = |spent: [[u64; 3]; 3]| {
        for (stage, spent) in report.stages.iter_mut().zip(spent) {
            [stage.idle, stage.busy, stage.blocked] = spent.map(Duration::from_millis);
            stage.asleep = Duration::ZERO;
        }
        [report.to_mermaid(), report.to_dot()].map(|picture| picture.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let ([without, dot_without], [with, dot_with]) = (drawn([[0; 3]; 3]), drawn(spent));
    let added =
        |with: Vec<String>, without: Vec<String>| with.into_iter().filter(|line| !without.contains(line)).collect();
    (added(with, without), added(dot_with, dot_without))
}

#[test]
fn a_source_or_consumer_that_limits_the_pace_is_marked() {
    let slow_source = pace_drawn([[0, 1_000, 0], [1_000, 0, 0], [1_000, 0, 0]]);
    assert_eq!(slow_source.0[0], r#"    s0("source<br/>3 out<br/>busy 100 %<br/>the slowest")"#);
    assert_eq!(slow_source.0[1..], ["    classDef slow fill:#d0ebff,color:#000", "    class s0 slow"]);
    let node =
        r##"    s0 [label="source\n3 out\nbusy 100 %\nthe slowest" style="rounded,filled" fillcolor="#d0ebff"]"##;
    assert_eq!(slow_source.1, [node]);

    let slow_consumer = pace_drawn([[0, 0, 0], [0, 0, 0], [0, 0, 1_000]]);
    assert_eq!(slow_consumer.0[0], r#"    s2("into_receiver<br/>3 in<br/>blocked 100 %<br/>waits for its consumer")"#);
    assert_eq!(slow_consumer.0[1..], ["    classDef slow fill:#d0ebff,color:#000", "    class s2 slow"]);
    let node = r##"    s2 [label="into_receiver\n3 in\nblocked 100 %\nwaits for its consumer" style="rounded,filled" fillcolor="#d0ebff"]"##;
    assert_eq!(slow_consumer.1, [node]);
}

/// What has a meaning in one of the languages, in Markdown or in HTML.
const PIECES: [&str; 52] = [
    "",
    " ",
    "  ",
    "end",
    "subgraph",
    "graph",
    "node",
    "style a:#35;",
    "class",
    "click",
    "\"",
    "'",
    "`",
    "\\",
    "\\N",
    "\n",
    "\r\n",
    "\t",
    "\x01",
    "\x7f",
    "\u{85}",
    "\u{2028}",
    "\u{202e}",
    "\u{fffe}",
    "[",
    "]",
    "((",
    "})",
    "|",
    "-->",
    "---",
    "--",
    "%%",
    "%%{init: {}}%%",
    "#quot;",
    "#35;",
    "&amp;",
    "&#60;",
    "<b>",
    "</g>",
    "<br/>",
    "<script>",
    "$$x$$",
    "fa:fa-car",
    "1. ",
    "- ",
    "* ",
    "_a_",
    "www.example.com",
    "@{shape: x}",
    "\u{fb02}\u{b0}\u{b0}35\u{b6}\u{df}",
    "數據 é 🦀",
];

/// A report with names made of such pieces: of the pipeline, its stages, and a branch.
fn oddly_named(seed: u64) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut name = || (0..random.usize(0..4)).map(|_| PIECES[random.usize(..PIECES.len())]).collect::<String>();
    let pipeline = Pipeline::builder(name()).capacity(1).build();
    let mut stream = Stream::from_iter(&pipeline, 0..3_u32);
    for piece in PIECES {
        stream = stream.through(&Mapper::new(|n: u32| n).with_name(piece.to_owned() + &name()));
    }
    let router = Router::new().add_route(name() + "a", |n: &u32| *n > 0, Mapper::new(|n: u32| n)).add_route(
        name() + "b",
        |_| true,
        Mapper::new(|n: u32| n),
    );
    stream.through(&router).named(name()).spawn_for_each(drop);
    pipeline.join()
}

/// The labels, of which there are several on some lines.
fn labels(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

#[test]
fn names_cannot_break_out_of_their_label_in_mermaid() {
    for seed in 0..20 {
        let drawn = oddly_named(seed).to_mermaid();
        for label in drawn
            .lines()
            .inspect(|line| assert!(line.matches('"').count().is_multiple_of(2), "{line}"))
            .flat_map(labels)
        {
            for line in label.split("<br/>") {
                let is_plain = |c: char| c.is_alphanumeric() || " ,._-#;:%\u{2060}".contains(c);
                assert!(line.chars().all(is_plain) && !line.starts_with(' ') && !line.contains("  "), "{seed}: {line}");
            }
        }
    }
}

#[test]
fn names_cannot_break_out_of_their_label_in_dot() {
    for seed in 0..20 {
        for line in oddly_named(seed).to_dot().lines() {
            let without_escapes = line.replace("\\\\", "").replace("\\n", "").replace("\\\"", "").replace("&amp;", "");
            assert!(labels(&without_escapes).all(|label| !label.contains(['\\', '&'])), "{seed}: {line}");
            assert!(without_escapes.matches('"').count().is_multiple_of(2), "{seed}: {line}");
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{fffe}'), "{seed}: {line}");
        }
    }
}

/// What a program prints; `None` if it is not installed.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    match Command::new(program).args(arguments).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: `{program}` is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// A new folder for files of the test of that name.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pictures-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn reports() -> Vec<Report> {
    let empty = Pipeline::new("empty").join();
    (0..5).map(oddly_named).chain([diamond(), empty]).collect()
}

#[test]
fn graphviz_draws_them() {
    let folder = folder("dot");
    let reports = reports();
    fs::write(folder.join("all.dot"), reports.iter().map(Report::to_dot).collect::<String>()).unwrap();
    if let Some(Output { status, stdout, stderr }) = run("dot", &["-Tsvg", "all.dot"], &folder) {
        let (drawn, said) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr));
        assert!(status.success() && said.is_empty(), "{said}");
        assert_eq!(drawn.matches("<svg").count(), reports.len());
        assert!(drawn.contains(">fetch x4</text>"));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mermaid_draws_them() {
    let folder = folder("mermaid");
    let reports = reports();
    let page = reports.iter().map(|report| format!("```mermaid\n{}```\n\n", report.to_mermaid())).collect::<String>();
    fs::write(folder.join("all.md"), page).unwrap();
    // The browser may run as root in a container.
    fs::write(folder.join("browser.json"), r#"{"args": ["--no-sandbox"]}"#).unwrap();
    let arguments = ["-q", "-p", "browser.json", "-i", "all.md", "-o", "drawn.md"];
    if let Some(Output { status, stderr, .. }) = run("mmdc", &arguments, &folder) {
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        for number in 1..=reports.len() {
            let drawn = fs::read_to_string(folder.join(format!("drawn-{number}.svg"))).unwrap();
            assert!(!drawn.contains("Unsupported markdown") && !drawn.contains("Syntax error"), "{drawn}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
