//! Fixed point read from the wire text: an integer and the scale its instrument declares.
//!
//! A venue sends `0.00005100`; at scale 8 that is 5 100. Going through a binary float would lose
//! what checksums and sums depend on, so no float occurs on any path from the socket to a candle.
//!
//! What always holds:
//!  1. `render(parse_fixed(t, s)?, s)` is the same number as `t`, at exactly `s` decimals;
//!  2. a number that does not fit its scale is an error, never rounded: the venue's declared
//!     precision is then out of date, and the caller decides what that means.

/// Scales above this cannot occur: 10^18 is the largest power of ten an `i64` holds.
pub const SCALE_MAX: u8 = 18;

/// Longer texts are not numbers a market uses; refusing them early bounds the work per level.
const TEXT_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("not a decimal number: {text:?}")]
    NotANumber { text: String },
    #[error("{text} has more than the {scale} decimals its instrument declares")]
    NeedsRounding { text: String, scale: u8 },
    #[error("{text} at {scale} decimals does not fit 64 bits")]
    Overflow { text: String, scale: u8 },
    #[error("a scale of {scale} is above {SCALE_MAX}")]
    Scale { scale: u8 },
}

/// Reads `text` (JSON number syntax, exponent included) as an integer of `10^-scale` units.
pub fn parse_fixed(text: &str, scale: u8) -> Result<i64, DecimalError> {
    if scale > SCALE_MAX {
        return Err(DecimalError::Scale { scale });
    }
    let not_a_number = || DecimalError::NotANumber { text: shown(text) };
    let overflow = || DecimalError::Overflow { text: shown(text), scale };

    let parts = split(text).ok_or_else(not_a_number)?;
    let digits = parts.whole.bytes().chain(parts.fraction.bytes());
    // The position of the last digit kept, counted from the first digit of `digits`.
    let keep = parts.whole.len() as i64 + parts.exponent + i64::from(scale);

    let mut mantissa: i64 = 0;
    let mut taken: i64 = 0;
    for digit in digits {
        let value = i64::from(digit - b'0');
        if taken < keep {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_sub(value)) // Negative all along: `i64::MIN` has no positive twin.
                .ok_or_else(overflow)?;
        } else if value != 0 {
            return Err(DecimalError::NeedsRounding { text: shown(text), scale });
        }
        taken += 1;
    }
    // Digits the text left out, because they are zero: `45281` at one decimal is 452 810.
    while taken < keep && mantissa != 0 {
        mantissa = mantissa.checked_mul(10).ok_or_else(overflow)?;
        taken += 1;
    }
    if parts.negative { Ok(mantissa) } else { mantissa.checked_neg().ok_or_else(overflow) }
}

/// The number with exactly `scale` decimals: `render(5100, 8)` is `0.00005100`.
pub fn render(mantissa: i128, scale: u8) -> String {
    let sign = if mantissa < 0 { "-" } else { "" };
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", mantissa.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The same number at a finer scale. A coarser one would round, so it is refused.
pub fn rescale(mantissa: i128, from: u8, to: u8) -> Option<i128> {
    let steps = to.checked_sub(from)?;
    mantissa.checked_mul(10i128.checked_pow(u32::from(steps))?)
}

/// How many decimals a number's text carries; for venues that declare precision by example.
pub fn decimals_of(text: &str) -> Option<u8> {
    let parts = split(text)?;
    u8::try_from(parts.fraction.len() as i64 - parts.exponent.min(0)).ok()
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

fn split(text: &str) -> Option<Parts<'_>> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (number, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let dangling_point = number.contains('.') && fraction.is_empty();
    if whole.is_empty() || dangling_point || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Some(Parts { negative, whole, fraction, exponent })
}

/// At most three digits: anything larger is zero or out of range for every instrument there is.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

/// What an error quotes of a text that a stranger sent.
fn shown(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trailing_zeros_and_leading_zeros_change_nothing() {
        assert_eq!(parse_fixed("0.00005100", 8), Ok(5_100));
        assert_eq!(parse_fixed("45281", 1), Ok(452_810));
        assert_eq!(parse_fixed("45281.0000", 1), Ok(452_810));
        assert_eq!(parse_fixed("007.5", 1), Ok(75));
        assert_eq!(parse_fixed("-0.5", 1), Ok(-5));
        assert_eq!(parse_fixed("0", 8), Ok(0));
        assert_eq!(parse_fixed("301727260.79999999", 8), Ok(30_172_726_079_999_999));
    }

    #[test]
    fn exponents_are_read_exactly() {
        assert_eq!(parse_fixed("1e-05", 8), Ok(1_000));
        assert_eq!(parse_fixed("5.1E-5", 8), Ok(5_100));
        assert_eq!(parse_fixed("1.25e2", 1), Ok(1_250));
        assert_eq!(parse_fixed("12e-9", 8), Err(needs_rounding("12e-9", 8)));
        assert_eq!(parse_fixed("0e999", 8), Ok(0));
    }

    #[test]
    fn a_number_that_needs_rounding_is_refused() {
        assert_eq!(parse_fixed("0.123456789", 8), Err(needs_rounding("0.123456789", 8)));
        assert_eq!(parse_fixed("1.05", 1), Err(needs_rounding("1.05", 1)));
    }

    #[test]
    fn the_largest_number_fits_and_the_next_does_not() {
        assert_eq!(parse_fixed("9223372036854775807", 0), Ok(i64::MAX));
        assert_eq!(parse_fixed("-9223372036854775808", 0), Ok(i64::MIN));
        assert!(matches!(
            parse_fixed("9223372036854775808", 0),
            Err(DecimalError::Overflow { .. })
        ));
        assert!(matches!(parse_fixed("1e30", 8), Err(DecimalError::Overflow { .. })));
        assert_eq!(parse_fixed("1", 19), Err(DecimalError::Scale { scale: 19 }));
    }

    #[test]
    fn what_is_not_a_number_is_named() {
        for text in ["", "-", ".", "1.", ".5", "0.-10000", "1e", "1e+", "NaN", "1_0", "+1", "१"] {
            assert!(
                matches!(parse_fixed(text, 8), Err(DecimalError::NotANumber { .. })),
                "{text:?} was taken for a number"
            );
        }
    }

    #[test]
    fn declared_decimals_are_counted_on_the_text() {
        assert_eq!(decimals_of("0.00005100"), Some(8));
        assert_eq!(decimals_of("12"), Some(0));
        assert_eq!(decimals_of("1.5e-3"), Some(4));
    }

    fn needs_rounding(text: &str, scale: u8) -> DecimalError {
        DecimalError::NeedsRounding { text: text.into(), scale }
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back(mantissa: i64, scale in 0..=SCALE_MAX) {
            let text = render(i128::from(mantissa), scale);
            prop_assert_eq!(parse_fixed(&text, scale), Ok(mantissa));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}", scale: u8) {
            let _ = parse_fixed(&text, scale);
            let _ = decimals_of(&text);
        }

        #[test]
        fn a_finer_scale_is_the_same_number(mantissa in -1_000_000_000i64..1_000_000_000, from in 0u8..9) {
            let finer = rescale(i128::from(mantissa), from, 9);
            let text = render(i128::from(mantissa), from);
            prop_assert_eq!(finer, parse_fixed(&text, 9).ok().map(i128::from));
        }
    }
}
