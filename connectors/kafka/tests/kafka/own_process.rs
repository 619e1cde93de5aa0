//! A test in a process of its own.
//!
//! librdkafka's mock gives a member of a group its address in memory as its identifier. A member whose session ended and
//! that joins again brings its old identifier along, which by then may be that of a newcomer at the same address. The next
//! rebalance then fails an assertion of the mock and aborts the process. That says nothing about what is tested, so such a
//! test begins again with a new cluster. It would also abort all other tests of the process.

use std::process::{Command, Stdio};

const MARK: &str = "STREAMZ_KAFKA_TEST_PROCESS";
const ASSERTION: &str = "rdkafka_mock_cgrp.c";
const ATTEMPTS: usize = 3;

/// Runs a test, with its path in this program as its name.
pub(crate) fn in_own_process(name: &str, test: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    for attempt in 1.. {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let command = command.args(["--exact", name, "--nocapture"]).env(MARK, "1").stdin(Stdio::null());
        let output = command.output().expect("a process");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        print!("{out}");
        eprint!("{err}");
        let aborted = output.status.code().is_none() && err.contains(ASSERTION);
        if !aborted || attempt == ATTEMPTS {
            assert!(output.status.success(), "{}", output.status);
            // Under another name it would pass without having run.
            return assert!(out.contains("1 passed"), "there is no test `{name}`");
        }
        eprintln!("the mock cluster failed an assertion; attempt {} follows", attempt + 1);
    }
}
