//! The keys of all namespaces, as the log has them.

use redrive_broker::nats::NatsBroker;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// What keys there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {}

impl Keyring {
    /// Begins to follow the log.
    pub(crate) fn follow(
        _broker: &NatsBroker,
        _config: &Config,
        _stop: &CancellationToken,
    ) -> Self {
        Self {}
    }

    /// Whether the keys are known as far as the log goes, or are not needed.
    #[allow(clippy::unused_self)]
    pub(crate) fn is_read(&self) -> bool {
        true
    }
}
