//! [`Terminal`]: a terminal with a program in it, made by tmux.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;

use streamz::Clock;

use crate::program::{LIMIT, in_time};
use crate::scratch::Scratch;

/// A terminal in which a script runs. It is gone when this is dropped, and so is the script.
pub(crate) struct Terminal {
    scratch: Scratch,
}

/// A tmux that is no other test's.
fn tmux(scratch: &Scratch, args: &[&str]) -> Output {
    // The `-u` is for the characters of the view, whatever the locale is.
    let mut command = Command::new("tmux");
    command.args(["-u", "-f", "/dev/null", "-S"]).arg(scratch.path("tmux")).args(args);
    command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").output().unwrap()
}

impl Terminal {
    /// Runs `line`, a line for the shell, in a terminal of 80 columns and 24 rows, in a folder of its own. `$PROGRAM` stands for
    /// the program, `input` is a named pipe. The modes of the terminal before and after the line are kept.
    ///
    /// `None`, with a word about it, if tmux is not installed.
    pub(crate) fn start(program: impl AsRef<OsStr>, line: &str) -> Option<Self> {
        static SAID: Once = Once::new();
        if Command::new("tmux").arg("-V").output().is_err() {
            SAID.call_once(|| {
                writeln!(std::io::stderr(), "skipped: tmux is not installed").expect("stderr")
            });
            return None;
        }
        let scratch = Scratch::new();
        assert!(Command::new("mkfifo").arg(scratch.path("input")).status().unwrap().success());
        let folder = scratch.folder().to_str().unwrap();
        let program = program.as_ref().to_str().unwrap();
        // It survives Ctrl-C, which is for the program, and runs until it is killed, so that the screen can be read.
        let script = format!(
            "trap : INT\nPROGRAM='{program}'\nstty -a > before\n{line}\necho \"exit $?\"\nstty -a > after\necho done\n\
             while :; do read -r _; done\n"
        );
        scratch.write("script", script);
        let shell = "unset NO_COLOR; export TERM=screen; exec sh script";
        let started =
            tmux(&scratch, &["new-session", "-d", "-x", "80", "-y", "24", "-c", folder, shell]);
        assert!(started.status.success(), "{started:?}");
        Some(Self { scratch })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// What a file of the folder holds.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Opens the named pipe, once the program reads it.
    pub(crate) fn input(&self) -> File {
        let path = self.path("input");
        in_time(|| File::options().write(true).open(path).unwrap())
    }

    /// Presses keys, by the names that tmux has for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows `text`, and returns what it shows then.
    pub(crate) fn until(&self, text: &str) -> String {
        self.until_it(&format!("`{text}` is not on the screen"), |screen| screen.contains(text))
    }

    pub(crate) fn until_without(&self, text: &str) -> String {
        self.until_it(&format!("`{text}` is on the screen"), |screen| !screen.contains(text))
    }

    fn until_it(&self, complaint: &str, is_it: impl Fn(&str) -> bool) -> String {
        let clock = Clock::default();
        let start = clock.now();
        loop {
            let screen = self.screen();
            if is_it(&screen) {
                return screen;
            }
            assert!(clock.now() - start < LIMIT, "{complaint}:\n{screen}");
        }
    }

    /// Waits for the end of the line, and checks that the terminal is in the state in which it was before.
    pub(crate) fn until_restored(&self) -> String {
        let screen = self.until("\ndone\n");
        assert_eq!(self.file("after"), self.file("before"));
        let state = "#{cursor_flag} #{wrap_flag} #{scroll_region_upper} #{scroll_region_lower} #{window_height}";
        let state = self.tmux(&["display-message", "-p", state]);
        let state: Vec<u16> =
            state.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [cursor, wrap, upper, lower, height] = state[..] else { panic!("{state:?}") };
        assert_eq!((cursor, wrap, upper, lower + 1), (1, 1, 0, height));
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = tmux(&self.scratch, args);
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        tmux(&self.scratch, &["kill-server"]);
    }
}
