//! Venue times as text, read into microseconds since 1970. Finer digits are cut off, not rounded.

const DAY_US: u64 = 86_400_000_000;

/// `2023-09-24T14:10:23.799685Z`, any number of decimals, UTC only.
pub fn rfc3339_us(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() < 20 || fixed.iter().any(|(at, byte)| bytes[*at] != *byte) {
        return None;
    }
    let field = |from: usize, to: usize| number(bytes.get(from..to)?);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // Second 60 is a leap second; venues that show one mean the last microsecond before midnight.
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let rest = &bytes[19..];
    let fraction = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if !digits.is_empty() => micros(digits)?,
        _ => return None,
    };
    let seconds = (hour * 60 + minute) * 60 + second;
    let in_day = (seconds * 1_000_000 + fraction).min(DAY_US - 1);
    Some(days_since_1970(year, month, day) * DAY_US + in_day)
}

/// Seconds since 1970 as a decimal number, `1616663618.1234567`.
pub fn unix_seconds_us(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if whole.is_empty() || whole.len() > 12 || fraction.is_empty() {
        return None;
    }
    number(whole.as_bytes())?.checked_mul(1_000_000)?.checked_add(micros(fraction.as_bytes())?)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(value)
    })
}

/// The first six decimals; the others must still be digits.
fn micros(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let kept = &digits[..digits.len().min(6)];
    Some(number(kept)? * 10u64.pow(6 - kept.len() as u32))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let leaps_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let years = (year - 1970) * 365 + leaps_before(year) - leaps_before(1970);
    years + (1..month).map(|month| days_in(year, month)).sum::<u64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(rfc3339_us("1970-01-01T00:00:00.000000Z"), Some(0));
        assert_eq!(rfc3339_us("2000-02-29T12:00:00Z"), Some(951_825_600_000_000));
        assert_eq!(rfc3339_us("2026-07-10T00:00:00.123456Z"), Some(1_783_641_600_123_456));
        // Nanoseconds are cut, tenths are scaled up.
        assert_eq!(rfc3339_us("1970-01-01T00:00:00.0000019Z"), Some(1));
        assert_eq!(rfc3339_us("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(unix_seconds_us("1616663618.1234567"), Some(1_616_663_618_123_456));
        assert_eq!(unix_seconds_us("1616663618"), Some(1_616_663_618_000_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01T00:00:00.Z",
            "0001-01-01T00:00:00Z",
            "2026-01-01 00:00:00Z",
        ] {
            assert_eq!(rfc3339_us(text), None, "{text:?}");
        }
        for text in ["", ".5", "1.", "1e3", "-1", "99999999999999999999"] {
            assert_eq!(unix_seconds_us(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in 0u64..100_000) {
            // Counted the slow way, from 1970 on.
            let (mut year, mut month, mut date) = (1970, 1, 1);
            for _ in 0..day {
                date += 1;
                if date > days_in(year, month) { date = 1; month += 1; }
                if month > 12 { month = 1; year += 1; }
            }
            prop_assert_eq!(days_since_1970(year, month, date), day);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (rfc3339_us(&text), unix_seconds_us(&text));
        }
    }
}
