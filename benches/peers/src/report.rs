//! The section of one work: its description, its table, notes, and its goals; Markdown that reads well in a terminal.

use std::fmt::Write as _;

use crate::figures::find;
use crate::run::{Measured, Samples};
use crate::work::{Goal, Work};

/// Leaves out the goals unless the figures are `good`.
pub(crate) fn section(work: &Work, measured: &Measured, good: bool) -> String {
    let Measured { samples, others } = measured;
    let mut text = format!("### {}\n\n{}\n\n{}\n", work.name, work.about, table(work, samples));
    let _ = writeln!(text, "- CPU cores busy with other work: {}.", known(*others, short));
    for note in work.notes {
        let _ = writeln!(text, "- {note}");
    }
    let goals: Vec<_> = work.goals.iter().filter(|_| good).filter_map(|goal| verdict(goal, samples)).collect();
    if !goals.is_empty() {
        let _ = write!(text, "\nGoals:\n\n{}", goals.concat());
    }
    text
}

/// The ratios to the other build, one line for each system.
pub(crate) fn before(samples: &[Samples]) -> String {
    let line = |before: &Samples| {
        let now = find(samples, before.entry.system)?;
        Some(format!("- {}: {:.2} of the time before\n", now.name(), now.ratio_to(before)?))
    };
    samples.iter().filter(|line| line.is_before).filter_map(line).collect()
}

/// The goal and its result; nothing if its systems have not been run.
fn verdict(goal: &Goal, samples: &[Samples]) -> Option<String> {
    let figure = goal.figure.of(samples)?;
    let reached = if goal.bound.holds(figure) { "reached" } else { "not reached" };
    Some(format!("- {}: {figure:.3}, **{reached}**\n", goal.text))
}

fn table(work: &Work, samples: &[Samples]) -> String {
    let header = [
        "system",
        "items",
        &format!("{}, median", work.unit),
        "min",
        "max",
        "max / min",
        &format!("ratio to {}", work.reference),
        "cpu / wall",
        "peak MiB",
        "waits / 1000",
        "preempted / 1000",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(samples.iter().map(|line| row(line, find(samples, work.reference))));
    aligned(&rows)
}

fn row(line: &Samples, reference: Option<&Samples>) -> [String; 11] {
    let per_thousand = |count: u64| count as f64 * 1e3 / line.items as f64;
    let (min, max) = line.extremes();
    [
        line.name(),
        with_commas(line.items),
        known(line.median(|run| Some(run.nanos)), short),
        short(min),
        short(max),
        format!("{:.2}", line.spread()),
        known(reference.and_then(|reference| line.ratio_to(reference)), |ratio| format!("{ratio:.3}")),
        known(line.median(|run| run.cpu.map(|cpu| cpu / run.wall)), |cpus| format!("{cpus:.2}")),
        known(line.median(|run| run.peak_kib.map(|kib| kib as f64 / 1024.0)), |mib| format!("{mib:.1}")),
        known(line.median(|run| run.waits.map(per_thousand)), short),
        known(line.median(|run| run.preempted.map(per_thousand)), short),
    ]
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "n/a".to_owned(), show)
}

/// As many digits as are meaningful.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..1000.0 => format!("{value:.1}"),
        _ => with_commas(value.round() as u64),
    }
}

fn with_commas(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A Markdown table with columns of even width: the first aligned left, the others right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if at == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let _ = if column == 0 {
                    write!(text, "|{:-<1$}", "", width + 2)
                } else {
                    write!(text, "|{:-<1$}:", "", width + 1)
                };
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_only_meaningful_digits() {
        assert_eq!([1.234, 56.78, 999.94, 1_234_567.0].map(short), ["1.23", "56.8", "999.9", "1,234,567"]);
        assert_eq!([0, 100, 1000].map(with_commas), ["0", "100", "1,000"]);
    }

    #[test]
    fn a_table_is_markdown_with_even_columns() {
        let rows = [["system", "ns"], ["loop", "1.40"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "| system |   ns |\n|--------|-----:|\n| loop   | 1.40 |\n");
    }
}
