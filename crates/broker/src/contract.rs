//! What every provider of [`Broker`](crate::Broker) has to keep, as cases that run on any of them.
//!
//! [`contract_suite`](crate::contract_suite) makes a test of each case. Nothing here sleeps and hopes: a case waits
//! on a condition, within a bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]
#![allow(missing_docs, reason = "the names of the cases say what they hold")]

pub mod inspect;
pub mod log;
pub mod queues;
pub mod rpc;
pub mod shard;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::time::{self, Instant};

use crate::{Broker, Deliveries, Delivery, Entry, Message, Range, Result};

/// Longer than anything takes that is not wrong.
pub const BOUND: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
pub const QUIET: Duration = Duration::from_millis(300);
/// The lease's time-to-live that a provider is made with.
pub const LEASE_TTL: Duration = Duration::from_secs(1);
/// The largest message that a provider is made to take, in bytes.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// What can be lost without losing the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The stream of commands and outcomes.
    Inbox,
    /// The stream of chunks.
    Work,
    /// The bucket of leases.
    Leases,
    /// The stream of snapshots.
    Snapshots,
}

/// A broker to test, which nobody else uses.
pub trait Provider: Send + Sync {
    /// The provider.
    type Broker: Broker;

    /// Another connection to the broker.
    fn connect(&self) -> impl Future<Output = Self::Broker> + Send;

    /// Deletes a part of it behind the provider's back.
    fn lose(&self, lost: Lost) -> impl Future<Output = ()> + Send;
}

/// Makes a test of each case. `$provider` is an expression of type `Option<impl Provider>`; with `None` the test says
/// nothing and passes.
#[macro_export]
macro_rules! contract_suite {
    ($(#[$test:meta])+ $provider:expr) => {
        $crate::contract_suite! { @cases ($(#[$test])+) $provider;
            log: appends_in_order, append_of_nothing_is_the_last_sequence, a_conflict_leaves_nothing,
                a_log_shorter_than_believed_is_a_conflict, a_long_append_is_pipelined,
                a_repeated_append_is_no_conflict, a_half_repeated_append_goes_on,
                what_is_too_large_is_refused_whole, one_of_two_writers_is_deposed,
                reads_a_range, reads_what_matches, reads_nothing_where_there_is_nothing,
                reading_ends_before_later_matches, reads_on_with_what_is_appended,
                a_reader_loses_nothing_while_the_log_grows, a_slow_reader_gets_everything,
                gets_what_is_there, waits_for_what_is_not_there_yet;
            queues: a_message_with_a_known_id_is_stored_once, the_inbox_is_in_order, the_trace_comes_along,
                the_inbox_is_drained_with_what_is_there, next_waits_for_the_first,
                a_new_reader_gets_what_was_not_acknowledged, an_earlier_reader_gets_nothing,
                an_earlier_readers_acknowledgement_counts_for_nothing,
                what_is_acknowledged_does_not_come_again, a_chunk_goes_to_one_of_two,
                a_taker_holds_no_more_than_it_asked_for, what_is_given_back_comes_at_once,
                withdrawn_chunks_do_not_come, a_chunk_in_work_is_withdrawn,
                offered_lists_what_is_up_and_what_is_taken, many_chunks_are_offered_at_once,
                handlers_and_classes_are_apart, a_withdrawn_chunk_can_be_offered_again, work_that_is_made_anew_is_empty_and_takes_chunks,
                a_call_that_is_given_up_loses_nothing, an_unanswered_chunk_goes_to_somebody_else;
            rpc: a_request_is_answered, an_error_comes_with_its_body, nobody_answers, no_answer_in_time,
                servers_of_a_queue_share, a_server_that_went_is_not_asked, signals_reach_who_listens,
                the_trace_of_a_request_comes_along;
            shard: ensuring_again_changes_nothing, nothing_works_before_it_is_ensured,
                lost_work_is_missing_until_ensured, a_lost_inbox_is_missing_until_ensured,
                a_lost_bucket_of_leases_comes_back, a_lease_is_held_by_one, a_lease_that_is_not_renewed_is_lost,
                a_renewed_lease_stays, a_released_lease_is_free, leases_have_names,
                the_snapshot_is_the_one_kept_last, a_lost_snapshot_is_none_and_another_can_be_kept;
            inspect: what_is_not_ensured_is_missing, what_is_lost_is_missing_until_repaired, the_clock_is_seen,
                messages_are_counted, the_leader_and_what_it_has_not_taken_are_seen;
        }
    };
    (@cases $attributes:tt $provider:expr; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $($crate::contract_suite! { @case $attributes $provider; $module $case })+
        })+
    };
    (@case ($(#[$test:meta])+) $provider:expr; $module:ident $case:ident) => {
        $(#[$test])+
        async fn $case() {
            if let Some(provider) = $provider {
                let case = $crate::contract::$module::$case(&provider);
                let bounded = tokio::time::timeout(std::time::Duration::from_secs(60), case);
                assert!(bounded.await.is_ok(), "the case did not end");
            }
        }
    };
}

/// A message with a text.
pub fn message(subject: &str, payload: impl Into<Bytes>) -> Message {
    Message {
        subject: subject.to_owned(),
        payload: payload.into(),
        trace: None,
    }
}

/// Some events of a batch, numbered from `from`.
pub fn events(batch: &str, numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers
        .map(|number| message(&format!("rd.evt.0.ns.{batch}.test"), number.to_string()))
        .collect()
}

/// A connection that has everything.
pub async fn ready<P: Provider>(provider: &P) -> P::Broker {
    let broker = provider.connect().await;
    broker.ensure().await.unwrap();
    broker
}

/// All of the log.
pub fn all() -> Range {
    Range {
        from: 1,
        until: None,
        filter: None,
    }
}

/// The texts of entries.
pub fn texts(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| String::from_utf8(entry.payload.to_vec()).unwrap();
    entries.iter().map(text).collect()
}

/// Reads to the end of a bounded range.
pub async fn read<B: Broker>(broker: &B, range: Range) -> Vec<Entry> {
    let entries = broker.read(range).map(Result::unwrap).collect();
    time::timeout(BOUND, entries).await.expect("reading ends")
}

/// The next item of a stream, which has to come.
pub async fn item<T>(stream: &mut BoxStream<'static, T>) -> T {
    let next = time::timeout(BOUND, stream.next()).await;
    next.expect("it comes").expect("there is more")
}

/// Takes until there are so many.
pub async fn gather(from: &mut dyn Deliveries, count: usize) -> Vec<Delivery> {
    let end = Instant::now() + BOUND;
    let mut gathered = Vec::new();
    while gathered.len() < count {
        assert!(Instant::now() < end, "{} of {count} came", gathered.len());
        let wait = Duration::from_secs(1);
        gathered.extend(from.next(count - gathered.len(), wait).await.unwrap());
    }
    gathered
}

/// The payloads of deliveries.
pub fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    let text = |one: &Delivery| String::from_utf8(one.payload.to_vec()).unwrap();
    deliveries.iter().map(text).collect()
}

/// Acknowledges all.
pub async fn ack(deliveries: Vec<Delivery>) {
    for one in deliveries {
        one.receipt.ack().await.unwrap();
    }
}

/// Waits until something is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + BOUND;
    while !is_so().await {
        assert!(Instant::now() < end, "{what}: not in time");
        time::sleep(Duration::from_millis(20)).await;
    }
}
