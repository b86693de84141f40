//! The broker as a process sees it: the one in memory, behind a connection on which everything that can go wrong does.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use redrive_broker::{
    Broker, BrokerError, BrokerInfo, Deliveries, Delivery, Entry, Inspection, Lease, Message,
    Range, Receipt, Request, Result, ServiceSpec, memory::MemoryBroker,
};
use redrive_domain::ids::{HandlerName, ResourceClass};
use tokio::time::{Instant, sleep};

use crate::link::Link;

/// Copies of deliveries that are kept to come again later.
const COPIES: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Faulty {
    link: Arc<Link>,
}

impl Faulty {
    pub(crate) fn new(link: &Arc<Link>) -> Self {
        Self {
            link: Arc::clone(link),
        }
    }

    fn inner(&self) -> MemoryBroker {
        self.link.world.broker.clone()
    }

    /// What is delivered over this connection from then on.
    fn inlet(&self, what: &'static str, inner: Box<dyn Deliveries>) -> Box<dyn Deliveries> {
        Box::new(Inlet {
            link: Arc::clone(&self.link),
            what,
            inner,
            copies: VecDeque::new(),
        })
    }

    fn stream<T: Send + 'static>(&self, inner: BoxStream<'static, T>) -> BoxStream<'static, T> {
        let link = Arc::clone(&self.link);
        inner
            .then(move |item| {
                let link = Arc::clone(&link);
                async move {
                    sleep(link.way()).await;
                    link.gate().await;
                    item
                }
            })
            .boxed()
    }
}

impl Broker for Faulty {
    async fn ensure(&self) -> Result<()> {
        let inner = self.inner();
        self.link
            .call("ensure", async move { inner.ensure().await })
            .await
    }

    fn info(&self) -> BrokerInfo {
        self.inner().info()
    }

    fn is_connected(&self) -> bool {
        self.inner().is_connected()
    }

    async fn inspect(&self) -> Result<Inspection> {
        self.inner().inspect().await
    }

    async fn repair(&self) -> Result<()> {
        self.inner().repair().await
    }

    async fn remake_work(&self) -> Result<()> {
        let inner = self.inner();
        self.link
            .call("remake_work", async move { inner.remake_work().await })
            .await
    }

    async fn keep_snapshot(&self, snapshot: Bytes) -> Result<()> {
        let (inner, link) = (self.inner(), &self.link);
        link.world.count("snapshots kept");
        let torn = link.happens(link.world.weather.tear);
        let end = match torn {
            true => link.number() as usize % snapshot.len().max(1),
            false => snapshot.len(),
        };
        if torn {
            link.tell(format_args!("only {end} bytes arrive of a snapshot"));
        }
        let snapshot = snapshot.slice(..end);
        link.call("keep_snapshot", async move {
            inner.keep_snapshot(snapshot).await
        })
        .await
    }

    async fn snapshot(&self) -> Result<Option<Bytes>> {
        let inner = self.inner();
        let found = self
            .link
            .call("snapshot", async move { inner.snapshot().await })
            .await;
        if let Ok(Some(snapshot)) = &found {
            self.link.world.count("snapshots read");
            self.link
                .tell(format_args!("finds a snapshot, {} bytes", snapshot.len()));
        }
        found
    }

    async fn append(&self, mut messages: Vec<Message>, after: u64) -> Result<u64> {
        let (inner, link) = (self.inner(), Arc::clone(&self.link));
        let call = format!("append of {} after {after}", messages.len());
        let torn = messages.len() > 1 && link.happens(link.world.weather.tear);
        if torn {
            let most = u32::try_from(messages.len() - 1).unwrap_or(1);
            messages.truncate(link.count(0..=most) as usize);
            link.world.count("appends that are torn");
            link.tell(format_args!("only {} arrive of the {call}", messages.len()));
        }
        let late = link.happens(link.world.weather.late);
        let late = if late {
            link.world.count("appends that are late");
            link.tell(format_args!("the {call} is late"));
            Duration::from_millis(link.number() % 9_000)
        } else {
            Duration::ZERO
        };
        let appending = async move {
            sleep(late).await;
            let result = inner.append(messages, after).await;
            link.world.observe();
            match (torn, result) {
                (true, Ok(_)) => Err(BrokerError::Timeout(Duration::ZERO)),
                (_, Ok(seq)) => {
                    link.learned(seq);
                    Ok(seq)
                }
                (_, Err(error)) => {
                    link.world.count("appends that are refused");
                    link.tell(format_args!("append after {after}: {error}"));
                    Err(error)
                }
            }
        };
        self.link.call(&call, appending).await
    }

    async fn last_seq(&self) -> Result<u64> {
        let inner = self.inner();
        let asking = async move { inner.last_seq().await };
        let last = self.link.call("last_seq", asking).await?;
        self.link.learned(last);
        Ok(last)
    }

    fn read(&self, range: Range) -> BoxStream<'static, Result<Entry>> {
        let link = Arc::clone(&self.link);
        let inner = self.inner().read(range);
        // What is read comes in runs, not each entry by itself.
        inner
            .then(move |entry| {
                let link = Arc::clone(&link);
                async move {
                    if link.count(0..=7) == 0 {
                        sleep(link.way()).await;
                    }
                    link.gate().await;
                    entry
                }
            })
            .boxed()
    }

    async fn get(&self, seq: u64) -> Result<Option<Entry>> {
        let inner = self.inner();
        self.link
            .call("get", async move { inner.get(seq).await })
            .await
    }

    async fn submit(&self, message: Message, id: Option<String>) -> Result<()> {
        let inner = self.inner();
        let call = format!("submit to {}", message.subject);
        self.link
            .call(&call, async move { inner.submit(message, id).await })
            .await
    }

    async fn inbox(&self) -> Result<Box<dyn Deliveries>> {
        let inner = self.inner();
        let inbox = self
            .link
            .call("inbox", async move { inner.inbox().await })
            .await?;
        Ok(self.inlet("inbox", inbox))
    }

    async fn offer(&self, chunks: Vec<Message>) -> Result<()> {
        let (inner, world) = (self.inner(), &self.link.world);
        for chunk in &chunks {
            world.checks().offered(&chunk.payload, self.link.knows());
        }
        let call = format!("offer of {}", chunks.len());
        let again = self.link.happens(world.weather.duplicate / 4.0);
        self.link
            .call(&call, async move {
                if again {
                    inner.offer(chunks.clone()).await?;
                }
                inner.offer(chunks).await
            })
            .await
    }

    async fn take(
        &self,
        handler: &HandlerName,
        class: &ResourceClass,
    ) -> Result<Box<dyn Deliveries>> {
        let (inner, handler, class) = (self.inner(), handler.clone(), class.clone());
        let taker = self
            .link
            .call("take", async move { inner.take(&handler, &class).await })
            .await?;
        Ok(self.inlet("work", taker))
    }

    async fn withdraw(&self, filter: &str) -> Result<()> {
        let (inner, filter) = (self.inner(), filter.to_owned());
        let call = format!("withdraw {filter}");
        self.link
            .call(&call, async move { inner.withdraw(&filter).await })
            .await
    }

    async fn offered(&self) -> Result<Vec<String>> {
        let inner = self.inner();
        self.link
            .call("offered", async move { inner.offered().await })
            .await
    }

    async fn lease(&self, name: &str, holder: &str) -> Result<Lease> {
        let (inner, name, holder) = (self.inner(), name.to_owned(), holder.to_owned());
        self.link
            .call("lease", async move { inner.lease(&name, &holder).await })
            .await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        let (inner, name, holder) = (self.inner(), name.to_owned(), holder.to_owned());
        self.link
            .call(
                "release",
                async move { inner.release(&name, &holder).await },
            )
            .await
    }

    fn lease_ttl(&self) -> Duration {
        self.inner().lease_ttl()
    }

    async fn request(&self, message: Message, wait: Duration) -> Result<Bytes> {
        let inner = self.inner();
        let call = format!("request {}", message.subject);
        self.link
            .call(&call, async move { inner.request(message, wait).await })
            .await
    }

    async fn serve(&self, spec: ServiceSpec) -> Result<BoxStream<'static, Request>> {
        let inner = self.inner();
        let requests = self
            .link
            .call("serve", async move { inner.serve(spec).await })
            .await?;
        Ok(self.stream(requests))
    }

    async fn signal(&self, message: Message) -> Result<()> {
        let inner = self.inner();
        let what = format!("signal on {}", message.subject);
        let send = move || {
            let (inner, message) = (inner.clone(), message.clone());
            async move { inner.signal(message).await }
        };
        self.link.send(&what, send).await;
        Ok(())
    }

    async fn listen(&self, filter: String) -> Result<BoxStream<'static, Message>> {
        let inner = self.inner();
        let messages = self
            .link
            .call("listen", async move { inner.listen(filter).await })
            .await?;
        Ok(self.stream(messages))
    }
}

/// Deliveries that get lost on their way, come twice, or come again when they are dealt with.
struct Inlet {
    link: Arc<Link>,
    what: &'static str,
    inner: Box<dyn Deliveries>,
    copies: VecDeque<(Instant, Delivery)>,
}

impl Inlet {
    fn wrap(&self, delivery: Delivery) -> (Delivery, Arc<dyn Receipt>) {
        let receipt: Arc<dyn Receipt> = delivery.receipt.into();
        let own = FaultyReceipt {
            link: Arc::clone(&self.link),
            what: self.what,
            inner: Arc::clone(&receipt),
        };
        let receipt_of_own = Box::new(own);
        (
            Delivery {
                receipt: receipt_of_own,
                ..delivery
            },
            receipt,
        )
    }

    async fn take(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let link = Arc::clone(&self.link);
        let fate = link.fate();
        link.before_taking(&fate, self.what).await?;
        if self
            .copies
            .front()
            .is_some_and(|(due, _)| *due <= Instant::now())
        {
            let copies = self.copies.pop_front().into_iter();
            link.tell(format_args!("a message of {} comes again", self.what));
            return Ok(copies.map(|(_, delivery)| delivery).collect());
        }
        let taken = self.inner.next(max, wait).await?;
        if taken.is_empty() {
            return Ok(taken);
        }
        sleep(link.way()).await;
        link.gate().await;
        if link.happens(link.world.weather.lose / 4.0) {
            link.world.count("deliveries that get lost");
            link.tell(format_args!(
                "{} of {} get lost on their way",
                taken.len(),
                self.what
            ));
            return Ok(Vec::new());
        }
        let mut deliveries = Vec::with_capacity(taken.len());
        for delivery in taken {
            let (delivery, receipt) = self.wrap(delivery);
            if link.happens(link.world.weather.duplicate / 2.0) {
                link.world.count("deliveries that come twice");
                self.again(&delivery, receipt).await;
            }
            deliveries.push(delivery);
        }
        Ok(deliveries)
    }

    /// It comes again: to whoever takes it next, or here, even after it was acknowledged.
    async fn again(&mut self, delivery: &Delivery, receipt: Arc<dyn Receipt>) {
        if self.link.happens(0.5) || self.copies.len() == COPIES {
            receipt.give_back().await.ok();
            return;
        }
        let copy = Delivery {
            subject: delivery.subject.clone(),
            payload: delivery.payload.clone(),
            trace: delivery.trace.clone(),
            id: delivery.id,
            delivered: delivery.delivered + 1,
            receipt: Box::new(FaultyReceipt {
                link: Arc::clone(&self.link),
                what: self.what,
                inner: receipt,
            }),
        };
        let later = Duration::from_millis(self.link.number() % 3_000);
        self.copies.push_back((Instant::now() + later, copy));
    }
}

impl Deliveries for Inlet {
    fn next(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        self.take(max, wait).boxed()
    }
}

struct FaultyReceipt {
    link: Arc<Link>,
    what: &'static str,
    inner: Arc<dyn Receipt>,
}

impl FaultyReceipt {
    fn answer<F>(
        &self,
        answer: &'static str,
        send: impl Fn(Arc<dyn Receipt>) -> F + Send + 'static,
    ) -> BoxFuture<'_, Result<()>>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let what = format!("{answer} of {}", self.what);
        let inner = Arc::clone(&self.inner);
        async move {
            let link = Arc::clone(&self.link);
            link.send(&what, move || send(Arc::clone(&inner))).await;
            Ok(())
        }
        .boxed()
    }
}

impl Receipt for FaultyReceipt {
    fn ack(&self) -> BoxFuture<'_, Result<()>> {
        self.answer("ack", |receipt| async move { receipt.ack().await })
    }

    fn give_back(&self) -> BoxFuture<'_, Result<()>> {
        self.answer(
            "give_back",
            |receipt| async move { receipt.give_back().await },
        )
    }

    fn extend(&self) -> BoxFuture<'_, Result<()>> {
        self.answer("extend", |receipt| async move { receipt.extend().await })
    }
}
