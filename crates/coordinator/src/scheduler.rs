//! Who gets the next chunk: a pure function over a small model.
//!
//! Shares are fair by start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", 1996): each namespace,
//! and within it each job, carries a virtual time that advances by the work it was given, divided by its weight; the
//! one that is furthest behind is next. One that was idle does not save up a claim.

use std::collections::BTreeMap;

use redrive_domain::ids::{HandlerName, Namespace, ResourceClass};

/// How long a chunk should keep a slot busy, in milliseconds: short enough to cancel and balance, long enough that
/// handing it out costs little beside it.
pub const CHUNK_MS: f64 = 200.0;
/// What takes less than this is not spread over slots: handing it out would take longer.
const SPREAD_MS: f64 = 10.0;
/// Most chunks for a slot at a time, however short they are.
const SHORT_CHUNKS: u32 = 16;
/// Most units in a chunk.
pub const CHUNK_UNITS: u64 = 16_384;

/// Workers that serve one handler with one resource class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// What they run.
    pub handler: HandlerName,
    /// What they have.
    pub class: ResourceClass,
}

/// How much a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Capacity {
    /// Units that its live workers run at once.
    pub slots: u32,
    /// Chunks that are handed out and not yet reported.
    pub out: u32,
    /// How long they are thought to take together, in milliseconds.
    pub out_ms: f64,
}

impl Capacity {
    /// Notes a chunk that is handed out, and how long it is thought to take.
    pub fn add(&mut self, work_ms: f64) {
        self.out = self.out.saturating_add(1);
        self.out_ms += work_ms;
    }

    /// Whether another chunk may be handed out. Each slot has one to run and one to go on with; where they are short,
    /// as those of small batches are, so many more that the way there and back does not leave it idle. Where no worker
    /// is known, a few are put up all the same, so that the first worker to come finds something.
    #[must_use]
    pub fn has_room(self) -> bool {
        let window = |a_slot: u32| self.slots.saturating_mul(a_slot).clamp(4, 1_024);
        let is_short = self.out_ms < f64::from(self.slots) * CHUNK_MS;
        self.out < window(2) || (is_short && self.out < window(SHORT_CHUNKS))
    }
}

/// A job with something to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue<K> {
    /// What it is.
    pub key: K,
    /// Whose it is.
    pub namespace: Namespace,
    /// Who can do it.
    pub pool: Pool,
    /// From 0 to 100.
    pub priority: u8,
    /// Units that can be handed out now.
    pub ready: u64,
    /// The most of them that may go out in one chunk.
    pub together: u64,
    /// Time that a unit takes, in milliseconds, where that has been measured.
    pub unit_ms: Option<f64>,
    /// Units that the rate limit lets start now, where there is one.
    pub allowed: Option<u64>,
    /// Units that may be handed out beside those that are out, where the job limits how many that are at once.
    pub room: Option<u64>,
}

/// Units of a job to be handed out as one chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant<K> {
    /// The job.
    pub key: K,
    /// How many.
    pub units: u64,
    /// How long they are thought to take, in milliseconds.
    pub work_ms: f64,
}

/// How far each has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares<K: Ord> {
    namespaces: BTreeMap<Namespace, Share>,
    queues: BTreeMap<K, f64>,
    now: f64,
}

/// How far a namespace has come, and where within it the service is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Share {
    time: f64,
    now: f64,
}

impl<K: Ord> Default for Shares<K> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
            queues: BTreeMap::new(),
            now: 0.0,
        }
    }
}

impl<K: Ord + Clone> Shares<K> {
    /// Forgets a job that is over.
    pub fn forget(&mut self, key: &K) {
        self.queues.remove(key);
    }
}

/// Decides which jobs are handed out, in which order, until the pools have no room.
#[must_use]
pub fn plan<K: Ord + Clone>(
    queues: &[Queue<K>],
    pools: &BTreeMap<Pool, Capacity>,
    shares: &mut Shares<K>,
) -> Vec<Grant<K>> {
    let mut pools = pools.clone();
    let mut left: Vec<(u64, &Queue<K>)> = queues.iter().map(|q| (q.available(), q)).collect();
    let mut grants = Vec::new();
    loop {
        // Whoever comes back from idling starts level with the others.
        let share = |queue: &Queue<K>| {
            shares
                .namespaces
                .get(&queue.namespace)
                .copied()
                .unwrap_or_default()
        };
        let namespace_time = |queue: &Queue<K>| share(queue).time.max(shares.now);
        let queue_time = |queue: &Queue<K>| {
            let own = shares.queues.get(&queue.key).copied().unwrap_or_default();
            own.max(share(queue).now)
        };
        let next = left
            .iter_mut()
            .filter(|(units, queue)| {
                *units > 0 && pools.get(&queue.pool).is_none_or(|pool| pool.has_room())
            })
            .min_by(|(_, a), (_, b)| {
                namespace_time(a)
                    .total_cmp(&namespace_time(b))
                    .then_with(|| queue_time(a).total_cmp(&queue_time(b)))
                    .then_with(|| b.priority.cmp(&a.priority))
                    .then_with(|| a.key.cmp(&b.key))
            });
        let Some((units_left, queue)) = next else {
            return grants;
        };
        let pool = pools.entry(queue.pool.clone()).or_default();
        let units = queue.chunk_size(*pool).min(queue.together).min(*units_left);
        *units_left -= units;
        let work = queue.work(units);
        pool.add(work);
        let started = namespace_time(queue);
        let own_start = queue_time(queue);
        shares.now = started;
        let share = Share {
            time: started + work,
            now: own_start,
        };
        shares.namespaces.insert(queue.namespace.clone(), share);
        let weight = f64::from(queue.priority) + 1.0;
        shares
            .queues
            .insert(queue.key.clone(), own_start + work / weight);
        grants.push(Grant {
            key: queue.key.clone(),
            units,
            work_ms: work,
        });
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
impl<K> Queue<K> {
    fn available(&self) -> u64 {
        let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        self.ready.min(most(self.allowed)).min(most(self.room))
    }

    /// One unit until it is known how long a unit takes; then as many as fill a chunk's time, but not so many that
    /// slots of the pool go without.
    fn chunk_size(&self, pool: Capacity) -> u64 {
        let Some(unit_ms) = self.unit_ms.map(|ms| ms.max(0.000_1)) else {
            return 1;
        };
        let spread = self.ready.div_ceil(u64::from(pool.slots.max(1)) * 2);
        let whole = (SPREAD_MS / unit_ms) as u64;
        let by_time = (CHUNK_MS / unit_ms) as u64;
        by_time.min(spread.max(whole)).clamp(1, CHUNK_UNITS)
    }

    fn work(&self, units: u64) -> f64 {
        self.unit_ms.unwrap_or(CHUNK_MS).max(0.000_1) * units as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool {
            handler: HandlerName::new("h").unwrap(),
            class: ResourceClass::new("cpu").unwrap(),
        }
    }

    fn queue(key: &'static str, namespace: &str, ready: u64) -> Queue<&'static str> {
        Queue {
            key,
            namespace: Namespace::new(namespace).unwrap(),
            pool: pool(),
            priority: 50,
            ready,
            together: CHUNK_UNITS,
            unit_ms: Some(CHUNK_MS),
            allowed: None,
            room: None,
        }
    }

    fn capacity(slots: u32) -> BTreeMap<Pool, Capacity> {
        let capacity = Capacity {
            slots,
            ..Capacity::default()
        };
        BTreeMap::from([(pool(), capacity)])
    }

    fn units_by_key(grants: &[Grant<&'static str>]) -> BTreeMap<&'static str, u64> {
        let mut by_key = BTreeMap::new();
        for grant in grants {
            *by_key.entry(grant.key).or_default() += grant.units;
        }
        by_key
    }

    #[test]
    fn the_window_bounds_what_is_handed_out() {
        let grants = plan(
            &[queue("a", "n", 1_000)],
            &capacity(8),
            &mut Shares::default(),
        );
        assert_eq!(grants.len(), 16);
    }

    #[test]
    fn a_namespace_with_one_batch_gets_as_much_as_one_with_many() {
        let queues = [
            queue("a1", "a", 100),
            queue("a2", "a", 100),
            queue("b", "b", 100),
        ];
        let shares = units_by_key(&plan(&queues, &capacity(8), &mut Shares::default()));
        assert_eq!(shares["b"], 8);
        assert_eq!(shares["a1"] + shares["a2"], 8);
    }

    #[test]
    fn a_higher_priority_gets_a_larger_share_but_not_all() {
        let queues = [
            Queue {
                priority: 89,
                ..queue("urgent", "n", 1_000)
            },
            Queue {
                priority: 9,
                ..queue("patient", "n", 1_000)
            },
        ];
        let shares = units_by_key(&plan(&queues, &capacity(50), &mut Shares::default()));
        assert_eq!(shares["urgent"], 90);
        assert_eq!(shares["patient"], 10);
    }

    #[test]
    fn who_was_idle_saves_up_no_claim() {
        let mut shares = Shares::default();
        for _ in 0..10 {
            let _ = plan(&[queue("a", "a", 100)], &capacity(8), &mut shares);
        }
        let both = [queue("a", "a", 100), queue("b", "b", 100)];
        let granted = units_by_key(&plan(&both, &capacity(8), &mut shares));
        assert!(granted["a"] >= 7, "{granted:?}");
    }

    #[test]
    fn chunks_grow_with_what_was_measured() {
        let size = |unit_ms| {
            let queue = Queue {
                unit_ms,
                ..queue("a", "n", 1_000_000)
            };
            plan(&[queue], &capacity(2), &mut Shares::default())[0].units
        };
        assert_eq!(size(None), 1);
        assert_eq!(size(Some(1_000.0)), 1);
        assert_eq!(size(Some(2.0)), 100);
        assert_eq!(size(Some(0.0)), CHUNK_UNITS);
    }

    #[test]
    fn short_chunks_go_out_in_numbers_and_are_not_split() {
        let queues: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|key| Queue {
                unit_ms: Some(0.5),
                ..queue(key, "n", 10)
            })
            .into();
        let grants = plan(&queues, &capacity(2), &mut Shares::default());
        let sizes: Vec<u64> = grants.iter().map(|grant| grant.units).collect();
        assert_eq!(sizes, [10; 6]);
        let many = [Queue {
            unit_ms: Some(10.0),
            ..queue("a", "n", 1_000)
        }];
        let grants = plan(&many, &capacity(2), &mut Shares::default());
        assert_eq!(grants.len(), 4, "two of 200 ms a slot");
    }

    #[test]
    fn what_is_out_at_once_is_bounded_beside_the_rate() {
        let queue = Queue {
            allowed: Some(9),
            room: Some(2),
            ..queue("a", "n", 100)
        };
        let grants = plan(&[queue], &capacity(8), &mut Shares::default());
        assert_eq!(units_by_key(&grants)["a"], 2);
    }

    #[test]
    fn a_rate_limit_bounds_units() {
        let queue = Queue {
            allowed: Some(3),
            ..queue("a", "n", 100)
        };
        let grants = plan(&[queue], &capacity(8), &mut Shares::default());
        assert_eq!(units_by_key(&grants)["a"], 3);
    }
}
