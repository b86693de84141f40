use crate::{
    contract::{LEASE_TTL, Lost, MAX_PAYLOAD, Provider},
    memory::{MemoryBroker, MemoryOptions, Part},
};

impl Provider for MemoryBroker {
    type Broker = Self;

    async fn connect(&self) -> Self {
        self.clone()
    }

    async fn lose(&self, lost: Lost) {
        Self::lose(
            self,
            match lost {
                Lost::Inbox => Part::Inbox,
                Lost::Work => Part::Work,
                Lost::Leases => Part::Leases,
                Lost::Snapshots => Part::Snapshot,
            },
        );
    }
}

fn provider() -> MemoryBroker {
    MemoryBroker::new(MemoryOptions {
        lease_ttl: LEASE_TTL,
        max_payload: MAX_PAYLOAD,
        ..MemoryOptions::default()
    })
}

crate::contract_suite! {
    #[tokio::test(start_paused = true)]
    Some(crate::tests::memory::provider())
}
