//! `retry`, `pause` and `resume`.

use redrive_client::ClientError;
use redrive_domain::{
    command::{Accepted, Command, Pause, Refusal, Resume, Retried, Retry, RetryMode, Submit},
    ids::BatchId,
    pipeline::SubmissionChange,
    plan::Plan,
    query::{BatchRef, BatchView, ListDocuments},
    status::BatchStatus,
};

use super::{credits, outages, run};
use crate::{
    app::{App, quoted},
    args::{Format, Mode, PauseArgs, ResumeArgs, RetryArgs},
    exit::{Exit, failed, usage},
    identity,
    output::{self, brief, counted},
    progress::summary,
    say, signals,
};

/// Documents that are named where a plan is stale, of each sort.
const NAMED: u32 = 10;

pub(crate) async fn retry(app: &App, args: RetryArgs) -> anyhow::Result<Exit> {
    let view = app.view(args.batch.batch, None).await?;
    let batch = view.summary.batch;
    let tiers = view.tiers.len();
    if let Some(tier) = args.tier.iter().find(|tier| usize::from(**tier) >= tiers) {
        let there = match tiers {
            1 => "only tier 0".to_owned(),
            _ => format!("tiers 0 to {}", tiers.saturating_sub(1)),
        };
        return Err(usage(format!("--tier {tier}: the batch has {there}")));
    }
    let stop = signals::shutdown()?;
    let (jobs, watch, plan) = (args.jobs, args.watch, args.plan.clone());
    let accepted = match command(app, &view, Command::Retry(asked(args)?)).await {
        Err(error) => return Err(with_documents(app, batch, plan.as_ref(), error).await),
        Ok(accepted) => accepted,
    };
    let retried = accepted.retry.clone().unwrap_or_default();
    show(app, &accepted, &retried)?;
    if accepted.plan.is_some() || (retried.units == 0 && view.summary.status.is_over()) {
        return Ok(Exit::Done);
    }
    if run::runs_here(&view) {
        return run::work_here(app, &view, accepted.seq, jobs, &stop).await;
    }
    if watch {
        return run::watch(app, BatchRef::Id(batch), Some(accepted.seq), None, &stop).await;
    }
    Ok(Exit::Done)
}

/// What a retry's flags ask for.
pub(super) fn asked(args: RetryArgs) -> anyhow::Result<Retry> {
    if args.plan.is_some() {
        return Ok(Retry {
            plan: args.plan,
            ..Retry::default()
        });
    }
    let mut set = SubmissionChange::default();
    for setting in &args.set {
        set.set(setting)
            .map_err(|error| usage(format!("--set: {error}")))?;
    }
    if !set.is_empty() && args.tier.is_empty() {
        return Err(usage(
            "--set changes the parameters of a tier: name it with --tier",
        ));
    }
    let after = args.after.map(|span| identity::now().plus(span));
    let retry_mode = match args.mode {
        Some(Mode::TransientOnly) => RetryMode::TransientOnly,
        Some(Mode::All) => RetryMode::All,
        // Who names kinds or fingerprints means these, whatever their class.
        None if !args.kind.is_empty() || !args.fingerprint.is_empty() => RetryMode::All,
        None => RetryMode::default(),
    };
    Ok(Retry {
        retry_mode,
        tier_nums: (!args.tier.is_empty()).then_some(args.tier),
        kinds: (!args.kind.is_empty()).then_some(args.kind),
        fingerprints: (!args.fingerprint.is_empty()).then_some(args.fingerprint),
        max_retry_count: args.max_retry_count,
        max_retries: args.max_retries,
        dry_run: args.dry_run,
        canary: args.canary,
        canary_success: args.canary_success,
        not_before: args.not_before.or(after),
        jobs: (!args.job.is_empty()).then_some(args.job),
        set: (!set.is_empty()).then(|| Box::new(set)),
        ..Retry::default()
    })
}

/// The flags that ask for what a plan was made of.
fn flags(plan: &Plan) -> String {
    let retry = plan.retry();
    let mut flags = match retry.retry_mode {
        RetryMode::All => " --mode all".to_owned(),
        RetryMode::TransientOnly => " --mode transient_only".to_owned(),
    };
    for tier in retry.tier_nums.iter().flatten() {
        flags.push_str(&format!(" --tier {tier}"));
    }
    for kind in retry.kinds.iter().flatten() {
        flags.push_str(&format!(" --kind {kind}"));
    }
    for fingerprint in retry.fingerprints.iter().flatten() {
        flags.push_str(&format!(" --fingerprint {fingerprint}"));
    }
    flags.push_str(&format!(" --max-retry-count {}", retry.max_retry_count));
    if let Some(attempts) = retry.max_retries {
        flags.push_str(&format!(" --max-retries {attempts}"));
    }
    if let Some(share) = retry.canary {
        flags.push_str(&format!(" --canary {share}"));
    }
    if let Some(share) = retry.canary_success {
        flags.push_str(&format!(" --canary-success {share}"));
    }
    for job in retry.jobs.iter().flatten() {
        flags.push_str(&format!(" --job {job}"));
    }
    if let Some(time) = retry.not_before {
        flags.push_str(&format!(" --not-before {time}"));
    }
    for setting in retry.set.iter().flat_map(|set| set.settings()) {
        flags.push_str(&format!(" --set {}", quoted(&setting)));
    }
    flags
}

async fn command(app: &App, view: &BatchView, command: Command) -> Result<Accepted, ClientError> {
    let (bucket, batch) = (&view.summary.bucket, view.summary.batch);
    app.client
        .command(bucket, batch, identity::command(), &command)
        .await
}

/// Names the documents by which a stale plan differs.
async fn with_documents(
    app: &App,
    batch: BatchId,
    plan: Option<&Plan>,
    error: ClientError,
) -> anyhow::Error {
    let ClientError::Refused(Refusal::Stale(stale)) = &error else {
        return error.into();
    };
    let mut lines = vec![stale.to_string()];
    let changes = [
        ("no longer failed", &stale.gone_documents),
        ("failed as well", &stale.added_documents),
    ];
    for (what, units) in changes {
        let query = ListDocuments {
            units: Some(units.take(u64::from(NAMED))),
            limit: Some(NAMED),
            min_seq: Some(stale.seq),
            ..ListDocuments::of(BatchRef::Id(batch))
        };
        if units.is_empty() {
            continue;
        }
        // The refusal is what counts: where the names cannot be had, it goes without.
        let Ok(page) = app.client.page(&query).await else {
            continue;
        };
        let names: Vec<String> = page.items.iter().map(|row| brief(&row.id, 60)).collect();
        let more = if units.len() > names.len() as u64 {
            ", …"
        } else {
            ""
        };
        lines.push(format!("  {what}: {}{more}", names.join(", ")));
    }
    lines.push(format!(
        "  see what it comes to now:  {}",
        app.hint(&format!(
            "retry {batch} --dry-run{}",
            plan.map_or_else(String::new, flags)
        ))
    ));
    failed(Exit::Conflict, lines.join("\n"))
}

fn show(app: &App, accepted: &Accepted, retried: &Retried) -> anyhow::Result<()> {
    if app.output != Format::Table {
        return output::one(app.output, accepted, |_| String::new());
    }
    let sum = |parts: Vec<String>| {
        if parts.is_empty() {
            String::new()
        } else {
            format!(" ({})", parts.join(", "))
        }
    };
    let by_kind = retried
        .by_kind
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let by_tier: Vec<String> = retried
        .by_tier
        .iter()
        .map(|(tier, n)| format!("{n} in tier {tier}"))
        .collect();
    let doing = match accepted.plan {
        Some(_) => "Would retry",
        None => "Retrying",
    };
    say!(
        "{doing} {}{}{}",
        what(retried),
        sum(by_kind),
        if by_tier.len() > 1 {
            format!(": {}", by_tier.join(", "))
        } else {
            String::new()
        }
    );
    if let Some(set) = &retried.set {
        let settings = set.settings().join(" ");
        say!("  with: {settings}, also in later retries");
    }
    let excluded = &retried.excluded;
    for (class, count) in &excluded.class {
        let failures = counted(*count, &format!("{class} failure"));
        say!("  left alone: {failures} (--mode all takes these too)");
    }
    for (count, which) in [
        (
            excluded.retry_limit,
            "of documents that were retried as often as --max-retry-count allows",
        ),
        (excluded.tier, "in other tiers"),
        (excluded.kind, "of other kinds"),
        (excluded.job, "of other jobs"),
        (excluded.cancelled, "in tiers that were cancelled"),
        (excluded.fingerprint, "with other fingerprints"),
    ] {
        if count > 0 {
            say!("  left alone: {} {which}", counted(count, "failure"));
        }
    }
    if let Some(charge) = &accepted.credits {
        credits::say_charge(charge, accepted.plan.is_some());
    }
    if let Some(sampled) = &retried.canary {
        say!("  {}", outages::sampled(sampled));
    }
    if let Some(plan) = &accepted.plan {
        let apply = app.hint(&format!("retry {} --plan {plan}", accepted.batch));
        say!("  do just that:  {apply}");
    }
    Ok(())
}

/// What is retried, for people.
fn what(retried: &Retried) -> String {
    let documents = counted(retried.documents, "document");
    match retried.segments {
        0 => documents,
        segments if segments == retried.units => {
            format!("{} of {documents}", counted(segments, "segment"))
        }
        segments => format!("{documents}, of them {}", counted(segments, "segment")),
    }
}

/// Holds jobs up.
pub(crate) async fn pause(app: &App, args: PauseArgs) -> anyhow::Result<Exit> {
    let view = app.view(args.batch.batch, None).await?;
    let pause = Pause {
        tier: args.of.tier,
        job: args.of.job,
        reason: args.reason,
    };
    let accepted = command(app, &view, Command::Pause(pause)).await?;
    if app.output != Format::Table {
        output::one(app.output, &accepted, |_| String::new())?;
        return Ok(Exit::Done);
    }
    match names(&accepted) {
        None => say!("It is paused already."),
        Some(jobs) => say!("Paused: {jobs}. What workers hold is still done."),
    }
    say!(
        "  go on:  {}",
        app.hint(&format!("resume {}", accepted.batch))
    );
    Ok(Exit::Done)
}

pub(super) fn names(accepted: &Accepted) -> Option<String> {
    let jobs = accepted.jobs.iter();
    let names: Vec<String> = jobs
        .map(|at| format!("{} in tier {}", at.job, at.tier))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Goes on with a batch: hands out what was paused, and where the batch runs in a terminal, runs it here.
pub(crate) async fn resume(app: &App, args: ResumeArgs) -> anyhow::Result<Exit> {
    let view = app.view(args.batch.batch, None).await?;
    let batch = view.summary.batch;
    let was_given_up = view.aborted.is_some() && view.summary.counts.open > 0;
    if view.summary.status.is_over() && !was_given_up {
        say!("{}", summary(&view));
        match view.summary.status {
            BatchStatus::Cancelled => say!("It was cancelled: it cannot be resumed."),
            _ if view.summary.counts.failed > 0 => say!(
                "It is over: there is nothing to resume. To execute failed documents again: {}",
                app.hint(&format!("retry {batch}"))
            ),
            _ => say!("It is over: there is nothing to resume."),
        }
        return Ok(Exit::of_batch(view.summary.status));
    }
    let stop = signals::shutdown()?;
    let mut seq = view.last_seq;
    let was_paused = view.paused().next().is_some();
    if was_paused || was_given_up || args.of.tier.is_some() || args.of.job.is_some() {
        let resume = Resume {
            tier: args.of.tier,
            job: args.of.job,
        };
        let accepted = command(app, &view, Command::Resume(resume)).await?;
        match names(&accepted) {
            Some(jobs) => say!("Resumed: {jobs}"),
            None => say!("Nothing of that is paused."),
        }
        seq = accepted.seq;
        if app.output != Format::Table {
            output::one(app.output, &accepted, |_| String::new())?;
        }
        if !run::runs_here(&view) {
            return Ok(Exit::Done);
        }
    }
    if !view.submitted {
        say!(
            "The batch was interrupted while its documents were handed over: going on with the {} that arrived.",
            view.summary.documents
        );
        let submit = Command::Submit(Submit::default());
        seq = command(app, &view, submit).await?.seq;
    }
    run::work_here(app, &view, seq, args.jobs, &stop).await
}
