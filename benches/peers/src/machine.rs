//! What the figures were measured on, and with what.

use std::num::NonZeroUsize;
use std::process::Command;

use jiff::Timestamp;

/// The crates that were compared.
const PEERS: [&str; 6] = ["crossbeam-channel", "futures", "pariter", "rayon", "renoir", "tokio"];

/// A few lines of Markdown. To be taken before the first run: the load is that of others.
pub(crate) fn facts(rounds: u32) -> String {
    let unknown = || "unknown".to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let crates: Vec<_> = PEERS.iter().filter_map(|name| Some(format!("{name} {}", locked_version(name)?))).collect();
    format!(
        "- {} (UTC), streamz {}; rounds: {rounds}, in turn\n- {cpus} CPUs ({}), {} {}; load before: {}\n- {}; {}\n",
        Timestamp::now().strftime("%-d %B %Y, %H:%M"),
        commit().unwrap_or_else(unknown),
        cpu_model().unwrap_or_else(unknown),
        std::env::consts::OS,
        file("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
        load().unwrap_or_else(unknown),
        output("rustc", &["--version"]).unwrap_or_else(unknown),
        crates.join(", "),
    )
}

/// The commit that is checked out, and whether the library differs from it.
fn commit() -> Option<String> {
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let commit = output("git", &["-C", library, "rev-parse", "--short", "HEAD"])?;
    let changed = output("git", &["-C", library, "status", "--porcelain", "--", "src", "Cargo.toml"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

fn cpu_model() -> Option<String> {
    let model = file("/proc/cpuinfo")?;
    let (_, name) = model.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// How many threads wanted to run in the last minute.
fn load() -> Option<String> {
    file("/proc/loadavg")?.split_whitespace().next().map(str::to_owned)
}

/// The version of a crate that this program was built with.
fn locked_version(name: &str) -> Option<&'static str> {
    let (_, package) = include_str!("../Cargo.lock").split_once(&format!("name = \"{name}\"\nversion = \""))?;
    package.split('"').next()
}

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
