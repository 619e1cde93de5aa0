//! From findings to alerts: each once, and not too often.

use compact_str::CompactString;
use hashlink::LruCache;
use streamz::{BoxError, DropReason, Emit, Operator, Result};

use crate::args::Args;
use crate::output::Output;
use crate::progress::Progress;
use crate::threat::Threat;
use crate::watch::{Alert, What};

/// Alerts with the same key have the same meaning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    kind: &'static str,
    threat: Option<Threat>,
    client: Option<CompactString>,
    /// Until the time of the log has reached the next multiple of `repeat` seconds.
    period: i64,
}

impl Alert {
    pub(crate) fn key(&self, repeat: u32) -> Key {
        let threat = match self.what {
            What::Probe { threat } => Some(threat),
            _ => None,
        };
        let period = self.time.div_euclid(repeat.into());
        Key { kind: self.what.kind(), threat, client: self.client.clone(), period }
    }

    /// `2026-03-14T09:26:53Z  scan    203.0.113.9: 50 different paths within 60 s (access.log:17)`
    pub(crate) fn describe(&self, names: &[String]) -> String {
        let Self { what, client, time, at } = self;
        let who = client
            .as_ref()
            .map(|client| format!("{}: ", client.escape_debug()))
            .unwrap_or_default();
        format!(
            "{}  {:<6}  {who}{} ({})",
            utc(*time),
            what.kind(),
            what.describe(),
            at.describe(names)
        )
    }
}

/// Forwards a limited number of alerts in each minute of the log; drops and counts the others.
///
/// A [`Throttle`](streamz::Throttle) uses the clock of the pipeline, and reading a log of a week takes seconds: so this
/// is a custom operator.
pub(crate) struct PerMinute {
    max: u32,
    /// The number of alerts in each of the latest minutes: time in a log may go back.
    minutes: LruCache<i64, u32>,
}

impl PerMinute {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, minutes: LruCache::new(60) }
    }

    pub(crate) fn passes(&mut self, time: i64) -> bool {
        let passed = self.minutes.entry(time.div_euclid(60)).or_insert(0);
        let passes = *passed < self.max;
        *passed += u32::from(passes);
        passes
    }
}

impl Operator for PerMinute {
    type In = Alert;
    type Out = Alert;

    fn item(&mut self, alert: Alert, out: &mut impl Emit<Alert>) {
        if self.passes(alert.time) {
            out.emit(alert)
        } else {
            out.dropped(DropReason::RateLimited, 1)
        }
    }
}

/// A time of the log, as text.
pub(crate) fn utc(time: i64) -> String {
    jiff::Timestamp::from_second(time)
        .map_or_else(|_| format!("{time} s"), |time| time.to_string())
}

/// The number of alerts kept for the report.
const KEPT: usize = 1000;

/// The alerts that were emitted.
pub(crate) struct Said {
    names: Vec<String>,
    output: Output,
    progress: Progress,
    aloud: bool,
    pub(crate) count: u64,
    /// The first ones.
    pub(crate) kept: Vec<Alert>,
}

impl Said {
    pub(crate) fn new(
        args: &Args,
        names: Vec<String>,
        output: Output,
        progress: Progress,
    ) -> Self {
        let aloud = !args.quiet && !args.json_on_stdout();
        Self { names, output, progress, aloud, count: 0, kept: Vec::new() }
    }

    pub(crate) fn say(&mut self, alert: Alert) -> Result<(), BoxError> {
        self.count += 1;
        if self.aloud {
            let text = alert.describe(&self.names);
            self.progress.suspend(|| self.output.say(&text))?;
        }
        if self.kept.len() < KEPT {
            self.kept.push(alert);
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}
