//! Reading a pipeline so that somebody who wrote three mistakes is told of three, each with its place.

mod fields;
mod outage;

use std::fmt;

use serde_json::Value;

use self::fields::Fields;
use super::{Backoff, Breaker, JobSpec, Pipeline, RateLimit, TierSpec};
use crate::{
    ids::{HandlerName, JobName, ResourceClass},
    limits::{
        ATTEMPTS, CREDITS_PER_DOCUMENT, DEPLOYMENT_MODE_BYTES, ENTRYPOINT_BYTES, JOBS_PER_TIER,
        MAX_CONCURRENCY, MEMORY_BYTES, NUM_CPUS, OUTPUT_BYTES, OUTPUT_BYTES_MAX, PIPELINE_BYTES,
        PLUGIN_ARCHIVE_BYTES, PLUGIN_ARCHIVES, PRIORITY_MOST, RATE_PER_SECOND, TIERS, TIMEOUT_MS,
    },
};

/// One thing that is wrong with a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SpecError {
    /// Where, for instance `tiers[1].jobs[0].timeout`.
    pub path: String,
    /// What, with the limit that was broken.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// All that is wrong with a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPipeline(pub Vec<SpecError>);

impl std::error::Error for InvalidPipeline {}

impl fmt::Display for InvalidPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pipeline is not valid")?;
        self.0.iter().try_for_each(|e| write!(f, "\n  {e}"))
    }
}

pub(super) fn pipeline(value: &Value) -> Result<Pipeline, InvalidPipeline> {
    let mut errors = Vec::new();
    let size = value.to_string().len();
    if size > PIPELINE_BYTES {
        errors.push(SpecError {
            path: String::new(),
            message: format!("has {size} bytes as JSON: it takes at most {PIPELINE_BYTES}"),
        });
        return Err(InvalidPipeline(errors));
    }
    let mut top = Fields::new(value, String::new(), &mut errors);
    let name = top.text("name").unwrap_or_else(|| "pipeline".to_owned());
    let tiers = top.list("tiers", 1..=TIERS, tier);
    let max_failed = outage::max_failed(&mut top);
    let credits = top.integer("credits_per_document", 0..=CREDITS_PER_DOCUMENT);
    top.finish();
    let pipeline = Pipeline {
        name,
        tiers,
        max_failed,
        credits_per_document: credits.unwrap_or(1),
    };
    if errors.is_empty() {
        errors = pipeline.segmentation_errors();
    }
    if errors.is_empty() {
        Ok(pipeline)
    } else {
        Err(InvalidPipeline(errors))
    }
}

fn tier(value: &Value, path: String, errors: &mut Vec<SpecError>) -> Option<TierSpec> {
    let mut tier = Fields::new(value, path.clone(), errors);
    let barrier = tier.flag("barrier");
    let join = tier.flag("join");
    let jobs: Vec<JobSpec> = tier.list("jobs", 1..=JOBS_PER_TIER, job);
    let name = tier.text("name");
    tier.finish();
    for (i, job) in jobs.iter().enumerate() {
        if jobs[..i].iter().any(|other| other.name == job.name) {
            errors.push(SpecError {
                path: format!("{path}.jobs[{i}].name"),
                message: format!(
                    "another job of the tier has the name {:?} already",
                    job.name
                ),
            });
        }
    }
    let name = name.or_else(|| jobs.first().map(|job| job.name.to_string()))?;
    Some(TierSpec {
        name,
        barrier,
        join,
        jobs,
    })
}

fn job(value: &Value, path: String, errors: &mut Vec<SpecError>) -> Option<JobSpec> {
    let before = errors.len();
    let mut job = Fields::new(value, path, errors);
    let handler = job.name("handler", HandlerName::new);
    if handler.is_none() && job.get("handler").is_none() {
        job.error(
            "handler",
            "is missing: name the handler that is to do the work",
        );
    }
    let name = job.name("name", JobName::new).or_else(|| {
        let handler = handler.as_ref()?;
        JobName::new(handler.as_str()).ok()
    });
    let requires_gpu = job.flag("requires_gpu");
    let class = job
        .name("class", ResourceClass::new)
        .or_else(|| ResourceClass::new(if requires_gpu { "gpu" } else { "cpu" }).ok());
    let num_cpus = job.count("num_cpus", NUM_CPUS).unwrap_or(1);
    let memory_bytes = job.integer("memory_bytes", MEMORY_BYTES);
    let priority = job.integer("priority", 0..=u64::from(PRIORITY_MOST));
    let timeout = job.span("timeout", TIMEOUT_MS);
    let max_concurrency = job.count("max_concurrency", MAX_CONCURRENCY);
    let entrypoint = job.line("entrypoint", ENTRYPOINT_BYTES);
    let deployment_mode = job.line("deployment_mode", DEPLOYMENT_MODE_BYTES);
    let plugin_archives = job.lines("plugin_archives", PLUGIN_ARCHIVES, PLUGIN_ARCHIVE_BYTES);
    let max_attempts = job.integer("max_attempts", 1..=u64::from(ATTEMPTS));
    let max_output_bytes = job.integer("max_output_bytes", 0..=OUTPUT_BYTES_MAX);
    let backoff = job.nested("backoff", backoff);
    let rate_limit = job.nested("rate_limit", rate_limit);
    let breaker = job.nested("breaker", outage::breaker);
    let segments = job.flag("segments");
    let params = job.get("params").cloned().unwrap_or(Value::Null);
    if !(params.is_null() || params.is_object()) {
        job.error("params", "is to be a table");
    }
    job.finish();
    if errors.len() > before {
        return None;
    }
    Some(JobSpec {
        name: name?,
        handler: handler?,
        params,
        class: class?,
        requires_gpu,
        num_cpus,
        memory_bytes,
        priority: priority.map_or(Some(JobSpec::PRIORITY), |p| u8::try_from(p).ok())?,
        timeout: timeout.unwrap_or(JobSpec::TIMEOUT),
        max_attempts: max_attempts
            .map_or(Some(JobSpec::MAX_ATTEMPTS), |n| u32::try_from(n).ok())?,
        backoff: backoff.unwrap_or_default(),
        rate_limit,
        breaker: breaker.unwrap_or(Some(Breaker::USUAL)),
        // All segments of a document are one output.
        max_output_bytes: max_output_bytes.unwrap_or(match segments {
            true => OUTPUT_BYTES_MAX,
            false => OUTPUT_BYTES,
        }),
        segments,
        max_concurrency,
        entrypoint,
        deployment_mode,
        plugin_archives,
    })
}

fn backoff(value: &Value, path: String, errors: &mut Vec<SpecError>) -> Option<Backoff> {
    let usual = Backoff::default();
    let mut fields = Fields::new(value, path, errors);
    let base = fields.span("base", 0..=86_400_000).unwrap_or(usual.base);
    let max = fields
        .span("max", 0..=86_400_000)
        .unwrap_or(usual.max.max(base));
    let factor = fields.number("factor", 1.0..=100.0).unwrap_or(usual.factor);
    let jitter = fields.number("jitter", 0.0..=1.0).unwrap_or(usual.jitter);
    if max < base {
        fields.error("max", "is less than base");
    }
    fields.finish();
    Some(Backoff {
        base,
        factor,
        max,
        jitter,
    })
}

fn rate_limit(value: &Value, path: String, errors: &mut Vec<SpecError>) -> Option<RateLimit> {
    let mut fields = Fields::new(value, path, errors);
    let per_second = fields.number("per_second", RATE_PER_SECOND);
    if fields.get("per_second").is_none() {
        fields.error("per_second", "is missing");
    }
    let burst = fields.integer("burst", 1..=1_000_000).unwrap_or(1);
    fields.finish();
    Some(RateLimit {
        per_second: per_second?,
        burst: u32::try_from(burst).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pipeline, Vec<String>> {
        let value: toml::Value = toml::from_str(text).unwrap();
        pipeline(&serde_json::to_value(value).unwrap())
            .map_err(|e| e.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_short_pipeline_has_sensible_defaults() {
        let pipeline = read("[[tiers]]\n[[tiers.jobs]]\nhandler = 'fetch'\n").unwrap();
        let job = &pipeline.tiers[0].jobs[0];
        assert_eq!(job.name.as_str(), "fetch");
        assert_eq!(job.class.as_str(), "cpu");
        assert_eq!((job.max_attempts, job.priority), (3, 50));
        let stored = serde_json::to_value(&pipeline).unwrap();
        assert_eq!(
            serde_json::from_value::<Pipeline>(stored).unwrap(),
            pipeline
        );
    }

    #[test]
    fn all_errors_come_at_once_with_their_paths() {
        let errors = read(
            r#"
            colour = "red"
            [[tiers]]
            barrier = "yes"
            [[tiers.jobs]]
            handler = "a.b"
            timeout = "soon"
            [[tiers]]
            [[tiers.jobs]]
            handler = "exec"
            max_attempts = 50
            backoff = { base = "10s", max = "1s" }
            [[tiers.jobs]]
            name = "exec"
            handler = "exec"
            rate_limit = { burst = 0 }
            [[tiers]]
            "#,
        )
        .unwrap_err();
        let places: Vec<&str> = errors
            .iter()
            .map(|e| e.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            places,
            [
                "tiers[0].barrier",
                "tiers[0].jobs[0].handler",
                "tiers[0].jobs[0].timeout",
                "tiers[1].jobs[0].max_attempts",
                "tiers[1].jobs[0].backoff.max",
                "tiers[1].jobs[1].rate_limit.per_second",
                "tiers[1].jobs[1].rate_limit.burst",
                "tiers[2].jobs",
                "colour",
            ]
        );
        assert_eq!(
            errors[3],
            "tiers[1].jobs[0].max_attempts: is 50: it takes a whole number from 1 to 20"
        );
    }

    #[test]
    fn two_jobs_of_a_tier_cannot_share_a_name() {
        let errors =
            read("[[tiers]]\njobs = [{ handler = 'exec' }, { handler = 'exec' }]\n").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("tiers[0].jobs[1].name"), "{errors:?}");
    }
}
