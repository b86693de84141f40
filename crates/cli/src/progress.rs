//! Following a batch with bars, where somebody watches.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use redrive_domain::{
    pause::Paused,
    query::{BatchRef, BatchView},
    status::BatchStatus,
    time::Millis,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{app::App, output};

/// How often to look.
const LOOK: Duration = Duration::from_millis(120);

/// How long nothing happens before a paused batch is left alone: what was out when it was paused is still reported.
const STILL: Duration = Duration::from_secs(1);

/// One bar a tier.
pub(crate) struct Bars {
    all: MultiProgress,
    tiers: Vec<ProgressBar>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        let all = MultiProgress::new();
        if !output::is_watched() {
            all.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self {
            all,
            tiers: Vec::new(),
        }
    }

    pub(crate) fn show(&mut self, view: &BatchView) {
        while self.tiers.len() < view.tiers.len() {
            let bar = self.all.add(ProgressBar::new(0));
            let template = "{prefix:>14.bold} {bar:30.green/dim} {pos:>7}/{len} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            self.tiers.push(bar);
        }
        let documents = u64::from(view.summary.documents);
        for (bar, tier) in self.tiers.iter().zip(&view.tiers) {
            bar.set_prefix(output::brief(&tier.name, 14));
            match tier.segments {
                Some(segments) => {
                    bar.set_length(segments.entered);
                    bar.set_position(segments.completed + segments.failed);
                }
                None => {
                    bar.set_length(documents);
                    bar.set_position(tier.completed + tier.failed + tier.cancelled);
                }
            }
            let waiting: u64 = tier.jobs.iter().map(|job| job.waiting).sum();
            let mut notes = Vec::new();
            let mut paused = tier.jobs.iter().filter_map(|job| job.paused.as_ref());
            if let Some(first) = paused.next() {
                notes.push(match first.outage() {
                    Some(outage) => format!("outage: {}", outage.kind),
                    None => "paused".to_owned(),
                });
            }
            if tier.cancelled > 0 {
                notes.push(format!("{} cancelled", tier.cancelled));
            }
            if tier.failed > 0 {
                notes.push(format!("{} failed", tier.failed));
            }
            if waiting > 0 {
                notes.push(format!("{waiting} waiting to try again"));
            }
            for job in tier.jobs.iter().filter(|job| job.orphaned.is_some()) {
                notes.push(format!(
                    "no live worker serves {} with class {}",
                    job.handler, job.class
                ));
            }
            bar.set_message(notes.join(", "));
        }
    }

    /// Leaves the last state of the bars on the screen.
    pub(crate) fn leave(&self) {
        for bar in &self.tiers {
            bar.abandon();
        }
    }
}

/// How the following ended.
pub(crate) enum Followed {
    Over(Box<BatchView>),
    /// What is left of it waits until somebody resumes it.
    Paused(Box<BatchView>),
    Interrupted,
    TimedOut,
}

/// Follows a batch until it is over. The first look includes `min_seq`.
pub(crate) async fn follow(
    app: &App,
    batch: BatchRef,
    min_seq: Option<u64>,
    limit: Option<Millis>,
    stop: &CancellationToken,
) -> anyhow::Result<Followed> {
    let end = limit.map(|limit| Instant::now() + limit.into());
    let mut bars = Bars::new();
    let mut min_seq = min_seq;
    let mut still_since = (0, Instant::now());
    loop {
        let view = app.view(batch, min_seq).await?;
        bars.show(&view);
        if view.summary.status.is_over() {
            bars.leave();
            return Ok(Followed::Over(Box::new(view)));
        }
        if still_since.0 != view.last_seq {
            still_since = (view.last_seq, Instant::now());
        }
        if is_held_up(&view) && still_since.1.elapsed() > STILL {
            bars.leave();
            return Ok(Followed::Paused(Box::new(view)));
        }
        min_seq = Some(view.last_seq);
        let timed_out = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = timed_out => {
                bars.leave();
                return Ok(Followed::TimedOut);
            }
            () = stop.cancelled() => {
                bars.leave();
                return Ok(Followed::Interrupted);
            }
        }
    }
}

/// Whether nothing is left to do but what waits for somebody. An outage passes by itself.
fn is_held_up(view: &BatchView) -> bool {
    let mut open = view
        .tiers
        .iter()
        .flat_map(|tier| &tier.jobs)
        .filter(|job| job.open > 0)
        .peekable();
    view.submitted
        && open.peek().is_some()
        && open.all(|job| job.paused.as_ref().is_some_and(Paused::waits_for_somebody))
}

/// One line on how a batch ended.
pub(crate) fn summary(view: &BatchView) -> String {
    let counts = view.summary.counts;
    let took = view
        .ended_at
        .map(|end| end.since(view.submitted_at.unwrap_or(view.summary.created_at)))
        .map_or_else(String::new, |took| format!(" in {took}"));
    let retried = match view.retries {
        0 => String::new(),
        1 => ", 1 retry".to_owned(),
        n => format!(", {n} retries"),
    };
    let stopped = match view.summary.status {
        _ if counts.cancelled > 0 => format!(", {} cancelled", counts.cancelled),
        BatchStatus::Cancelled => format!(", {} cancelled", counts.cancelled),
        _ => String::new(),
    };
    format!(
        "{} {}{took}: {} of {} documents completed, {} failed{stopped}{retried}",
        view.summary.batch,
        view.summary.status,
        counts.completed,
        view.summary.documents,
        counts.failed
    )
}
