//! A whole system in one process: nats-server as a managed child, and the roles as tasks.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use redrive_broker::nats::{ConnectOptions, NatsBroker};
use redrive_nats_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    exit::{Exit, failed},
    vigil::Vigil,
};

/// How long roles may take to end.
const END: Duration = Duration::from_secs(10);
/// How often to look whether a system that is ending has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What stands in the data folder while a system runs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) pid: u32,
    pub(crate) life: Life,
}

/// How long a system goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Life {
    /// Until it is told to end.
    Own,
    /// Until its last user leaves.
    Users,
}

/// The files of a data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(data: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(data)
            .with_context(|| format!("cannot use the data folder {}", data.display()))?;
        let data = data
            .canonicalize()
            .with_context(|| format!("cannot use the data folder {}", data.display()))?;
        Ok(Self(data))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn running_file(&self) -> PathBuf {
        self.0.join("system.json")
    }

    /// The system that says it runs here; it may be gone.
    pub(crate) fn running(&self) -> Option<Running> {
        let text = fs::read(self.running_file()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("redrive.log")
    }

    fn nats(&self) -> PathBuf {
        self.0.join("nats")
    }

    fn projector(&self) -> PathBuf {
        self.0.join("projector")
    }

    pub(crate) fn lock_file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.0.join(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Folder {
    /// The right to run a system here, which only one has.
    async fn only(&self) -> anyhow::Result<File> {
        let only = self.lock_file("system.lock")?;
        let end = Instant::now() + END + END;
        loop {
            match only.try_lock() {
                Ok(()) => return Ok(only),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).context("cannot lock the data folder");
                }
            }
            let running = self.running();
            if Instant::now() > end || !self.is_ending(running.as_ref())? {
                let by = running.map(|running| format!(" (process {})", running.pid));
                return Err(failed(
                    Exit::Conflict,
                    format!(
                        "a system runs on the data folder {} already{}: use it, or another folder with --data",
                        self.path().display(),
                        by.unwrap_or_default()
                    ),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the system that holds the folder is about to let go of it: it says no longer that it runs, or nobody is
    /// left for whom it does.
    fn is_ending(&self, running: Option<&Running>) -> anyhow::Result<bool> {
        let Some(running) = running else {
            return Ok(true);
        };
        if running.life == Life::Own {
            return Ok(false);
        }
        let users = self.lock_file("users.lock")?;
        // It takes the lock for itself when it ends.
        Ok(users.try_lock().is_ok() || users.try_lock_shared().is_err())
    }
}

/// A running system. Stop it with [`System::stop`]; dropped, its server dies and its roles are cut off, which loses
/// nothing.
pub(crate) struct System {
    folder: Folder,
    server: Option<Server>,
    roles: JoinSet<anyhow::Result<&'static str>>,
    shutdown: CancellationToken,
    broker: NatsBroker,
    vigil: Vigil,
    /// Held while the system runs: a folder has one.
    _only: File,
}

impl System {
    /// Starts the broker on a port (any free one without), the coordinator and the projector.
    ///
    /// A system that is just ending is waited for; one that goes on is a conflict.
    pub(crate) async fn start(
        folder: Folder,
        port: Option<u16>,
        life: Life,
        vigil: Vigil,
    ) -> anyhow::Result<Self> {
        let only = folder.only().await?;
        let store = folder.nats();
        let server = tokio::task::spawn_blocking(move || {
            let binary = redrive_nats_server::obtain(None)?;
            let mut config = ServerConfig::new(binary, store);
            config.port = port;
            Server::start(config).map_err(anyhow::Error::from)
        })
        .await??;
        let shutdown = CancellationToken::new();
        let broker = NatsBroker::connect(ConnectOptions::new(server.client_url())).await?;
        redrive_broker::Broker::ensure(&broker).await?;
        let mut system = Self {
            roles: JoinSet::new(),
            server: Some(server),
            shutdown,
            broker,
            folder,
            vigil,
            _only: only,
        };
        system.start_roles();
        let running = Running {
            url: system.url(),
            pid: std::process::id(),
            life,
        };
        // Whoever reads it reads all of it.
        let draft = system.folder.path().join("system.json.new");
        fs::write(&draft, serde_json::to_vec(&running)?)?;
        fs::rename(&draft, system.folder.running_file())?;
        Ok(system)
    }

    fn start_roles(&mut self) {
        let name = crate::identity::unique("coordinator");
        let config = redrive_coordinator::Config::new(name);
        self.vigil.coordinator(&self.broker, &config);
        let (broker, token) = (self.broker.clone(), self.shutdown.clone());
        self.roles.spawn(async move {
            redrive_coordinator::run(broker, config, token).await?;
            Ok("coordinator")
        });
        let config = redrive_projector::Config {
            data_dir: Some(self.folder.projector()),
            ..redrive_projector::Config::default()
        };
        self.vigil.projector(&self.broker, &config);
        let (broker, token) = (self.broker.clone(), self.shutdown.clone());
        self.roles.spawn(async move {
            redrive_projector::run(broker, config, token).await?;
            Ok("projector")
        });
    }

    /// Adds a worker.
    pub(crate) fn start_worker(
        &mut self,
        config: redrive_worker::Config,
        handlers: Vec<Arc<dyn redrive_worker::handler::Handler>>,
    ) {
        self.vigil.worker(&self.broker, &config, &self.shutdown);
        let (broker, token) = (self.broker.clone(), self.shutdown.clone());
        self.roles.spawn(async move {
            redrive_worker::run(broker, config, handlers, token).await?;
            Ok("worker")
        });
    }

    /// Adds a gateway; where it answers.
    pub(crate) async fn start_gateway(
        &mut self,
        config: redrive_gateway::Config,
    ) -> Result<String, redrive_gateway::ServeError> {
        let vitals = config.vitals.clone();
        let (broker, token) = (self.broker.clone(), self.shutdown.clone());
        let bound = redrive_gateway::bind(broker, config, token).await?;
        let url = bound.url();
        self.vigil.gateway(&self.broker, &vitals, url.clone());
        self.roles.spawn(async move {
            bound.run().await;
            Ok("gateway")
        });
        Ok(url)
    }

    pub(crate) fn url(&self) -> String {
        self.server
            .as_ref()
            .map(Server::client_url)
            .unwrap_or_default()
    }

    pub(crate) fn broker(&self) -> &NatsBroker {
        &self.broker
    }

    /// Waits until a role fails, which none should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.roles.join_next().await {
                Some(Ok(Ok(role))) => tracing::debug!(role, "ended"),
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return anyhow::Error::new(error).context("a role broke"),
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the server is still there.
    pub(crate) fn is_running(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_running)
    }

    /// Ends the roles, then the broker.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        // From here on nobody new is to come.
        let _ = fs::remove_file(self.folder.running_file());
        self.shutdown.cancel();
        let ended = tokio::time::timeout(END, async {
            while let Some(ended) = self.roles.join_next().await {
                match ended {
                    Ok(Ok(role)) => tracing::debug!(role, "ended"),
                    Ok(Err(error)) => tracing::warn!(%error, "a role ended badly"),
                    Err(error) => tracing::warn!(%error, "a role broke"),
                }
            }
        });
        if ended.await.is_err() {
            self.roles.abort_all();
        }
        let Some(mut server) = self.server.take() else {
            bail!("the broker was not running");
        };
        tokio::task::spawn_blocking(move || server.stop()).await??;
        Ok(())
    }
}
