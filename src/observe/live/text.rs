//! [`Line`]: styled text that fits into columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The style of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Faint,
    Strong,
    /// Needs attention.
    Warning,
    /// Shows an error.
    Alarm,
    /// Stands out from everything else.
    Banner,
}

impl Style {
    /// The parameters of the escape sequence that sets it.
    fn parameters(self, color: bool) -> &'static str {
        match (self, color) {
            (Self::Plain, _) => "0",
            (Self::Faint, _) => "0;2",
            (Self::Strong, _) | (Self::Warning | Self::Alarm, false) => "0;1",
            (Self::Warning, true) => "0;33",
            (Self::Alarm, true) => "0;31",
            (Self::Banner, false) => "0;7",
            (Self::Banner, true) => "0;1;37;41",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// One line of the view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    pieces: Vec<(Style, String)>,
}

impl Line {
    pub(super) fn of(style: Style, text: impl AsRef<str>, width: usize) -> Self {
        let mut line = Self::default();
        line.push(style, fit(text.as_ref(), width, Align::Left));
        line
    }

    pub(super) fn push(&mut self, style: Style, text: impl Into<String>) {
        self.pieces.push((style, text.into()));
    }

    /// Appends the bytes that print it.
    pub(super) fn print(&self, color: bool, out: &mut Vec<u8>) {
        for (style, text) in &self.pieces {
            out.extend_from_slice(b"\x1b[");
            out.extend_from_slice(style.parameters(color).as_bytes());
            out.push(b'm');
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(b"\x1b[0m");
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// The number of columns it occupies on the screen.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text in exactly `width` columns: padded with spaces, or cut and marked with an ellipsis. Control characters,
/// which might have any effect on a terminal, are replaced.
pub(super) fn fit(text: &str, width: usize, align: Align) -> String {
    let text: String = text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    let wanted = text.width();
    if wanted <= width {
        let space = " ".repeat(width - wanted);
        return match align {
            Align::Left => text + &space,
            Align::Right => space + &text,
        };
    }
    let (mut cut, mut taken) = (String::new(), 0);
    for char in text.chars() {
        let next = char.width().unwrap_or(0);
        if taken + next + 1 > width {
            break;
        }
        cut.push(char);
        taken += next;
    }
    if taken < width {
        cut.push('…');
        cut.extend(std::iter::repeat_n(' ', width - taken - 1));
    }
    cut
}

/// A count or a rate in at most 6 columns: `998`, `12.3k`, `4.56M`.
pub(super) fn short(number: f64) -> String {
    if number < 9.95 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let (mut value, mut unit) = (number, "");
    for next in ["k", "M", "G", "T", "P"] {
        if value < 9_999.5 {
            break;
        }
        (value, unit) = (value / 1_000.0, next);
    }
    format!("{value:.0}{unit}")
}

/// A bar of `width` columns that is filled to `share`, 0.0 to 1.0, in steps of an eighth of a column.
pub(super) fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).ceil() as usize;
    let (full, part) = (eighths / 8, eighths % 8);
    let part = char::from_u32(0x2590 - part as u32).filter(|_| part > 0);
    let drawn = full + part.iter().count();
    "█".repeat(full) + &String::from_iter(part) + &"·".repeat(width - drawn)
}

/// A column for each value, scaled to the maximum. Zero is blank.
pub(super) fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    let greatest = values.clone().fold(0.0, f64::max);
    let column = |value: f64| match (value / greatest * 8.0).ceil() as u32 {
        _ if value <= 0.0 => ' ',
        eighths => char::from_u32(0x2580 + eighths.clamp(1, 8)).unwrap_or(' '),
    };
    values.map(column).collect()
}

/// A time in at most 6 columns: `850µs`, `12ms`, `3.4s`, `2m05s`, `3h12m`.
pub(super) fn time(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_micros() {
        0..1_000 => format!("{}µs", duration.as_micros()),
        1_000..1_000_000 => format!("{}ms", duration.as_millis()),
        1_000_000..10_000_000 => format!("{:.1}s", duration.as_millis() as f64 / 1_000.0),
        10_000_000..60_000_000 => format!("{seconds}s"),
        60_000_000..3_600_000_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_is_padded_or_cut_to_its_columns() {
        assert_eq!(fit("map", 5, Align::Left), "map  ");
        assert_eq!(fit("12", 5, Align::Right), "   12");
        assert_eq!(fit("enrich", 5, Align::Left), "enri…");
        assert_eq!(fit("enrich", 1, Align::Left), "…");
        assert_eq!(fit("enrich", 0, Align::Left), "");
        // A character of two columns that does not fit leaves one blank.
        assert_eq!(fit("装载数据", 6, Align::Left), "装载… ");
        assert_eq!(fit("a\x1b[2J\n", 8, Align::Left), "a\u{fffd}[2J\u{fffd}  ");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.25, 7.0, 9_999.0, 9_999.6, 12_345.0, 45_600_000.0, 1e13].map(short);
        assert_eq!(texts, ["0", "0.2", "7", "9999", "10k", "12k", "46M", "10T"]);
    }

    #[test]
    fn times_are_short() {
        let micros = [0, 850, 12_900, 3_460_000, 59_990_000, 125_000_000, 11_520_000_000];
        let texts = micros.map(|micros| time(Duration::from_micros(micros)));
        assert_eq!(texts, ["0µs", "850µs", "12ms", "3.5s", "59s", "2m05s", "3h12m"]);
    }

    #[test]
    fn bars_fill_by_eighths() {
        let bars = [0.0, 0.01, 0.5, 0.55, 1.0, 2.0].map(|share| bar(share, 4));
        assert_eq!(bars, ["····", "▏···", "██··", "██▎·", "████", "████"]);
    }

    #[test]
    fn a_sparkline_is_scaled_to_its_greatest_value() {
        assert_eq!(sparkline([0.0, 1.0, 50.0, 100.0].into_iter()), " ▁▄█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "  ");
    }

    #[test]
    fn no_color_keeps_only_weight() {
        let mut line = Line::default();
        line.push(Style::Alarm, "7");
        let printed = |color| {
            let mut out = Vec::new();
            line.print(color, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(true), "\x1b[0;31m7\x1b[0m");
        assert_eq!(printed(false), "\x1b[0;1m7\x1b[0m");
    }
}
