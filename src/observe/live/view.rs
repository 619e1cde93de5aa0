//! [`View`]: the content of the screen, as lines of text.

use std::sync::Arc;
use std::time::Duration;

use super::history::{History, throughput};
use super::keys::Key;
use super::text::{Align, Line, Style, bar, fit, short, sparkline, time, width};
use crate::pipeline::{OutputReport, Report, StageKind, StageReport};

/// The time without progress after which the view shows what the pipeline waits for.
const SILENCE: Duration = Duration::from_secs(3);

/// The fill level from which an output is highlighted.
const NEARLY_FULL: f64 = 0.9;

/// A narrower screen has one column instead of those for in and out.
const NARROW: usize = 30;

const KEYS: &str = "q leaves  p freezes";

/// The part that the user has chosen to see.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The first visible row.
    first: usize,
    /// Whether the numbers are frozen.
    pub(super) is_frozen: bool,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Items,
    In,
    Out,
    Busy,
    Blocked,
    Queue,
    Queued,
    Received,
    Emitted,
    Removed,
    Failed,
    Errors,
    Latency,
    History,
}

use Column::*;

/// The columns behind the name, with their titles, their widths, and the minimum width of the screen for showing them.
const COLUMNS: [(Column, &str, usize, usize); 14] = [
    (Items, "items/s", 7, 14),
    (In, "in/s", 6, NARROW),
    (Out, "out/s", 6, NARROW),
    (Busy, "busy", 4, 40),
    (Blocked, "blocked", 7, 60),
    (Queue, "queue", 8, 50),
    (Queued, "queued", 11, 100),
    (Received, "in", 11, 120),
    (Emitted, "out", 11, 120),
    (Removed, "removed", 9, 130),
    (Failed, "failed", 6, 70),
    (Errors, "errors", 6, 75),
    (Latency, "p99", 6, 75),
    (History, "history", 6, 70),
];

/// A line of the table: a stage, or an output of a stage that has several.
struct Row<'a> {
    stage: &'a StageReport,
    output: Option<&'a OutputReport>,
    /// What the stage did in the last second.
    lately: &'a StageReport,
}

impl View {
    /// Handles a key that changes what is shown; ignores others.
    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Up => self.first = self.first.saturating_sub(1),
            Key::Down => self.first += 1,
            Key::Freeze => self.is_frozen = !self.is_frozen,
            Key::Quit | Key::Control(_) => {}
        }
    }

    /// The lines for a screen that is `columns` wide and has `room` for that number of lines.
    pub(super) fn lines(&mut self, history: &History, state: &str, columns: usize, room: usize) -> Vec<Line> {
        let (now, lately) = (history.now(), history.interval());
        let rows = rows(now, lately);
        let banner = banner(history, columns, room);
        let has_status = room >= 4 && banner.is_empty();
        let has_header = room >= 5;
        let fixed = 1 + banner.len() + usize::from(has_status) + usize::from(has_header);
        let shown = rows.len().min(room.saturating_sub(fixed));
        self.first = self.first.min(rows.len() - shown);

        let place = (shown < rows.len()).then(|| (self.first + 1, self.first + shown, rows.len()));
        let mut lines = vec![self.title(now, state, place, columns)];
        let table = Table::new(&rows, columns);
        if has_header {
            lines.push(table.header());
        }
        let bottleneck = lately.bottleneck().map(|stage| &stage.name);
        lines.extend(rows.iter().skip(self.first).take(shown).map(|row| table.line(row, history, bottleneck)));
        if has_status {
            lines.push(status(lately, columns));
        }
        lines.extend(banner);
        lines.truncate(room);
        lines
    }

    fn title(&self, now: &Report, state: &str, place: Option<(usize, usize, usize)>, columns: usize) -> Line {
        let state = if self.is_frozen { "frozen" } else { state };
        let name = fit(&now.name, width(&now.name).min(columns), Align::Left);
        let rest = columns - width(&name);
        let mut line = Line::default();
        line.push(Style::Strong, name);
        let about = format!("  {state}  {}", time(now.elapsed));
        let keys = match place {
            Some((first, last, all)) => format!("rows {first}-{last} of {all}: arrows  {KEYS}"),
            None => KEYS.to_owned(),
        };
        if width(&about) + 2 + width(&keys) <= rest {
            let gap = rest - width(&about);
            line.push(Style::Plain, about);
            line.push(Style::Faint, fit(&keys, gap, Align::Right));
        } else {
            line.push(Style::Plain, fit(&about, rest, Align::Left));
        }
        line
    }
}

/// Stages in the order in which they were built. That order is topological: a stage can only be built on existing
/// streams.
fn rows<'a>(now: &'a Report, lately: &'a Report) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let items = |stage: &&StageReport| stage.kind != StageKind::Task;
    let tasks = now.stages.iter().filter(|stage| !items(stage));
    for stage in now.stages.iter().filter(items).chain(tasks) {
        let lately = lately.stage(&stage.name).unwrap_or(stage);
        rows.push(Row { stage, output: None, lately });
        if stage.outputs.len() > 1 {
            rows.extend(stage.outputs.iter().map(|output| Row { stage, output: Some(output), lately }));
        }
    }
    rows
}

/// What limits the pace.
fn status(lately: &Report, columns: usize) -> Line {
    let style = if lately.bottleneck().is_some() { Style::Plain } else { Style::Faint };
    Line::of(style, format!("bottleneck: {}", lately.verdict()), columns)
}

/// What the pipeline waits for, if it makes no progress: at most two lines, and never all of the available ones.
fn banner(history: &History, columns: usize, room: usize) -> Vec<Line> {
    if history.silence() < SILENCE || columns == 0 {
        return Vec::new();
    }
    let text = format!("no progress for {}: {}", time(history.silence()), history.now().diagnosis());
    let text = text.trim_end_matches(": ");
    wrap(text, columns, 2.min(room.saturating_sub(1)))
        .into_iter()
        .map(|text| Line::of(Style::Banner, text, columns))
        .collect()
}

/// The text in at most `count` lines, broken at spaces; the last line is cut when it is printed.
fn wrap(text: &str, columns: usize, count: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_last = lines.len() == count;
        match lines.last_mut() {
            Some(line) if is_last || width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ if is_last => break,
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The visible columns and their widths.
struct Table {
    name: usize,
    columns: Vec<(Column, &'static str, usize)>,
}

impl Table {
    fn new(rows: &[Row<'_>], screen: usize) -> Self {
        let has_latency = rows.iter().any(|row| row.stage.latency.is_some());
        let has_errors = rows.iter().any(|row| row.stage.hidden_failures().is_some());
        let fits = |column, from| match column {
            _ if from > screen => false,
            Items => screen < NARROW,
            Latency => has_latency,
            Errors => has_errors,
            _ => true,
        };
        let columns = COLUMNS.into_iter().filter(|&(column, .., from)| fits(column, from));
        let mut columns: Vec<_> = columns.map(|(column, title, width, _)| (column, title, width)).collect();
        let numbers: usize =
            columns.iter().filter(|(column, ..)| *column != History).map(|(.., width)| 2 + width).sum();
        let longest = rows.iter().map(|row| width(&row.label())).max().unwrap_or(0).max("stage".len());
        let name = longest.min((screen / 4).max(12)).min(screen - numbers);
        // The history is the last column, and takes the remaining width.
        if let Some((History, _, least)) = columns.last_mut() {
            match (screen - numbers - name).checked_sub(2) {
                Some(left) if left >= *least => *least = left,
                _ => _ = columns.pop(),
            }
        }
        Self { name, columns }
    }

    fn header(&self) -> Line {
        let mut line = Line::default();
        line.push(Style::Faint, fit("stage", self.name, Align::Left));
        for &(column, title, width) in &self.columns {
            line.push(Style::Plain, "  ");
            line.push(Style::Faint, fit(title, width, column.align()));
        }
        line
    }

    fn line(&self, row: &Row<'_>, history: &History, bottleneck: Option<&Arc<str>>) -> Line {
        let is_bottleneck = row.output.is_none() && bottleneck == Some(&row.stage.name);
        let mut line = Line::default();
        let style = if is_bottleneck { Style::Strong } else { Style::Plain };
        line.push(style, fit(&row.label(), self.name, Align::Left));
        for &(column, _, width) in &self.columns {
            let (style, text) = row.cell(column, width, history).unwrap_or((Style::Plain, String::new()));
            let style = if style == Style::Plain && is_bottleneck { Style::Strong } else { style };
            line.push(Style::Plain, "  ");
            line.push(style, fit(&text, width, column.align()));
        }
        line
    }
}

impl Column {
    fn align(self) -> Align {
        match self {
            Queue | History => Align::Left,
            _ => Align::Right,
        }
    }
}

impl Row<'_> {
    fn label(&self) -> String {
        match self.output {
            Some(output) => format!("  -> {}", output.name),
            None if self.stage.threads > 1 => format!("{} x{}", self.stage.name, self.stage.threads),
            None => self.stage.name.to_string(),
        }
    }

    /// The content of a column, if any.
    fn cell(&self, column: Column, width: usize, history: &History) -> Option<(Style, String)> {
        let (queued, capacity) = self.fill();
        match column {
            Queue if capacity > 0 => {
                let share = queued as f64 / capacity as f64;
                let style = if share >= NEARLY_FULL { Style::Warning } else { Style::Plain };
                Some((style, bar(share, width)))
            }
            Queued if capacity > 0 => Some((Style::Plain, format!("{queued}/{capacity}"))),
            Queue | Queued => None,
            _ if self.output.is_some() => None,
            _ => self.stage_cell(column, width, history),
        }
    }

    fn stage_cell(&self, column: Column, width: usize, history: &History) -> Option<(Style, String)> {
        let Self { stage, lately, .. } = *self;
        let interval = history.interval();
        let takes = !matches!(stage.kind, StageKind::Source | StageKind::Task);
        let makes = matches!(stage.kind, StageKind::Processor | StageKind::Source);
        let plain = |text: String| Some((Style::Plain, text));
        match column {
            Items => plain(short(interval.per_second(throughput(lately)))),
            In => takes.then(|| (Style::Plain, short(interval.per_second(lately.received())))),
            Out => makes.then(|| (Style::Plain, short(interval.per_second(lately.emitted())))),
            Received => takes.then(|| (Style::Plain, stage.received().to_string())),
            Emitted => makes.then(|| (Style::Plain, stage.emitted().to_string())),
            Busy => plain(percent(lately, lately.busy + lately.asleep)),
            Blocked => plain(percent(lately, lately.blocked)),
            Removed => (stage.removed() > 0).then(|| (Style::Plain, stage.removed().to_string())),
            Failed => failures(stage.failed(), lately.failed()),
            Errors => failures(stage.failed_calls(), lately.failed_calls()),
            Latency => {
                let latency = lately.latency.as_ref().filter(|latency| latency.count > 0)?;
                plain(time(latency.p99))
            }
            History => Some((Style::Faint, sparkline(history.rates(stage, width)))),
            Queue | Queued => None,
        }
    }

    /// The number of items queued behind it, and the capacity.
    fn fill(&self) -> (usize, usize) {
        let outputs = match self.output {
            Some(output) => std::slice::from_ref(output),
            None => &self.stage.outputs,
        };
        outputs.iter().fold((0, 0), |(queued, capacity), output| {
            (queued + output.queued, output.capacity.saturating_add(capacity))
        })
    }
}

/// A count of failures, if there are any; one that has just grown is highlighted.
fn failures(count: u64, lately: u64) -> Option<(Style, String)> {
    let style = if lately > 0 { Style::Alarm } else { Style::Warning };
    (count > 0).then(|| (style, short(count as f64)))
}

fn percent(stage: &StageReport, part: Duration) -> String {
    let whole = stage.idle + stage.busy + stage.blocked;
    if whole.is_zero() { String::new() } else { format!("{:.0}%", 100.0 * part.as_secs_f64() / whole.as_secs_f64()) }
}
