//! The examples, run as a user would run them.

use std::env::consts::EXE_EXTENSION;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Far more than any of this takes: it is there so that a hang is a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Locks the place that `etl` writes to if it is not told of another. Every test that runs it there needs this, until it
/// has read what is there.
pub(crate) fn own_place_of_etl() -> MutexGuard<'static, ()> {
    static PLACE: Mutex<()> = Mutex::new(());
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The example of this name, built from the code as it is.
pub(crate) fn program(name: &str) -> PathBuf {
    static EXAMPLES: LazyLock<PathBuf> = LazyLock::new(build_examples);
    EXAMPLES.join(name).with_extension(EXE_EXTENSION)
}

/// Builds the examples and returns their folder. `cargo test` has built them before, so that this does nothing;
/// `cargo test --test programs` has not, and would run those of an earlier build.
fn build_examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let profile = folder.file_name().unwrap();
    let profile = if profile == "debug" { OsStr::new("dev") } else { profile };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples", "--profile"]).arg(profile);
    for package in ["examples", "durable", "etl", "log-processing"] {
        cargo.arg("--package").arg(format!("streamz-{package}"));
    }
    if cfg!(feature = "kafka") {
        cargo.args(["--features", "streamz-durable/kafka"]);
    }
    cargo
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "the examples do not build");
    folder.join("examples")
}

/// A command with nothing to read, whose output is caught.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `work` on a thread of its own, so that a hang ends in a failure.
pub(crate) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let worker = std::thread::spawn(move || done.send(work()));
    match result.recv_timeout(LIMIT) {
        Ok(result) => {
            worker.join().unwrap().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().unwrap_err())
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {LIMIT:?}"),
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ran {
    in_time(move || command.output().unwrap()).into()
}

/// Runs a command to its end, with `input` as its standard input.
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    in_time(move || {
        stdin.write_all(&input).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .into()
}

/// The output of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn fails_with(&self, message: &str) {
        assert_eq!(self.code, Some(1), "{} {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(message), "`{message}` is not in: {}", self.stderr);
    }
}
