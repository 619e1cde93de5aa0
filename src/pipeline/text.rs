//! Text of bounded width: numbers, names and sentences that fit into a terminal.

use std::time::Duration;

/// Returns an upper bound of the columns that a name or a sentence occupies on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// An upper bound without the tables of Unicode: the ranges of wide characters are somewhat too large.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f => 0,
        // Khmer characters that terminals show as two and three.
        0x17a4 | 0x17d8 => 3,
        0x1100..=0x115f
        | 0x231a..=0x232a
        | 0x23e9..=0x23f3
        | 0x25fd..=0x27bf
        | 0x2b1b..=0x2b55
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97c
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe10..=0xfe19
        | 0xfe30..=0xfe6b
        | 0xff01..=0xff60
        | 0xffe0..=0xffe6
        | 0x16fe0..=0x1b2fb
        | 0x1d300..=0x1d376
        | 0x1f000..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text on one line, with control characters replaced.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The text in at most `most` columns. Characters are cut from the middle: names often differ at their ends.
pub(super) fn fit(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let tail = room / 3;
    let head = start(text.chars(), room - tail);
    let end: Vec<char> = start(text.chars().rev(), tail);
    head.into_iter().chain(['…']).chain(end.into_iter().rev()).collect()
}

fn start(text: impl Iterator<Item = char>, most: usize) -> Vec<char> {
    let mut left = most;
    let fits = |c: &char| match left.checked_sub(char_width(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.take_while(fits).collect()
}

/// A sentence in lines of at most `most` columns, indented by `indent`; all lines but the first by two more.
pub(super) fn wrap(text: &str, indent: usize, most: usize) -> String {
    let mut lines = " ".repeat(indent);
    let (mut column, mut is_new) = (indent, true);
    for mut word in text.split_whitespace().map(printable) {
        if !is_new && column + 1 + width(&word) <= most {
            lines.push(' ');
            column += 1;
        } else if !is_new {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent + 2));
            column = indent + 2;
        }
        // A word that is longer than a line is split.
        while column + width(&word) > most {
            let part = start(word.chars(), most - column);
            lines.extend(&part);
            lines.push('\n');
            lines.push_str(&" ".repeat(indent + 2));
            column = indent + 2;
            word = word.chars().skip(part.len()).collect();
        }
        lines.push_str(&word);
        column += width(&word);
        is_new = false;
    }
    lines
}

const POWERS: [(f64, &str); 6] = [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];

/// A count in at most seven columns: exact below ten million, rounded to four digits above.
pub(super) fn count(n: u64) -> String {
    if n < 10_000_000 { n.to_string() } else { scaled(n as f64, 4) }
}

/// A count in at most five columns: exact below ten thousand, rounded to three digits above.
pub(super) fn short(n: usize) -> String {
    if n < 10_000 { n.to_string() } else { scaled(n as f64, 3) }
}

fn scaled(n: f64, digits: usize) -> String {
    let fits = |(power, _): &&(f64, &str)| n / power < 999.5;
    let (power, unit) = POWERS.iter().find(fits).unwrap_or(&POWERS[5]);
    format!("{}{unit}", rounded(n / power, digits))
}

/// A time in at most six columns: with three digits below a minute, and in its two greatest units above.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_nanos() {
        0 => "0s".to_owned(),
        nanos @ 1..1_000 => format!("{nanos}ns"),
        1_000..999_500 => format!("{}µs", rounded(seconds * 1e6, 3)),
        999_500..999_500_000 => format!("{}ms", rounded(seconds * 1e3, 3)),
        999_500_000..59_950_000_000 => format!("{}s", rounded(seconds, 3)),
        _ => long(seconds.round() as u64),
    }
}

fn long(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (hours, days) {
        (0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (1..24, _) => format!("{hours}h{:02}m", minutes % 60),
        (_, ..100) => format!("{days}d{:02}h", hours % 24),
        (_, ..10_000) => format!("{days}d"),
        (_, ..365_000) => format!("{}y", days / 365),
        _ => ">999y".to_owned(),
    }
}

/// A number below a thousand, with `digits` digits.
fn rounded(value: f64, digits: usize) -> String {
    let shorter = (0..digits).rev().map(|decimals| format!("{value:.decimals$}"));
    let mut fitting = shorter.filter(|text| text.bytes().filter(u8::is_ascii_digit).count() <= digits);
    fitting.next().unwrap_or_else(|| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

    use super::*;

    #[test]
    fn no_character_is_wider_than_its_upper_bound() {
        let wider = (char::MIN..=char::MAX).filter(|c| c.width().unwrap_or(0) > char_width(*c));
        assert_eq!(wider.map(|c| format!("{:x}", u32::from(c))).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(["", "ä", "東京", "a\u{301}", "…"].map(width), [0, 1, 4, 1, 1]);
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("partition-orders-12", 10), "partit…-12");
        assert_eq!(fit("東京東京東京", 7), "東京…京");
        assert_eq!([0, 1, 2].map(|most| fit("name", most)), ["…", "…", "n…"]);
    }

    #[test]
    fn sentences_are_wrapped_between_words_and_long_words_within() {
        assert_eq!(wrap("one two three", 1, 9), " one two\n   three");
        assert_eq!(wrap("one\n\n  two\u{7}", 0, 80), "one two\u{fffd}");
        assert_eq!(wrap("abcdefghij k", 2, 7), "  abcde\n    fgh\n    ij\n    k");
        assert_eq!(wrap("", 2, 80), "  ");
    }

    #[test]
    fn counts_are_exact_as_long_as_there_is_room() {
        let counts = [0, 9_999_999, 10_000_000, 99_999_999, 999_499_999, 999_999_999, u64::MAX];
        assert_eq!(counts.map(count), ["0", "9999999", "10.00M", "100.0M", "999.5M", "1.000G", "18.45E"]);
        let counts = [0, 9_999, 10_000, 12_345, 999_499, 999_999, usize::MAX];
        assert_eq!(counts.map(short), ["0", "9999", "10.0k", "12.3k", "999k", "1.00M", "18.4E"]);
    }

    #[test]
    fn times_have_units_that_say_something() {
        let nanos = [0, 1, 999, 1_000, 573_345, 999_499, 999_500, 12_345_678, 999_500_000, 59_949_999_999];
        let expected = ["0s", "1ns", "999ns", "1.00µs", "573µs", "999µs", "1.00ms", "12.3ms", "1.00s", "59.9s"];
        assert_eq!(nanos.map(Duration::from_nanos).map(time), expected);
        let seconds = [60, 3_599, 3_600, 86_399, 86_400, 8_639_999, 8_640_000, 863_999_999, 864_000_000, u64::MAX];
        let expected = ["1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "99d23h", "100d", "9999d", "27y", ">999y"];
        assert_eq!(seconds.map(Duration::from_secs).map(time), expected);
        assert_eq!(time(Duration::from_nanos(59_950_000_000)), "1m00s");
    }

    #[test]
    fn whatever_its_size_a_number_fits() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let n = rng.u64(..) >> rng.u32(..64);
            let nanos = Duration::new(n >> rng.u32(..64), rng.u32(..1_000_000_000) >> rng.u32(..32));
            for (text, most) in [(count(n), 7), (short(n as usize), 5), (time(nanos), 6)] {
                assert!(text.width() <= most, "`{text}`");
            }
        }
    }
}
