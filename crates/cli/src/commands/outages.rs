//! What is said of outages: samples, limits, and batches that were given up.

use redrive_domain::{
    command::Sampled,
    query::{BatchView, CanaryView},
};

use crate::{app::App, output::counted, say};

/// How a retry is tried first.
pub(super) fn sampled(sampled: &Sampled) -> String {
    let Sampled {
        documents,
        units,
        success,
    } = sampled;
    let (documents, failures) = (counted(*documents, "document"), counted(*units, "failure"));
    format!(
        "first a sample: {documents} with {failures}; the rest follows if {success} of these succeed"
    )
}

/// What a status says beside its tables.
pub(super) fn lines(view: &BatchView) -> Vec<String> {
    let mut lines = Vec::new();
    for tier in &view.tiers {
        for job in &tier.jobs {
            if let Some(most) = job.concurrency {
                lines.push(format!(
                    "limited: {} in tier {} to {most} at once, since the other side cannot keep up with more",
                    job.job, tier.tier
                ));
            }
        }
    }
    lines.extend(view.canary.as_ref().map(canary));
    lines.extend(given_up(view));
    lines
}

fn canary(canary: &CanaryView) -> String {
    let CanaryView {
        sample,
        ended,
        succeeded,
        success,
        rest,
        passed,
    } = canary;
    match passed {
        None => format!(
            "sample of the last retry: {ended} of {sample} have ended, {succeeded} succeeded; {rest} others follow if \
             {success} do"
        ),
        Some(true) => format!(
            "sample of the last retry: {succeeded} of {sample} succeeded, so the rest followed"
        ),
        Some(false) => format!(
            "sample of the last retry: {succeeded} of {sample} succeeded, less than {success}: the rest was left as it is"
        ),
    }
}

fn given_up(view: &BatchView) -> Option<String> {
    let aborted = view.aborted?;
    let (failed, open) = (
        counted(aborted.failed, "document"),
        counted(view.summary.counts.open, "document"),
    );
    Some(format!(
        "given up: {failed} failed, more than max_failed = {} allows; {open} not done",
        aborted.max_failed
    ))
}

/// At the end of a batch: what came of a sample, and how to go on with a batch that was given up.
pub(super) fn tell(app: &App, view: &BatchView) {
    if let Some(failed) = view.canary.as_ref().filter(|it| it.passed == Some(false)) {
        say!("  {}", canary(failed));
    }
    let Some(line) = given_up(view) else {
        return;
    };
    say!("  {line}");
    if view.summary.counts.open > 0 {
        say!("  go on with the rest:    {}", app.hint("resume last"));
    }
}
