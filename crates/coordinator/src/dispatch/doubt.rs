//! Chunks that nobody has named when a worker is lost.
//!
//! It may have taken them since its last heartbeat, and then the broker keeps them for it until their time is up, which
//! is long after everybody knows that it is gone. So they are taken back, and where no living worker names them within
//! two heartbeats, they are handed out again.

use redrive_domain::{
    ids::{BatchKey, ChunkId},
    time::{Millis, Timestamp},
};

use super::Dispatch;

/// Two heartbeats and a little.
const LISTEN: Millis = Millis(2_200);

impl Dispatch {
    /// Forgets workers that have been silent for too long. The chunks are those that they may have taken: they are to be
    /// taken back from the broker.
    pub(crate) fn lose_workers(
        &mut self,
        now: Timestamp,
        timeout: Millis,
    ) -> Vec<(BatchKey, ChunkId)> {
        let mut gone = Vec::new();
        self.workers.retain(|_, run| {
            let lives = now.since(run.seen_at) <= timeout;
            if !lives {
                gone.push((run.handlers.clone(), run.classes.clone()));
            }
            lives
        });
        let mut doubted = Vec::new();
        for (id, held) in &mut self.chunks {
            let could_take = gone.iter().any(|(handlers, classes)| {
                handlers.contains(&held.pool.handler) && classes.contains(&held.pool.class)
            });
            if held.holder.is_none() && held.doubted_at.is_none() && could_take {
                held.doubted_at = Some(now);
                doubted.push((held.key.batch.clone(), *id));
            }
        }
        doubted
    }

    /// Of those, the ones that nobody has named since.
    pub(crate) fn unnamed(&self, now: Timestamp) -> Vec<ChunkId> {
        let unnamed = self.chunks.iter().filter(|(_, held)| {
            let doubted = held.doubted_at.is_some_and(|at| now.since(at) > LISTEN);
            doubted && held.holder.is_none()
        });
        unnamed.map(|(id, _)| *id).collect()
    }
}
