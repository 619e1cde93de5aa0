//! The report: as text, and as JSON.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use streamz::Result;

use crate::alerts::utc;
use crate::args::{Args, failure};
use crate::common::{bar, table};
use crate::input::Reading;
use crate::output::{Output, complain, is_removed, note};
use crate::tables::{CLASSES, Evicted};
use crate::watch::{BACK, Moment};
use crate::{Ended, INTERRUPTED};

/// The results of a run.
pub(crate) struct Summary {
    args: Args,
    pub(crate) ended: Ended,
    pub(crate) read: u64,
    at_end: bool,
    elapsed: Duration,
    faults: Vec<String>,
}

impl Summary {
    pub(crate) fn new(
        args: &Args,
        mut ended: Ended,
        reading: &Reading,
        elapsed: Duration,
    ) -> Self {
        ended.unfinished += reading.unfinished();
        let mut faults = reading.faults();
        faults.extend(ended.fault.take().map(|fault| fault.to_string()));
        faults.extend(ended.rejects.loss());
        let mut summary = Self {
            args: args.clone(),
            ended,
            read: reading.lines(),
            at_end: reading.is_at_end(),
            elapsed,
            faults,
        };
        summary
            .faults
            .extend(summary.imbalance().map(|bug| format!("a fault in this program: {bug}")));
        summary
    }

    /// Warnings: not failures, but unusual.
    fn warnings(&self) -> Vec<String> {
        let Ended { tables, rejects, backwards, said, .. } = &self.ended;
        let mut warnings = Vec::new();
        if self.read == 0 && self.at_end && self.faults.is_empty() {
            warnings.push("there is no request: the input is empty".to_owned());
        }
        if tables.requests == 0 && rejects.count > 0 {
            let reason = rejects
                .first
                .first()
                .map(|(at, reason)| format!(": {at}: {reason}"))
                .unwrap_or_default();
            let lines = plural(rejects.count, "line");
            warnings
                .push(format!("none of {lines} is a request; is this an access log?{reason}"));
        }
        if let Some((from, to)) = backwards.first {
            let times = plural(backwards.count, "time");
            let place =
                |it: Moment| format!("{} ({})", utc(it.time), it.at.describe(said.names()));
            let (from, to) = (place(from), place(to));
            warnings.push(format!(
                "time goes back by more than {BACK} s {times}, first from {from} to {to}"
            ));
        }
        if tables.bytes == u64::MAX {
            warnings.push(
                "the number of bytes sent is too large to be counted; there are at least as many as said"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Writes the requested reports, and prints errors.
    pub(crate) fn write(&mut self, output: &Output, json: Option<(File, PathBuf)>) {
        let said = match (self.args.json_on_stdout(), self.args.quiet) {
            (true, _) => output.say(&self.to_json().to_string()),
            (false, false) => output.say(self.to_string().trim_end()),
            (false, true) => match self.ended.report.as_ref().filter(|_| self.args.picture) {
                Some(report) => output.say(report.to_mermaid().trim_end()),
                None => Ok(()),
            },
        };
        let written = json.map_or(Ok(()), |(mut file, path)| {
            let text = format!("{}\n", self.to_json());
            file.write_all(text.as_bytes()).map_err(failure("cannot write report", &path))?;
            if is_removed(&file, &path) {
                let shown = path.display();
                return Err(format!(
                    "cannot write report {shown}: it has been removed or replaced"
                )
                .into());
            }
            Ok(())
        });
        for error in [said, written].into_iter().filter_map(Result::err) {
            let fault = error.to_string();
            // An alert may have met it already.
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
        if let (true, Some(report)) = (self.args.stages, &self.ended.report) {
            note(&format!("what the stages did\n{report}"));
        }
        // If the report is not shown, or is nearly empty.
        if self.args.quiet || self.ended.tables.requests == 0 {
            self.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
        }
        self.faults.iter().for_each(|fault| complain(fault));
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if !self.faults.is_empty() {
            ExitCode::FAILURE
        } else if self.is_interrupted() {
            ExitCode::from(INTERRUPTED)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Whether it ended early because of the user, and of nothing else.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.ended.interrupted && self.faults.is_empty() && !self.is_complete()
    }

    pub(crate) fn is_well(&self) -> bool {
        self.faults.is_empty() && self.is_complete()
    }

    /// Whether all input has been read and counted. A growing file is never complete, and counts as such when the user
    /// ends the job.
    fn is_complete(&self) -> bool {
        (self.at_end || self.args.follow) && self.faults.is_empty()
    }

    fn counted(&self) -> u64 {
        self.ended.tables.requests + self.ended.rejects.count
    }

    /// Lines that were lost or counted twice. There are none.
    fn imbalance(&self) -> Option<String> {
        let (read, counted) = (self.read, self.counted());
        if counted > read || (counted < read && !self.ended.is_cut) {
            return Some(format!("{read} lines were read, {counted} were counted"));
        }
        self.ended.tables.contradiction()
    }

    fn to_json(&self) -> Value {
        let Ended { tables, rejects, said, .. } = &self.ended;
        let classes = |counts: &[u64; 6]| -> Map<String, Value> {
            let named = CLASSES.iter().zip(counts).filter(|(_, count)| **count > 0);
            named.map(|(name, count)| ((*name).to_owned(), json!(count))).collect()
        };
        let minutes = tables.minutes.iter().map(|(minute, counts)| {
            json!({"minute": utc(minute * 60), "requests": counts.iter().sum::<u64>(), "classes": classes(counts)})
        });
        let clients = tables.clients.top(self.args.top, |client| client.requests);
        let clients = clients.into_iter().map(|(client, it)| {
            json!({"client": client.as_str(), "requests": it.requests, "errors": it.errors, "bytes": it.bytes})
        });
        let paths = tables.paths.top(self.args.top, |path| path.requests);
        let paths = paths
            .into_iter()
            .map(|(path, it)| json!({"path": path.as_str(), "requests": it.requests, "errors": it.errors}));
        let alerts = said.kept.iter().map(|alert| {
            let mut entry =
                json!({"time": utc(alert.time), "at": alert.at.describe(said.names())});
            if let Some(client) = &alert.client {
                entry["client"] = json!(client.as_str());
            }
            let what = serde_json::to_value(alert.what).unwrap_or_default();
            for (key, value) in what.as_object().into_iter().flatten() {
                entry[key] = value.clone();
            }
            entry
        });
        #[derive(Serialize)]
        struct Forgotten {
            clients: Evicted,
            paths: Evicted,
            minutes: Evicted,
            alerts: u64,
        }
        let forgotten = Forgotten {
            clients: tables.clients.evicted,
            paths: tables.paths.evicted,
            minutes: tables.minutes.evicted,
            alerts: self.ended.forgotten,
        };
        json!({
            "complete": self.is_complete(),
            "read": self.read,
            "parsed": tables.requests,
            "malformed": rejects.count,
            "given_up": self.read.saturating_sub(self.counted()),
            "unfinished": self.ended.unfinished,
            "bytes": tables.bytes,
            "first": tables.span.map(|(first, _)| utc(first)),
            "last": tables.span.map(|(_, last)| utc(last)),
            "reasons": rejects.reasons,
            "statuses": tables.statuses().map(|(status, count)| (status.to_string(), json!(count))).collect::<Map<_, _>>(),
            "threats": tables.threats().map(|(threat, count)| (threat.name().to_owned(), json!(count))).collect::<Map<_, _>>(),
            "minutes": minutes.collect::<Vec<_>>(),
            "clients": clients.collect::<Vec<_>>(),
            "paths": paths.collect::<Vec<_>>(),
            "alerts": alerts.collect::<Vec<_>>(),
            "alerts_said": said.count,
            "alerts_repeated": self.ended.repeated,
            "alerts_held_back": self.ended.held_back,
            "forgotten": forgotten,
            "time_went_back": self.ended.backwards.count,
            "warnings": self.warnings(),
        })
    }

    fn write_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { tables, rejects, .. } = &self.ended;
        writeln!(f, "lines read   {:>13}", grouped(self.read))?;
        writeln!(
            f,
            "  requests   {:>13}   {} sent",
            grouped(tables.requests),
            size(tables.bytes)
        )?;
        writeln!(f, "  malformed  {:>13}", grouped(rejects.count))?;
        for (reason, count) in &rejects.reasons {
            writeln!(f, "    {:>9}  {reason}", grouped(*count))?;
        }
        for (at, reason) in &rejects.first {
            writeln!(f, "      such as {at}: {reason}")?;
        }
        if self.read > self.counted() {
            writeln!(f, "  given up   {:>13}", grouped(self.read - self.counted()))?;
        }
        if self.ended.unfinished > 0 {
            writeln!(f, "{} incomplete, not counted", plural(self.ended.unfinished, "line"))?;
        }
        if !self.is_complete() {
            let why =
                if self.ended.interrupted { "interrupted" } else { "stopped by an error" };
            writeln!(f, "not complete: {why}")?;
        }
        if let Some((first, last)) = tables.span {
            writeln!(f, "from {} to {}", utc(first), utc(last))?;
        }
        Ok(())
    }

    fn write_statuses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.ended.tables.statuses().map(|(_, count)| count).max().unwrap_or(0);
        let rows = self.ended.tables.statuses().map(|(status, count)| {
            [status.to_string(), grouped(count), bar(count as f64, most as f64, 30)]
        });
        writeln!(f, "\n{}", table(&["status", "requests", ""], rows))
    }

    /// The log from its beginning to its end in a few rows of equal length.
    fn write_timeline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ROWS: i64 = 25;
        const DAY: i64 = 1440;
        const LENGTHS: [i64; 14] =
            [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, DAY, 2 * DAY, 7 * DAY];
        const LONGER: [i64; 3] = [28 * DAY, 365 * DAY, 3650 * DAY];
        let minutes = &self.ended.tables.minutes;
        let (Some((first, _)), Some((last, _))) =
            (minutes.iter().next(), minutes.iter().last())
        else {
            return Ok(());
        };
        let fits =
            |length: &&i64| last.div_euclid(**length) - first.div_euclid(**length) < ROWS;
        // A longer log may have gaps, for which there are no rows: one time may be wrong.
        let rows = |length: i64| {
            let mut rows: Vec<i64> =
                minutes.iter().map(|(minute, _)| minute.div_euclid(length)).collect();
            rows.dedup();
            rows.len()
        };
        let fits_with_gaps = |length: &&i64| rows(**length) <= ROWS as usize;
        let length = LENGTHS
            .iter()
            .find(fits)
            .or_else(|| LENGTHS.iter().chain(&LONGER).find(fits_with_gaps))
            .copied()
            .unwrap_or(LONGER[2]);
        let mut rows: Vec<(i64, u64, u64)> = Vec::new();
        for (minute, counts) in minutes.iter() {
            let start = minute.div_euclid(length) * length;
            if rows.last().is_none_or(|(last, ..)| *last != start) {
                rows.push((start, 0, 0));
            }
            if let Some((_, requests, errors)) = rows.last_mut() {
                *requests += counts.iter().sum::<u64>();
                *errors += counts[3] + counts[4];
            }
        }
        let rows = &rows[rows.len().saturating_sub(ROWS as usize)..];
        let most = rows.iter().map(|(_, requests, _)| *requests).max().unwrap_or(0);
        let rows = rows.iter().map(|&(start, requests, errors)| {
            [
                utc(start * 60),
                grouped(requests),
                grouped(errors),
                bar(requests as f64, most as f64, 30),
            ]
        });
        let unit = match (length, length / DAY) {
            (1, _) => "minute".to_owned(),
            (_, 0) => format!("{length} minutes"),
            (_, 1) => "day".to_owned(),
            (_, days) => format!("{days} days"),
        };
        writeln!(
            f,
            "\n{}",
            table(&[&format!("each {unit} from"), "requests", "errors", ""], rows)
        )
    }

    fn write_tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = &self.ended.tables;
        let clients = tables.clients.top(self.args.top, |client| client.requests);
        let rows = clients.iter().map(|(client, it)| {
            [
                client.escape_debug().to_string(),
                grouped(it.requests),
                grouped(it.errors),
                size(it.bytes),
            ]
        });
        let heading = format!("client, of {}", grouped(tables.clients.len() as u64));
        writeln!(f, "\n{}", table(&[&heading, "requests", "errors", "sent"], rows))?;
        let paths = tables.paths.top(self.args.top, |path| path.requests);
        let rows = paths.iter().map(|(path, it)| {
            let path = if path.is_empty() {
                "(none)".to_owned()
            } else {
                path.escape_debug().to_string()
            };
            [shortened(path), grouped(it.requests), grouped(it.errors)]
        });
        let heading = format!("path, of {}", grouped(tables.paths.len() as u64));
        writeln!(f, "\n{}", table(&[&heading, "requests", "errors"], rows))?;
        let threats = tables
            .threats()
            .map(|(threat, count)| [threat.describe().to_owned(), grouped(count)]);
        let threats = threats.collect::<Vec<_>>();
        if !threats.is_empty() {
            writeln!(f, "\n{}", table(&["attack patterns", "requests"], threats))?;
        }
        Ok(())
    }

    fn write_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { tables, said, repeated, held_back, .. } = &self.ended;
        writeln!(
            f,
            "\n{}; said before and left out: {}; too many for their minute: {}",
            plural(said.count, "alert"),
            grouped(*repeated),
            grouped(*held_back)
        )?;
        let forgotten = [
            ("client", tables.clients.evicted),
            ("path", tables.paths.evicted),
            ("minute", tables.minutes.evicted),
        ];
        for (key, evicted) in forgotten.into_iter().filter(|(_, evicted)| evicted.keys > 0) {
            let (keys, requests) =
                (plural(evicted.keys, key), plural(evicted.requests, "request"));
            writeln!(
                f,
                "forgotten for want of room: {keys} with {requests}; they are missing in the table above"
            )?;
        }
        if self.ended.forgotten > 0 {
            let alerts = plural(self.ended.forgotten, "alert");
            writeln!(
                f,
                "forgotten for want of room: {alerts}, which may have been said again"
            )?;
        }
        // If there are no requests, they are printed on standard error.
        for warning in self.warnings().iter().filter(|_| tables.requests > 0) {
            writeln!(f, "warning: {warning}")?;
        }
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.read as f64 / seconds.max(f64::MIN_POSITIVE);
        writeln!(f, "{seconds:.3} s, {} lines/s", grouped(rate as u64))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ended.said.count > 0 {
            // Below the alerts.
            writeln!(f)?;
        }
        self.write_lines(f)?;
        if self.ended.tables.requests > 0 {
            self.write_statuses(f)?;
            self.write_timeline(f)?;
            self.write_tables(f)?;
        }
        self.write_rest(f)
    }
}

/// With a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(count))
}

/// A number of bytes, in the unit that leaves up to four digits.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 9_999.5 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    let at_least = if bytes == u64::MAX { "at least " } else { "" };
    format!("{at_least}{size:.0} {}", units[unit])
}

/// The text cut to the width of a column.
fn shortened(text: String) -> String {
    const WIDTH: usize = 50;
    if text.chars().count() <= WIDTH {
        text
    } else {
        text.chars().take(WIDTH - 2).chain("..".chars()).collect()
    }
}
