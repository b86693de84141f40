//! The parameters with which a job is submitted, as it is told, and how they are changed while its batch goes on.

mod setting;

use serde::{Deserialize, Serialize};

use super::{JobSpec, RateLimit, SpecError};
use crate::{
    ids::{HandlerName, ResourceClass},
    limits::{
        ATTEMPTS, DEPLOYMENT_MODE_BYTES, ENTRYPOINT_BYTES, MAX_CONCURRENCY, MEMORY_BYTES, NUM_CPUS,
        PLUGIN_ARCHIVE_BYTES, PLUGIN_ARCHIVES, PRIORITY_MOST, RATE_PER_SECOND, TIMEOUT_MS,
    },
    time::Millis,
};

pub use setting::InvalidSetting;

/// The parameters with which a job is submitted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Submission {
    /// What is to be started, for handlers that want to know.
    pub entrypoint: Option<String>,
    /// Where it is to run, for handlers that want to know.
    pub deployment_mode: Option<String>,
    /// Whether it needs a GPU.
    pub requires_gpu: bool,
    /// CPUs that one execution needs.
    pub num_cpus: u32,
    /// Memory that one execution may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// From 0 to 100.
    pub priority: u8,
    /// Archives to be loaded, for handlers that want to know.
    pub plugin_archives: Option<Vec<String>>,
    /// The handler.
    pub extractor_name: HandlerName,
}

impl Submission {
    /// Those of a job.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        Self {
            entrypoint: spec.entrypoint.clone(),
            deployment_mode: spec.deployment_mode.clone(),
            requires_gpu: spec.requires_gpu,
            num_cpus: spec.num_cpus,
            memory_bytes: spec.memory_bytes,
            priority: spec.priority,
            plugin_archives: (!spec.plugin_archives.is_empty())
                .then(|| spec.plugin_archives.clone()),
            extractor_name: spec.handler.clone(),
        }
    }
}

/// What holds a job back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobLimits {
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Millis,
    /// Attempts before a unit counts as failed.
    pub max_attempts: u32,
    /// How fast units may be started, over all workers.
    pub rate_limit: Option<RateLimit>,
    /// Units at once, over all workers.
    pub max_concurrency: Option<u32>,
}

impl JobLimits {
    /// Those of a job.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        Self {
            timeout_ms: spec.timeout,
            max_attempts: spec.max_attempts,
            rate_limit: spec.rate_limit,
            max_concurrency: spec.max_concurrency,
        }
    }
}

/// Other parameters for jobs of a batch. What is not named stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SubmissionChange {
    /// Whether a GPU is needed. It moves a job from class `cpu` to `gpu`, or back, unless `class` is named as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires_gpu: Option<bool>,
    /// From 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// CPUs that one execution needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_cpus: Option<u32>,
    /// Which workers may run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ResourceClass>,
    /// How long one attempt may take. In JSON seconds, or a text such as `"10m"`.
    #[serde(skip_serializing_if = "Option::is_none", with = "span")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<crate::schema::Span>))]
    pub timeout: Option<Millis>,
    /// Attempts before a unit counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Units started a second, over all workers. How many may start at once after a pause stays as it is, or is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<f64>,
    /// Units at once, over all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// What is to be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Where it is to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_mode: Option<String>,
    /// Archives to be loaded; an empty list means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_archives: Option<Vec<String>>,
}

// No rate that is checked is a NaN.
impl Eq for SubmissionChange {}

impl SubmissionChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that is out of bounds, with paths that begin with `set.`.
    #[must_use]
    pub fn errors(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        let mut check = |field: &str, fits: bool, is: String, want: String| {
            if !fits {
                errors.push(SpecError {
                    path: format!("set.{field}"),
                    message: format!("is {is}: it takes {want}"),
                });
            }
        };
        let mut whole = |field, value: Option<u64>, least: u64, most: u64| {
            let value = value.filter(|n| !(least..=most).contains(n));
            if let Some(value) = value {
                let want = format!("a whole number from {least} to {most}");
                check(field, false, value.to_string(), want);
            }
        };
        let (cpus, memory, at_once) = (NUM_CPUS, MEMORY_BYTES, MAX_CONCURRENCY);
        whole(
            "priority",
            self.priority.map(u64::from),
            0,
            u64::from(PRIORITY_MOST),
        );
        whole(
            "memory_bytes",
            self.memory_bytes,
            *memory.start(),
            *memory.end(),
        );
        whole(
            "num_cpus",
            self.num_cpus.map(u64::from),
            u64::from(*cpus.start()),
            u64::from(*cpus.end()),
        );
        whole(
            "max_attempts",
            self.max_attempts.map(u64::from),
            1,
            u64::from(ATTEMPTS),
        );
        whole(
            "max_concurrency",
            self.max_concurrency.map(u64::from),
            u64::from(*at_once.start()),
            u64::from(*at_once.end()),
        );
        if let Some(timeout) = self.timeout {
            let (least, most) = (Millis(*TIMEOUT_MS.start()), Millis(*TIMEOUT_MS.end()));
            let fits = TIMEOUT_MS.contains(&timeout.0);
            let want = format!("a span from {least} to {most}");
            check("timeout", fits, timeout.to_string(), want);
        }
        if let Some(rate) = self.rate_limit {
            let (least, most) = (RATE_PER_SECOND.start().to_owned(), *RATE_PER_SECOND.end());
            let fits = RATE_PER_SECOND.contains(&rate);
            let want = format!("units a second from {least} to {most}");
            check("rate_limit", fits, rate.to_string(), want);
        }
        let mut text = |field: &str, value: &str, most: usize| {
            let is = format!("a text of {} bytes", value.len());
            check(field, is_text(value, most), is, texts_of(most));
        };
        if let Some(entrypoint) = &self.entrypoint {
            text("entrypoint", entrypoint, ENTRYPOINT_BYTES);
        }
        if let Some(mode) = &self.deployment_mode {
            text("deployment_mode", mode, DEPLOYMENT_MODE_BYTES);
        }
        if let Some(archives) = &self.plugin_archives {
            for (i, archive) in archives.iter().enumerate().take(PLUGIN_ARCHIVES) {
                text(
                    &format!("plugin_archives[{i}]"),
                    archive,
                    PLUGIN_ARCHIVE_BYTES,
                );
            }
            let (fits, is) = (archives.len() <= PLUGIN_ARCHIVES, archives.len());
            let want = format!("at most {PLUGIN_ARCHIVES}");
            check("plugin_archives", fits, format!("{is} entries long"), want);
        }
        errors
    }

    /// A job with these parameters in place of its own.
    #[must_use]
    pub fn applied_to(&self, spec: &JobSpec) -> JobSpec {
        let mut job = spec.clone();
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        if let Some(requires_gpu) = self.requires_gpu {
            job.requires_gpu = requires_gpu;
            let (from, to) = if requires_gpu {
                ("cpu", "gpu")
            } else {
                ("gpu", "cpu")
            };
            if job.class.as_str() == from
                && let Ok(class) = ResourceClass::new(to)
            {
                job.class = class;
            }
        }
        set(&mut job.class, self.class.as_ref());
        set(&mut job.priority, self.priority.as_ref());
        set(&mut job.num_cpus, self.num_cpus.as_ref());
        set(&mut job.timeout, self.timeout.as_ref());
        set(&mut job.max_attempts, self.max_attempts.as_ref());
        set(&mut job.plugin_archives, self.plugin_archives.as_ref());
        job.memory_bytes = self.memory_bytes.or(job.memory_bytes);
        job.max_concurrency = self.max_concurrency.or(job.max_concurrency);
        job.entrypoint = self.entrypoint.clone().or(job.entrypoint);
        job.deployment_mode = self.deployment_mode.clone().or(job.deployment_mode);
        if let Some(per_second) = self.rate_limit {
            let burst = spec.rate_limit.map_or(1, |limit| limit.burst);
            job.rate_limit = Some(RateLimit { per_second, burst });
        }
        job
    }
}

/// Whether it is a text that a process can be told, of at most so many bytes.
pub(super) fn is_text(value: &str, most: usize) -> bool {
    (1..=most).contains(&value.len()) && !value.chars().any(char::is_control)
}

pub(super) fn texts_of(most: usize) -> String {
    format!("1 to {most} bytes of text without control characters")
}

/// A span: seconds or text for people, milliseconds in the log.
mod span {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use serde_json::Value;

    use crate::time::Millis;

    #[allow(clippy::ref_option, clippy::cast_precision_loss)] // serde gives a reference
    pub(super) fn serialize<S: Serializer>(
        span: &Option<Millis>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) if serializer.is_human_readable() => {
                (span.0 as f64 / 1_000.0).serialize(serializer)
            }
            span => span.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Millis>, D::Error> {
        if !deserializer.is_human_readable() {
            return Option::deserialize(deserializer);
        }
        let seconds = |value: f64| {
            let span = std::time::Duration::try_from_secs_f64(value).ok()?;
            // Rounded, so that what was written comes back.
            Some(Millis::from(span + std::time::Duration::from_micros(500)))
        };
        match Option::<Value>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Value::String(text)) => text.parse().map(Some).map_err(de::Error::custom),
            Some(value) => value.as_f64().and_then(seconds).map(Some).ok_or_else(|| {
                de::Error::custom("timeout takes seconds, or a text such as \"10m\"")
            }),
        }
    }
}

#[cfg(test)]
mod tests;
