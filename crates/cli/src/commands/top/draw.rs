//! What is seen, as lines of a screen of any size. Pure.

use redrive_domain::work::Heartbeat;
use unicode_width::UnicodeWidthChar;

use super::look::{Running, Seen};
use crate::commands::workers::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Head,
    Faint,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) style: Style,
}

/// At most `height` lines of at most `width` columns.
pub(super) fn draw(seen: &Seen, width: usize, height: usize) -> Vec<Line> {
    let mut lines = head(seen);
    let foot = Line {
        text: match &seen.trouble {
            Some(trouble) => format!("q ends it   {trouble}"),
            None => "q ends it".to_owned(),
        },
        style: Style::Faint,
    };
    // Batches and workers share what is left; each section has an empty line and a title before it.
    let failures = failures(seen);
    let left = height.saturating_sub(lines.len() + failures.len() + 1 + 2 + 2);
    let workers = (left / 2).min(seen.workers.len().max(1));
    let batches = (left - workers).min(seen.batches.len().max(1));
    let workers = (left - batches).min(seen.workers.len().max(1));
    section(
        &mut lines,
        batch_title(),
        seen.batches.iter().map(batch),
        batches,
        "nothing is under way",
    );
    lines.extend(failures);
    section(
        &mut lines,
        worker_title(seen),
        seen.workers.iter().map(worker),
        workers,
        "nobody is live",
    );
    lines.truncate(height.saturating_sub(1));
    lines.push(foot);
    for line in &mut lines {
        line.text = fitted(&line.text, width);
    }
    lines.truncate(height);
    lines
}

fn plain(text: String) -> Line {
    Line {
        text,
        style: Style::Plain,
    }
}

fn section(
    lines: &mut Vec<Line>,
    title: String,
    rows: impl ExactSizeIterator<Item = String>,
    room: usize,
    none: &str,
) {
    lines.push(plain(String::new()));
    lines.push(Line {
        text: title,
        style: Style::Head,
    });
    let count = rows.len();
    if count == 0 {
        lines.push(plain(none.to_owned()));
        return;
    }
    // The last line says how many there are besides, where they do not all fit.
    let shown = if count > room {
        room.saturating_sub(1)
    } else {
        count
    };
    lines.extend(rows.take(shown).map(plain));
    if shown < count && room > 0 {
        lines.push(plain(format!("and {} more", count - shown)));
    }
}

fn or_unknown(n: Option<u64>) -> String {
    n.map_or_else(|| "?".to_owned(), |n| n.to_string())
}

fn head(seen: &Seen) -> Vec<Line> {
    let time = seen
        .at
        .map_or_else(|| "looking…".to_owned(), |at| at.to_string());
    let leader = match (&seen.leader, seen.standing_by) {
        (None, _) => "NONE LEADS".to_owned(),
        (Some(name), 0) => name.clone(),
        (Some(name), n) => format!("{name} (+{n} standing by)"),
    };
    vec![
        Line {
            text: format!(
                "redrive  {}  namespace {}  {time}",
                seen.url, seen.namespace
            ),
            style: Style::Head,
        },
        plain(format!("coordinator  {leader}")),
        plain(format!(
            "waiting      {} in the inbox, {} for the projector; the log is at {}",
            or_unknown(seen.inbox),
            or_unknown(seen.projector_lag),
            or_unknown(seen.log)
        )),
    ]
}

fn batch_title() -> String {
    format!(
        "{:16}  {:>4}  {:>15}  {:>7}  {:>6}  {}",
        "PIPELINE", "DONE", "DOCUMENTS", "RATE", "FAILED", "BATCH"
    )
}

fn batch(running: &Running) -> String {
    let summary = &running.view.summary;
    let over = summary.counts.completed + summary.counts.failed + summary.counts.cancelled;
    let all = u64::from(summary.documents);
    let percent = (over * 100).checked_div(all).unwrap_or(0);
    let rate = match running.rate {
        Some(rate) if rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{rate:.0}/s"),
        None => "-".to_owned(),
    };
    format!(
        "{}  {percent:>3}%  {:>15}  {rate:>7}  {:>6}  {}",
        padded(&summary.pipeline, 16),
        format!("{over}/{all}"),
        summary.counts.failed,
        summary.batch
    )
}

/// One line, with an empty one before it; none where nothing failed.
fn failures(seen: &Seen) -> Vec<Line> {
    if seen.failures.is_empty() {
        return Vec::new();
    }
    let one = |(class, kind, count): &(_, _, u64)| format!("{count} {class} {kind}");
    let all: Vec<String> = seen.failures.iter().map(one).collect();
    vec![
        plain(String::new()),
        plain(format!("failures     {}", all.join(", "))),
    ]
}

fn worker_title(seen: &Seen) -> String {
    let slots: u64 = seen.workers.iter().map(|beat| u64::from(beat.slots)).sum();
    format!(
        "{}  {:>5}  {:>6}  {:>6}  {:12}  {}",
        padded(
            &format!("WORKER ({}, {slots} slots)", seen.workers.len()),
            26
        ),
        "SLOTS",
        "CHUNKS",
        "UNITS",
        "HOST",
        "SERVES"
    )
}

fn worker(beat: &Heartbeat) -> String {
    let units: u64 = beat.in_flight.iter().map(|held| held.units.len()).sum();
    let draining = if beat.draining { "draining " } else { "" };
    format!(
        "{}  {:>5}  {:>6}  {units:>6}  {}  {draining}{}/{}",
        padded(beat.worker.as_str(), 26),
        beat.slots,
        beat.in_flight.len(),
        padded(&beat.host, 12),
        names(&beat.handlers),
        names(&beat.classes)
    )
}

/// The text in exactly so many columns.
fn padded(text: &str, width: usize) -> String {
    let mut padded = fitted(text, width);
    let used: usize = padded.chars().filter_map(UnicodeWidthChar::width).sum();
    padded.extend(std::iter::repeat_n(' ', width - used));
    padded
}

/// The text in so many columns. What would move the cursor is shown as a question mark.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    let mut used = 0;
    for c in text.chars() {
        let (c, columns) = match c.width() {
            Some(columns) => (c, columns),
            None => ('?', 1),
        };
        if used + columns > width {
            break;
        }
        used += columns;
        fitted.push(c);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn heartbeat(n: u32) -> Heartbeat {
        serde_json::from_value(serde_json::json!({
            "worker": format!("worker-{n}"), "host": "a-host\u{1b}[2J", "pid": n, "handlers": ["exec", "fetch"],
            "classes": ["cpu"], "slots": 4, "draining": n == 0, "in_flight": [],
            "started_at": "2026-01-31T12:00:00Z", "at": "2026-01-31T12:00:01Z",
        }))
        .unwrap()
    }

    fn running(n: u32) -> Running {
        let view = serde_json::from_value(serde_json::json!({
            "batch": format!("01980000-0000-7000-8000-{n:012}"), "bucket": "default", "pipeline": "日本語の長い名前のパイプライン",
            "status": "running", "documents": 3_000, "counts": {"completed": 1_200, "failed": 40, "cancelled": 0, "open": 1_760},
            "created_at": "2026-01-31T12:00:00Z", "last_activity_at": "2026-01-31T12:00:01Z", "submitted": true,
            "submitted_at": null, "ended_at": null, "retries": 0, "tiers": [], "last_seq": 7,
        }));
        Running {
            view: view.unwrap(),
            rate: Some(12.34),
        }
    }

    fn busy() -> Seen {
        Seen {
            url: "nats://127.0.0.1:4222".to_owned(),
            namespace: "default".to_owned(),
            at: "2026-01-31T12:00:01Z".parse().ok(),
            leader: Some("coordinator-1".to_owned()),
            standing_by: 1,
            inbox: Some(17),
            log: Some(1_234),
            projector_lag: Some(0),
            batches: (0..30).map(running).collect(),
            failures: vec![(
                redrive_domain::failure::FailureClass::Transient,
                "timeout".parse().unwrap(),
                40,
            )],
            workers: (0..30).map(heartbeat).collect(),
            trouble: None,
        }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn it_fits_in_any_terminal() {
        for (width, height) in [(80, 24), (40, 10), (200, 60), (1, 1), (80, 3)] {
            for seen in [busy(), Seen::default()] {
                let lines = draw(&seen, width, height);
                assert!(
                    lines.len() <= height,
                    "{width}x{height}: {} lines",
                    lines.len()
                );
                for text in texts(&lines) {
                    assert!(text.width() <= width, "{width}x{height}: {text}");
                    assert!(!text.contains('\u{1b}'), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_busy_system_in_a_small_terminal() {
        let lines = draw(&busy(), 80, 24);
        let texts = texts(&lines);
        assert_eq!(lines.len(), 24);
        assert_eq!(
            texts[0],
            "redrive  nats://127.0.0.1:4222  namespace default  2026-01-31T12:00:01.000Z"
        );
        assert_eq!(texts[1], "coordinator  coordinator-1 (+1 standing by)");
        assert!(texts[5].contains("01980000-0000") && texts[5].contains(" 41%"));
        assert!(
            texts[5].contains("1240/3000") && texts[5].contains("12/s"),
            "{}",
            texts[5]
        );
        assert!(texts.contains(&"failures     40 transient timeout"));
        assert_eq!(
            texts.iter().filter(|text| text.starts_with("and ")).count(),
            2
        );
        assert!(texts.iter().any(|text| text.starts_with("worker-0")));
        assert_eq!(texts[23], "q ends it");
    }

    #[test]
    fn an_empty_system_says_so() {
        let lines = draw(&Seen::default(), 80, 24);
        let texts = texts(&lines);
        for text in [
            "coordinator  NONE LEADS",
            "nothing is under way",
            "nobody is live",
        ] {
            assert!(texts.contains(&text), "{texts:#?}");
        }
    }
}
