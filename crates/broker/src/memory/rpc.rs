//! Requests and signals: what is not stored.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

use super::Store;
use crate::{BrokerError, Message, Reply, Request, Result, ServiceSpec, pattern::matches};

/// How many messages wait for one receiver; more are dropped, as NATS does.
const WAITING: usize = 65_536;

#[derive(Default)]
pub(super) struct Rpc {
    last: u64,
    servers: BTreeMap<u64, Server>,
    listeners: BTreeMap<u64, Listener>,
    /// Whose turn it is in a queue.
    turns: BTreeMap<String, u64>,
}

struct Server {
    spec: ServiceSpec,
    requests: mpsc::Sender<Request>,
}

struct Listener {
    filter: String,
    messages: mpsc::Sender<Message>,
}

fn stream<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
}

impl Rpc {
    pub(super) fn serve(&mut self, spec: ServiceSpec) -> BoxStream<'static, Request> {
        let (requests, receiver) = mpsc::channel(WAITING);
        self.last += 1;
        self.servers.insert(self.last, Server { spec, requests });
        stream(receiver)
    }

    pub(super) fn listen(&mut self, filter: String) -> BoxStream<'static, Message> {
        let (messages, receiver) = mpsc::channel(WAITING);
        self.last += 1;
        self.listeners
            .insert(self.last, Listener { filter, messages });
        stream(receiver)
    }

    pub(super) fn signal(&mut self, message: &Message) {
        self.publish(message, &mut || None);
    }

    /// Passes a message to all listeners and to one server of each queue; says whether there was any.
    fn publish(
        &mut self,
        message: &Message,
        answer: &mut dyn FnMut() -> Option<oneshot::Sender<Bytes>>,
    ) -> bool {
        self.servers
            .retain(|_, server| !server.requests.is_closed());
        self.listeners
            .retain(|_, listener| !listener.messages.is_closed());
        let mut heard = false;
        for listener in self.listeners.values() {
            if matches(&listener.filter, &message.subject) {
                heard = true;
                let _ = listener.messages.try_send(message.clone());
            }
        }
        let mut queues: BTreeMap<&str, Vec<(u64, &Server)>> = BTreeMap::new();
        for (id, server) in &self.servers {
            if matches(&server.spec.subject, &message.subject) {
                let queue = server.spec.queue.as_str();
                queues.entry(queue).or_default().push((*id, server));
            }
        }
        for (queue, members) in queues {
            heard = true;
            let turn = self.turns.entry(queue.to_owned()).or_default();
            // The one after the last, or the first again.
            let chosen = members
                .iter()
                .find(|(id, _)| *id > *turn)
                .or(members.first());
            if let Some((id, server)) = chosen {
                *turn = *id;
                let _ = server.requests.try_send(Request {
                    subject: message.subject.clone(),
                    payload: message.payload.clone(),
                    trace: message.trace.clone(),
                    reply: Box::new(MemoryReply(answer())),
                });
            }
        }
        heard
    }
}

pub(super) async fn request(store: &Arc<Store>, message: Message, wait: Duration) -> Result<Bytes> {
    let end = Instant::now() + wait;
    let mut answers = Vec::new();
    let heard = store.change(|state| {
        state.rpc.publish(&message, &mut || {
            let (sender, receiver) = oneshot::channel();
            answers.push(receiver.boxed());
            Some(sender)
        })
    });
    if !heard {
        return Err(BrokerError::NoResponders(message.subject));
    }
    // Whoever drops the request does not answer; the others may.
    while !answers.is_empty() {
        let first = futures::future::select_all(std::mem::take(&mut answers));
        match time::timeout_at(end, first).await {
            Ok((Ok(body), ..)) => return Ok(body),
            Ok((Err(_), _, others)) => answers = others,
            Err(_) => return Err(BrokerError::Timeout(wait)),
        }
    }
    time::sleep_until(end).await;
    Err(BrokerError::Timeout(wait))
}

struct MemoryReply(Option<oneshot::Sender<Bytes>>);

impl Reply for MemoryReply {
    fn send(
        self: Box<Self>,
        body: Bytes,
        _error: Option<(u16, String)>,
    ) -> BoxFuture<'static, Result<()>> {
        async move {
            if let Some(sender) = self.0 {
                // The asker may have given up.
                let _ = sender.send(body);
            }
            Ok(())
        }
        .boxed()
    }
}
