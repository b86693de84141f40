//! The keys of all namespaces, as the log has them.

use redrive_broker::nats::NatsBroker;
use tokio_util::sync::CancellationToken;

/// What keys there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {}

impl Keyring {
    /// Begins to follow the log.
    pub(crate) fn follow(_broker: &NatsBroker, _stop: &CancellationToken) -> Self {
        Self {}
    }
}
