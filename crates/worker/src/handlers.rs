//! The handlers that ship with Redrive.

mod command;
mod envelope;
pub mod exec;
mod exits;
pub mod fetch;
pub mod http;
mod params;
mod process;
pub mod stdio;
mod web;

use std::sync::Arc;

use redrive_domain::{
    failure::{Failure, FailureKind},
    ids::{HandlerName, InvalidName},
};

use crate::handler::Handler;

/// All of them, each under its usual name.
///
/// # Errors
/// Where a usual name is no name, which the tests rule out.
pub fn builtin() -> Result<Vec<Arc<dyn Handler>>, InvalidName> {
    Ok(vec![
        Arc::new(exec::Exec::new(HandlerName::new(exec::Exec::NAME)?)),
        Arc::new(fetch::Fetch::new(HandlerName::new(fetch::Fetch::NAME)?)),
        Arc::new(http::Http::new(HandlerName::new(http::Http::NAME)?)),
        Arc::new(stdio::Stdio::new(HandlerName::new(stdio::Stdio::NAME)?)),
    ])
}

/// The answer of an attempt that nobody waits for any more.
fn cancelled() -> Failure {
    Failure::new(FailureKind::PREEMPTED, "stopped: the attempt was cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_usual_name() {
        let names: Vec<String> = builtin()
            .unwrap()
            .iter()
            .map(|handler| handler.name().to_string())
            .collect();
        assert_eq!(names, ["exec", "fetch", "http", "stdio"]);
    }
}
