//! Which units of a job go out together.
//!
//! A unit that was lost with its worker, or ran out of memory, is a suspect, and so are all that were lost beside it, of which
//! nearly all are innocent. So that these are not set aside with it, suspects go out apart from the others: those with
//! one strike in small chunks, those with two alone and one at a time a job. What takes a worker down then has nothing
//! beside it that could be blamed. Whoever has no strike goes first.

use redrive_domain::{
    limits::SUSPECTS_PER_CHUNK, state::JobState, time::Timestamp, units::UnitSet,
};

use crate::scheduler::CHUNK_UNITS;

/// Units that can be handed out now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    /// How many there are in all.
    pub(super) count: u64,
    /// Those that are next: all of them have as many strikes.
    pub(super) next: UnitSet,
    /// So many.
    pub(super) strikes: u32,
    /// The most of them that go out together.
    pub(super) together: u64,
}

/// The candidates of a job of which these are out.
pub(super) fn candidates(job: &JobState, now: Timestamp, out: &UnitSet) -> Candidates {
    let ready = job.ready(now).minus(out);
    let suspects = ready.and(&job.strikes.units());
    let fresh = ready.minus(&suspects);
    let (mut one, mut more) = (UnitSet::new(), Vec::new());
    for (strikes, units) in job.strikes.split(&suspects) {
        match strikes {
            1 => one = units,
            _ => more.push((strikes, units)),
        }
    }
    // One at a time: while one is out, the others wait.
    if !more.is_empty() && !job.strikes.at_least(2, out).is_empty() {
        more.clear();
    }
    let alone = more.into_iter().next();
    let count = fresh.len() + one.len() + u64::from(alone.is_some());
    let (next, strikes, together) = match alone {
        _ if !fresh.is_empty() => (fresh, 0, CHUNK_UNITS),
        _ if !one.is_empty() => (one, 1, SUSPECTS_PER_CHUNK),
        Some((strikes, units)) => (units, strikes, 1),
        None => (UnitSet::new(), 0, CHUNK_UNITS),
    };
    Candidates {
        count,
        next,
        strikes,
        together,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(units: u32, once: &[u32], twice: &[u32]) -> JobState {
        let mut job = JobState {
            open: UnitSet::run(0, units),
            ..JobState::default()
        };
        let set = |units: &[u32]| units.iter().copied().collect::<UnitSet>();
        job.strikes.increment(&set(once));
        job.strikes.increment(&set(twice));
        job.strikes.increment(&set(twice));
        job
    }

    fn of(job: &JobState, out: &[u32]) -> (u64, Vec<u32>, u32, u64) {
        let out = out.iter().copied().collect();
        let it = candidates(job, Timestamp(0), &out);
        (it.count, it.next.iter().collect(), it.strikes, it.together)
    }

    #[test]
    fn who_has_no_strike_goes_first_and_suspects_go_apart() {
        let job = job(6, &[1, 2], &[3, 4]);
        assert_eq!(of(&job, &[]), (5, vec![0, 5], 0, CHUNK_UNITS));
        assert_eq!(of(&job, &[0, 5]), (3, vec![1, 2], 1, SUSPECTS_PER_CHUNK));
        assert_eq!(of(&job, &[0, 1, 2, 5]), (1, vec![3, 4], 2, 1));
    }

    #[test]
    fn of_those_with_two_strikes_one_is_out_at_a_time() {
        let job = job(4, &[1], &[2, 3]);
        assert_eq!(of(&job, &[2]), (2, vec![0], 0, CHUNK_UNITS));
        assert_eq!(of(&job, &[0, 1, 3]), (0, vec![], 0, CHUNK_UNITS));
        assert_eq!(of(&job, &[0, 1]).1, [2, 3]);
    }
}
