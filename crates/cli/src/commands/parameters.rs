//! The parameters with which jobs are submitted, for people.

use redrive_domain::{
    pipeline::{JobSpec, SubmissionChange},
    query::{BatchView, JobView},
};

use super::run::HERE;

/// A line for each job that has unusual resources, or other parameters than its batch was created with.
pub(super) fn lines(view: &BatchView) -> Vec<String> {
    let jobs = view
        .tiers
        .iter()
        .flat_map(|tier| tier.jobs.iter().map(move |job| (tier.tier, job)));
    jobs.filter_map(|(tier, job)| {
        let mut change = unusual(job);
        // A run shares out the machine that it is on, whichever that is.
        if !job.resubmitted && job.class.as_str().starts_with(HERE) {
            change.num_cpus = None;
        }
        if change.is_empty() && !job.resubmitted {
            return None;
        }
        change.class = Some(job.class.clone());
        if job.resubmitted {
            change.timeout = Some(job.limits.timeout_ms);
            change.max_attempts = Some(job.limits.max_attempts);
        }
        let since = if job.resubmitted { " now" } else { "" };
        let settings = change.settings().join(" ");
        Some(format!(
            "submitted{since}: {} in tier {tier}: {settings}",
            job.job
        ))
    })
    .collect()
}

fn unusual(job: &JobView) -> SubmissionChange {
    let (submission, limits) = (&job.submission, &job.limits);
    SubmissionChange {
        requires_gpu: Some(submission.requires_gpu).filter(|yes| *yes),
        priority: Some(submission.priority).filter(|priority| *priority != JobSpec::PRIORITY),
        memory_bytes: submission.memory_bytes,
        num_cpus: Some(submission.num_cpus).filter(|count| *count != 1),
        rate_limit: limits.rate_limit.map(|limit| limit.per_second),
        max_concurrency: limits.max_concurrency,
        entrypoint: submission.entrypoint.clone(),
        deployment_mode: submission.deployment_mode.clone(),
        plugin_archives: submission.plugin_archives.clone(),
        ..SubmissionChange::default()
    }
}
