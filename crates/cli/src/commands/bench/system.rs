//! The system that is measured: a broker, and each role as a process of its own.

use std::{fs, io, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use redrive_broker::{Broker, nats::NatsBroker};
use redrive_nats_server::{Server, ServerConfig};
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};

use super::args::Role;
use crate::{
    app,
    exit::{Exit, failed},
    login::{self, Login},
    settings::Settings,
};

/// How long a role may take to end.
const END: Duration = Duration::from_secs(30);

/// A broker with a place for files. Dropped, it kills what it started.
pub(super) struct System {
    roles: Vec<Running>,
    pub(super) broker: NatsBroker,
    url: String,
    settings: Settings,
    server: Option<Server>,
    folder: TempDir,
}

struct Running {
    role: Role,
    child: Child,
    /// It ends when this is closed, however that comes about.
    input: ChildStdin,
}

/// What a process has used so far, where the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Used {
    /// The most memory that it ever held, in bytes.
    pub(super) peak: Option<u64>,
    /// Processor time, in seconds.
    pub(super) cpu: Option<f64>,
}

impl System {
    /// Starts a broker, or takes the given one, on which there must be nothing.
    pub(super) async fn start(settings: &Settings, url: Option<&str>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("redrive-bench-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let (server, url) = match url {
            Some(url) => (None, url.to_owned()),
            None => {
                let store = folder.path().join("nats");
                let server = tokio::task::spawn_blocking(move || {
                    let binary = redrive_nats_server::obtain(None)?;
                    Server::start(ServerConfig::new(binary, store)).map_err(anyhow::Error::from)
                })
                .await??;
                let url = server.client_url();
                (Some(server), url)
            }
        };
        let broker = app::connect(settings, &url, login::Role::Operator).await?;
        broker.ensure().await?;
        Ok(Self {
            roles: Vec::new(),
            broker,
            url,
            settings: settings.clone(),
            server,
            folder,
        })
    }

    /// Refuses a broker that is in use: what else goes on there would be measured too, and what is measured stays in its
    /// log.
    pub(super) async fn must_be_empty(&self) -> anyhow::Result<()> {
        if self.broker.last_seq().await? == 0 {
            return Ok(());
        }
        Err(failed(
            Exit::Conflict,
            format!(
                "the log of the broker at {} is not empty: give a broker with nothing on it, or none",
                self.url
            ),
        ))
    }

    /// Starts roles.
    pub(super) fn start_roles(&mut self, roles: &[Role]) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find the program itself")?;
        for role in roles.iter().copied() {
            let store = match role {
                Role::Gateway => self.gateway_file(),
                Role::Coordinator | Role::Worker | Role::Projector => self.store(),
            };
            let mut command = Command::new(&program);
            command
                .args(["bench", "--role", role.name(), "--store"])
                .arg(store)
                // A password in it is nobody's business.
                .env("REDRIVE_NATS_URL", &self.url)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .process_group(0)
                .kill_on_drop(true);
            match &self.settings.login {
                Some(Login::Creds(creds)) => {
                    command.arg("--creds").arg(creds);
                }
                Some(Login::User {
                    name,
                    password_file,
                }) => {
                    command
                        .env("REDRIVE_NATS_USER", name)
                        .env("REDRIVE_NATS_PASSWORD_FILE", password_file);
                }
                None => {}
            }
            let mut child = command
                .spawn()
                .with_context(|| format!("cannot start the {}", role.name()))?;
            let Some(input) = child.stdin.take() else {
                bail!("the {} has no standard input", role.name());
            };
            self.roles.push(Running { role, child, input });
        }
        Ok(())
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("projector")
    }

    fn gateway_file(&self) -> std::path::PathBuf {
        self.folder.path().join("gateway.url")
    }

    /// Where the gateway answers, once it does.
    pub(super) async fn gateway(&self) -> anyhow::Result<String> {
        let file = self.gateway_file();
        let end = tokio::time::Instant::now() + END;
        loop {
            match fs::read_to_string(&file) {
                Ok(url) => return Ok(url),
                Err(_) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error).context("the gateway does not answer"),
            }
        }
    }

    /// What a role has used.
    pub(super) fn used_by(&self, role: Role) -> Used {
        let running = self.roles.iter().find(|it| it.role == role);
        used(running.and_then(|it| it.child.id()))
    }

    /// What the broker has used; nothing is known of one that was given.
    pub(super) fn used_by_broker(&self) -> Used {
        used(self.server.as_ref().and_then(Server::pid))
    }

    /// What this process has used.
    pub(super) fn used_by_client() -> Used {
        used(Some(std::process::id()))
    }

    /// Waits until a role has ended, which none should.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let waits = self.roles.iter_mut().map(|running| {
            let name = running.role.name();
            Box::pin(async move { (name, running.child.wait().await) })
        });
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        let ((name, ended), ..) = futures::future::select_all(waits).await;
        match ended {
            Ok(status) => anyhow::anyhow!("the {name} ended: {status}"),
            Err(error) => anyhow::Error::new(error).context(format!("the {name} is lost")),
        }
    }

    /// Ends the roles, then the broker. Returns what the projector's store takes, in bytes.
    pub(super) async fn stop(mut self) -> anyhow::Result<u64> {
        for Running {
            role,
            mut child,
            input,
        } in self.roles.drain(..)
        {
            drop(input);
            if tokio::time::timeout(END, child.wait()).await.is_err() {
                child.kill().await.ok();
                bail!("the {} did not end within {END:?}", role.name());
            }
        }
        let store = size_of(&self.store()).context("cannot look at the projector's store")?;
        if let Some(mut server) = self.server.take() {
            tokio::task::spawn_blocking(move || server.stop()).await??;
        }
        Ok(store)
    }
}

fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        size += if data.is_dir() {
            size_of(&entry.path())?
        } else {
            data.len()
        };
    }
    Ok(size)
}

/// From Linux's `/proc`; elsewhere nothing is known.
fn used(pid: Option<u32>) -> Used {
    let Some(pid) = pid else {
        return Used::default();
    };
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    Used {
        peak: read("status").as_deref().and_then(peak),
        cpu: read("stat").as_deref().and_then(cpu),
    }
}

fn peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15 of proc_pid_stat(5). The second field is in parentheses and may hold anything.
#[allow(clippy::cast_precision_loss)]
fn cpu(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let both = ticks()? + ticks()?;
    Some(both as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(peak("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 10 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(200.0 / ticks));
        assert_eq!(cpu(""), None);
    }
}
