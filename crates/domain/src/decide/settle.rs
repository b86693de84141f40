use crate::{event::Event, pipeline::TierNum, state::BatchState, status::BatchStatus};

/// The next thing that follows from the state by itself, if anything does. Append it, fold it, and ask again until
/// there is nothing; that takes at most three steps a tier.
#[must_use]
pub fn settle(batch: &BatchState) -> Option<Event> {
    if batch.status != BatchStatus::Running {
        return None;
    }
    let mut settled = batch.submitted;
    for (num, tier) in (0..).zip(&batch.tiers) {
        if tier.status == BatchStatus::Pending && tier.is_open() {
            return Some(Event::TierStarted { tier: num });
        }
        settled = settled && !tier.is_open();
        if settled && is_unfinished(batch, num) {
            let (completed, failed) = (tier.done().len(), tier.failed().len());
            return Some(Event::TierCompleted {
                tier: num,
                status: BatchStatus::of(completed, failed),
                completed,
                failed,
            });
        }
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
