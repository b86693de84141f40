//! The commands.

pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod history;
pub(crate) mod look;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod top;
pub(crate) mod workers;
