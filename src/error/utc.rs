//! [`Utc`]: a time in readable form.

use std::fmt;
use std::time::SystemTime;

/// Writes a time in UTC, rounded down to the millisecond, in the format of ISO 8601: `2024-02-29T12:34:56.250Z`.
///
/// Years before 0 or after 9999 have a sign, as the standard requires.
pub(super) struct Utc(pub(super) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i128 = 24 * 60 * 60 * 1000;
        let millis = match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_millis().cast_signed(),
            Err(error) => -error.duration().as_nanos().div_ceil(1_000_000).cast_signed(),
        };
        let (year, month, day) = civil(millis.div_euclid(DAY));
        let of_day = millis.rem_euclid(DAY);
        let (second, milli) = (of_day / 1000, of_day % 1000);
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// The year, month and day of the given day since 1970-01-01, in the Gregorian calendar.
///
/// The method is that of Howard Hinnant's [`civil_from_days`](https://howardhinnant.github.io/date_algorithms.html):
/// years begin in March, so that the leap day is the last of its year.
fn civil(days: i128) -> (i128, i128, i128) {
    const ERA: i128 = 146_097;
    let days = days + 719_468;
    let of_era = days.rem_euclid(ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (days.div_euclid(ERA) * 400 + year + i128::from(month <= 2), month, day)
}

/// Parses the output of [`Utc`], with any number of digits after the second.
#[cfg(feature = "serde")]
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    // From the end, because a year may have a sign.
    let mut date = date.rsplitn(3, '-');
    let (day, month, year) = (number(date.next()?)?, number(date.next()?)?, date.next()?.parse::<i64>().ok()?.into());
    let days = days(year, month, day);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_valid = civil(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    if !is_valid || clock.next().is_some() || fraction.len() > 9 {
        return None;
    }
    let nanos = number(fraction)? * 10_i128.pow(9 - fraction.len() as u32);
    let nanos = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + nanos;
    let (seconds, nanos_of_second) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let apart = std::time::Duration::new(u64::try_from(seconds).ok()?, nanos_of_second as u32);
    if nanos < 0 { SystemTime::UNIX_EPOCH.checked_sub(apart) } else { SystemTime::UNIX_EPOCH.checked_add(apart) }
}

#[cfg(feature = "serde")]
fn number(digits: &str) -> Option<i128> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The day since 1970-01-01 of a date: the inverse of [`civil`].
#[cfg(feature = "serde")]
fn days(year: i128, month: i128, day: i128) -> i128 {
    let year = year - i128::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400);
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_and_after_the_epoch() {
        let after = |millis| Utc(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).to_string();
        let before = |nanos| Utc(SystemTime::UNIX_EPOCH - Duration::from_nanos(nanos)).to_string();
        assert_eq!(after(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(after(951_782_400_001), "2000-02-29T00:00:00.001Z");
        assert_eq!(after(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(after(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(after(253_402_300_800_000), "+10000-01-01T00:00:00.000Z");
        assert_eq!(before(1), "1969-12-31T23:59:59.999Z");
        assert_eq!(before(86_400_000_000_000), "1969-12-31T00:00:00.000Z");
    }

    #[test]
    #[cfg(feature = "serde")]
    fn written_values_can_be_read() {
        for millis in [0, 951_782_400_001, 1_709_251_199_999, 4_107_542_400_000, 253_402_300_800_000] {
            for time in [
                SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
                SystemTime::UNIX_EPOCH - Duration::from_millis(millis),
            ] {
                assert_eq!(parse(&Utc(time).to_string()), Some(time));
            }
        }
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)));
        let bad = ["", "1970-01-01", "1970-01-01T00:00:00", "1970-02-29T00:00:00Z", "1970-13-01T00:00:00Z"];
        let bad = bad.into_iter().chain(["1970-01-01T24:00:00Z", "1970-01-01T00:00:00:00Z", "1970-01-01T00:00:+1Z"]);
        for text in bad.chain(["1970-01-01T00:00:00.0123456789Z", "1970-01-00T00:00:00Z", "é970-01-01T00:00:00Z"]) {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year: i128| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1600, 1, 1);
        for days in -135_140..150_000 {
            assert_eq!(civil(days), expected, "day {days}");
            let (year, month, day) = expected;
            let len = match month {
                2 => 28 + i128::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day == len) {
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
