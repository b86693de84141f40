//! The streams of a shard: what they are called, how they are made, and requests about them.

use redrive_domain::{
    ids::{HandlerName, ResourceClass},
    subject::{self, Shard},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use async_nats::jetstream::{self, response::Response};

use super::{Inner, error};
use crate::{BrokerError, Entry, Result, StreamRole};

/// How long to wait before a stream that was deleted is created again. A server (2.9) forgets the stream first, and removes its
/// files then: one that is created between the two loses its own, and takes nothing any more.
pub(super) const REMOVAL: std::time::Duration = std::time::Duration::from_millis(300);

/// How long a delivery may stay without an answer.
pub(super) const ACK_WAIT_SECONDS: u64 = 30;

/// What streams are called.
pub(super) struct Names {
    pub(super) events: String,
    pub(super) inbox: String,
    pub(super) work: String,
    pub(super) lease_bucket: String,
    pub(super) snapshots: String,
}

impl Names {
    pub(super) fn of(shard: Shard) -> Self {
        Self {
            events: format!("RD_EVENTS_{shard}"),
            inbox: format!("RD_INBOX_{shard}"),
            work: format!("RD_WORK_{shard}"),
            lease_bucket: format!("RD_LEASES_{shard}"),
            snapshots: format!("RD_SNAPSHOTS_{shard}"),
        }
    }

    pub(super) fn leases(&self) -> String {
        format!("KV_{}", self.lease_bucket)
    }

    pub(super) fn lease(&self, name: &str) -> String {
        format!("$KV.{}.{name}", self.lease_bucket)
    }
}

/// The consumer of a handler and a class. No name holds a `+`, so that no two pairs share one.
pub(super) fn work_consumer(handler: &HandlerName, class: &ResourceClass) -> String {
    format!("{handler}+{class}")
}

/// Whose consumer it is, by its name.
pub(super) fn pool_of(consumer: &str) -> Option<(HandlerName, ResourceClass)> {
    let (handler, class) = consumer.split_once('+')?;
    Some((handler.parse().ok()?, class.parse().ok()?))
}

pub(super) const fn seconds(seconds: u64) -> u64 {
    seconds * 1_000_000_000
}

/// A stream as it should be.
pub(super) struct Wanted {
    pub(super) role: StreamRole,
    pub(super) name: String,
    /// Its settings, as the JetStream API has them; without the number of copies, which is the operator's.
    pub(super) config: Value,
}

impl Wanted {
    /// No stream has a limit that nobody asked for.
    fn with_usual(mut self) -> Self {
        if let Some(config) = self.config.as_object_mut() {
            for unlimited in ["max_consumers", "max_msgs", "max_bytes"] {
                config.entry(unlimited).or_insert(json!(-1));
            }
        }
        self
    }
}

/// The part of a stream's info that is used here; the rest differs from version to version.
#[derive(Deserialize)]
pub(super) struct StreamInfo {
    config: StreamConfig,
    state: StreamState,
    #[serde(default)]
    total: u64,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    max_age: u64,
    num_replicas: usize,
}

#[derive(Deserialize)]
struct StreamState {
    last_seq: u64,
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

/// The part of a consumer's info that is used here.
#[derive(Deserialize)]
pub(super) struct ConsumerInfo {
    #[serde(default)]
    pub(super) num_pending: u64,
}

#[derive(Deserialize)]
struct ConsumerNames {
    #[serde(default)]
    consumers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawAnswer {
    message: jetstream::stream::RawMessage,
}

/// A message as the stream's leader has it.
pub(super) struct Stored {
    pub(super) entry: Entry,
    pub(super) operation: Option<String>,
}

impl Inner {
    /// Asks the JetStream API.
    pub(super) async fn api<T, V>(
        &self,
        what: &str,
        subject: &str,
        payload: &T,
    ) -> Result<Result<V, jetstream::Error>>
    where
        T: Serialize + Sync + ?Sized,
        V: DeserializeOwned,
    {
        let mut guard = self.connection.denials.guard();
        let request = self.context.request(subject.to_owned(), payload);
        match guard.race(&format!("$JS.API.{subject}"), request).await? {
            Ok(Response::Ok(value)) => Ok(Ok(value)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => {
                let error = error::api_request(what, self.wait, &self.connection.url, &error);
                match error {
                    BrokerError::Timeout(_) if !self.is_connected() => {
                        Err(BrokerError::Unreachable(self.connection.url.clone()))
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Asks the JetStream API; whatever it refuses is an error.
    pub(super) async fn demand<T, V>(&self, what: &str, subject: &str, payload: &T) -> Result<V>
    where
        T: Serialize + Sync + ?Sized,
        V: DeserializeOwned,
    {
        self.api(what, subject, payload)
            .await?
            .map_err(|error| error::api(what, &error))
    }

    /// The streams of the shard, as they should be. Settings that are left out are the broker's to choose.
    pub(super) fn wanted(&self) -> [Wanted; 5] {
        let shard = self.options.shard;
        let names = &self.names;
        // A full log must refuse what is new: dropping what is old would lose the truth.
        let max_bytes = self
            .options
            .max_log_bytes
            .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let age = self.lease_age();
        [
            Wanted {
                role: StreamRole::Log,
                name: names.events.clone(),
                config: json!({
                    "subjects": [subject::events(shard)],
                    "retention": "limits",
                    "storage": "file",
                    "discard": "new",
                    "max_bytes": max_bytes,
                    "max_age": 0,
                    "deny_delete": true,
                    "deny_purge": true,
                    "allow_direct": true,
                    "duplicate_window": seconds(1),
                }),
            },
            Wanted {
                role: StreamRole::Inbox,
                name: names.inbox.clone(),
                config: json!({
                    "subjects": [subject::COMMANDS, subject::outcomes(shard)],
                    "retention": "workqueue",
                    "storage": "file",
                    "max_age": 0,
                    "duplicate_window": seconds(120),
                }),
            },
            Wanted {
                role: StreamRole::Work,
                name: names.work.clone(),
                config: json!({
                    "subjects": [subject::chunks(shard)],
                    "retention": "workqueue",
                    "storage": "file",
                    "max_age": 0,
                    "duplicate_window": seconds(120),
                }),
            },
            Wanted {
                role: StreamRole::Snapshots,
                name: names.snapshots.clone(),
                config: json!({
                    "description": "what a leader has folded: a cache",
                    "subjects": [subject::snapshots(shard)],
                    "retention": "limits",
                    "storage": "file",
                    "discard": "old",
                    "max_age": 0,
                    "duplicate_window": seconds(1),
                }),
            },
            Wanted {
                role: StreamRole::Leases,
                name: names.leases(),
                config: json!({
                    "description": "who tries to be what",
                    "subjects": [format!("$KV.{}.>", names.lease_bucket)],
                    "retention": "limits",
                    // A lease does not outlive the broker's restart, which takes longer than it lasts.
                    "storage": "memory",
                    "discard": "new",
                    "max_msgs_per_subject": 1,
                    "max_age": age,
                    "duplicate_window": age.min(seconds(120)),
                    "deny_delete": true,
                    "allow_rollup_hdrs": true,
                    "allow_direct": true,
                }),
            },
        ]
        .map(Wanted::with_usual)
    }

    /// How long a lease lasts, in nanoseconds. The broker refuses less than 100 ms.
    fn lease_age(&self) -> u64 {
        let age = self.options.lease_ttl.as_nanos().max(100_000_000);
        u64::try_from(age).unwrap_or(u64::MAX)
    }

    pub(super) async fn ensure(&self) -> Result<()> {
        let [events, inbox, work, snapshots, leases] = self.wanted();
        let is_new = self.find_stream(&events.name).await?.is_none();
        if is_new {
            self.create_stream(events).await?;
        }
        for wanted in [inbox, work, snapshots] {
            if self.find_stream(&wanted.name).await?.is_some() {
                continue;
            }
            if !is_new {
                // It has been deleted, perhaps just now.
                tokio::time::sleep(REMOVAL).await;
            }
            self.create_stream(wanted).await?;
        }
        self.ensure_lease_bucket(leases).await
    }

    pub(super) async fn ensure_leases(&self) -> Result<()> {
        let [.., leases] = self.wanted();
        self.ensure_lease_bucket(leases).await
    }

    pub(super) async fn remake_work(&self) -> Result<()> {
        let [_, _, work, ..] = self.wanted();
        self.remake(work).await
    }

    /// Deletes a stream and creates it again.
    pub(super) async fn remake(&self, wanted: Wanted) -> Result<()> {
        let name = wanted.name.clone();
        tracing::warn!(stream = name, "made anew");
        let delete = format!("STREAM.DELETE.{name}");
        match self.api::<_, Value>(&name, &delete, &json!({})).await? {
            Ok(_) => {}
            Err(error) => match error::api(&name, &error) {
                BrokerError::Missing(_) => {}
                error => return Err(error),
            },
        }
        tokio::time::sleep(REMOVAL).await;
        self.create_stream(wanted).await?;
        Ok(())
    }

    async fn ensure_lease_bucket(&self, leases: Wanted) -> Result<()> {
        let age = self.lease_age();
        let found = match self.find_stream(&leases.name).await? {
            Some(found) => found,
            // It is in the broker's memory, without files.
            None => self.create_stream(leases).await?,
        };
        if found.config.max_age != age {
            tracing::warn!(
                bucket = self.names.lease_bucket,
                found = found.config.max_age,
                asked = age,
                "the leases' time-to-live is another one than asked for"
            );
        }
        Ok(())
    }

    pub(super) async fn find_stream(&self, name: &str) -> Result<Option<StreamInfo>> {
        match self.api(name, &format!("STREAM.INFO.{name}"), &()).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) => match error::api(name, &error) {
                BrokerError::Missing(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Creates a stream, unless somebody else has been faster.
    pub(super) async fn create_stream(&self, wanted: Wanted) -> Result<StreamInfo> {
        let Wanted {
            name, mut config, ..
        } = wanted;
        let name = name.as_str();
        if let Some(config) = config.as_object_mut() {
            config.insert("name".to_owned(), json!(name));
            config.insert("num_replicas".to_owned(), json!(self.options.replicas));
        }
        match self
            .api(name, &format!("STREAM.CREATE.{name}"), &config)
            .await?
        {
            Ok(info) => {
                tracing::info!(stream = name, "created");
                Ok(info)
            }
            // Perhaps with other settings.
            Err(error) if error.error_code() == jetstream::ErrorCode::STREAM_NAME_EXIST => {
                let info = format!("STREAM.INFO.{name}");
                self.demand(name, &info, &()).await
            }
            Err(error) => Err(error::api(name, &error)),
        }
    }

    pub(super) async fn stream_last_seq(&self, stream: &str) -> Result<u64> {
        let info: StreamInfo = self
            .demand(stream, &format!("STREAM.INFO.{stream}"), &())
            .await?;
        Ok(info.state.last_seq)
    }

    /// How many copies of a stream there are.
    pub(super) async fn stream_replicas(&self, stream: &str) -> Result<usize> {
        let info: StreamInfo = self
            .demand(stream, &format!("STREAM.INFO.{stream}"), &())
            .await?;
        Ok(info.config.num_replicas)
    }

    /// The subjects of all messages of a stream, in pages.
    pub(super) async fn stream_subjects(&self, stream: &str) -> Result<Vec<String>> {
        let mut subjects = std::collections::BTreeSet::new();
        let mut offset = 0;
        loop {
            let info: StreamInfo = self
                .demand(
                    stream,
                    &format!("STREAM.INFO.{stream}"),
                    &json!({ "subjects_filter": ">", "offset": offset }),
                )
                .await?;
            let page = info.state.subjects.len() as u64;
            subjects.extend(info.state.subjects.into_keys());
            offset += page;
            if page == 0 || offset >= info.total {
                return Ok(subjects.into_iter().collect());
            }
        }
    }

    /// Removes all messages of a stream that match a filter.
    pub(super) async fn purge(&self, stream: &str, filter: &str) -> Result<()> {
        let _: Value = self
            .demand(
                stream,
                &format!("STREAM.PURGE.{stream}"),
                &json!({ "filter": filter }),
            )
            .await?;
        Ok(())
    }

    /// Asks the leader of a stream for one message.
    pub(super) async fn stored(&self, stream: &str, which: &Value) -> Result<Option<Stored>> {
        let subject = format!("STREAM.MSG.GET.{stream}");
        let answer: RawAnswer = match self.api(stream, &subject, which).await? {
            Ok(answer) => answer,
            Err(error) if error.error_code() == jetstream::ErrorCode::NO_MESSAGE_FOUND => {
                return Ok(None);
            }
            Err(error) => return Err(error::api(stream, &error)),
        };
        let message = jetstream::message::StreamMessage::try_from(answer.message)
            .map_err(|error| BrokerError::Other(format!("{stream}: {error}")))?;
        Ok(Some(Stored {
            operation: message
                .headers
                .get("KV-Operation")
                .map(|value| value.as_str().to_owned()),
            entry: Entry {
                seq: message.sequence,
                subject: message.subject.to_string(),
                payload: message.payload,
            },
        }))
    }

    /// Creates a consumer, or finds it as it is asked for. `config` names it.
    pub(super) async fn create_consumer(
        &self,
        stream: &str,
        name: &str,
        config: Value,
    ) -> Result<Result<ConsumerInfo, jetstream::Error>> {
        let filter = config.get("filter_subject").and_then(Value::as_str);
        let subject = match filter {
            Some(filter) => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
            None => format!("CONSUMER.CREATE.{stream}.{name}"),
        };
        self.api(
            stream,
            &subject,
            &json!({ "stream_name": stream, "config": config }),
        )
        .await
    }

    pub(super) async fn consumer_names(&self, stream: &str) -> Result<Vec<String>> {
        let names: ConsumerNames = self
            .demand(stream, &format!("CONSUMER.NAMES.{stream}"), &json!({}))
            .await?;
        Ok(names.consumers.unwrap_or_default())
    }

    pub(super) async fn consumer_info(&self, stream: &str, name: &str) -> Result<ConsumerInfo> {
        self.demand(
            &format!("{stream}/{name}"),
            &format!("CONSUMER.INFO.{stream}.{name}"),
            &json!({}),
        )
        .await
    }

    /// Deletes a consumer; one that is not there is no error.
    pub(super) async fn delete_consumer(&self, stream: &str, name: &str) -> Result<()> {
        let subject = format!("CONSUMER.DELETE.{stream}.{name}");
        match self.api::<_, Value>(stream, &subject, &json!({})).await? {
            Ok(_) => Ok(()),
            Err(error) => match error::api(name, &error) {
                BrokerError::Missing(_)
                    if error.error_code() != jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(())
                }
                _ => Err(error::api(stream, &error)),
            },
        }
    }
}
