//! The sections of `config.yaml` that say where the stores and the registry are.

#![allow(missing_docs, reason = "config.yaml documents every key once")]

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    secret::{Secret, SecretUrl},
    units::duration,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: SecretUrl,
    pub path: PathBuf,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    pub password_file: PathBuf,
    pub dbname: String,
    pub tls: DatabaseTls,
    pub ca_file: PathBuf,
    pub connections_max: u32,
    #[serde(with = "duration")]
    pub pool_timeout: Duration,
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseTls {
    Disabled,
    Preferred,
    Required,
    Verify,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: SecretUrl,
    pub mode: RedisMode,
    /// host:port, several with commas in between.
    pub addr: String,
    pub master: String,
    pub user: String,
    pub password: Secret,
    pub password_file: PathBuf,
    pub db: u32,
    pub tls: bool,
    pub ca_file: PathBuf,
    pub key_prefix: String,
    #[serde(with = "duration")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    Single,
    Sentinel,
    Cluster,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    pub url: SecretUrl,
    pub endpoints: Vec<String>,
    pub user: String,
    pub password: Secret,
    pub password_file: PathBuf,
    pub tls: bool,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub key_prefix: String,
    #[serde(with = "duration")]
    pub lease_ttl: Duration,
}
