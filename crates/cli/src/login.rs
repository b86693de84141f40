//! As whom this process logs in at the broker, and where the broker's answers come in.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use redrive_broker::nats::{self, InboxPrefix, Password};

use crate::exit::usage;

/// The most bytes of a file that holds a password.
const LONGEST: u64 = 4 * 1024;

/// What a process is to the broker. Permissions tell roles apart by where their answers come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Coordinator,
    Worker,
    Projector,
    Gateway,
    /// Whoever is at the command line.
    Operator,
}

impl Role {
    /// Where its answers come in unless the settings say otherwise: below `_INBOX`, which users without permissions of
    /// their own may use.
    pub(crate) fn inbox(self) -> anyhow::Result<InboxPrefix> {
        let prefix = match self {
            Self::Coordinator => "_INBOX.rd.coordinator",
            Self::Worker => "_INBOX.rd.worker",
            Self::Projector => "_INBOX.rd.projector",
            Self::Gateway => "_INBOX.rd.gateway",
            Self::Operator => "_INBOX.rd.operator",
        };
        Ok(prefix.parse()?)
    }
}

/// How to log in, as the settings say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// With a credentials file.
    Creds(PathBuf),
    /// As a user whose password is in a file.
    User {
        name: String,
        password_file: PathBuf,
    },
}

impl Login {
    /// From the settings. Credentials that were given as a flag go before what files and the environment say.
    pub(crate) fn of(
        flag: Option<PathBuf>,
        creds: Option<PathBuf>,
        user: Option<String>,
        password_file: Option<PathBuf>,
    ) -> anyhow::Result<Option<Self>> {
        match (flag, creds, user, password_file) {
            (Some(creds), ..) | (None, Some(creds), None, None) => Ok(Some(Self::Creds(creds))),
            (None, None, Some(name), Some(password_file)) => Ok(Some(Self::User {
                name,
                password_file,
            })),
            (None, None, None, None) => Ok(None),
            (None, Some(_), _, _) => Err(usage(
                "creds and nats_user are two ways to log in: set one of them",
            )),
            (None, None, Some(name), None) => Err(usage(format!(
                "nats_user is {name:?}: set nats_password_file to a file with that user's password"
            ))),
            (None, None, None, Some(_)) => Err(usage(
                "nats_password_file is set: say with nats_user whose password it is",
            )),
        }
    }

    /// What the broker is told. A password is read now, so that a new one counts from the next start.
    pub(crate) fn read(&self) -> anyhow::Result<nats::Login> {
        Ok(match self {
            Self::Creds(path) => nats::Login::Creds(path.clone()),
            Self::User {
                name,
                password_file,
            } => nats::Login::User {
                name: name.clone(),
                password: password(password_file)?,
            },
        })
    }
}

/// The first line of a file.
fn password(path: &Path) -> anyhow::Result<Password> {
    let wrong = |why: &str| usage(format!("nats_password_file: {}: {why}", path.display()));
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(|error| wrong(&error.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(wrong("it has more than 4 KiB: it is to hold one password"));
    }
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(password), None) if !password.is_empty() => Ok(Password::new(password)),
        (_, Some(_)) => Err(wrong(
            "it has more than one line: it is to hold one password",
        )),
        _ => Err(wrong("there is no password in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_log_in() {
        let path = |name: &str| Some(PathBuf::from(name));
        let user = || Some("ann".to_owned());
        let creds = |name| Some(Login::Creds(PathBuf::from(name)));
        assert_eq!(Login::of(None, None, None, None).unwrap(), None);
        assert_eq!(Login::of(None, path("c"), None, None).unwrap(), creds("c"));
        // What is said on the command line goes before what stands in files.
        assert_eq!(
            Login::of(path("f"), path("c"), user(), path("p")).unwrap(),
            creds("f")
        );
        assert!(matches!(
            Login::of(None, None, user(), path("p")).unwrap(),
            Some(Login::User { name, .. }) if name == "ann"
        ));
        for (creds, user, password, said) in [
            (path("c"), user(), path("p"), "set one of them"),
            (path("c"), None, path("p"), "set one of them"),
            (None, user(), None, "set nats_password_file"),
            (None, None, path("p"), "with nats_user"),
        ] {
            let error = Login::of(None, creds, user, password).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_password_is_the_one_line_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |content: &[u8]| {
            let path = dir.path().join("password");
            std::fs::write(&path, content).unwrap();
            password(&path).map_err(|error| error.to_string())
        };
        assert_eq!(file(b"s3 cret\n"), Ok(Password::new("s3 cret")));
        assert_eq!(file(b"s3cret\r\n"), Ok(Password::new("s3cret")));
        for (content, said) in [
            (&b""[..], "no password"),
            (b"\n", "no password"),
            (b"a\nb\n", "more than one line"),
            (&[b'x'; 5_000], "more than 4 KiB"),
            (b"\xff\n", "UTF-8"),
        ] {
            let error = file(content).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let gone = password(Path::new("/nowhere/password")).unwrap_err();
        assert!(
            gone.to_string()
                .starts_with("nats_password_file: /nowhere/password: ")
        );
    }
}
