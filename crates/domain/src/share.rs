//! Parts of a whole, as people write them: `1%`, `0.5%`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A part of a whole, in hundredths of a percent: from 0.01% to 100%. As text it is `12.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(10_000);
    /// 90%.
    pub const NINE_OF_TEN: Self = Self(9_000);

    /// So many percent.
    ///
    /// # Errors
    /// Where it is none from 1 to 100.
    pub fn percent(percent: u16) -> Result<Self, InvalidShare> {
        let found = percent
            .checked_mul(100)
            .filter(|n| (1..=10_000).contains(n));
        found
            .map(Self)
            .ok_or_else(|| InvalidShare(format!("{percent}%")))
    }

    /// Its part of a number, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        u64::try_from(u128::from(whole) * u128::from(self.0) / 10_000).unwrap_or(whole)
    }

    /// Its part of a number, rounded up.
    #[must_use]
    pub fn of_rounded_up(self, whole: u64) -> u64 {
        u64::try_from((u128::from(whole) * u128::from(self.0)).div_ceil(10_000)).unwrap_or(whole)
    }

    /// Whether so many of a whole are at least this part of it.
    #[must_use]
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 10_000 >= u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share: give a percentage from 0.01% to 100%, such as 5% or 0.5%")]
pub struct InvalidShare(pub String);

impl FromStr for Share {
    type Err = InvalidShare;
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let parse = || {
            let (whole, rest) = match text.strip_suffix('%')?.split_once('.') {
                Some((whole, rest)) => (whole, rest),
                None => (text.strip_suffix('%')?, "00"),
            };
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if !digits(whole) || !digits(rest) || !(1..=2).contains(&rest.len()) {
                return None;
            }
            let hundredths: u16 = format!("{rest:0<2}").parse().ok()?;
            let whole: u16 = whole.parse().ok()?;
            whole.checked_mul(100)?.checked_add(hundredths)
        };
        let found = parse().filter(|n| (1..=10_000).contains(n));
        found
            .map(Self)
            .ok_or_else(|| InvalidShare(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Share {
    type Error = InvalidShare;
    fn try_from(value: String) -> Result<Self, InvalidShare> {
        value.parse()
    }
}

impl From<Share> for String {
    fn from(value: Share) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_reads_as_it_is_written() {
        for text in ["0.01%", "0.5%", "1%", "12.34%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in [
            "", "5", "0%", "0.001%", "100.01%", "-1%", "1.%", "655.36%", "é%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!("0.5%".parse(), Ok(Share(50)));
        assert_eq!("1.5%".parse::<Share>().unwrap().of(1_000), 15);
        assert_eq!("1%".parse::<Share>().unwrap().of_rounded_up(10), 1);
        assert!("50%".parse::<Share>().unwrap().is_reached(1, 2));
        assert!(!"50%".parse::<Share>().unwrap().is_reached(0, 1));
    }
}
