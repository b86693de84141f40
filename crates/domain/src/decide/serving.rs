//! Jobs that have work and nobody to do it.

use crate::{
    event::Event,
    pause::JobRef,
    pipeline::JobSpec,
    state::BatchState,
    status::BatchStatus,
    time::{Millis, Timestamp},
};

/// How long a job may have work that no live worker serves before the log says so: workers that start together with the
/// work are there by then.
pub const ORPHANED_AFTER: Millis = Millis::seconds(10);

/// What changes about who is served: `serves` tells whether a live worker does such a job, `waits_since` since when a job
/// has had work that none does.
#[must_use]
pub fn serving(
    batch: &BatchState,
    now: Timestamp,
    serves: impl Fn(&JobSpec) -> bool,
    waits_since: impl Fn(&JobRef) -> Option<Timestamp>,
) -> Vec<Event> {
    if batch.status != BatchStatus::Running {
        return Vec::new();
    }
    let (mut orphaned, mut served) = (Vec::new(), Vec::new());
    let mut first = now;
    for (tier, spec, job) in batch.jobs() {
        let at = || JobRef {
            tier,
            job: spec.name.clone(),
        };
        match job.orphaned {
            Some(_) if serves(spec) => served.push(at()),
            None if !job.open.is_empty() && !serves(spec) => {
                let at = at();
                if let Some(since) = waits_since(&at)
                    && now.since(since) >= ORPHANED_AFTER
                {
                    first = first.min(since);
                    orphaned.push(at);
                }
            }
            _ => {}
        }
    }
    let orphaned = (!orphaned.is_empty()).then_some(Event::DispatchOrphaned {
        jobs: orphaned,
        since: first,
    });
    let served = (!served.is_empty()).then_some(Event::DispatchServed { jobs: served });
    served.into_iter().chain(orphaned).collect()
}
