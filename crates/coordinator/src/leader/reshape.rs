//! Taking back what is out of jobs that were cancelled, or that have other parameters by now.

use redrive_broker::Broker;
use redrive_domain::{ids::BatchKey, time::Timestamp, work::Signal};

use super::Leader;

impl<B: Broker> Leader<'_, B> {
    pub(super) async fn reshape(&mut self, key: &BatchKey, now: Timestamp) {
        let Some(batch) = self.batches.get(key) else {
            return;
        };
        let reshaped = self.dispatch.reshape(batch, now);
        for chunk in reshaped.unwanted {
            self.withdraw_chunk(key, chunk).await;
            self.signal(&Signal::StopChunk(chunk)).await;
        }
        for chunk in reshaped.outdated {
            self.withdraw_chunk(key, chunk).await;
        }
    }
}
