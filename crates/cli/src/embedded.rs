//! The system of a data folder that commands share while any of them runs.
//!
//! Every command holds a shared lock on `users.lock`; the kernel gives it back however the command ends. The system is
//! a process of its own, which ends itself when it gets that lock for itself: then nobody is left.

use std::{
    fs::{File, TryLockError},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use redrive_broker::{
    BrokerError,
    nats::{ConnectOptions, NatsBroker},
};
use tokio::time::Instant;

use crate::{
    exit::{Exit, failed},
    system::{Folder, Life, Running, System},
    vigil::Vigil,
};

/// How long a system may take to start; obtaining a broker for the first time is most of it.
const START: Duration = Duration::from_secs(200);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// How often the system looks whether anybody is left.
const LINGER: Duration = Duration::from_millis(250);

/// A place at the system of a data folder: it runs for as long as this lives.
pub(crate) struct Share {
    pub(crate) broker: NatsBroker,
    pub(crate) running: Running,
    _user: File,
}

/// Joins the system of the folder; starts it where none is running.
pub(crate) async fn join(folder: &Folder) -> anyhow::Result<Share> {
    let user = folder.lock_file("users.lock")?;
    // A system that is just ending holds it for itself for a moment.
    let user = tokio::task::spawn_blocking(move || user.lock_shared().map(|()| user)).await??;
    if let Some((broker, running)) = connect(folder).await {
        return Ok(Share {
            broker,
            running,
            _user: user,
        });
    }
    let starting = folder.lock_file("start.lock")?;
    let starting =
        tokio::task::spawn_blocking(move || starting.lock().map(|()| starting)).await??;
    if let Some((broker, running)) = connect(folder).await {
        return Ok(Share {
            broker,
            running,
            _user: user,
        });
    }
    let (broker, running) = start(folder).await?;
    drop(starting);
    Ok(Share {
        broker,
        running,
        _user: user,
    })
}

async fn connect(folder: &Folder) -> Option<(NatsBroker, Running)> {
    let running = folder.running()?;
    let mut options = ConnectOptions::new(running.url.clone());
    options.connect_timeout = Duration::from_secs(2);
    match NatsBroker::connect(options).await {
        Ok(broker) => Some((broker, running)),
        Err(BrokerError::Unreachable(_)) => None,
        Err(error) => {
            tracing::debug!(%error, "the system of the folder does not answer");
            None
        }
    }
}

async fn start(folder: &Folder) -> anyhow::Result<(NatsBroker, Running)> {
    // What is left of one that was killed.
    let _ = std::fs::remove_file(folder.running_file());
    let log = File::create(folder.log())
        .with_context(|| format!("cannot write {}", folder.log().display()))?;
    let mut child = Command::new(std::env::current_exe().context("cannot find this program")?)
        .arg("embedded")
        .arg("--data")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C in the terminal is for the command, not for what others may share.
        .process_group(0)
        .spawn()
        .context("cannot start the embedded system")?;
    let end = Instant::now() + START;
    loop {
        if let Some(joined) = connect(folder).await {
            return Ok(joined);
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(folder.log()).unwrap_or_default();
            let log = log.lines().rev().take(5).collect::<Vec<_>>();
            let log = log.into_iter().rev().collect::<Vec<_>>().join("\n");
            let exit = if status.code() == Some(Exit::Conflict as i32) {
                Exit::Conflict
            } else {
                Exit::Unreachable
            };
            return Err(failed(
                exit,
                format!("the embedded system did not start:\n{log}"),
            ));
        }
        if Instant::now() > end {
            let _ = child.kill();
            return Err(failed(
                Exit::Unreachable,
                format!(
                    "the embedded system did not start within {START:?}: see {}",
                    folder.log().display()
                ),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Is the system of the folder until nobody uses it.
pub(crate) async fn serve(folder: Folder) -> anyhow::Result<()> {
    let users = folder.lock_file("users.lock")?;
    let mut system = System::start(folder, None, Life::Users, Vigil::default()).await?;
    let mut signals = crate::signals::Signals::new()?;
    loop {
        tokio::select! {
            error = system.failed() => {
                tracing::error!(error = format!("{error:#}"), "a role failed");
                break;
            }
            () = signals.any() => break,
            () = tokio::time::sleep(LINGER) => {}
        }
        if !system.is_running() {
            tracing::error!("the broker has ended");
            break;
        }
        match users.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    system.stop().await
}
