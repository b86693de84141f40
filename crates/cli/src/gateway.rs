//! A gateway as the command line and the settings want it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use redrive_gateway::{Auth, Config, RATE, Tls};

use crate::{
    args::{AuthKind, GatewayArgs},
    commands::run::read_pipeline,
    exit::usage,
    settings::{GatewaySettings, Settings},
};

/// Where a gateway answers unless said.
pub(crate) const USUAL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7070);

/// For everybody on this machine, as `redrive dev` has it.
///
/// # Errors
/// Where a pipeline cannot be read.
pub(crate) fn open(settings: &Settings, listen: SocketAddr) -> anyhow::Result<Config> {
    let mut config = Config::open(listen, settings.namespace.clone());
    common(&mut config, &settings.gateway)?;
    Ok(config)
}

/// As a role of its own: what the command line says comes before what the settings say.
///
/// # Errors
/// Where an option or a pipeline is wrong.
pub(crate) fn configured(settings: &Settings, args: &GatewayArgs) -> anyhow::Result<Config> {
    let given = &settings.gateway;
    let listen = args.listen.or(given.listen).unwrap_or(USUAL);
    let auth = match args.auth.or(given.auth).unwrap_or_default() {
        AuthKind::Keys => Auth::Keys,
        AuthKind::None => Auth::Open {
            namespace: settings.namespace.clone(),
        },
    };
    let mut config = Config::new(listen, auth);
    common(&mut config, given)?;
    let path = |flag: &Option<PathBuf>,
                setting: &Option<figment::value::magic::RelativePathBuf>| {
        let setting = setting.as_ref().map(|file| file.relative());
        flag.clone().or(setting)
    };
    let cert = path(&args.tls_cert, &given.tls_cert);
    let key = path(&args.tls_key, &given.tls_key);
    config.tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(Tls { cert, key }),
        (None, None) => None,
        (Some(_), None) => return Err(usage("gateway.tls_key is missing: HTTPS takes both")),
        (None, Some(_)) => return Err(usage("gateway.tls_cert is missing: HTTPS takes both")),
    };
    config.cors.extend(args.cors.iter().cloned());
    config.rate = args.rate.or(given.rate).unwrap_or(RATE);
    for named in &args.pipeline {
        let (name, file) = named.split_once('=').ok_or_else(|| {
            usage(format!(
                "--pipeline {named}: give it as NAME=FILE, for instance invoices=invoices.toml"
            ))
        })?;
        config
            .pipelines
            .insert(name.to_owned(), read_pipeline(Path::new(file))?);
    }
    Ok(config)
}

/// What only the settings can say, or say first.
fn common(config: &mut Config, given: &GatewaySettings) -> anyhow::Result<()> {
    config.cors = given
        .cors
        .iter()
        .map(|origin| {
            origin
                .parse()
                .map_err(|error| usage(format!("gateway.cors: {error}")))
        })
        .collect::<anyhow::Result<_>>()?;
    config.rate = given.rate.unwrap_or(RATE);
    config.pipelines = given
        .pipelines
        .iter()
        .map(|(name, file)| Ok((name.clone(), read_pipeline(&file.relative())?)))
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    Ok(())
}
