//! The command line.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use streamz::{BoxError, Result};

use crate::same_file::{Identity, Outputs};

/// The options that name outputs.
pub(crate) const JSON: &str = "--json";
pub(crate) const REJECTS: &str = "--rejects";

const MORE_HELP: &str = "\
Without FILE it generates a log with attacks in it, processes that, and checks the result against
what was generated.

Lines:
  A line has the Common Log Format, the Combined one, or a format that starts like these. A
  virtual host may precede it (vhost_combined, or nginx with $host), and the client may be a
  list, as in X-Forwarded-For, of which the first address counts. Or the line is a JSON object
  with
    a time      as time, timestamp, ts, @timestamp, time_iso8601, time_local, msec, start_time,
                StartUTC, StartLocal: RFC 3339, as in the Common Log Format, or since 1970 in
                seconds, ms, us or ns
    a client    as client, client_ip, ClientHost; if there is none of these, as remote_addr,
                remote_ip, ip, ClientAddr, downstream_remote_address
    a path      as path, uri, request_uri, url, RequestPath; or as request: \"GET /path HTTP/1.1\"
    a status    as status, status_code, code, response_code, DownstreamStatus
    bytes       as bytes, size, bytes_sent, body_bytes_sent, DownstreamContentSize; optional
  Client and path may also be inside an object called request. A client is an address, perhaps
  with a port, or a host name. A status of 0 or - means that no response was sent. Bytes that are
  not UTF-8 are replaced. Of several fields for the same thing, the first that can be used counts.
  The query is not part of a path. Of a path of more than 256 bytes, the report shows the first
  238 and a hash of the whole. A line may have 64 kB; a longer one is cut there, and counts if
  all of this is in the first 64 kB. Any other line is malformed, and goes to the rejects file as
  a JSON object: {\"at\": \"access.log:17\", \"reason\", \"raw\"}. Every line is counted once:
  read = parsed + malformed. If no line is a request, a message on standard error says so.

Files:
  A file may be gzip, with several members and padded with zeros. Anything after that is not
  read, and is a failure; so is a truncated gzip file. What was read before is counted. Unpack
  files of other kinds first: xz -dc access.log.xz | log_processing -
  An output file is not truncated before it is certain that it is not an input under another
  name. It may be renamed during a run; if it is removed or replaced, that is a failure.

Alerts:
  Each alert is one line, printed as soon as it is found. Only the time of the log counts (shown
  in UTC), not the current time, so the same log always gives the same alerts. List several files
  with the oldest first. If the time goes back by more than a minute (a clock was wrong, or two
  disagree), the report says so; each request is compared with those near it in time. A burst has
  more than 30 requests in a minute, and is detected once there are five minutes to compare with.

Memory:
  Does not depend on the length of the log. Beyond --max-keys clients or paths, those not seen
  for the longest time are evicted; beyond a week, the oldest minutes. The report says how many.
  A client takes at most about 3 kB (with the default limits), a path 0.4 kB.

Following:
  Files may be missing at first, renamed and created again, or truncated. A renamed file is read
  until it is deleted or the next one is renamed. If a file is renamed more than once within a
  tenth of a second, those in between are read as FILE.1, FILE.2, .. or FILE-20260131; if some
  may have been deleted or compressed, that is a failure. A file that is deleted and created
  twice within that time goes unnoticed. Lines of files that are read from their end are counted
  from there: access.log:+17.

Exit status:
  0    everything was read; with --follow: ended by Ctrl-C
  130  interrupted before that; the report covers what was read
  2    invalid arguments
  1    any other failure
  Malformed lines and alerts are not failures; nor is a closed standard output. SIGTERM or SIGHUP
  act as Ctrl-C does.
";

/// Summarizes access logs, and finds bursts and suspicious clients in them.
#[derive(Debug, Clone, Parser)]
#[command(name = "log_processing", after_help = MORE_HELP)]
pub(crate) struct Args {
    /// Logs, plain or gzip; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Format of the lines; `auto` decides for each line
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,

    /// Start at the end and wait for new lines, as `tail -F` does, until Ctrl-C
    #[arg(long, short = 'F', requires = "files")]
    pub(crate) follow: bool,

    /// With --follow: start at the beginning
    #[arg(long, requires = "follow")]
    pub(crate) from_start: bool,

    /// Also write the report as JSON; `-` is standard output, which then has nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write malformed lines to a file, each with its position and the reason
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,

    /// Length of the window in which a client is judged
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) window: u32,

    /// Alert at this many 4xx and 5xx responses to one client within the window
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_errors: u16,

    /// Alert at this many different paths requested by one client within the window
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub(crate) max_paths: u16,

    /// Alert when a minute has more than this many times the average of the previous ten
    #[arg(long, value_name = "FACTOR", default_value_t = 3.0, value_parser = factor)]
    pub(crate) burst: f64,

    /// Repeat an alert only when the time of the log passes a multiple of this
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// Print at most this many alerts per minute of the log, and count the rest
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) alerts_per_minute: u32,

    /// Maximum number of clients, and of paths, to track
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) max_keys: u32,

    /// Number of rows in the tables of the report
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,

    /// Print no alerts, report or progress
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print the statistics of each stage to standard error
    #[arg(long)]
    pub(crate) stages: bool,

    /// Show a live table of the stages instead of a progress bar, if standard error is a terminal
    #[arg(long)]
    pub(crate) live: bool,

    /// With --quiet: print a diagram of the pipeline, in Mermaid
    #[arg(long, requires = "quiet", conflicts_with = "sequential")]
    pub(crate) picture: bool,

    /// Do the same work as a plain loop in one thread, for comparison
    #[arg(long, conflicts_with_all = ["follow", "live", "stages"])]
    pub(crate) sequential: bool,

    /// A folder that is left out of the names of the files in it.
    #[arg(skip)]
    pub(crate) folder: PathBuf,

    /// Whether the result is still needed although standard output has been closed.
    #[arg(skip)]
    pub(crate) to_the_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON if the line starts with a brace, otherwise clf
    Auto,
    /// Common or Combined Log Format
    Clf,
    /// One JSON object per line
    Json,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if factor > 1.0 && factor.is_finite() {
        Ok(factor)
    } else {
        Err("must be greater than 1".to_owned())
    }
}

impl Args {
    /// Whether there is nothing more to do once standard output has been closed.
    pub(crate) fn ends_unheard(&self) -> bool {
        let leaves_files =
            self.rejects.is_some() || (self.json.is_some() && !self.json_on_stdout());
        self.follow || !(leaves_files || self.to_the_end)
    }

    /// Whether standard output is for the report as JSON alone.
    pub(crate) fn json_on_stdout(&self) -> bool {
        self.json.as_deref().is_some_and(is_std)
    }

    /// Opens the files to write, which are no inputs: a slip on the command line must not cost the user a log.
    pub(crate) fn open_outputs(&self, names: &[String]) -> Result<Outputs, BoxError> {
        let inputs = || {
            self.files.iter().zip(names).filter_map(|(file, name)| {
                let identity =
                    if is_std(file) { Identity::of_stdin() } else { Identity::of_path(file) };
                Some((format!("an input: {name}"), identity?))
            })
        };
        let std_outputs = Identity::of_std_outputs();
        for (name, input) in inputs() {
            if let Some((output, _)) = std_outputs.iter().find(|(_, output)| *output == input) {
                return Err(format!("{output} is {name}").into());
            }
        }
        let used = || {
            inputs()
                .chain(std_outputs.iter().map(|(name, it)| ((*name).to_owned(), it.clone())))
                .collect()
        };
        let json = self
            .json
            .as_deref()
            .filter(|path| !is_std(path))
            .map(|path| (JSON, "report", path));
        let rejects = self.rejects.as_deref().map(|path| (REJECTS, "rejects file", path));
        Ok(Outputs::open(json.into_iter().chain(rejects), used)?)
    }

    /// What clap cannot know.
    pub(crate) fn check(&self) -> Result<(), BoxError> {
        if self.files.iter().filter(|file| is_std(file)).count() > 1 {
            return Err("standard input can be read once only".into());
        }
        if self.follow && self.files.iter().any(|file| is_std(file)) {
            return Err(
                "standard input cannot be followed: it ends when it ends; leave out --follow"
                    .into(),
            );
        }
        if self.rejects.as_deref().is_some_and(is_std) {
            return Err(
                "the rejects need a file: --rejects - would mix them with the alerts".into()
            );
        }
        Ok(())
    }
}

pub(crate) fn is_std(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// For `map_err`: which operation failed on which file, and why.
pub(crate) fn failure<E: std::error::Error>(
    what: &str,
    path: &Path,
) -> impl FnOnce(E) -> BoxError {
    move |error| format!("{what} {}: {error}", path.display()).into()
}
