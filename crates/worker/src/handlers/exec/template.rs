//! What stands for a document on a command line.

use std::borrow::Cow;

use redrive_domain::failure::{Failure, FailureKind};

use crate::handler::{Context, Unit};

/// Something of a unit that a command can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Locator,
    Basename,
    Stem,
    BasenameStem,
    Dirname,
    Id,
    Uri,
    Ordinal,
    Attempt,
    Segment,
}

impl Field {
    const ALL: [(&'static str, Self); 10] = [
        ("{}", Self::Locator),
        ("{/}", Self::Basename),
        ("{.}", Self::Stem),
        ("{/.}", Self::BasenameStem),
        ("{//}", Self::Dirname),
        ("{id}", Self::Id),
        ("{uri}", Self::Uri),
        ("{ordinal}", Self::Ordinal),
        ("{attempt}", Self::Attempt),
        ("{segment}", Self::Segment),
    ];

    /// The placeholder with which a text begins, and its length.
    fn at(text: &str) -> Option<(Self, usize)> {
        let found = Self::ALL
            .into_iter()
            .find(|(word, _)| text.starts_with(word));
        found.map(|(word, field)| (field, word.len()))
    }

    /// Whether it tells the command which document it is about.
    fn names_document(self) -> bool {
        !matches!(self, Self::Ordinal | Self::Attempt | Self::Segment)
    }

    fn value<'a>(self, unit: &'a Unit, ctx: &Context) -> Result<Cow<'a, str>, Failure> {
        let locator = unit.document.locator();
        Ok(match self {
            Self::Locator => locator.into(),
            Self::Basename => basename(locator).into(),
            Self::Stem => stem(locator).into(),
            Self::BasenameStem => stem(basename(locator)).into(),
            Self::Dirname => dirname(locator).into(),
            Self::Id => unit.document.id.as_str().into(),
            Self::Uri => match &unit.document.uri {
                Some(uri) => uri.as_str().into(),
                None => {
                    return Err(Failure::new(
                        FailureKind::MISSING_FIELD,
                        "the document has no uri, and the command asks for it with {uri}",
                    ));
                }
            },
            Self::Ordinal => unit.ordinal.to_string().into(),
            Self::Attempt => ctx.attempt.to_string().into(),
            Self::Segment => match unit.segment {
                Some(index) => index.to_string().into(),
                None => {
                    let message =
                        "the command asks for {segment}, and units of this tier are documents";
                    return Err(Failure::new(FailureKind::MISCONFIGURED, message));
                }
            },
        })
    }
}

fn basename(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn dirname(path: &str) -> &str {
    match path.rsplit_once('/') {
        None => ".",
        Some(("", _)) => "/",
        Some((dir, _)) => dir,
    }
}

/// Without its extension; a name that only begins with a dot has none.
fn stem(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, extension))
            if !extension.is_empty()
                && !extension.contains('/')
                && !stem.is_empty()
                && !stem.ends_with('/') =>
        {
            stem
        }
        _ => path,
    }
}

/// Whether a text asks for something that names the document.
pub(super) fn names_document(text: &str) -> bool {
    text.match_indices('{')
        .filter_map(|(at, _)| Field::at(&text[at..]))
        .any(|(field, _)| field.names_document())
}

/// One word of a command line with its placeholders filled in. It stays one word, whatever they hold; braces that are
/// no placeholder stay as they are.
pub(super) fn word(template: &str, unit: &Unit, ctx: &Context) -> Result<String, Failure> {
    let mut word = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        word.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match Field::at(rest) {
            Some((field, length)) => {
                word.push_str(&field.value(unit, ctx)?);
                length
            }
            None => {
                word.push('{');
                1
            }
        };
        rest = &rest[length..];
    }
    word.push_str(rest);
    Ok(word)
}

/// A shell script whose placeholders refer to its arguments, and these arguments. The locator is always the first.
///
/// The values never become part of the script: quoting them into it would be safe only outside of quotes, since
/// `"'$(x)'"` still runs `x`. As with a variable of the shell's own, a placeholder works outside of quotes and within
/// double quotes, and within single quotes it stays as it is.
pub(super) fn script(
    template: &str,
    unit: &Unit,
    ctx: &Context,
) -> Result<(String, Vec<String>), Failure> {
    let mut script = String::with_capacity(template.len());
    let mut fields = vec![Field::Locator];
    let mut quotes = Quotes::default();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        let found = Field::at(rest).filter(|_| quotes.expands());
        let Some((field, length)) = found else {
            quotes.step(c);
            script.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let index = fields.iter().position(|f| *f == field).unwrap_or_else(|| {
            fields.push(field);
            fields.len() - 1
        });
        let quote = if quotes.within_double() { "" } else { "\"" };
        script.push_str(&format!("{quote}${{{}}}{quote}", index + 1));
        quotes.step('}');
        rest = &rest[length..];
    }
    let values = fields
        .iter()
        .map(|field| Ok(field.value(unit, ctx)?.into_owned()));
    Ok((script, values.collect::<Result<_, Failure>>()?))
}

/// Where in the quotes of a shell script one is. A wrong guess costs a split word at most.
#[derive(Debug, Default)]
struct Quotes {
    /// What is open, from the outside in; a double quote or a parenthesis.
    open: Vec<char>,
    /// Which of a single quote, a backslash or a comment hides what follows.
    hidden: Option<char>,
    last: Option<char>,
}

impl Quotes {
    fn within_double(&self) -> bool {
        self.open.last() == Some(&'"')
    }

    fn expands(&self) -> bool {
        self.hidden.is_none()
    }

    fn step(&mut self, c: char) {
        let last = self.last.replace(c);
        match self.hidden {
            Some('\\') => {
                self.hidden = None;
                return;
            }
            Some('#') if c != '\n' => return,
            Some('\'') if c != '\'' => return,
            Some(_) => {
                self.hidden = None;
                return;
            }
            None => {}
        }
        let word_starts = last.is_none_or(|c| c.is_whitespace() || ";&|(".contains(c));
        match (c, self.within_double()) {
            ('\\', _) => self.hidden = Some('\\'),
            ('\'', false) => self.hidden = Some('\''),
            ('#', false) if word_starts => self.hidden = Some('#'),
            ('"', true) => {
                self.open.pop();
            }
            ('"', false) => self.open.push('"'),
            ('(', true) if last == Some('$') => self.open.push('('),
            ('(', false) => self.open.push('('),
            (')', false) => {
                self.open.pop();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_those_of_gnu_parallel() {
        let all = |path| {
            [
                basename(path),
                stem(path),
                stem(basename(path)),
                dirname(path),
            ]
        };
        assert_eq!(all("a/b.tar.gz"), ["b.tar.gz", "a/b.tar", "b.tar", "a"]);
        assert_eq!(all("b"), ["b", "b", "b", "."]);
        assert_eq!(all("/b.c"), ["b.c", "/b", "b", "/"]);
        assert_eq!(all("a.d/b"), ["b", "a.d/b", "b", "a.d"]);
        assert_eq!(all("a/.b"), [".b", "a/.b", ".b", "a"]);
    }

    #[test]
    fn only_what_names_the_document_counts_as_naming_it() {
        assert!(names_document("--in={/.}.txt"));
        assert!(!names_document("{ordinal} {attempt} {a: {b}}"));
        assert!(names_document("{{}}"));
    }
}
