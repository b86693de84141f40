//! How a server is configured, and the file that says so to it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::StartError;

/// How often JetStream forces its files to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncInterval {
    /// The server's own default (two minutes).
    #[default]
    Default,
    /// Before every acknowledgement. Needs nats-server 2.10 or newer.
    Always,
    /// At this interval. Needs nats-server 2.10 or newer.
    Every(Duration),
}

/// What a [`Server`](crate::Server) is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The `nats-server` to run.
    pub binary: PathBuf,
    /// The folder that holds the JetStream data and all files of the server.
    pub store_dir: PathBuf,
    /// The port of the clients; `None` lets the system pick a free one.
    pub port: Option<u16>,
    /// The address to listen on; 127.0.0.1 unless set.
    pub host: String,
    /// The server's name; one is made up by the server if `None`.
    pub server_name: Option<String>,
    /// JetStream's limit for memory storage, in bytes.
    pub max_memory: Option<u64>,
    /// JetStream's limit for file storage, in bytes.
    pub max_file: Option<u64>,
    /// The largest message, in bytes; 1 MiB by the server's default.
    pub max_payload: Option<u32>,
    /// How often the data is forced to the disk.
    pub sync_interval: SyncInterval,
    /// The log; `nats-server.log` in the store if `None`.
    pub log_file: Option<PathBuf>,
    /// Lines for the end of the server's configuration file.
    pub extra_config: Option<String>,
    /// How long a start may take; a large store needs longer.
    pub ready_timeout: Duration,
    /// How long a stop may take before the server is killed.
    pub stop_timeout: Duration,
}

impl ServerConfig {
    /// A configuration with defaults for all but the binary and the store.
    pub fn new(binary: impl Into<PathBuf>, store_dir: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            store_dir: store_dir.into(),
            port: None,
            host: "127.0.0.1".to_owned(),
            server_name: None,
            max_memory: None,
            max_file: None,
            max_payload: None,
            sync_interval: SyncInterval::Default,
            log_file: None,
            extra_config: None,
            ready_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
        }
    }

    /// The text of the server's configuration file.
    pub(crate) fn render(&self, store_dir: &Path, ports_dir: &Path) -> Result<String, StartError> {
        let mut text = String::new();
        let port = self.port.map_or(-1, i32::from);
        let line = |text: &mut String, key: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}: {value}");
        };
        line(&mut text, "host", quote("host", &self.host)?);
        line(&mut text, "port", port.to_string());
        if let Some(name) = &self.server_name {
            line(&mut text, "server_name", quote("server_name", name)?);
        }
        line(&mut text, "ports_file_dir", quote_path(ports_dir)?);
        if let Some(bytes) = self.max_payload {
            line(&mut text, "max_payload", bytes.to_string());
        }
        text.push_str("jetstream {\n");
        line(&mut text, "  store_dir", quote_path(store_dir)?);
        if let Some(bytes) = self.max_memory {
            line(&mut text, "  max_memory_store", bytes.to_string());
        }
        if let Some(bytes) = self.max_file {
            line(&mut text, "  max_file_store", bytes.to_string());
        }
        match self.sync_interval {
            SyncInterval::Default => {}
            SyncInterval::Always => line(&mut text, "  sync_interval", "always".to_owned()),
            SyncInterval::Every(interval) => {
                let millis = interval.as_millis().max(1);
                line(&mut text, "  sync_interval", format!("\"{millis}ms\""));
            }
        }
        text.push_str("}\n");
        if let Some(extra) = &self.extra_config {
            text.push_str(extra);
            text.push('\n');
        }
        Ok(text)
    }
}

fn quote_path(path: &Path) -> Result<String, StartError> {
    let text = path.to_str().ok_or_else(|| StartError::Setting {
        setting: "store_dir",
        reason: format!("{} is not valid UTF-8", path.display()),
    })?;
    quote("store_dir", text)
}

fn quote(setting: &'static str, text: &str) -> Result<String, StartError> {
    if text.chars().any(char::is_control) {
        return Err(StartError::Setting {
            setting,
            reason: format!("{text:?} holds a control character"),
        });
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_setting_is_written() {
        let mut config = ServerConfig::new("nats-server", "/store");
        config.port = Some(4222);
        config.server_name = Some(r#"a "name" \ here"#.to_owned());
        config.max_memory = Some(1024);
        config.max_file = Some(1 << 40);
        config.max_payload = Some(8_388_608);
        config.sync_interval = SyncInterval::Every(Duration::from_millis(1500));
        config.extra_config = Some("debug: true".to_owned());
        let text = config
            .render(Path::new("/store"), Path::new("/store/ports"))
            .unwrap();
        assert_eq!(
            text,
            r#"host: "127.0.0.1"
port: 4222
server_name: "a \"name\" \\ here"
ports_file_dir: "/store/ports"
max_payload: 8388608
jetstream {
  store_dir: "/store"
  max_memory_store: 1024
  max_file_store: 1099511627776
  sync_interval: "1500ms"
}
debug: true
"#
        );
    }

    #[test]
    fn a_free_port_is_left_to_the_system() {
        let mut config = ServerConfig::new("nats-server", "/store");
        config.sync_interval = SyncInterval::Always;
        let text = config.render(Path::new("/s"), Path::new("/p")).unwrap();
        assert!(text.contains("\nport: -1\n"), "{text}");
        assert!(text.contains("\n  sync_interval: always\n"), "{text}");
    }

    #[test]
    fn a_line_break_cannot_smuggle_in_a_setting() {
        let mut config = ServerConfig::new("nats-server", "/store");
        config.host = "127.0.0.1\"\nport: 1".to_owned();
        let error = config.render(Path::new("/s"), Path::new("/p")).unwrap_err();
        assert!(error.to_string().starts_with("host cannot be used"));
    }
}
