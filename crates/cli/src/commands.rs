//! The commands.

pub(crate) mod archive;
pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod credits;
pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod doctor;
pub(crate) mod documents;
pub(crate) mod generate;
pub(crate) mod heal;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod look;
mod outages;
mod parameters;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod time;
pub(crate) mod top;
pub(crate) mod workers;
