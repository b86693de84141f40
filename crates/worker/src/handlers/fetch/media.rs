//! Media types, as far as it takes to tell text from the rest.

use std::fmt;

/// A media type with its charset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaType {
    /// Type and subtype, in lower case.
    pub(super) essence: String,
    pub(super) charset: Option<String>,
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        match &self.charset {
            Some(charset) => write!(f, "; charset={charset}"),
            None => Ok(()),
        }
    }
}

fn is_token(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    (1..=100).contains(&text.len()) && text.chars().all(fits)
}

impl MediaType {
    fn new(essence: &str) -> Self {
        Self {
            essence: essence.to_owned(),
            charset: None,
        }
    }

    pub(super) fn plain() -> Self {
        Self::new("text/plain")
    }

    /// Reads a `Content-Type`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches('"');
            (name.trim().eq_ignore_ascii_case("charset") && is_token(value))
                .then(|| value.to_owned())
        });
        Some(Self { essence, charset })
    }

    /// Whether it is what servers say of files that they know nothing about.
    pub(super) fn says_nothing(&self) -> bool {
        let nothing = [
            "application/octet-stream",
            "binary/octet-stream",
            "application/x-binary",
        ];
        nothing.contains(&self.essence.as_str())
    }

    pub(super) fn is_html(&self) -> bool {
        ["text/html", "application/xhtml+xml"].contains(&self.essence.as_str())
    }

    pub(super) fn is_xml(&self) -> bool {
        self.essence.ends_with("/xml") || self.essence.ends_with("+xml")
    }

    /// Whether it is known not to be text. What is not known here may be.
    pub(super) fn is_binary(&self) -> bool {
        const STARTS: [&str; 10] = [
            "image/",
            "audio/",
            "video/",
            "font/",
            "application/vnd.openxmlformats-",
            "application/vnd.oasis.opendocument.",
            "application/vnd.ms-",
            "application/x-font-",
            "application/vnd.apache.",
            "application/x-compress",
        ];
        const WHOLE: [&str; 24] = [
            "application/pdf",
            "application/zip",
            "application/gzip",
            "application/x-gzip",
            "application/x-tar",
            "application/x-bzip2",
            "application/x-xz",
            "application/zstd",
            "application/x-7z-compressed",
            "application/vnd.rar",
            "application/x-rar-compressed",
            "application/epub+zip",
            "application/msword",
            "application/java-archive",
            "application/wasm",
            "application/cbor",
            "application/msgpack",
            "application/vnd.msgpack",
            "application/x-protobuf",
            "application/protobuf",
            "application/x-sqlite3",
            "application/vnd.sqlite3",
            "application/x-executable",
            "application/x-shockwave-flash",
        ];
        let essence = self.essence.as_str();
        !self.is_xml()
            && (STARTS.iter().any(|start| essence.starts_with(start)) || WHOLE.contains(&essence))
    }
}

/// What a file of that name usually is.
pub(super) fn by_extension(extension: &str) -> Option<MediaType> {
    Some(MediaType::new(
        match extension.to_ascii_lowercase().as_str() {
            "txt" | "text" | "log" => "text/plain",
            "md" | "markdown" => "text/markdown",
            "html" | "htm" => "text/html",
            "xhtml" => "application/xhtml+xml",
            "xml" => "application/xml",
            "json" => "application/json",
            "jsonl" | "ndjson" => "application/x-ndjson",
            "yaml" | "yml" => "application/yaml",
            "toml" => "application/toml",
            "csv" => "text/csv",
            "tsv" => "text/tab-separated-values",
            "css" => "text/css",
            "js" | "mjs" => "text/javascript",
            "svg" => "image/svg+xml",
            "rtf" => "application/rtf",
            "tex" => "application/x-tex",
            "eml" => "message/rfc822",
            "pdf" => "application/pdf",
            "epub" => "application/epub+zip",
            "doc" => "application/msword",
            "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "odt" => "application/vnd.oasis.opendocument.text",
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "gif" => "image/gif",
            "webp" => "image/webp",
            "tif" | "tiff" => "image/tiff",
            "mp3" => "audio/mpeg",
            "wav" => "audio/wav",
            "mp4" => "video/mp4",
            "zip" => "application/zip",
            "gz" | "tgz" => "application/gzip",
            "tar" => "application/x-tar",
            "zst" => "application/zstd",
            "parquet" => "application/vnd.apache.parquet",
            _ => return None,
        },
    ))
}

/// What begins like that, for content of which nothing was said.
pub(super) fn by_content(body: &[u8]) -> Option<MediaType> {
    let starts: [(&[u8], &str); 8] = [
        (b"%PDF-", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"<!DOCTYPE html", "text/html"),
        (b"<?xml ", "application/xml"),
    ];
    let found = starts
        .into_iter()
        .find(|(start, _)| body.starts_with(start));
    found.map(|(_, essence)| MediaType::new(essence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_servers_write_them() {
        let read = |text| MediaType::parse(text).map(|m| (m.essence, m.charset));
        let html = |charset: Option<&str>| Some(("text/html".into(), charset.map(str::to_owned)));
        assert_eq!(read("Text/HTML"), html(None));
        assert_eq!(
            read("text/html; a=b;Charset=\"ISO-8859-1\""),
            html(Some("ISO-8859-1"))
        );
        assert_eq!(read("text/html;charset=\u{1}"), html(None));
        assert_eq!(read("html"), None);
        assert_eq!(read("text/a b"), None);
    }

    #[test]
    fn drawings_are_text_and_pictures_are_not() {
        let binary = |essence| MediaType::new(essence).is_binary();
        assert!(binary("image/png") && binary("application/pdf"));
        assert!(!binary("image/svg+xml") && !binary("application/json"));
    }
}
