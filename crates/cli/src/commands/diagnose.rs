//! `diagnose`: what is wrong with a batch, and what to do about it.

use redrive_domain::{
    diagnosis::{Diagnosis, FailureCategory, Recommendation, Stage, TaskDiagnosis, TierDiagnosis},
    query::OfBatch,
    state::InfrastructureEvent,
};

use crate::{
    app::App,
    args::StatusArgs,
    exit::Exit,
    output::{self, brief, counted, table},
};

/// Events of the infrastructure that people are shown; programs get all that are kept.
const EVENTS: usize = 10;

pub(crate) async fn diagnose(app: &App, args: StatusArgs) -> anyhow::Result<Exit> {
    let query = OfBatch {
        batch: args.batch.batch,
        min_seq: None,
        at: args.at,
    };
    let mut diagnosis = app.client.diagnose(&query).await?;
    for one in &mut diagnosis.recommendations {
        one.command = one.command.take().map(|command| here(app, &command));
    }
    output::one(app.output, &diagnosis, |diagnosis| {
        shown(diagnosis, |command| app.hint(command))
    })?;
    Ok(Exit::Done)
}

/// A recommended command, for the system that was asked.
fn here(app: &App, command: &str) -> String {
    app.hint(command.strip_prefix("redrive ").unwrap_or(command))
}

/// For people; `line` makes the line to paste of a command without the program's name.
pub(super) fn shown(diagnosis: &Diagnosis, line: impl Fn(&str) -> String) -> String {
    let counts = diagnosis.counts;
    let facts = [
        ("batch", diagnosis.batch.to_string()),
        ("status", diagnosis.status.to_string()),
        ("failures", category(diagnosis)),
        (
            "documents",
            format!(
                "{}: {} completed, {} failed, {} cancelled, {} open",
                diagnosis.documents, counts.completed, counts.failed, counts.cancelled, counts.open
            ),
        ),
        ("last activity", diagnosis.last_activity_at.to_string()),
    ];
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("{name:14} {value}"))
        .collect();
    let mut parts = vec![facts.join("\n")];
    let advice = diagnosis.recommendations.iter();
    parts.extend(advice.map(|one| advised(diagnosis, one, &line)));
    if !diagnosis.failure_groups.is_empty() {
        parts.push(groups(diagnosis));
    }
    if !diagnosis.failed_documents_sample.is_empty() {
        parts.push(documents(diagnosis));
    }
    if !diagnosis.infrastructure_events.is_empty() {
        parts.push(events(diagnosis));
    }
    parts.push(tiers(&diagnosis.per_tier));
    parts.join("\n\n")
}

fn category(diagnosis: &Diagnosis) -> String {
    let what = match diagnosis.failure_category {
        FailureCategory::None => return "none".to_owned(),
        FailureCategory::Pipeline => "documents, handlers, or what these talk to",
        FailureCategory::Timeout => "attempts that took too long",
        FailureCategory::Infrastructure => "machines and processes",
        FailureCategory::Orphaned => "work that no live worker does",
    };
    format!("{}: {what}", diagnosis.failure_category)
}

fn advised(diagnosis: &Diagnosis, one: &Recommendation, line: &impl Fn(&str) -> String) -> String {
    let mut lines = vec![format!("→ {}", one.sentence), format!("  {}", one.reason)];
    if let Some(command) = &one.command {
        lines.push(format!("  $ {command}"));
    }
    if let Some(plan) = &one.plan {
        let exact = line(&format!("retry {} --plan {plan}", diagnosis.batch));
        lines.push(format!(
            "  exactly this, or nothing once it has changed:\n  $ {exact}"
        ));
    }
    lines.join("\n")
}

fn groups(diagnosis: &Diagnosis) -> String {
    let rows = diagnosis.failure_groups.iter().map(|group| {
        vec![
            group.fingerprint.to_string(),
            group.units.to_string(),
            group.tier.to_string(),
            group.job.to_string(),
            group.class.to_string(),
            group.kind.to_string(),
            group.code.clone().unwrap_or_else(|| "-".to_owned()),
            brief(&group.message, 80),
        ]
    });
    let header = [
        "fingerprint",
        "failed",
        "tier",
        "job",
        "class",
        "kind",
        "code",
        "message",
    ];
    let mut text = table(&header, rows);
    if diagnosis.more_failure_groups > 0 {
        let more = counted(diagnosis.more_failure_groups, "smaller group");
        text.push_str(&format!("\nand {more}"));
    }
    text
}

fn documents(diagnosis: &Diagnosis) -> String {
    let rows = diagnosis.failed_documents_sample.iter().map(|row| {
        let failure = &row.failure;
        // Tools say last what hurt.
        let detail = failure.detail.as_deref().unwrap_or_default();
        let last = detail.lines().next_back().unwrap_or_default();
        let says_more = !last.is_empty() && last != failure.message;
        vec![
            brief(&row.document, 60),
            row.tier.to_string(),
            row.job.to_string(),
            failure.kind.to_string(),
            brief(&failure.message, 80),
            brief(if says_more { last } else { "-" }, 80),
        ]
    });
    let header = ["document", "tier", "job", "kind", "message", "detail"];
    let mut text = table(&header, rows);
    let shown = diagnosis.failed_documents_sample.len() as u64;
    let left = diagnosis.failed_document_count.saturating_sub(shown);
    if left > 0 {
        text.push_str(&format!("\nand {}", counted(left, "more document")));
    }
    text
}

fn events(diagnosis: &Diagnosis) -> String {
    let all = &diagnosis.infrastructure_events;
    let last = all.iter().skip(all.len().saturating_sub(EVENTS));
    let row = |event: &InfrastructureEvent| {
        vec![
            event.at.to_string(),
            event.seq.to_string(),
            event.kind.to_string(),
            event.tier.to_string(),
            event.job.to_string(),
            event
                .worker
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            event.units.to_string(),
            brief(event.message.as_deref().unwrap_or("-"), 60),
        ]
    };
    let header = [
        "time", "seq", "event", "tier", "job", "worker", "units", "message",
    ];
    let mut text = table(&header, last.map(row));
    let sums = diagnosis.infrastructure_attempts.iter();
    let sums: Vec<String> = sums.map(|(kind, n)| format!("{n} {kind}")).collect();
    text.push_str(&format!(
        "\nattempts that such events cost: {}",
        sums.join(", ")
    ));
    text
}

fn tiers(tiers: &[TierDiagnosis]) -> String {
    let seconds = |stages: &[Stage], name: &str| {
        let stage = stages.iter().find(|stage| stage.name == name);
        stage.map_or_else(
            || "-".to_owned(),
            |it| format!("{:.1}s", it.duration_seconds),
        )
    };
    let row = |tier: &TierDiagnosis, task: &TaskDiagnosis| {
        let resources = &task.resources;
        let memory = match (resources.peak_memory_bytes, resources.memory_bytes) {
            (None, None) => "-".to_owned(),
            (peak, most) => format!("{}/{}", size(peak), size(most)),
        };
        vec![
            format!("{} {}", tier.tier, brief(&tier.name, 20)),
            task.job.to_string(),
            task.status.to_string(),
            task.submission_params.extractor_name.to_string(),
            resources.class.to_string(),
            resources.num_cpus.to_string(),
            memory,
            resources.timeout_ms.to_string(),
            seconds(&task.stage_history, "loading"),
            seconds(&task.stage_history, "processing"),
            seconds(&task.stage_history, "writing"),
            format!("{}/s", task.throughput_per_second),
            task.last_activity_at
                .map_or_else(|| "-".to_owned(), |at| at.to_string()),
        ]
    };
    let rows = tiers
        .iter()
        .flat_map(|tier| tier.tasks.iter().map(move |task| row(tier, task)));
    let header = [
        "tier",
        "job",
        "status",
        "handler",
        "class",
        "cpus",
        "memory",
        "timeout",
        "loading",
        "processing",
        "writing",
        "rate",
        "last activity",
    ];
    table(&header, rows)
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "-".to_owned(),
        |bytes| format!("{}MiB", bytes.div_ceil(1 << 20)),
    )
}

#[cfg(test)]
mod tests;
