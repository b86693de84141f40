//! Messages without what names a document in them.

use std::borrow::Cow;

use crate::limits::FINGERPRINT_CHARS;

/// A message as it reads for every document that fails alike: texts in quotation marks, URLs, paths, file names, ids and
/// numbers are replaced by `<text>`, `<url>`, `<path>`, `<file>`, `<id>` and `<n>`. At most [`FINGERPRINT_CHARS`]
/// characters of it are kept.
///
/// ```
/// # use redrive_domain::failure::normal;
/// assert_eq!(normal("page 7 of /in/a.pdf: 'x' is no date"), "page <n> of <path>: <text> is no date");
/// ```
#[must_use]
pub fn normal(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(FINGERPRINT_CHARS * 4));
    let mut left = FINGERPRINT_CHARS;
    let mut rest = message;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        if left == 0 {
            break;
        }
        let quoted = quotation(before, rest);
        let (piece, length) = if let Some(length) = quoted {
            (Cow::Borrowed("<text>"), length)
        } else if is_boundary(first) {
            // Any run of blanks is one.
            let blanks: usize = match first.is_whitespace() {
                true => rest
                    .chars()
                    .take_while(|c| c.is_whitespace())
                    .map(char::len_utf8)
                    .sum(),
                false => first.len_utf8(),
            };
            let piece = if first.is_whitespace() {
                " "
            } else {
                &rest[..blanks]
            };
            (Cow::Borrowed(piece), blanks)
        } else {
            let length = word_length(rest);
            (word(&rest[..length]), length)
        };
        for c in piece.chars().take(left) {
            out.push(c);
            left -= 1;
        }
        before = rest[..length].chars().next_back();
        rest = &rest[length..];
    }
    out.truncate(out.trim_end().len());
    out
}

/// What stands between words.
fn is_boundary(c: char) -> bool {
    c.is_whitespace() || "()[]{}<>,;=|\"'`«»“”‘’".contains(c)
}

/// The bytes that a text in quotation marks takes, where one begins here. An apostrophe within a word begins none.
fn quotation(before: Option<char>, text: &str) -> Option<usize> {
    let mut chars = text.chars();
    let open = chars.next()?;
    let close = match open {
        '"' | '`' | '\'' => open,
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        _ => return None,
    };
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let inner = chars.as_str();
    inner.match_indices(close).find_map(|(at, mark)| {
        let end = at + mark.len();
        let after = inner[end..].chars().next();
        let ends = !after.is_some_and(char::is_alphanumeric);
        (ends && at > 0).then_some(open.len_utf8() + end)
    })
}

/// The bytes of the word that begins here. A comma within a number is part of it, and nearly all that stands in a URL.
fn word_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let mut before = None;
    while let Some((at, c)) = chars.next() {
        let digits = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let thousands = c == ',' && digits(before) && digits(chars.peek().map(|(_, c)| *c));
        let in_url = ",;=".contains(c) && text[..at].contains("://");
        if is_boundary(c) && !thousands && !in_url {
            return at;
        }
        before = Some(c);
    }
    text.len()
}

fn word(word: &str) -> Cow<'_, str> {
    let core = word.trim_end_matches(['.', '!', '?', ':']);
    let tail = &word[core.len()..];
    let Some(name) = whole(core) else {
        // `main.rs:10:5`, `HTTP:404`
        let mut out = String::with_capacity(word.len());
        for (i, part) in core.split(':').enumerate() {
            if i > 0 {
                out.push(':');
            }
            match whole(part) {
                Some(name) => out.push_str(name),
                None => without_numbers(part, &mut out),
            }
        }
        out.push_str(tail);
        return Cow::Owned(out);
    };
    match tail {
        "" => Cow::Borrowed(name),
        tail => Cow::Owned(format!("{name}{tail}")),
    }
}

/// What a word is, where as a whole it names something.
fn whole(word: &str) -> Option<&'static str> {
    if word.contains("://") {
        return Some("<url>");
    }
    if word.contains(':') {
        return None;
    }
    if word.contains('/') {
        return is_path(word).then_some("<path>");
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    // A hash, or a UUID.
    let is_hex = match word.len() {
        36 => word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
        length => length >= 8 && word.bytes().all(|b| b.is_ascii_hexdigit()),
    };
    let is_long = word
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_id =
        digits > 0 && letters > 0 && (is_hex || (is_long && word.len() >= 20 && digits >= 4));
    if is_id || (word.contains('@') && letters > 0) {
        return Some("<id>");
    }
    is_file(word).then_some("<file>")
}

/// `/in/a`, `./a`, `a/b/c`, `in/a.pdf`; not `and/or`, `text/html`, `3/5`.
fn is_path(word: &str) -> bool {
    let named = word.chars().any(char::is_alphanumeric);
    let last = word.rsplit('/').next().unwrap_or_default();
    named
        && (word.starts_with('/')
            || word.starts_with("./")
            || word.starts_with("../")
            || word.starts_with("~/")
            || word.matches('/').count() > 1
            || is_file(last))
}

/// A name with one dot, and a short ending with a letter in it.
fn is_file(word: &str) -> bool {
    let Some((stem, ending)) = word.split_once('.') else {
        return false;
    };
    !stem.is_empty()
        && (1..=5).contains(&ending.len())
        && ending.bytes().all(|b| b.is_ascii_alphanumeric())
        && ending.bytes().any(|b| b.is_ascii_alphabetic())
        && stem.chars().any(char::is_alphanumeric)
        // `3.5s`
        && !stem.bytes().all(|b| b.is_ascii_digit())
}

/// Digits, with points and commas between them, are one number.
fn without_numbers(word: &str, out: &mut String) {
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        if !c.is_ascii_digit() {
            out.push(c);
            continue;
        }
        out.push_str("<n>");
        let mut ahead = chars.clone();
        while let Some(next) = ahead.next() {
            let between =
                matches!(next, '.' | ',') && ahead.peek().is_some_and(char::is_ascii_digit);
            if !next.is_ascii_digit() && !between {
                break;
            }
            chars.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_names_a_document_is_taken_out() {
        for (message, expected) in [
            ("", ""),
            ("it hurt", "it hurt"),
            ("page 7 of 12", "page <n> of <n>"),
            ("took 1,024 of 3.5 MiB", "took <n> of <n> MiB"),
            ("doc-17: no title", "doc-<n>: no title"),
            ("no such file: /in/a b.pdf", "no such file: <path> <file>"),
            ("cannot read report.pdf.", "cannot read <file>."),
            ("cannot read in/report.pdf", "cannot read <path>"),
            ("GET https://a.b/c?d=1 gave 404", "GET <url> gave <n>"),
            ("'a b' is no \"date\"", "<text> is no <text>"),
            (
                "can't read the document's date",
                "can't read the document's date",
            ),
            ("field=\"x\", want `y`", "field=<text>, want <text>"),
            (
                "batch 0198c5b4-7a00-7000-8000-000000000001 is gone",
                "batch <id> is gone",
            ),
            ("object 4bf92f3577b34da6 expired", "object <id> expired"),
            ("ann@example.com bounced", "<id> bounced"),
            ("text/html and/or 3/5", "text/html and/or <n>/<n>"),
            ("main.rs:10:5: deadbeef", "<file>:<n>:<n>: deadbeef"),
            (
                "java.lang.OutOfMemoryError: heap",
                "java.lang.OutOfMemoryError: heap",
            ),
            ("deadline  of\t30s\nexceeded ", "deadline of <n>s exceeded"),
            ("it's 'open", "it's 'open"),
            ("größer als «alles»", "größer als <text>"),
        ] {
            assert_eq!(normal(message), expected, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_message_it_is_bounded_and_the_same_every_time(message in "\\PC{0,400}") {
            let once = normal(&message);
            prop_assert!(once.chars().count() <= FINGERPRINT_CHARS);
            prop_assert_eq!(normal(&message), once);
        }

        #[test]
        fn numbers_never_tell_failures_apart(a in any::<u64>(), b in any::<u64>()) {
            let said = |n: u64| normal(&format!("row {n} of table-{n} has {n} columns"));
            prop_assert_eq!(said(a), said(b));
        }
    }
}
