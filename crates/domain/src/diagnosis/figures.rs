//! Sizes, spans and rates: worked out from what was measured, and written as people and commands take them.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // Figures for people: what a double cannot hold of them is not shown either.

use crate::time::Millis;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The most memory that a job may ask for.
const MOST_MEMORY: u64 = 1 << 50;
/// The longest timeout that a job may have.
const LONGEST: Millis = Millis(7 * 24 * 3_600_000);

/// Memory for executions that were stopped at a limit: twice the limit, or what succeeded with more and a quarter of it
/// again, in whole MiB. None where the limit is as high as it can be.
pub(super) fn more_memory(limit: u64, seen: Option<u64>) -> Option<u64> {
    let seen = seen.unwrap_or(0);
    let wanted = limit
        .saturating_mul(2)
        .max(seen.saturating_add(seen / 4))
        .min(MOST_MEMORY);
    let whole = wanted.div_ceil(MIB).saturating_mul(MIB);
    (whole > limit).then_some(whole)
}

/// A timeout for executions that were stopped at one: twice as long, or four times what usually is enough, rounded up to
/// what people would say. None where it is as long as it can be.
pub(super) fn longer_timeout(timeout: Millis, usual: Option<Millis>) -> Option<Millis> {
    let usual = usual.map_or(0, |usual| usual.0.saturating_mul(4));
    let wanted = timeout.0.saturating_mul(2).max(usual);
    let step = match wanted {
        0..10_000 => 1_000,
        10_000..120_000 => 10_000,
        120_000..7_200_000 => 60_000,
        _ => 3_600_000,
    };
    let rounded = wanted.div_ceil(step).saturating_mul(step).min(LONGEST.0);
    (rounded > timeout.0).then_some(Millis(rounded))
}

/// How many ran at once on average, if executions took that long in all within this span (Little's law).
pub(super) fn at_once(busy: Millis, within: Millis) -> u32 {
    let rounded = busy.0.saturating_add(within.0 / 2) / within.0.max(1);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// Units a second; none for a span too short to say.
pub(super) fn rate(units: u64, within: Millis) -> Option<f64> {
    (units > 0 && within.0 >= 1_000).then(|| units as f64 * 1_000.0 / within.0 as f64)
}

/// The rate with its first two digits, rounded down, within what a limit may be.
pub(super) fn two_digits(rate: f64) -> f64 {
    let rate = rate.clamp(0.001, 1_000_000.0);
    let step = 10f64.powi(rate.log10().floor() as i32 - 1);
    // The division leaves a last digit of its own; the text is what counts.
    let text = format!("{:.4}", ((rate / step) + 1e-9).floor() * step);
    text.parse::<f64>().unwrap_or(1.0).max(0.001)
}

/// Seconds, to the millisecond.
pub(super) fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1_000.0
}

/// A rate to three digits.
pub(super) fn rounded(rate: f64) -> f64 {
    (rate * 1_000.0).round() / 1_000.0
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        GIB.. => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        MIB.. => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        _ => format!("{:.1} KiB", bytes as f64 / 1_024.0),
    }
}

/// A span as a command takes it.
pub(super) fn span_word(span: Millis) -> String {
    match span.0 {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// So many of something: `1 unit`, `2 units`.
pub(super) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_sized_by_the_limit_and_by_what_succeeded() {
        assert_eq!(more_memory(64 * MIB, None), Some(128 * MIB));
        assert_eq!(more_memory(64 * MIB, Some(63 * MIB)), Some(128 * MIB));
        assert_eq!(more_memory(64 * MIB, Some(200 * MIB)), Some(250 * MIB));
        assert_eq!(more_memory(3 * MIB / 2 + 1, None), Some(4 * MIB));
        assert_eq!(more_memory(MOST_MEMORY, None), None);
        assert_eq!(more_memory(u64::MAX, Some(u64::MAX)), None);
    }

    #[test]
    fn timeouts_grow_to_what_people_would_say() {
        let longer = |ms, usual: Option<u64>| longer_timeout(Millis(ms), usual.map(Millis));
        assert_eq!(longer(1_000, None), Some(Millis(2_000)));
        assert_eq!(longer(30_000, Some(20_000)), Some(Millis(80_000)));
        assert_eq!(longer(300_000, None), Some(Millis(600_000)));
        assert_eq!(longer(LONGEST.0, None), None);
        assert_eq!(span_word(Millis(600_000)), "10m");
        assert_eq!(span_word(Millis(80_000)), "80s");
        assert_eq!(span_word(Millis(7_200_000)), "2h");
    }

    #[test]
    fn rates_have_two_digits() {
        for (rate, expected) in [
            (1.0, "1"),
            (12.7, "12"),
            (0.123, "0.12"),
            (0.0, "0.001"),
            (99.9, "99"),
            (1_234.5, "1200"),
            (1e9, "1000000"),
        ] {
            assert_eq!(two_digits(rate).to_string(), expected);
        }
        assert_eq!(rate(0, Millis(5_000)), None);
        assert_eq!(rate(5, Millis(999)), None);
        assert_eq!(rate(5, Millis(2_000)), Some(2.5));
        assert_eq!(at_once(Millis(60_000), Millis(8_000)), 8);
        assert_eq!(at_once(Millis(60_000), Millis(0)), 60_000);
    }
}
