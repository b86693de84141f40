//! Data on standard output, all else on standard error.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use futures::{Stream, StreamExt};
use redrive_domain::text::{harmless, is_harmful};
use serde::Serialize;

use crate::args::Format;

/// Writes a line of data.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    write(&format!("{text}\n"))
}

/// Writes data. A reader that went away (`| head`) ends the program quietly.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Tells a person something.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        // There is nobody to tell that nobody can be told.
        let _ = writeln!(anstream::stderr().lock(), "{}", $crate::output::printable(&format!($($arg)*)));
    }};
}

/// A text for a terminal: what came into it from outside could move the cursor.
pub(crate) fn printable(text: &str) -> String {
    let kept = |c: char| matches!(c, '\n' | '\t') || !is_harmful(c);
    text.chars()
        .map(|c| if kept(c) { c } else { ' ' })
        .collect()
}

pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| harmless(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// Prints one thing: as a table for people, or as JSON.
pub(crate) fn one<T: Serialize>(
    format: Format,
    value: &T,
    show: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Table => line(&printable(&show(value))),
        Format::Json => line(&serde_json::to_string_pretty(value)?),
        Format::Jsonl => line(&serde_json::to_string(value)?),
    }
}

/// Prints a list as it comes, in bounded memory but for a table's column widths, which are set by blocks of rows.
pub(crate) async fn list<T: Serialize, E: Into<anyhow::Error>>(
    format: Format,
    items: impl Stream<Item = Result<T, E>>,
    limit: Option<usize>,
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<usize> {
    const BLOCK: usize = 500;
    let mut items = std::pin::pin!(items.take(limit.unwrap_or(usize::MAX)));
    let mut count = 0;
    let mut rows = Vec::new();
    while let Some(item) = items.next().await {
        let item = item.map_err(Into::into)?;
        match format {
            Format::Table => {
                rows.push(row(&item));
                if rows.len() == BLOCK {
                    line(&table(header, rows.drain(..)))?;
                }
            }
            Format::Json => {
                // The item before gets its comma, or the end of the list, when it is known which.
                if count > 0 {
                    write(",\n")?;
                } else {
                    line("[")?;
                }
                write(&indented(&serde_json::to_string_pretty(&item)?))?;
            }
            Format::Jsonl => line(&serde_json::to_string(&item)?)?,
        }
        count += 1;
    }
    match format {
        Format::Table if !rows.is_empty() => line(&table(header, rows))?,
        Format::Json => line(if count == 0 { "[]" } else { "\n]" })?,
        _ => {}
    }
    Ok(count)
}

/// An element of a list, as pretty JSON has it.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// So many of something: `1 document`, `2 documents`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// A text in one line of at most so many characters.
pub(crate) fn brief(text: &str, most: usize) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= most {
        return text;
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Whether progress can be shown.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_move_the_cursor() {
        let rows = [vec!["a\u{1b}[2J\u{202e}b".to_owned()]];
        assert_eq!(table(&["document"], rows), "DOCUMENT\na [2J b");
        assert_eq!(
            printable("one\ntwo\u{1b}]0;title\u{7}"),
            "one\ntwo ]0;title "
        );
    }
}
