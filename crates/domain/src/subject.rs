//! The subjects of the system. They are built from checked names only, so nothing of a user's can widen one.
//!
//! | subject | what |
//! | --- | --- |
//! | `rd.evt.<shard>.<namespace>.<batch>.<event type…>` | the log |
//! | `rd.cmd.<namespace>.<bucket>.<batch>.<verb>` | commands handed over durably |
//! | `rd.req.<namespace>.<bucket>.<batch>.<verb>` | commands answered with the decision |
//! | `rd.out.<shard>.<namespace>.<batch>` | outcomes of workers |
//! | `rd.work.<shard>.<handler>.<class>.<namespace>.<batch>.<chunk>` | chunks |
//! | `rd.hb.<shard>.<worker>` | heartbeats |
//! | `rd.sig.<shard>` | signals to workers |
//! | `rd.who.<shard>` | presence of coordinators, projectors and gateways |
//! | `rd.qry.<namespace>.<query>` | queries |
//! | `rd.snap.<shard>.<piece or head>` | what a leader has folded |

use crate::{
    command::Verb,
    credits::NO_BATCH,
    ids::{BatchId, BatchKey, Bucket, ChunkId, HandlerName, Namespace, ResourceClass, WorkerId},
};

/// In place of a bucket: whichever the batch has. In place of a batch: none, for what is the namespace's.
const ANY: &str = "_";

/// The number of a shard.
pub type Shard = u16;

/// An event's subject.
#[must_use]
pub fn event(shard: Shard, key: &BatchKey, kind: &str) -> String {
    format!("rd.evt.{shard}.{}.{}.{kind}", key.namespace, key.batch)
}

/// All events of a shard.
#[must_use]
pub fn events(shard: Shard) -> String {
    format!("rd.evt.{shard}.>")
}

/// All events of a namespace.
#[must_use]
pub fn events_of_namespace(shard: Shard, namespace: &Namespace) -> String {
    format!("rd.evt.{shard}.{namespace}.>")
}

/// All events of one type in a namespace, such as `batch.completed`.
#[must_use]
pub fn events_of_type(shard: Shard, namespace: &Namespace, kind: &str) -> String {
    format!("rd.evt.{shard}.{namespace}.*.{kind}")
}

/// All events that a namespace's ledger is made of.
#[must_use]
pub fn events_about_credits(shard: Shard, namespace: &Namespace) -> String {
    events_of_type(shard, namespace, "credits.*")
}

/// All events that make and revoke keys to the HTTP interface, of one namespace or of all.
#[must_use]
pub fn events_about_keys(shard: Shard, namespace: Option<&Namespace>) -> String {
    let namespace = namespace.map_or("*", Namespace::as_str);
    format!("rd.evt.{shard}.{namespace}.{NO_BATCH}.key.*")
}

/// All events of a batch.
#[must_use]
pub fn events_of_batch(shard: Shard, key: &BatchKey) -> String {
    format!("rd.evt.{shard}.{}.{}.>", key.namespace, key.batch)
}

/// Where a command is handed over durably.
#[must_use]
pub fn command(namespace: &Namespace, bucket: &Bucket, batch: BatchId, verb: Verb) -> String {
    format!("rd.cmd.{namespace}.{bucket}.{}.{verb}", place(batch))
}

/// Where a command is answered with the decision.
#[must_use]
pub fn request(namespace: &Namespace, bucket: &Bucket, batch: BatchId, verb: Verb) -> String {
    format!("rd.req.{namespace}.{bucket}.{}.{verb}", place(batch))
}

fn place(batch: BatchId) -> String {
    match batch {
        NO_BATCH => ANY.to_owned(),
        batch => batch.to_string(),
    }
}

/// All commands handed over durably.
pub const COMMANDS: &str = "rd.cmd.>";
/// All that makes up snapshots.
#[must_use]
pub fn snapshots(shard: Shard) -> String {
    format!("rd.snap.{shard}.*")
}

/// A piece of a snapshot.
#[must_use]
pub fn snapshot_piece(shard: Shard) -> String {
    format!("rd.snap.{shard}.piece")
}

/// What a snapshot consists of; the last one counts.
#[must_use]
pub fn snapshot_head(shard: Shard) -> String {
    format!("rd.snap.{shard}.head")
}

/// All commands to be answered.
pub const REQUESTS: &str = "rd.req.>";
/// All queries.
pub const QUERIES: &str = "rd.qry.>";

/// Where workers report outcomes of a batch.
#[must_use]
pub fn outcome(shard: Shard, key: &BatchKey) -> String {
    format!("rd.out.{shard}.{}.{}", key.namespace, key.batch)
}

/// All outcomes of a shard.
#[must_use]
pub fn outcomes(shard: Shard) -> String {
    format!("rd.out.{shard}.>")
}

/// A chunk's subject.
#[must_use]
pub fn chunk(
    shard: Shard,
    handler: &HandlerName,
    class: &ResourceClass,
    key: &BatchKey,
    chunk: ChunkId,
) -> String {
    format!(
        "rd.work.{shard}.{handler}.{class}.{}.{}.{chunk}",
        key.namespace, key.batch
    )
}

/// A chunk's subject, whoever can do it.
#[must_use]
pub fn chunk_of_any_pool(shard: Shard, key: &BatchKey, chunk: ChunkId) -> String {
    format!(
        "rd.work.{shard}.*.*.{}.{}.{chunk}",
        key.namespace, key.batch
    )
}

/// All chunks of a shard.
#[must_use]
pub fn chunks(shard: Shard) -> String {
    format!("rd.work.{shard}.>")
}

/// All chunks for a handler and a resource class.
#[must_use]
pub fn chunks_for(shard: Shard, handler: &HandlerName, class: &ResourceClass) -> String {
    format!("rd.work.{shard}.{handler}.{class}.>")
}

/// All chunks of a batch.
#[must_use]
pub fn chunks_of_batch(shard: Shard, key: &BatchKey) -> String {
    format!("rd.work.{shard}.*.*.{}.{}.>", key.namespace, key.batch)
}

/// All chunks of a batch for a handler and a resource class.
#[must_use]
pub fn chunks_of_batch_for(
    shard: Shard,
    handler: &HandlerName,
    class: &ResourceClass,
    key: &BatchKey,
) -> String {
    format!(
        "rd.work.{shard}.{handler}.{class}.{}.{}.>",
        key.namespace, key.batch
    )
}

/// A worker's heartbeats.
#[must_use]
pub fn heartbeat(shard: Shard, worker: &WorkerId) -> String {
    format!("rd.hb.{shard}.{worker}")
}

/// All heartbeats of a shard.
#[must_use]
pub fn heartbeats(shard: Shard) -> String {
    format!("rd.hb.{shard}.*")
}

/// Where coordinators, projectors and gateways of a shard say that they are there.
#[must_use]
pub fn presence(shard: Shard) -> String {
    format!("rd.who.{shard}")
}

/// Signals to the workers of a shard.
#[must_use]
pub fn signals(shard: Shard) -> String {
    format!("rd.sig.{shard}")
}

/// Where a query is asked.
#[must_use]
pub fn query(namespace: &Namespace, query: &str) -> String {
    format!("rd.qry.{namespace}.{query}")
}

/// The address of a command, read from its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAddress {
    /// The tenant.
    pub namespace: Namespace,
    /// The source of documents.
    pub bucket: Bucket,
    /// The batch.
    pub batch: BatchId,
    /// What to do.
    pub verb: Verb,
}

/// A subject that is not that of a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It has another number of tokens.
    #[error(
        "a command's subject is rd.cmd.<namespace>.<bucket>.<batch>.<verb>, or rd.req.… for an answer"
    )]
    Shape,
    /// A token is not a name.
    #[error(transparent)]
    Name(#[from] crate::ids::InvalidName),
    /// The batch is not a UUID.
    #[error(transparent)]
    Id(#[from] crate::ids::InvalidId),
    /// There is no such verb.
    #[error(transparent)]
    Verb(#[from] crate::command::InvalidVerb),
}

impl CommandAddress {
    /// Reads `rd.cmd.…` or `rd.req.…`.
    ///
    /// # Errors
    /// Which token is wrong.
    pub fn parse(subject: &str) -> Result<Self, InvalidAddress> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let ["rd", "cmd" | "req", namespace, bucket, batch, verb] = tokens[..] else {
            return Err(InvalidAddress::Shape);
        };
        Ok(Self {
            namespace: namespace.parse()?,
            bucket: bucket.parse()?,
            batch: match batch {
                ANY => NO_BATCH,
                batch => batch.parse()?,
            },
            verb: verb.parse()?,
        })
    }
}
