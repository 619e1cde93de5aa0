//! A log with known content: generated from a seed, with attacks and malformed lines in known places.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::json;
use streamz::{BoxError, Result};

use crate::args::Args;
use crate::common::{Data, Page};
use crate::interrupt::Interrupt;
use crate::output::note;
use crate::plain::{self, Count};
use crate::report::Summary;

const SEED: u64 = 20_260_314;

/// 2026-03-14T09:00:00Z, and the duration of the log.
const START: i64 = 1_773_478_800;
const MINUTES: i64 = 240;

/// The usual number of requests per minute.
const USUAL: u32 = 200;

/// The planted attackers, and the minutes of their attacks.
const SCANNER: (&str, i64) = ("203.0.113.9", 43);
const GUESSER: (&str, i64) = ("198.51.100.23", 97);
const BURST: i64 = 150;
const PROBER: (&str, i64) = ("192.0.2.66", 222);

const PROBES: [(&str, u16); 4] = [
    ("/item?id=1%27%20UNION%20SELECT%20password%20FROM%20users--", 200),
    ("/static/..%2f..%2f..%2fetc/passwd", 403),
    ("/search?q=%3Cscript%3Ealert(1)%3C/script%3E", 200),
    ("/.env", 404),
];

const MALFORMED: [&[u8]; 9] = [
    b"",
    b"10.0.0.1 - - [14/Mar/2026:09",
    b"10.0.0.1 - - [31/Feb/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 17",
    b"10.0.0.1 - - [14/Mar/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 2x0 17",
    b"10.0.0.1 - - [14/Mar/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 lots",
    b"10.0.0.1 - - [14/M\xff\xfe/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 17",
    b"{\"time\": \"2026-03-14T09:00:00Z\", \"client\": \"10.0.0.1\", \"path\": \"/\"",
    b"{\"time\": \"2026-03-14T09:00:00Z\", \"client\": \"10.0.0.1\", \"path\": \"/\", \"bytes\": 17}",
    b"Segmentation fault (core dumped)",
];

/// Generates the log, processes it, and checks the findings, unless it was cut short.
pub(crate) fn run(given: &Args, interrupt: Interrupt) -> Result<ExitCode, BoxError> {
    let folder = tempfile::tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let made = Made::new();
    let files =
        made.write(folder.path()).map_err(|error| format!("cannot write the log: {error}"))?;
    // Only the usual options have known findings.
    let mut args = Args::parse_from(["log_processing"]);
    args.files = files.clone();
    args.folder = folder.path().to_owned();
    args.to_the_end = true;
    args.json.clone_from(&given.json);
    args.rejects.clone_from(&given.rejects);
    (args.top, args.quiet, args.stages, args.sequential) =
        (given.top, given.quiet, given.stages, given.sequential);
    (args.live, args.picture) = (given.live, given.picture);

    let silent = args.quiet || args.json_on_stdout();
    let page = if silent { Page::new(io::sink()) } else { Page::new(io::stdout()) };
    let page = page.with_prefix("log_processing: ");
    page.say(format_args!(
        "working through a log of {} lines, made from seed {SEED}\n",
        made.lines
    ));
    let summary = crate::run(&args, interrupt)?;
    if !summary.is_well() {
        // What was cut short is no evidence. The summary has reported its faults.
        if summary.is_interrupted() && !args.quiet {
            note("the promises were not checked: the run was interrupted");
        }
        return Ok(summary.exit_code());
    }
    page.say("\nchecked:");
    check(&page, &summary, &made, &plain::count(&files)?);
    Ok(if page.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(page: &Page, summary: &Summary, made: &Made, plain: &Count) {
    let (tables, rejects, said) =
        (&summary.ended.tables, &summary.ended.rejects, &summary.ended.said);
    page.check_eq("every line that was made was read", summary.read, made.lines);
    page.check_eq(
        "every line was counted once: read = parsed + malformed",
        tables.requests + rejects.count,
        made.lines,
    );
    page.check_eq(
        "the malformed lines are those that were put in",
        rejects.count,
        made.malformed,
    );
    let count = Count {
        read: summary.read,
        parsed: tables.requests,
        malformed: rejects.count,
        bytes: tables.bytes,
        statuses: tables.statuses().collect(),
        minutes: tables
            .minutes
            .iter()
            .map(|(minute, counts)| (minute, counts.iter().sum()))
            .collect(),
        clients: tables
            .clients
            .iter()
            .map(|(client, it)| (client.to_string(), it.requests))
            .collect(),
    };
    page.check(
        "a plain loop counts the same, of each status, minute and client",
        count == *plain,
    );

    let found = said
        .kept
        .iter()
        .map(|alert| (alert.what.kind(), alert.client.as_deref().unwrap_or_default()));
    let planted = [
        ("errors", SCANNER.0),
        ("scan", SCANNER.0),
        ("errors", GUESSER.0),
        ("burst", ""),
        ("probe", PROBER.0),
    ];
    page.check_eq(
        "the alerts name exactly what was planted",
        found.collect::<BTreeSet<_>>(),
        planted.into(),
    );
    page.check_eq(
        "each was said once",
        said.count,
        planted.len() as u64 - 1 + PROBES.len() as u64,
    );
    let burst = said
        .kept
        .iter()
        .find(|alert| alert.client.is_none())
        .map(|alert| (alert.time - START) / 60);
    page.check_eq("the burst was noticed in its minute", burst, Some(BURST));
}

/// The lines of the log, in the files they belong to.
struct Made {
    files: [(&'static str, Vec<u8>); 3],
    lines: u64,
    malformed: u64,
}

/// One request.
struct Request {
    time: i64,
    client: String,
    method: &'static str,
    target: String,
    status: u16,
    bytes: u32,
}

impl Made {
    fn new() -> Self {
        let mut data = Data::seeded(SEED);
        let mut made = Self {
            files: [("access.log.1.gz", vec![]), ("access.log", vec![]), ("app.jsonl", vec![])],
            lines: 0,
            malformed: 0,
        };
        for minute in 0..MINUTES {
            // Rotated at 11:00; from 12:20 on another server writes another format.
            let file = if minute < 120 { 0 } else { 1 + usize::from(minute >= 200) };
            for request in requests(minute, &mut data) {
                if data.chance(0.001) {
                    let line = data.pick(&MALFORMED);
                    made.push(file, line);
                    made.malformed += 1;
                }
                let line = if file == 2 { request.as_json() } else { request.as_combined() };
                made.push(file, line.as_bytes());
            }
        }
        // Not a log line, and too long for memory if it continued like that.
        made.push(2, &vec![b'x'; 200_000]);
        made.malformed += 1;
        made
    }

    fn push(&mut self, file: usize, line: &[u8]) {
        let text = &mut self.files[file].1;
        text.extend_from_slice(line);
        text.push(b'\n');
        self.lines += 1;
    }

    fn write(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let write = |(name, text): &(&str, Vec<u8>)| {
            let path = folder.join(name);
            if name.ends_with(".gz") {
                let mut encoder = GzEncoder::new(fs::File::create(&path)?, Compression::fast());
                encoder.write_all(text)?;
                encoder.finish()?;
            } else {
                fs::write(&path, text)?;
            }
            Ok(path)
        };
        self.files.iter().map(write).collect()
    }
}

/// The events of a minute, in the order of time.
fn requests(minute: i64, data: &mut Data) -> Vec<Request> {
    let start = START + minute * 60;
    let count = data.between(USUAL - 40..=USUAL + 40) * if minute == BURST { 6 } else { 1 };
    let mut requests: Vec<Request> = (0..count).map(|_| visit(start, data)).collect();
    let mut plant = |planted: (&str, i64),
                     count: u32,
                     make: &dyn Fn(u32) -> (&'static str, String, u16)| {
        if minute == planted.1 {
            requests.extend((0..count).map(|n| {
                let (method, target, status) = make(n);
                let time = start + 5 + i64::from(n * 50 / count);
                Request {
                    time,
                    client: planted.0.to_owned(),
                    method,
                    target,
                    status,
                    bytes: 153,
                }
            }));
        }
    };
    plant(SCANNER, 150, &|n| ("GET", format!("/backup/{n:03}.sql"), 404));
    plant(GUESSER, 80, &|_| ("POST", "/login".to_owned(), 401));
    plant(PROBER, 12, &|n| {
        let (target, status) = PROBES[n as usize % PROBES.len()];
        ("GET", target.to_owned(), status)
    });
    requests.sort_by_key(|request| request.time);
    requests
}

/// The behaviour of visitors.
fn visit(start: i64, data: &mut Data) -> Request {
    let visitor = data.skewed(3000);
    let client = format!("10.{}.{}.{}", visitor % 7, visitor / 250, visitor % 250);
    let page = data.skewed(40);
    let target = match page {
        0 => "/".to_owned(),
        1..10 => format!("/products/{page}?ref=home&page={}", data.between(1..=9)),
        10..25 => format!("/images/{page}.webp"),
        _ => format!("/articles/{page}"),
    };
    let status = match data.between(0..1000) {
        0..25 => 404,
        25..30 => 500,
        30..33 => 503,
        33..100 => 304,
        100..120 => 301,
        _ => 200,
    };
    let bytes = if status == 304 { 0 } else { data.between(200..40_000) };
    Request {
        time: start + i64::from(data.between(0..60)),
        client,
        method: "GET",
        target,
        status,
        bytes,
    }
}

impl Request {
    fn as_combined(&self) -> String {
        let Self { time, client, method, target, status, bytes } = self;
        let time = Timestamp::from_second(*time)
            .unwrap_or_default()
            .strftime("%d/%b/%Y:%H:%M:%S +0000")
            .to_string();
        let bytes = if *bytes == 0 { "-".to_owned() } else { bytes.to_string() };
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        format!(
            "{client} - - [{time}] \"{method} {target} HTTP/1.1\" {status} {bytes} \"-\" \"{agent}\""
        )
    }

    fn as_json(&self) -> String {
        let Self { time, client, method, target, status, bytes } = self;
        let time = Timestamp::from_second(*time).unwrap_or_default().to_string();
        json!({"time": time, "client": client, "method": method, "path": target, "status": status, "bytes": bytes})
            .to_string()
    }
}
