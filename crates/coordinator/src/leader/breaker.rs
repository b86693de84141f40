//! Noticing that the other side of a job is away.

use redrive_broker::Broker;
use redrive_domain::{
    decide, event::Event, pause::JobRef, status::BatchStatus, subject, time::Timestamp,
    work::Outcome,
};

use super::Leader;
use crate::{
    metrics,
    round::{Origin, Round},
};

impl<B: Broker> Leader<'_, B> {
    /// Opens the breaker of a job, where this report is the one too many. It comes before what the report leads to.
    pub(super) fn watch_outages(
        &mut self,
        outcome: &Outcome,
        origin: &Origin,
        now: Timestamp,
        round: &mut Round,
    ) {
        let key = outcome.key();
        let tally = self
            .batches
            .get(&key)
            .and_then(|batch| decide::tally(batch, outcome));
        let Some(tally) = tally else {
            return;
        };
        let Some((job, seen)) = self.dispatch.noted(outcome, &tally, now) else {
            return;
        };
        tracing::warn!(batch = %key, tier = job.tier, job = %job.job, failed = seen.0, of = seen.1, "an outage: the job is held up");
        ::metrics::counter!(metrics::BREAKERS).increment(1);
        if let Some(event) = decide::open(outcome, &tally, seen, now) {
            self.emit(round, &key, origin, event);
            self.opened.push(job);
        }
    }

    /// Tells the log how much of a job is out at once, where that has changed much.
    pub(super) fn tell_limits(&mut self, now: Timestamp, round: &mut Round) {
        for (key, concurrency, kind) in self.dispatch.limits_to_tell(now) {
            let job = self
                .batches
                .get(&key.batch)
                .filter(|batch| batch.status == BatchStatus::Running)
                .and_then(|batch| batch.job(key.tier, &key.job));
            if job.is_none_or(|(_, job)| job.concurrency == concurrency || job.open.is_empty()) {
                continue;
            }
            let event = Event::DispatchLimited {
                job: JobRef {
                    tier: key.tier,
                    job: key.job,
                },
                concurrency,
                kind,
            };
            self.emit(round, &key.batch, &Origin::state(), event);
        }
    }

    /// What no worker has begun need not fail as well.
    pub(super) async fn take_back_from_opened(&mut self, now: Timestamp) {
        for job in std::mem::take(&mut self.opened) {
            let Some(pool) = self.dispatch.doubt(&job, now) else {
                continue;
            };
            let filter =
                subject::chunks_of_batch_for(self.shard, &pool.handler, &pool.class, &job.batch);
            if let Err(error) = self.broker.withdraw(&filter).await {
                tracing::debug!(%error, batch = %job.batch, "cannot take chunks back; what comes of them burns no attempt");
            }
        }
    }
}
