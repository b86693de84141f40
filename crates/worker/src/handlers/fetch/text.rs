//! Bytes to text, by the charset that they have. What is malformed is an error, never a guess: a document full of
//! U+FFFD looks like a success.

use std::borrow::Cow;

use encoding_rs::{
    DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED,
};
use redrive_domain::failure::{Failure, FailureKind};

use super::media::MediaType;

/// How far into an HTML page browsers look for its charset.
const PRESCAN: usize = 1024;

/// The text of a body. A byte order mark goes before what is said elsewhere, as in browsers, and is taken away.
pub(super) fn decode(body: Vec<u8>, media: &MediaType) -> Result<String, Failure> {
    let (encoding, skip) = Encoding::for_bom(&body).unwrap_or_else(|| {
        let said = media
            .charset
            .as_deref()
            .and_then(|label| encoding(label.as_bytes()));
        let encoding = said.or_else(|| declared(&body, media)).unwrap_or(UTF_8);
        (encoding, 0)
    });
    let rest = &body[skip..];
    let text = match encoding.decode_without_bom_handling_and_without_replacement(rest) {
        None => return Err(malformed(encoding, rest, skip)),
        Some(Cow::Owned(text)) => text,
        Some(Cow::Borrowed(text)) if skip > 0 => text.to_owned(),
        Some(Cow::Borrowed(_)) => match String::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return Err(malformed(UTF_8, error.as_bytes(), 0)),
        },
    };
    match text.find('\0') {
        None => Ok(text),
        Some(at) => Err(invalid(format!(
            "is not text: it has a NUL character at {at}"
        ))),
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureKind::INVALID_DATA, message)
}

fn malformed(encoding: &'static Encoding, body: &[u8], skipped: usize) -> Failure {
    let at = malformed_at(encoding, body);
    let shown = body.get(at).map_or_else(
        || "it ends too early".to_owned(),
        |byte| format!("byte {byte:#04x} at {}", skipped + at),
    );
    invalid(format!("is not valid {}: {shown}", encoding.name()))
}

fn malformed_at(encoding: &'static Encoding, body: &[u8]) -> usize {
    if encoding == UTF_8 {
        return std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), |_| body.len());
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let (mut buffer, mut read) = ([0; 4096], 0);
    loop {
        let rest = &body[read..];
        let (result, took, _) = decoder.decode_to_utf8_without_replacement(rest, &mut buffer, true);
        read += took;
        match result {
            DecoderResult::OutputFull => {}
            DecoderResult::InputEmpty => return read,
            DecoderResult::Malformed(bad, after) => {
                return read.saturating_sub(usize::from(bad) + usize::from(after));
            }
        }
    }
}

fn encoding(label: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label)
}

/// What the document says of itself. It can be read before its encoding is known, so that is not UTF-16.
fn declared(body: &[u8], media: &MediaType) -> Option<&'static Encoding> {
    let head = body[..body.len().min(PRESCAN)].to_ascii_lowercase();
    let html = || media.is_html().then(|| meta_charset(&head)).flatten();
    let xml = || media.is_xml().then(|| xml_encoding(&head)).flatten();
    let found = encoding(html().or_else(xml)?)?;
    Some(match found {
        e if e == UTF_16LE || e == UTF_16BE => UTF_8,
        e if e == X_USER_DEFINED => WINDOWS_1252,
        e => e,
    })
}

/// The charset of the first `<meta>` that has one, in lower case.
fn meta_charset(head: &[u8]) -> Option<&[u8]> {
    let mut rest = head;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at..];
        let end: &[u8] = match rest.starts_with(b"<!--") {
            true => b"-->",
            false => b">",
        };
        let length = find(rest, end)? + end.len();
        let tag = &rest[..length];
        if tag.starts_with(b"<meta")
            && let Some(charset) = value_of(tag, b"charset")
        {
            return Some(charset);
        }
        rest = &rest[length..];
    }
    None
}

fn xml_encoding(head: &[u8]) -> Option<&[u8]> {
    let head = head.trim_ascii_start();
    let end = find(head, b"?>")?;
    head.starts_with(b"<?xml")
        .then(|| value_of(&head[..end], b"encoding"))?
}

/// What stands after `name =`, in quotes or without.
fn value_of<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let after = text[find(text, name)? + name.len()..].trim_ascii_start();
    let value = after.strip_prefix(b"=")?.trim_ascii_start();
    let value = value
        .strip_prefix(b"\"")
        .or(value.strip_prefix(b"'"))
        .unwrap_or(value);
    let end = value
        .iter()
        .position(|byte| b"\"';> \t\r\n/".contains(byte))?;
    Some(&value[..end]).filter(|value| !value.is_empty())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &[u8]) -> Result<String, String> {
        let media = MediaType::parse(content_type).unwrap();
        decode(body.to_vec(), &media).map_err(|failure| failure.message)
    }

    #[test]
    fn the_charset_comes_from_where_it_was_declared() {
        let cases: [(&str, &[u8], &str); 10] = [
            ("text/plain; charset=iso-8859-1", b"caf\xe9", "café"),
            ("text/plain; charset=bogus", b"caf\xc3\xa9", "café"),
            (
                "text/plain; charset=latin1",
                b"\xef\xbb\xbfcaf\xc3\xa9",
                "café",
            ),
            ("text/plain", b"\xff\xfeh\0\xe9\0", "hé"),
            ("text/plain", b"\xfe\xff\0h\0\xe9", "hé"),
            (
                "text/html",
                b"<META Charset='windows-1251'>\xcf",
                "<META Charset='windows-1251'>П",
            ),
            (
                "text/html",
                b"<!-- <meta charset=koi8-r> --><meta content=\"text/html; charset=latin1\">\xe9",
                "<!-- <meta charset=koi8-r> --><meta content=\"text/html; charset=latin1\">é",
            ),
            (
                "text/html",
                b"<meta charset=utf-16>\xc3\xa9",
                "<meta charset=utf-16>é",
            ),
            (
                "application/xml",
                b"<?xml version='1.0' encoding='ISO-8859-15'?>\xa4",
                "<?xml version='1.0' encoding='ISO-8859-15'?>€",
            ),
            ("text/plain; charset=shift_jis", b"\x82\xa0", "あ"),
        ];
        for (content_type, body, text) in cases {
            assert_eq!(
                read(content_type, body),
                Ok(text.to_owned()),
                "{content_type}"
            );
        }
    }

    #[test]
    fn malformed_text_is_refused_with_its_place() {
        let cases: [(&str, &[u8], &str); 6] = [
            (
                "text/plain",
                b"seventeen letters\xff",
                "is not valid UTF-8: byte 0xff at 17",
            ),
            (
                "text/plain",
                b"\xef\xbb\xbfok\xc3(",
                "is not valid UTF-8: byte 0xc3 at 5",
            ),
            (
                "text/plain; charset=shift_jis",
                b"ab\x82\xff",
                "is not valid Shift_JIS: byte 0x82 at 2",
            ),
            (
                "text/plain",
                b"\xff\xfea\0\0\xd8b\0",
                "is not valid UTF-16LE: byte 0x00 at 4",
            ),
            (
                "text/plain",
                b"\xff\xfea\0b",
                "is not valid UTF-16LE: byte 0x62 at 4",
            ),
            (
                "text/plain",
                b"a\0b",
                "is not text: it has a NUL character at 1",
            ),
        ];
        for (content_type, body, message) in cases {
            assert_eq!(
                read(content_type, body),
                Err(message.to_owned()),
                "{body:?}"
            );
        }
    }

    #[test]
    fn a_head_that_breaks_off_is_no_trouble() {
        for body in [
            "<",
            "<!--",
            "<meta",
            "<meta charset",
            "<meta charset=",
            "<?xml",
            "<>",
        ] {
            assert_eq!(read("text/html", body.as_bytes()), Ok(body.to_owned()));
            assert_eq!(read("text/xml", body.as_bytes()), Ok(body.to_owned()));
        }
    }
}
