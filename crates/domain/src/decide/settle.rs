use super::{credits, retry::after_sample};
use crate::{event::Event, pipeline::TierNum, state::BatchState, status::BatchStatus};

/// What follows from a state by itself takes at most so many events: three a tier, one for the batch, and for the credits
/// that it holds a few a month.
pub const STEPS: usize = 1_024;

/// The next thing that follows from the state by itself, if anything does. Append it, fold it, and ask again until
/// there is nothing; that takes at most [`STEPS`].
#[must_use]
pub fn settle(batch: &BatchState) -> Option<Event> {
    if batch.status != BatchStatus::Running {
        return credits::close(batch);
    }
    if let Some(event) = after_sample(batch) {
        return Some(event);
    }
    let mut settled = batch.submitted;
    for (num, tier) in (0..).zip(&batch.tiers) {
        if tier.status == BatchStatus::Pending && tier.is_open() {
            return Some(Event::TierStarted { tier: num });
        }
        settled = settled && !tier.is_open();
        if settled && is_unfinished(batch, num) {
            let (done, failed) = (tier.done(), tier.failed());
            return Some(Event::TierCompleted {
                tier: num,
                status: BatchStatus::of(done.len(), failed.len()),
                completed: batch.documents_through(num, done).len(),
                failed: batch.documents_of(&failed).len(),
            });
        }
    }
    // After what is over anyway: a batch that ends with too many failures has failed, however that came about.
    if let (Some(failed), Some(max_failed)) = (batch.too_many_failed(), batch.pipeline.max_failed) {
        return Some(Event::BatchAborted {
            failed,
            max_failed,
            open: batch.counts().open,
        });
    }
    settled.then(|| {
        let counts = batch.counts();
        Event::BatchCompleted {
            status: counts.ending(),
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
        }
    })
}

fn is_unfinished(batch: &BatchState, num: TierNum) -> bool {
    batch
        .tiers
        .get(usize::from(num))
        .is_some_and(|tier| !tier.entered.is_empty() && !tier.status.is_over())
}
