//! Answering questions about credits.

use redrive_broker::{Broker, BrokerError, Until, fold};
use redrive_domain::{
    command::Refusal,
    credits::Month,
    event::Envelope,
    ids::Namespace,
    query::{At, CreditsView, OfNamespace},
    subject,
    time::Timestamp,
};

use super::Server;
use crate::{answer::Failed, shared::Found};

impl<B: Broker> Server<B> {
    pub(super) async fn credits(
        &self,
        namespace: &Namespace,
        ask: &OfNamespace,
    ) -> Result<CreditsView, Failed> {
        let (need, _turn) = self.turn(ask.min_seq).await?;
        let Found { what, as_of } = self.shared.ledger(namespace, need)?;
        let Some(at) = ask.at else {
            let month = Month::of(self.config.clock.now());
            return Ok(CreditsView::of(&what, month, as_of));
        };
        let (until, as_of) = match at {
            At::Seq(seq) if seq > as_of => {
                let message = format!("is {seq}: the log ends at {as_of}");
                return Err(Refusal::invalid("at", message).into());
            }
            At::Seq(seq) => (Until::Seq(seq), seq),
            At::Time(time) => (Until::Time(time), as_of),
        };
        let unreadable = |error: BrokerError| {
            Failed::Unavailable(format!("the log cannot be read ({error}): ask again"))
        };
        // Far fewer than all events, and the ledger is made of no others.
        let filter = subject::events_about_credits(self.config.shard, namespace);
        let folded = fold(&self.broker, Some(filter), until).await;
        let folded = folded.map_err(unreadable)?;
        let ledger = folded.ledgers.of(namespace).cloned().unwrap_or_default();
        let (time, as_of) = match at {
            At::Time(time) => (time, ledger.last_seq),
            At::Seq(seq) => (self.time_of(seq).await.map_err(unreadable)?, as_of),
        };
        Ok(CreditsView::of(&ledger, Month::of(time), as_of))
    }

    /// When the event of a sequence was decided; the beginning of time, where there is none.
    async fn time_of(&self, seq: u64) -> Result<Timestamp, BrokerError> {
        let entry = match seq {
            0 => None,
            seq => self.broker.get(seq).await?,
        };
        let envelope = entry.and_then(|entry| Envelope::decode(&entry.payload).ok());
        Ok(envelope.map_or_else(Timestamp::default, |envelope| envelope.at))
    }
}
