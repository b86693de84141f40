//! Why a command is not carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    credits::{Charge, Month},
    ids::BatchKey,
    limits::{REFUSAL_CHARS, REFUSAL_ERRORS},
    pipeline::SpecError,
    units::{UnitSet, as_ranges},
};

/// Why a command was not carried out. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// The command itself is wrong.
    #[error("the command is not valid{}", list(errors))]
    Invalid {
        /// All that is wrong with it.
        errors: Vec<SpecError>,
    },
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for, for instance `batch 0198… in namespace default`.
        what: String,
    },
    /// The batch is not in a state for it.
    #[error("{message}")]
    Conflict {
        /// Why.
        message: String,
    },
    /// What was planned no longer holds.
    #[error("{0}")]
    Stale(Stale),
    /// The one who asks may not.
    #[error("not allowed: {message}")]
    NotAllowed {
        /// Why.
        message: String,
    },
    /// It takes more than what is left of the namespace's credits.
    #[error("{0}")]
    #[serde(rename = "credits_exhausted")]
    Credits(Shortage),
    /// Whoever was asked cannot answer just now; asked again, they may.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
    },
    /// The key of this command's id came with another request before.
    #[error(
        "the key of this command's id came with another request before: take a new key for each request"
    )]
    KeyReused,
}

/// What a command would take of a month's credits that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Shortage {
    /// The month.
    pub month: Month,
    /// The namespace's credits a month.
    pub limit: u64,
    /// What is left of them.
    pub left: u64,
    /// What it would take.
    pub takes: u64,
    /// How much more would have to be left.
    pub missing: u64,
}

impl From<Charge> for Shortage {
    fn from(charge: Charge) -> Self {
        Self {
            month: charge.month,
            limit: charge.limit,
            left: charge.left,
            takes: charge.takes,
            missing: charge.missing(),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            month,
            limit,
            left,
            takes,
            missing,
        } = self;
        write!(
            f,
            "it takes {takes} credits, and {left} of the namespace's {limit} are left for {month}: {missing} missing; \
             take fewer documents, wait for {}, or set a higher limit (redrive credits --set N)",
            month.next()
        )
    }
}

/// How a plan differs from what it would come to now.
///
/// The sets are ranges in every format: serde reads the variants of [`Refusal`] as if they were JSON, so that a set's
/// bytes in an event could not be read back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Stale {
    /// The log sequence at which the plan was made.
    pub plan_seq: u64,
    /// The log sequence of the batch's last event now.
    pub seq: u64,
    /// Units that were planned and would not be touched now.
    pub gone: u64,
    /// Units that were not planned and would be touched now.
    pub added: u64,
    /// The first documents of those that are gone.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub gone_documents: UnitSet,
    /// The first documents of those that were added.
    #[serde(with = "as_ranges")]
    #[cfg_attr(feature = "schema", schema(value_type = crate::schema::Ranges))]
    pub added_documents: UnitSet,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plan_seq,
            seq,
            gone,
            added,
            ..
        } = self;
        write!(
            f,
            "the plan was made at log sequence {plan_seq} and no longer holds at {seq}: of its units {gone} would not be \
             retried any more, and {added} that it does not name would be"
        )
    }
}

fn list(errors: &[SpecError]) -> String {
    errors.iter().map(|e| format!("\n  {e}")).collect()
}

impl Refusal {
    /// One thing wrong with the command.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            errors: vec![SpecError {
                path: path.into(),
                message: message.into(),
            }],
        }
    }

    /// There is no such batch.
    #[must_use]
    pub fn no_batch(key: &BatchKey) -> Self {
        Self::NotFound {
            what: format!("batch {} in namespace {}", key.batch, key.namespace),
        }
    }

    /// The same, cut to what fits in an event and on a screen: a command's own text may stand in what is wrong with it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String| {
            if let Some((end, _)) = text.char_indices().nth(REFUSAL_CHARS) {
                text.truncate(end);
                text.push('…');
            }
        };
        match &mut self {
            Self::Invalid { errors } => {
                let more = errors.len().saturating_sub(REFUSAL_ERRORS);
                errors.truncate(REFUSAL_ERRORS);
                for error in errors.iter_mut() {
                    cut(&mut error.path);
                    cut(&mut error.message);
                }
                if more > 0 {
                    errors.push(SpecError {
                        path: String::new(),
                        message: format!("and {more} more"),
                    });
                }
            }
            Self::Stale(_) | Self::Credits(_) | Self::KeyReused => {}
            Self::NotFound { what } => cut(what),
            Self::Conflict { message }
            | Self::NotAllowed { message }
            | Self::Unavailable { message } => cut(message),
        }
        self
    }

    /// A conflict with the batch's state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
        }
    }
}
