//! One unit, once.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use futures::FutureExt;
use redrive_domain::{
    failure::{Failure, FailureKind},
    time::Millis,
    units::Ordinal,
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    handler::{Context, Done, Handler, Unit},
    segments,
};

/// How an attempt ended.
pub(crate) enum End {
    /// The handler came to an answer, or the runner gave one in its place.
    Answered(Result<Done, Failure>),
    /// It was no longer wanted.
    Abandoned,
}

/// A unit with the end of its attempt.
pub(crate) struct Finished {
    pub(crate) unit: Ordinal,
    pub(crate) started: Instant,
    pub(crate) end: End,
    pub(crate) scope: Box<Scope>,
}

/// What an attempt is given, and gives back: making it costs more than a handler that does nothing.
pub(crate) struct Scope {
    pub(crate) ctx: Context,
    /// Cancelled when the whole chunk is to end.
    pub(crate) stop: CancellationToken,
}

/// The bounds of an attempt.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// How long it may take.
    pub(crate) timeout: Millis,
    /// How long it may go on after it was told to stop.
    pub(crate) grace: Duration,
    /// The largest output that the broker's messages have room for.
    pub(crate) room: u64,
    /// Whether the output is segments.
    pub(crate) splits: bool,
}

/// Runs the handler for one unit, within its bounds.
pub(crate) async fn attempt(
    handler: Arc<dyn Handler>,
    unit: Unit,
    scope: Box<Scope>,
    started: Instant,
    bounds: Bounds,
) -> Finished {
    let end = {
        let ctx = &scope.ctx;
        // Calling the handler is inside, since a handler may panic before there is a future.
        let processing = AssertUnwindSafe(async { handler.process(&unit, ctx).await })
            .catch_unwind()
            .map(|result| result.unwrap_or_else(|panic| Err(crashed(&*panic))));
        let mut processing = std::pin::pin!(processing);
        match futures::poll!(&mut processing) {
            Poll::Ready(answer) => answered(answer, &scope, bounds),
            // Apart, so that what is done at once neither makes nor carries around what only waiting needs.
            Poll::Pending => Box::pin(wait(processing, &scope, bounds)).await,
        }
    };
    Finished {
        unit: unit.ordinal,
        started,
        end,
        scope,
    }
}

/// Waits for the handler for as long as its attempt is wanted.
async fn wait(
    mut processing: impl Future<Output = Result<Done, Failure>> + Unpin,
    scope: &Scope,
    bounds: Bounds,
) -> End {
    let Scope { ctx, stop } = scope;
    tokio::select! {
        biased;
        answer = &mut processing => answered(answer, scope, bounds),
        () = stop.cancelled() => {
            match timeout(bounds.grace, processing).await {
                Ok(Ok(done)) => End::Answered(within(Ok(done), ctx, bounds)),
                _ => End::Abandoned,
            }
        }
        () = sleep_until(ctx.deadline) => {
            ctx.cancelled.cancel();
            let answer = timeout(bounds.grace, processing).await;
            End::Answered(Err(timed_out(bounds.timeout, answer.ok())))
        }
    }
}

fn answered(answer: Result<Done, Failure>, scope: &Scope, bounds: Bounds) -> End {
    match within(answer, &scope.ctx, bounds) {
        // It was told to stop, and says that it was.
        Err(_) if scope.stop.is_cancelled() => End::Abandoned,
        answer => End::Answered(answer),
    }
}

fn crashed(panic: &(dyn Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why");
    Failure::new(
        FailureKind::CRASHED,
        format!("the handler panicked: {text}"),
    )
}

/// What the handler said last is kept as detail: the end of its standard error tells where it hung.
fn timed_out(allowed: Millis, answer: Option<Result<Done, Failure>>) -> Failure {
    let allowed = allowed.to_string().replace(".0s", "s");
    let failure = Failure::new(FailureKind::TIMEOUT, format!("took longer than {allowed}"));
    match answer {
        Some(Err(Failure {
            detail: Some(detail),
            ..
        })) => failure.with_detail(detail),
        _ => failure,
    }
}

/// Refuses an output that is too large, or that is not the segments which it was to be.
fn within(answer: Result<Done, Failure>, ctx: &Context, bounds: Bounds) -> Result<Done, Failure> {
    let answer = match answer {
        Ok(Done::Completed(Some(output))) if bounds.splits => {
            Ok(Done::Completed(Some(segments::checked(output)?)))
        }
        answer => answer,
    };
    let Ok(Done::Completed(Some(output))) = &answer else {
        return answer;
    };
    let size = output.body.len() as u64;
    if size > ctx.max_output_bytes {
        return Err(Failure::new(
            FailureKind::OUTPUT_TOO_LARGE,
            format!(
                "the output has {size} bytes: the job keeps at most {} (max_output_bytes)",
                ctx.max_output_bytes
            ),
        ));
    }
    let message = size + output.media_type.len() as u64;
    if message > bounds.room {
        return Err(Failure::new(
            FailureKind::OUTPUT_TOO_LARGE,
            format!(
                "the output has {message} bytes with its media type: a message of the broker has room for {} (max_payload)",
                bounds.room
            ),
        ));
    }
    answer
}
