//! The examples, run as a user would run them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Far more than any of this takes: it is there so that a hang is a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// An example, as cargo has built it beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    // `cargo test` builds the examples first; `cargo test --test programs` does not.
    if !program.exists() {
        let folder = profile.file_name().unwrap();
        let folder = if folder == "debug" { OsStr::new("dev") } else { folder };
        let target = profile.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--example", name, "--profile"]).arg(folder).arg("--target-dir").arg(target);
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    program
}

/// A command with nothing to read, whose output is caught.
pub(crate) fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Command {
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
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {LIMIT:?}"),
    }
}

/// What a run has said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
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
