//! The answer of a job that splits documents: one JSON value a line (`application/x-ndjson`), each a segment.

use std::ops::Range;

use serde::de::IgnoredAny;

/// An answer that is not one JSON value a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no JSON value: {why}")]
pub struct InvalidSegments {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

fn all(body: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    body.split(|byte| *byte == b'\n').map(move |line| {
        let range = from..from + line.len();
        from = range.end + 1;
        range
    })
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Where the segments stand in it, by their index. Blank lines are none.
pub fn lines(body: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    all(body).filter(|line| !is_blank(body.get(line.clone()).unwrap_or_default()))
}

/// How many segments there are.
///
/// # Errors
/// The first line that is no JSON value.
pub fn count(body: &[u8]) -> Result<u32, InvalidSegments> {
    let mut count = 0u32;
    for (number, range) in (1..).zip(all(body)) {
        let line = body.get(range).unwrap_or_default();
        if is_blank(line) {
            continue;
        }
        serde_json::from_slice::<IgnoredAny>(line).map_err(|error| InvalidSegments {
            line: number,
            why: error.to_string().chars().take(200).collect(),
        })?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_lines_and_blank_ones_are_none() {
        let body = b"{\"a\": 1}\n\n  2 \r\n\"three\"";
        let found: Vec<&[u8]> = lines(body).map(|line| &body[line]).collect();
        assert_eq!(found, [&b"{\"a\": 1}"[..], b"  2 \r", b"\"three\""]);
        assert_eq!(count(body), Ok(3));
        assert_eq!((count(b""), count(b"\n \n")), (Ok(0), Ok(0)));
    }

    #[test]
    fn a_line_that_is_no_json_is_named() {
        let error = count(b"1\n\n{\"a\": \n").unwrap_err();
        assert_eq!(error.line, 3);
        assert_eq!(count(b"1 2").unwrap_err().line, 1);
        assert_eq!(count(b"1\n\xff").unwrap_err().line, 2);
    }
}
