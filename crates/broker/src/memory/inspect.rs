//! Looking at a broker in memory. Nothing of it can be other than it should be.

use super::{State, Store, queue::Queue};
use crate::{
    ConsumerReport, Inspection, Quota, ServerClock, StreamReport, StreamRole, StreamState, Taker,
    Usage,
};

pub(super) fn inspect(store: &Store) -> Inspection {
    let state = store.lock();
    let queue = |queue: &Option<Queue>| {
        queue.as_ref().map(|queue| StreamState {
            messages: {
                let (free, held) = queue.counts();
                free + held
            },
            replicas: 1,
            ..StreamState::default()
        })
    };
    let log = state.events.as_ref().map(|log| StreamState {
        messages: log.len() as u64,
        bytes: log.iter().map(|entry| entry.payload.len() as u64).sum(),
        last_seq: log.len() as u64,
        replicas: 1,
        ..StreamState::default()
    });
    let leases = state.leases.as_ref().map(|leases| StreamState {
        messages: leases.len() as u64,
        replicas: 1,
        ..StreamState::default()
    });
    let snapshots = state.snapshots.as_ref().map(|snapshots| StreamState {
        messages: snapshots.len() as u64,
        replicas: 1,
        ..StreamState::default()
    });
    let streams: Vec<StreamReport> = [
        (StreamRole::Log, "RD_EVENTS", log),
        (StreamRole::Inbox, "RD_INBOX", queue(&state.inbox)),
        (StreamRole::Work, "RD_WORK", queue(&state.work)),
        (StreamRole::Snapshots, "RD_SNAPSHOTS", snapshots),
        (StreamRole::Leases, "RD_LEASES", leases),
    ]
    .into_iter()
    .map(|(role, name, found)| StreamReport {
        role,
        name: store.name(name),
        found,
    })
    .collect();
    let there = streams
        .iter()
        .filter(|stream| stream.found.is_some())
        .count();
    Inspection {
        clock: Some(ServerClock {
            ahead_ms: 0,
            within_ms: 0,
        }),
        usage: Usage {
            streams: Quota {
                used: there as u64,
                limit: None,
            },
            ..Usage::default()
        },
        consumers: leader(&state).into_iter().collect(),
        streams,
    }
}

fn leader(state: &State) -> Option<ConsumerReport> {
    let inbox = state.inbox.as_ref().filter(|inbox| inbox.is_read)?;
    let (pending, unacknowledged) = inbox.counts();
    Some(ConsumerReport {
        of: Taker::Leader,
        pending,
        unacknowledged,
        differences: Vec::new(),
    })
}
