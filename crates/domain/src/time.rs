//! Points in time and spans. The core never asks for the time; it is told.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch. RFC 3339 text in JSON, an integer in MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The end of all time that Redrive can name.
    pub const MAX: Self = Self(253_402_207_200_999);

    /// This moment and a span later; never past [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Millis) -> Self {
        let span = i64::try_from(span.0).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(span).min(Self::MAX.0))
    }

    /// The span since an earlier moment; zero where it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 2026-01-31T12:00:00Z")]
pub struct InvalidTime(pub String);

impl FromStr for Timestamp {
    type Err = InvalidTime;
    fn from_str(value: &str) -> Result<Self, InvalidTime> {
        value
            .parse::<jiff::Timestamp>()
            .map(|time| Self(time.as_millisecond()))
            .map_err(|_| InvalidTime(value.chars().take(80).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

/// A span of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Whether it is no time at all.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }
}

impl From<Millis> for std::time::Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

impl From<std::time::Duration> for Millis {
    fn from(span: std::time::Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0, self.0 / 1_000);
        match s {
            0 => write!(f, "{ms}ms"),
            1..=59 => write!(f, "{}.{}s", s, ms % 1_000 / 100),
            60..=3_599 => write!(f, "{}m{:02}s", s / 60, s % 60),
            _ => write!(f, "{}h{:02}m", s / 3_600, s / 60 % 60),
        }
    }
}

/// A text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time such as 30s, 250ms or 1h 30m")]
pub struct InvalidSpan(pub String);

impl FromStr for Millis {
    type Err = InvalidSpan;
    fn from_str(value: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(value.chars().take(80).collect());
        let span: jiff::SignedDuration = value.trim().parse().map_err(|_| invalid())?;
        u64::try_from(span.as_millis())
            .map(Self)
            .map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_text_for_people_and_a_number_in_the_log() {
        let time: Timestamp = "2026-01-31T12:00:00.250Z".parse().unwrap();
        assert_eq!(
            serde_json::to_string(&time).unwrap(),
            "\"2026-01-31T12:00:00.250Z\""
        );
        let bytes = rmp_serde::to_vec(&time).unwrap();
        assert_eq!(rmp_serde::from_slice::<Timestamp>(&bytes).unwrap(), time);
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!("250ms".parse(), Ok(Millis(250)));
        assert_eq!("1h 30m".parse(), Ok(Millis::seconds(5_400)));
        assert!("-1s".parse::<Millis>().is_err());
        assert!("soon".parse::<Millis>().is_err());
    }
}
