//! The one place where errors of the client become errors of the port.

use std::{error::Error as _, time::Duration};

use async_nats::{
    ConnectErrorKind, client,
    jetstream::{self, ErrorCode, context},
};

use crate::BrokerError;

/// A publish to a stream that was not acknowledged.
#[derive(Debug)]
pub(super) enum PublishFailure {
    /// The stream does not end with what was expected of it.
    WrongSequence,
    /// Nobody knows whether it is stored.
    Unknown(BrokerError),
    /// It is not stored.
    Refused(BrokerError),
}

impl PublishFailure {
    pub(super) fn into_error(self, expected: u64) -> BrokerError {
        match self {
            Self::WrongSequence => BrokerError::Conflict { expected },
            Self::Unknown(error) | Self::Refused(error) => error,
        }
    }
}

/// What the JetStream API answered about `what`.
pub(super) fn api(what: &str, error: &jetstream::Error) -> BrokerError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::CONSUMER_NOT_FOUND
        | ErrorCode::CONSUMER_DOES_NOT_EXIST => BrokerError::Missing(what.to_owned()),
        _ => BrokerError::Other(format!("{what}: {error}")),
    }
}

/// A request to the JetStream API about `what`.
pub(super) fn api_request(
    what: &str,
    wait: Duration,
    url: &str,
    error: &context::RequestError,
) -> BrokerError {
    match error.kind() {
        context::RequestErrorKind::TimedOut => BrokerError::Timeout(wait),
        // The API itself has no listener: the server is up, its JetStream is not (yet).
        context::RequestErrorKind::NoResponders => {
            BrokerError::Unreachable(format!("{url} (JetStream)"))
        }
        context::RequestErrorKind::InvalidSubject | context::RequestErrorKind::Other => {
            BrokerError::Other(format!("{what}: {}", with_source(error)))
        }
    }
}

/// A publish to a stream.
pub(super) fn stream_publish(
    stream: &str,
    wait: Duration,
    error: &context::PublishError,
) -> PublishFailure {
    use context::PublishErrorKind as Kind;
    match error.kind() {
        Kind::WrongLastSequence | Kind::WrongLastMessageId => PublishFailure::WrongSequence,
        Kind::TimedOut | Kind::BrokenPipe => PublishFailure::Unknown(BrokerError::Timeout(wait)),
        Kind::StreamNotFound => PublishFailure::Refused(BrokerError::Missing(stream.to_owned())),
        Kind::MaxAckPending | Kind::MaxPayloadExceeded => {
            PublishFailure::Refused(BrokerError::Other(with_source(error)))
        }
        Kind::Other => match answer(error) {
            // Replicated streams say it with another code.
            Some(answer)
                if matches!(
                    answer.error_code(),
                    ErrorCode::STREAM_WRONG_LAST_SEQUENCE
                        | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
                ) =>
            {
                PublishFailure::WrongSequence
            }
            Some(answer) => PublishFailure::Refused(api(stream, answer)),
            None => PublishFailure::Refused(BrokerError::Other(with_source(error))),
        },
    }
}

fn answer(error: &context::PublishError) -> Option<&jetstream::Error> {
    error.source()?.downcast_ref()
}

/// A request to a service.
pub(super) fn request(subject: &str, wait: Duration, error: &client::RequestError) -> BrokerError {
    match error.kind() {
        client::RequestErrorKind::TimedOut => BrokerError::Timeout(wait),
        client::RequestErrorKind::NoResponders => BrokerError::NoResponders(subject.to_owned()),
        client::RequestErrorKind::InvalidSubject
        | client::RequestErrorKind::MaxPayloadExceeded
        | client::RequestErrorKind::Other => BrokerError::Other(with_source(error)),
    }
}

/// A publish to whoever listens.
pub(super) fn publish(error: &client::PublishError) -> BrokerError {
    match error.kind() {
        client::PublishErrorKind::MaxPayloadExceeded
        | client::PublishErrorKind::InvalidSubject
        | client::PublishErrorKind::Send => BrokerError::Other(with_source(error)),
    }
}

/// A subscription.
pub(super) fn subscribe(error: &client::SubscribeError) -> BrokerError {
    match error.kind() {
        client::SubscribeErrorKind::InvalidSubject
        | client::SubscribeErrorKind::InvalidQueueName
        | client::SubscribeErrorKind::Other => BrokerError::Other(with_source(error)),
    }
}

/// The first connection. The second value says whether another try may help.
pub(super) fn connect(url: &str, error: &async_nats::ConnectError) -> (BrokerError, bool) {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => (
            BrokerError::Denied(format!("{url}: {}", with_source(error))),
            false,
        ),
        ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => (
            BrokerError::Other(format!("{url}: {}", with_source(error))),
            false,
        ),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => (BrokerError::Unreachable(url.to_owned()), true),
    }
}

fn with_source(error: &(dyn std::error::Error + 'static)) -> String {
    // The client's errors print their source themselves.
    error.to_string()
}
