//! The machine and the software that the figures were measured with.

use std::num::NonZeroUsize;
use std::process::Command;

use jiff::Timestamp;

/// The crates that were compared.
const PEERS: [&str; 11] = [
    "crossbeam-channel",
    "flume",
    "futures",
    "kanal",
    "orx-parallel",
    "par-stream",
    "pariter",
    "rayon",
    "renoir",
    "timely",
    "tokio",
];

/// A few lines of Markdown. Must be called before the first run, so that the load is that of other programs.
pub(crate) fn facts(rounds: u32) -> String {
    let crates: Vec<_> = PEERS.iter().filter_map(|name| Some(format!("{name} {}", locked_version(name)?))).collect();
    format!(
        "- {} (UTC), streamz {}; rounds: {rounds}, in turn\n- {} CPUs ({}), {} {}; load before: {}\n- {}; {}\n",
        Timestamp::now().strftime("%-d %B %Y, %H:%M"),
        known(commit()),
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        known(cpu_model()),
        std::env::consts::OS,
        known(file("/proc/sys/kernel/osrelease")),
        known(load()),
        known(output("rustc", &["--version"])),
        crates.join(", "),
    )
}

/// Everything that counts of instructions depend on, as a line of Markdown: the compiler, and the code of the system's
/// libraries.
pub(crate) fn versions() -> String {
    format!(
        "- streamz {}; {}; {}; {}\n",
        known(commit()),
        known(output("rustc", &["--version"])),
        known(output("valgrind", &["--version"])),
        known(output("ldd", &["--version"]).and_then(|text| text.lines().next().map(str::to_owned))),
    )
}

fn known(fact: Option<String>) -> String {
    fact.unwrap_or_else(|| "unknown".to_owned())
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

/// The number of threads that wanted to run in the last minute.
fn load() -> Option<String> {
    file("/proc/loadavg")?.split_whitespace().next().map(str::to_owned)
}

/// The version of a crate that this program was built with.
fn locked_version(name: &str) -> Option<&'static str> {
    version_in(include_str!("../Cargo.lock"), name)
}

/// The version that `peers` depends on. Its list of dependencies gives it if the lock file has several.
fn version_in<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let after = |text: &'a str, start: &str| text.split_once(start)?.1.split('"').next();
    let ours = own_section(lock)?;
    after(ours, &format!("\"{name} ")).or_else(|| after(lock, &format!("name = \"{name}\"\nversion = \"")))
}

/// The section of this crate in the lock file.
fn own_section(lock: &str) -> Option<&str> {
    lock.split_once("name = \"peers\"\n")?.1.split("\n\n").next()
}

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_versions_the_one_in_use_is_reported() {
        let lock = "name = \"flume\"\nversion = \"0.10.1\"\n\nname = \"flume\"\nversion = \"0.12.0\"\n\n\
                    name = \"kanal\"\nversion = \"0.1.1\"\n\n\
                    name = \"peers\"\ndependencies = [\n \"flume 0.12.0\",\n \"kanal\",\n]\n\nname = \"x\"\n";
        assert_eq!(version_in(lock, "flume"), Some("0.12.0"));
        assert_eq!(version_in(lock, "kanal"), Some("0.1.1"));
        assert_eq!(version_in(lock, "absent"), None);
    }
}
