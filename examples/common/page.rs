//! [`Page`]: the output and the promises of a program.

use std::ffi::OsString;
use std::fmt::{self, Debug, Display};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use parking_lot::Mutex;
use streamz::BoxError;

/// Runs an example: prints its title, runs it, and reports whether its promises were kept. Answers `--help`.
///
/// The exit status is 0 if they were kept; 1 if one was broken, none was checked, the work failed, or its output could not
/// be written; 2 if there are arguments, of which no example has any but `--help`. That standard output is not read
/// (`| head -1`) is not a failure: the work continues silently and the promises still count.
pub fn run(title: &str, work: impl FnOnce(&Page) -> Result<(), BoxError>) -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let page = Page::new(io::stdout());
    match asked(args) {
        Asked::Work => {}
        Asked::Help => {
            page.say(help(&name, title));
            return if page.fault().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Asked::Unknown(argument) => {
            page.complain(format_args!(
                "error: unexpected argument {argument:?}\n\n{}",
                usage(&name)
            ));
            return ExitCode::from(2);
        }
    }
    page.say(title);
    page.say("=".repeat(title.chars().count()));
    if let Err(error) = work(&page) {
        page.complain(format_args!("error: {error}"));
        return ExitCode::FAILURE;
    }
    if page.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The request on the command line of an example.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Work,
    Help,
    Unknown(OsString),
}

/// Reads the arguments of an example. An unknown one is reported even in addition to `--help`.
pub fn asked(args: impl IntoIterator<Item = OsString>) -> Asked {
    let mut asked = Asked::Work;
    for argument in args {
        if argument == "-h" || argument == "--help" {
            asked = Asked::Help;
        } else {
            return Asked::Unknown(argument);
        }
    }
    asked
}

fn help(name: &str, title: &str) -> String {
    format!(
        "{title}\n\n\
        Runs the pattern and checks each of its promises. docs/patterns/{name}.md explains it.\n\n\
        {}\n\n\
        Options:\n  -h, --help  Print help\n\n\
        Exit status:\n  0  all promises were kept; also if standard output was closed\n  \
        1  a promise was broken, or the work failed\n  2  invalid arguments",
        usage(name)
    )
}

fn usage(name: &str) -> String {
    format!("Usage: {name} [--help]\n       cargo run --release --example {name} [-- --help]")
}

/// Where a program prints its results, and where its promises are checked. Clones share the page, so that any stage may
/// write to it; each call is written as a whole.
#[derive(Clone)]
pub struct Page {
    inner: Arc<Mutex<Inner>>,
    /// What precedes a line on standard error.
    prefix: &'static str,
}

struct Inner {
    /// `None` when its reader has closed it, or it cannot be written.
    out: Option<Box<dyn Write + Send>>,
    kept: usize,
    broken: usize,
    fault: Option<io::Error>,
}

impl Page {
    pub fn new(out: impl Write + Send + 'static) -> Self {
        let inner = Inner { out: Some(Box::new(out)), kept: 0, broken: 0, fault: None };
        Self { inner: Arc::new(Mutex::new(inner)), prefix: "" }
    }

    /// Sets what precedes each line on standard error.
    #[must_use]
    pub fn with_prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// Writes a line, or several: `page.say(format_args!("{n} orders"))`.
    pub fn say(&self, text: impl Display) {
        self.inner.lock().write(&text);
    }

    /// Writes a [`table`].
    pub fn table<R, C>(&self, headings: &[&str], rows: impl IntoIterator<Item = R>)
    where
        R: IntoIterator<Item = C>,
        C: Display,
    {
        self.say(table(headings, rows));
    }

    /// Checks a promise and prints the result: `✓ every order took one branch`.
    pub fn check(&self, promise: impl Display, kept: bool) {
        self.note(&promise, kept, "");
    }

    /// Checks that the result is the expected one; prints both if it is not.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give what they have just computed"
    )]
    pub fn check_eq<T: PartialEq + Debug>(&self, promise: impl Display, found: T, expected: T) {
        let kept = found == expected;
        let detail = if kept {
            String::new()
        } else {
            format!(": found {found:?}, expected {expected:?}")
        };
        self.note(&promise, kept, &detail);
    }

    fn note(&self, promise: &dyn Display, kept: bool, detail: &str) {
        let mut inner = self.inner.lock();
        if kept {
            inner.kept += 1;
            inner.write(&format_args!("✓ {promise}"));
        } else {
            inner.broken += 1;
            inner.write(&format_args!("✗ {promise}{detail}"));
            drop(inner);
            // Also where a script will look.
            self.complain(format_args!("broken: {promise}{detail}"));
        }
    }

    /// Prints a line on standard error. A failure of that cannot be reported anywhere, and is ignored.
    pub fn complain(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{}{text}", self.prefix);
    }

    /// Why the page could not be written, once; that it is not read is not an error.
    fn fault(&self) -> Option<io::Error> {
        let fault = self.inner.lock().fault.take();
        if let Some(fault) = &fault {
            self.complain(format_args!("error: cannot write to standard output: {fault}"));
        }
        fault
    }

    /// Prints a summary, and returns whether all checks passed.
    pub fn close(&self) -> bool {
        let mut inner = self.inner.lock();
        let (kept, broken) = (inner.kept, inner.broken);
        match (kept, broken) {
            (0, 0) => inner.write(&"\nno promise was checked"),
            (_, 0) => inner.write(&format_args!("\nall {kept} promises kept")),
            _ => inner.write(&format_args!("\n{broken} of {} promises BROKEN", kept + broken)),
        }
        drop(inner);
        self.fault().is_none() && kept > 0 && broken == 0
    }
}

impl Inner {
    fn write(&mut self, text: &dyn Display) {
        let Some(out) = &mut self.out else { return };
        if let Err(error) =
            out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush())
        {
            self.out = None;
            self.fault = Some(error).filter(|error| error.kind() != ErrorKind::BrokenPipe);
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Page")
            .field("kept", &inner.kept)
            .field("broken", &inner.broken)
            .finish_non_exhaustive()
    }
}

/// A table with a line of headings. Columns of numbers are aligned right.
pub fn table<R, C>(headings: &[&str], rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator<Item = C>,
    C: Display,
{
    let text = |row: R| row.into_iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
    let rows = rows.into_iter().map(text).collect::<Vec<_>>();
    Table { headings, rows: &rows }.to_string()
}

struct Table<'a> {
    headings: &'a [&'a str],
    rows: &'a [Vec<String>],
}

impl Table<'_> {
    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(column)).map(String::as_str)
    }
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `1,200`, `0.5 s`, `12%`; but neither an address nor a date.
        let is_number = |cell: &str| {
            let number = cell
                .split(' ')
                .next()
                .unwrap_or_default()
                .trim_end_matches('%')
                .replace(',', "");
            number.parse::<f64>().is_ok()
        };
        let columns: Vec<(usize, bool)> = (self.headings.iter().enumerate())
            .map(|(column, heading)| {
                let width = |text: &str| text.chars().count();
                let widest = self.cells(column).map(width).max().unwrap_or(0);
                (
                    widest.max(width(heading)),
                    !self.rows.is_empty() && self.cells(column).all(is_number),
                )
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&columns).map(|(cell, &(width, right))| {
                if right { format!("  {cell:>width$}") } else { format!("  {cell:<width$}") }
            });
            padded.collect::<String>().trim_end().to_owned()
        };
        let rule: Vec<String> = columns.iter().map(|&(width, _)| "-".repeat(width)).collect();
        writeln!(f, "{}", line(&mut self.headings.iter().copied()))?;
        write!(f, "{}", line(&mut rule.iter().map(String::as_str)))?;
        self.rows
            .iter()
            .try_for_each(|row| write!(f, "\n{}", line(&mut row.iter().map(String::as_str))))
    }
}

/// A bar of at most `width` characters that shows `value` as a part of `most`.
pub fn bar(value: f64, most: f64, width: usize) -> String {
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * 8.0 * width as f64).round() as usize;
    let last = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{last}", "█".repeat(eighths / 8))
}
