//! Reads over HTTP while documents are worked on: how long one takes when much else goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use redrive_domain::ids::Namespace;
use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What is read, in turn.
const PATHS: [&str; 5] = [
    "/v1/batches/last",
    "/v1/batches/last/documents?limit=100",
    "/v1/batches/last/failures?limit=100",
    "/v1/batches?limit=20",
    "/v1/batches/last/diagnose",
];
/// Reads that wait for their answers at most; a rate that cannot be kept shows as time.
const WAITING: usize = 1_024;
/// A read that takes longer counts as failed.
const LONGEST: Duration = Duration::from_secs(30);

/// Reads at this rate for as long as the work goes on. Returns what the work came to, and the times of all reads in
/// milliseconds, ascending. Each counts from when it was due, so that one slow answer does not hide the wait of those
/// behind it.
///
/// # Errors
/// Where the work fails, or any read does.
pub(super) async fn during<T>(
    url: &str,
    namespace: &Namespace,
    rate: u32,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Vec<f64>)> {
    let done = CancellationToken::new();
    let reading = reading(url.to_owned(), namespace.clone(), rate, done.clone());
    let reading = tokio::spawn(reading);
    let worked = work.await;
    done.cancel();
    let mut samples = reading.await.context("the readers broke")??;
    samples.sort_unstable_by(f64::total_cmp);
    Ok((worked?, samples))
}

async fn reading(
    url: String,
    namespace: Namespace,
    rate: u32,
    done: CancellationToken,
) -> anyhow::Result<Vec<f64>> {
    // A process has one; it may have it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(LONGEST).no_proxy().build()?;
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut reads = JoinSet::new();
    for number in 0_u32.. {
        let due = began + Duration::from_secs(1) * number / rate;
        tokio::select! {
            biased;
            () = done.cancelled() => break,
            () = tokio::time::sleep_until(due.into()) => {}
        }
        if reads.len() >= WAITING {
            let read = reads.join_next().await.context("no read is waiting")?;
            samples.push(read??);
        }
        let path = PATHS[number as usize % PATHS.len()];
        let request = client.get(format!("{url}{path}"));
        let request = request.header("x-namespace", namespace.as_str());
        reads.spawn(async move {
            let response = request.send().await.with_context(|| path.to_owned())?;
            let status = response.status();
            let body = response.text().await.with_context(|| path.to_owned())?;
            if status != StatusCode::OK {
                bail!("{path} was answered with {status}: {body}");
            }
            Ok(super::millis(due.elapsed()))
        });
    }
    while let Some(read) = reads.join_next().await {
        samples.push(read??);
    }
    Ok(samples)
}
