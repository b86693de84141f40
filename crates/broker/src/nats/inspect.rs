//! Looking at the broker, and putting right what can be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redrive_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Inner, deliver, error,
    setup::{Wanted, pool_of},
};
use crate::{
    BrokerError, ConsumerReport, Difference, Inspection, Message, Quota, Result, ServerClock,
    StreamReport, StreamState, Taker, Usage,
};

/// Tells the server's time to any account.
const CLOCK: &str = "$SYS.REQ.ACCOUNT.PING.STATZ";
/// How long to wait for that.
const CLOCK_WAIT: Duration = Duration::from_secs(2);
/// Consumers of a stream that are looked at, at most.
const CONSUMERS: usize = 200;
/// A copy that is so many operations behind is called poor.
const LAG: u64 = 10_000;

#[derive(Deserialize)]
struct AccountInfo {
    #[serde(default)]
    memory: u64,
    #[serde(default)]
    storage: u64,
    #[serde(default)]
    streams: u64,
    #[serde(default)]
    consumers: u64,
    #[serde(default)]
    limits: AccountLimits,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccountLimits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: Map<String, Value>,
    state: State,
    #[serde(default)]
    cluster: Cluster,
    /// The server's time; not before 2.10.
    ts: Option<String>,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
    last_seq: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    replicas: Option<Vec<Peer>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Peer {
    name: String,
    offline: bool,
    lag: u64,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    config: Map<String, Value>,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
}

#[derive(Deserialize)]
struct AboutAccount {
    server: AboutServer,
}

#[derive(Deserialize)]
struct AboutServer {
    time: String,
}

/// A moment of asking: the time here, and a clock that only goes on.
struct Asked {
    at: SystemTime,
    since: Instant,
}

impl Asked {
    fn now() -> Self {
        Self {
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// What an answer that has come just now says of the server's clock.
    fn told(&self, time: &str) -> Option<ServerClock> {
        let theirs: Timestamp = time.parse().ok()?;
        let half = self.since.elapsed() / 2;
        let ours = (self.at + half).duration_since(UNIX_EPOCH).ok()?;
        Some(ServerClock {
            ahead_ms: theirs.0 - i64::try_from(ours.as_millis()).ok()?,
            // Neither clock is read to less than a millisecond.
            within_ms: u64::try_from(half.as_millis()).ok()? + 1,
        })
    }
}

impl Inner {
    pub(super) async fn inspect(&self) -> Result<Inspection> {
        let account: AccountInfo = self.demand("the account", "INFO", &()).await?;
        let mut clock = self.server_clock().await;
        let mut streams = Vec::new();
        for wanted in self.wanted() {
            let asked = Asked::now();
            let found = self.look_at(&wanted).await?;
            let time = found.as_ref().and_then(|info| info.ts.as_deref());
            clock = clock.or_else(|| asked.told(time?));
            streams.push(StreamReport {
                role: wanted.role,
                found: found.map(|info| info.report(&wanted)),
                name: wanted.name,
            });
        }
        let mut consumers = self.takers(&self.names.inbox).await?;
        consumers.append(&mut self.takers(&self.names.work).await?);
        Ok(Inspection {
            clock,
            usage: account.usage(),
            streams,
            consumers,
        })
    }

    pub(super) async fn repair(&self) -> Result<()> {
        self.ensure().await?;
        for wanted in self.wanted() {
            let Some(mut info) = self.look_at(&wanted).await? else {
                return Err(BrokerError::Missing(wanted.name));
            };
            if differences(&wanted.config, &info.config).is_empty() {
                continue;
            }
            if let Value::Object(right) = wanted.config {
                info.config.extend(right);
            }
            let name = wanted.name;
            let subject = format!("STREAM.UPDATE.{name}");
            let _: Value = self.demand(&name, &subject, &info.config).await?;
            tracing::info!(stream = name, "settings put right");
        }
        Ok(())
    }

    /// `None` where there is no such stream.
    async fn look_at(&self, wanted: &Wanted) -> Result<Option<StreamInfo>> {
        let name = &wanted.name;
        match self.api(name, &format!("STREAM.INFO.{name}"), &()).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) => match error::api(name, &error) {
                BrokerError::Missing(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// `None` where the server does not tell, or this account may not ask.
    async fn server_clock(&self) -> Option<ServerClock> {
        let message = Message {
            subject: CLOCK.to_owned(),
            payload: bytes::Bytes::new(),
            trace: None,
        };
        let asked = Asked::now();
        let answer = self.request(message, CLOCK_WAIT).await.ok()?;
        let about: AboutAccount = serde_json::from_slice(&answer).ok()?;
        asked.told(&about.server.time)
    }

    async fn takers(&self, stream: &str) -> Result<Vec<ConsumerReport>> {
        let names = match self.consumer_names(stream).await {
            Err(BrokerError::Missing(_)) => return Ok(Vec::new()),
            names => names?,
        };
        let mut reports = Vec::new();
        for name in names.into_iter().take(CONSUMERS) {
            let (of, wanted) = if stream == self.names.inbox {
                (Taker::Leader, deliver::inbox_config(&name))
            } else if let Some((handler, class)) = pool_of(&name) {
                let wanted = deliver::work_config(self.options.shard, &handler, &class);
                (Taker::Pool(handler, class), wanted)
            } else {
                // Somebody else's; that it is there disturbs nobody.
                continue;
            };
            let subject = format!("CONSUMER.INFO.{stream}.{name}");
            let info: ConsumerInfo = match self.demand(&name, &subject, &json!({})).await {
                // It went while this looked.
                Err(BrokerError::Missing(_)) => continue,
                info => info?,
            };
            reports.push(ConsumerReport {
                of,
                pending: info.num_pending,
                unacknowledged: info.num_ack_pending,
                differences: differences(&wanted, &info.config),
            });
        }
        Ok(reports)
    }
}

impl AccountInfo {
    fn usage(&self) -> Usage {
        let quota = |used, limit: i64| Quota {
            used,
            limit: u64::try_from(limit).ok(),
        };
        Usage {
            storage: quota(self.storage, self.limits.max_storage),
            memory: quota(self.memory, self.limits.max_memory),
            streams: quota(self.streams, self.limits.max_streams),
            consumers: quota(self.consumers, self.limits.max_consumers),
        }
    }
}

impl StreamInfo {
    fn report(self, wanted: &Wanted) -> StreamState {
        let number = |key| self.config.get(key).and_then(Value::as_u64);
        let replicas = number("num_replicas").and_then(|count| usize::try_from(count).ok());
        let peers = self.cluster.replicas.unwrap_or_default();
        StreamState {
            messages: self.state.messages,
            bytes: self.state.bytes,
            max_bytes: number("max_bytes"),
            last_seq: self.state.last_seq,
            replicas: replicas.unwrap_or(1),
            poor_replicas: peers
                .into_iter()
                .filter(|peer| peer.offline || peer.lag > LAG)
                .map(|peer| peer.name)
                .collect(),
            differences: differences(&wanted.config, &self.config),
        }
    }
}

/// What of the wanted settings is otherwise. What the broker leaves out is nothing, no, or zero.
fn differences(wanted: &Value, found: &Map<String, Value>) -> Vec<Difference> {
    let is_nothing =
        |value: &Value| *value == Value::Null || *value == json!(false) || *value == json!(0);
    wanted
        .as_object()
        .into_iter()
        .flatten()
        // A text for people.
        .filter(|(setting, _)| *setting != "description")
        .filter_map(|(setting, wanted)| {
            let found = found.get(setting).unwrap_or(&Value::Null);
            let same = wanted == found || (is_nothing(wanted) && is_nothing(found));
            (!same).then(|| Difference {
                setting: setting.clone(),
                wanted: wanted.to_string(),
                found: found.to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_nothing() {
        let found = json!({ "max_msgs": 5, "name": "x", "deny_purge": false });
        let wanted = json!({ "max_age": 0, "deny_purge": true, "max_msgs": -1, "sealed": false });
        let found = differences(&wanted, found.as_object().unwrap());
        let names: Vec<(&str, &str)> = found
            .iter()
            .map(|one| (one.setting.as_str(), one.found.as_str()))
            .collect();
        assert_eq!(names, [("deny_purge", "false"), ("max_msgs", "5")]);
    }

    #[test]
    fn the_clock_is_compared_in_the_middle_of_the_answer() {
        let asked = Asked {
            at: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            since: Instant::now(),
        };
        let clock = asked.told("2001-09-09T01:46:45.000Z").unwrap();
        let off = clock.ahead_ms - 5_000;
        assert!(off.unsigned_abs() <= clock.within_ms, "{clock:?}");
        assert_eq!(asked.told("noon"), None);
    }
}
