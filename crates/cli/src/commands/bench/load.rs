//! What the system is given to do, and when it has done it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use redrive_broker::{Broker, Entry, Range, nats::NatsBroker};
use redrive_client::{Client, Upload};
use redrive_domain::{
    command::{Command, Create, Retry, RetryMode, Start},
    document::Document,
    event::{Envelope, Event},
    ids::{BatchId, Bucket},
    subject,
};
use serde_json::{Value, json};

use super::{
    args::{Shape, Share},
    role::{FAILING, HANDLER},
};
use crate::identity;

/// Batches that are handed over at a time.
const AT_ONCE: usize = 32;
/// How long nothing may be over.
const SILENCE: Duration = Duration::from_secs(300);

/// Gives work and sees it done.
pub(super) struct Load {
    client: Client<NatsBroker>,
    bucket: Bucket,
    over: BoxStream<'static, redrive_broker::Result<Entry>>,
}

/// How a batch ended.
struct Over {
    batch: BatchId,
    completed: u64,
    failed: u64,
    seen: Instant,
}

/// What the phases took.
pub(super) struct Phases {
    /// Until all batches had been submitted.
    pub(super) handed_over: Duration,
    /// Until they were over; the work begins while others are handed over.
    pub(super) over: Duration,
    /// Until what failed had been retried and was over as well.
    pub(super) retried: Duration,
}

impl Load {
    /// Listens to what ends from now on.
    pub(super) async fn begin(client: Client<NatsBroker>) -> anyhow::Result<Self> {
        let last = client.broker().last_seq().await?;
        let filter = subject::events_of_type(0, client.namespace(), "batch.completed");
        let over = client.broker().read(Range {
            from: last + 1,
            until: None,
            filter: Some(filter),
        });
        Ok(Self {
            client,
            bucket: Bucket::new("bench")?,
            over,
        })
    }

    /// Hands all documents over, waits until they are through, and retries what failed.
    pub(super) async fn carry_out(&mut self, shape: &Shape) -> anyhow::Result<Phases> {
        let pipeline = pipeline(shape.tiers, shape.jobs, shape.failing);
        let text = text_of(shape.size);
        let began = Instant::now();
        let batches: Vec<(BatchId, u32)> = (0..shape.batches)
            .map(|number| (identity::batch(), shape.documents_of(number)))
            .collect();
        let (client, bucket) = (&self.client, &self.bucket);
        let handing = stream::iter(&batches)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |(batch, documents)| {
                hand_over(client, bucket, *batch, *documents, &pipeline, &text)
            });
        let ending = wait(&mut self.over, batches.len());
        let (handed_over, ended) = tokio::try_join!(
            async {
                handing.await?;
                Ok(began.elapsed())
            },
            ending
        )?;
        let over = last_of(&ended).map_or(handed_over, |seen| seen - began);
        let failed: u64 = ended.values().map(|it| it.failed).sum();
        if failed != shape.failing() {
            bail!("{failed} documents failed instead of {}", shape.failing());
        }
        let retried = self.retry(ended).await?;
        Ok(Phases {
            handed_over,
            over,
            retried: retried.map_or(over, |seen| seen - began),
        })
    }

    /// Retries what failed; when that was over, if anything was to be done.
    async fn retry(&mut self, ended: BTreeMap<BatchId, Over>) -> anyhow::Result<Option<Instant>> {
        let failed: Vec<Over> = ended.into_values().filter(|it| it.failed > 0).collect();
        let (client, bucket) = (&self.client, &self.bucket);
        let command = Command::Retry(Retry {
            retry_mode: RetryMode::TransientOnly,
            ..Retry::default()
        });
        let giving = stream::iter(&failed)
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(AT_ONCE, |over| async {
                client
                    .command(bucket, over.batch, identity::command(), &command)
                    .await?;
                Ok(())
            });
        let ((), ended) = tokio::try_join!(giving, wait(&mut self.over, failed.len()))?;
        for before in &failed {
            let all = before.completed + before.failed;
            match ended.get(&before.batch) {
                Some(after) if after.completed == all => {}
                _ => bail!("the retry of batch {} left documents behind", before.batch),
            }
        }
        Ok(last_of(&ended))
    }

    /// How long a batch of one document takes, from its submission until it is seen to be over.
    pub(super) async fn one(&mut self) -> anyhow::Result<Duration> {
        let pipeline = pipeline(1, 1, Share::new(0));
        let batch = identity::batch();
        create(&self.client, &self.bucket, batch, &pipeline).await?;
        let mut upload = Upload::new(&self.client, self.bucket.clone(), batch, identity::command);
        upload.add(Document::new("document".to_owned())).await?;
        upload.flush().await?;
        let began = Instant::now();
        upload.finish().await?;
        let ended = wait(&mut self.over, 1).await?;
        Ok(last_of(&ended).map_or_else(|| began.elapsed(), |seen| seen - began))
    }
}

fn last_of(ended: &BTreeMap<BatchId, Over>) -> Option<Instant> {
    ended.values().map(|it| it.seen).max()
}

async fn wait(
    over: &mut BoxStream<'static, redrive_broker::Result<Entry>>,
    batches: usize,
) -> anyhow::Result<BTreeMap<BatchId, Over>> {
    let mut ended = BTreeMap::new();
    while ended.len() < batches {
        let next = tokio::time::timeout(SILENCE, over.next()).await;
        let entry = next
            .with_context(|| format!("no batch ended within {SILENCE:?}"))?
            .context("the log ended")??;
        let envelope = Envelope::decode(&entry.payload)?;
        if let Event::BatchCompleted {
            completed, failed, ..
        } = envelope.event
        {
            let over = Over {
                batch: envelope.batch,
                completed,
                failed,
                seen: Instant::now(),
            };
            ended.insert(envelope.batch, over);
        }
    }
    Ok(ended)
}

async fn create(
    client: &Client<NatsBroker>,
    bucket: &Bucket,
    batch: BatchId,
    pipeline: &Value,
) -> anyhow::Result<()> {
    let create = Command::Create(Create {
        pipeline: pipeline.clone(),
        start: Start::OnSubmit,
    });
    client
        .command(bucket, batch, identity::command(), &create)
        .await?;
    Ok(())
}

async fn hand_over(
    client: &Client<NatsBroker>,
    bucket: &Bucket,
    batch: BatchId,
    documents: u32,
    pipeline: &Value,
    text: &Option<Value>,
) -> anyhow::Result<()> {
    create(client, bucket, batch, pipeline).await?;
    let mut upload = Upload::new(client, bucket.clone(), batch, identity::command);
    for number in 0..documents {
        let document = Document {
            data: text.clone(),
            ..Document::new(format!("document-{number}"))
        };
        upload.add(document).await?;
    }
    upload.finish().await?;
    Ok(())
}

fn text_of(size: u64) -> Option<Value> {
    let size = usize::try_from(size).unwrap_or(0);
    (size > 0).then(|| Value::String("x".repeat(size)))
}

/// The first job of the first tier is the one that fails.
fn pipeline(tiers: u32, jobs: u32, failing: Share) -> Value {
    let job = |tier: u32, job: u32| {
        let failing = if tier + job == 0 {
            failing.per_million()
        } else {
            0
        };
        json!({
            "name": format!("job-{job}"),
            "handler": HANDLER,
            "max_attempts": 1,
            "params": { FAILING: failing },
        })
    };
    let tier = |tier: u32| {
        let jobs: Vec<Value> = (0..jobs).map(|it| job(tier, it)).collect();
        json!({ "name": format!("tier-{tier}"), "jobs": jobs })
    };
    json!({ "name": "bench", "tiers": (0..tiers).map(tier).collect::<Vec<_>>() })
}
