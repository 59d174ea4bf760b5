//! Which server a section means: its URL taken apart, or its keys, with the password read from its file.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::{
    secret::{Secret, SecretUrl},
    stores::{Database, DatabaseTls, Etcd, Redis, RedisMode},
};

/// Where the record of rooms is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseTarget {
    /// A file `roomcast.db` in this folder.
    Sqlite {
        /// The folder.
        folder: PathBuf,
    },
    /// MySQL or MariaDB.
    Mysql(Box<MysqlTarget>),
}

/// A database of a MySQL or MariaDB server. Pool and time-outs stay in the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlTarget {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Empty: none.
    pub password: Secret,
    /// Which database.
    pub dbname: String,
    /// Whether to encrypt.
    pub tls: DatabaseTls,
    /// Empty: the authorities of this machine.
    pub ca_file: PathBuf,
}

/// Where the shared memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTarget {
    /// In this process.
    Memory,
    /// Redis.
    Server(Box<RedisServer>),
}

/// One Redis server, a cluster, or a master behind Sentinels. Prefix and time-out stay in the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// What `addresses` are.
    pub mode: RedisMode,
    /// (host, port); one in mode `single`.
    pub addresses: Vec<(String, u16)>,
    /// Name of the master, in mode `sentinel`.
    pub master: String,
    /// Empty: the default user.
    pub user: String,
    /// Empty: none. Sentinels are asked without one.
    pub password: Secret,
    /// Always 0 in mode `cluster`.
    pub db: u32,
    /// Whether to encrypt.
    pub tls: bool,
    /// Empty: the authorities of this machine.
    pub ca_file: PathBuf,
}

/// Where the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdTarget {
    /// In this process.
    Memory,
    /// etcd.
    Servers(Box<EtcdServers>),
}

/// The members of one etcd. Prefix and lease stay in the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdServers {
    /// (host, port), at least one.
    pub endpoints: Vec<(String, u16)>,
    /// Empty: no login.
    pub user: String,
    /// Goes with `user`.
    pub password: Secret,
    /// Whether to encrypt.
    pub tls: bool,
    /// Empty: the authorities of this machine.
    pub ca_file: PathBuf,
    /// Empty, or this process's certificate.
    pub cert_file: PathBuf,
    /// Empty, or the key of the certificate.
    pub key_file: PathBuf,
}

impl Database {
    /// Which record this section means. Errors name the key.
    pub fn target(&self) -> Result<DatabaseTarget, String> {
        if let Some(folder) = self.url.expose().strip_prefix("sqlite:") {
            let folder = folder.strip_prefix("//").unwrap_or(folder);
            if folder.is_empty() {
                return Err("database.url: write sqlite:FOLDER".to_owned());
            }
            return Ok(DatabaseTarget::Sqlite { folder: folder.into() });
        }
        let mut target = MysqlTarget {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            password: password("database", &self.password, &self.password_file)?,
            dbname: self.dbname.clone(),
            tls: self.tls,
            ca_file: self.ca_file.clone(),
        };
        if !self.url.is_empty() {
            let hint = "write mysql://user:password@host:3306/dbname or sqlite:FOLDER";
            let parts = UrlParts::of("database.url", &self.url, &["mysql"], hint)?;
            let [(host, port)] = &parts.hosts("database.url", 3306)?[..] else {
                return Err(format!("database.url: it takes one host; {hint}"));
            };
            (target.host, target.port) = (host.clone(), *port);
            parts.login(&mut target.user, &mut target.password);
            if !parts.path.is_empty() {
                target.dbname = parts.path.to_owned();
            }
        }
        for (key, value) in [("host", &target.host), ("user", &target.user), ("dbname", &target.dbname)] {
            if value.is_empty() {
                return Err(format!("database.{key}: it must not be empty"));
            }
        }
        Ok(DatabaseTarget::Mysql(Box::new(target)))
    }
}

impl Redis {
    /// Which shared memory this section means. Errors name the key.
    pub fn target(&self) -> Result<RedisTarget, String> {
        if self.url.expose() == "memory:" {
            return Ok(RedisTarget::Memory);
        }
        let mut server = RedisServer {
            mode: self.mode,
            addresses: Vec::new(),
            master: self.master.clone(),
            user: self.user.clone(),
            password: password("redis", &self.password, &self.password_file)?,
            db: self.db,
            tls: self.tls,
            ca_file: self.ca_file.clone(),
        };
        if self.url.is_empty() {
            server.addresses = hosts("redis.addr", &self.addr, 6379)?;
        } else {
            self.read_url(&mut server)?;
        }
        if server.mode == RedisMode::Single && server.addresses.len() != 1 {
            return Err(
                "redis.addr: mode single takes one address; set redis.mode to sentinel or cluster".into()
            );
        }
        if server.mode == RedisMode::Sentinel && server.master.is_empty() {
            return Err("redis.master: name the master that the Sentinels watch".to_owned());
        }
        if server.mode == RedisMode::Cluster && server.db != 0 {
            return Err("redis.db: a cluster has database 0 only".to_owned());
        }
        Ok(RedisTarget::Server(Box::new(server)))
    }

    fn read_url(&self, server: &mut RedisServer) -> Result<(), String> {
        const SCHEMES: [(&str, RedisMode, bool); 6] = [
            ("redis", RedisMode::Single, false),
            ("rediss", RedisMode::Single, true),
            ("redis+sentinel", RedisMode::Sentinel, false),
            ("rediss+sentinel", RedisMode::Sentinel, true),
            ("redis+cluster", RedisMode::Cluster, false),
            ("rediss+cluster", RedisMode::Cluster, true),
        ];
        let hint = "write redis://host:6379/0, redis+sentinel://host:26379/mymaster/0, redis+cluster://host:7000 \
                    or memory:";
        let parts = UrlParts::of("redis.url", &self.url, &SCHEMES.map(|(scheme, ..)| scheme), hint)?;
        let (_, mode, tls) =
            SCHEMES.into_iter().find(|(scheme, ..)| *scheme == parts.scheme).expect("checked");
        (server.mode, server.tls) = (mode, tls || self.tls);
        let port = if mode == RedisMode::Sentinel { 26379 } else { 6379 };
        server.addresses = parts.hosts("redis.url", port)?;
        parts.login(&mut server.user, &mut server.password);
        let db = match (mode, parts.path.split_once('/')) {
            (RedisMode::Sentinel, Some((master, db))) => {
                server.master = master.to_owned();
                db
            }
            (RedisMode::Sentinel, None) => {
                if !parts.path.is_empty() {
                    server.master = parts.path.to_owned();
                }
                ""
            }
            _ => parts.path,
        };
        if !db.is_empty() {
            server.db =
                db.parse().map_err(|_| format!("redis.url: {db:?} is not the number of a database"))?;
        }
        Ok(())
    }
}

impl Etcd {
    /// Which registry this section means. Errors name the key.
    pub fn target(&self) -> Result<EtcdTarget, String> {
        if self.url.expose() == "memory:" {
            return Ok(EtcdTarget::Memory);
        }
        let mut servers = EtcdServers {
            endpoints: Vec::new(),
            user: self.user.clone(),
            password: password("etcd", &self.password, &self.password_file)?,
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        };
        if self.url.is_empty() {
            servers.endpoints = hosts("etcd.endpoints", &self.endpoints.join(","), 2379)?;
        } else {
            let hint = "write etcd://host:2379,host:2379 (etcds:// with TLS) or memory:";
            let parts = UrlParts::of("etcd.url", &self.url, &["etcd", "etcds"], hint)?;
            servers.endpoints = parts.hosts("etcd.url", 2379)?;
            servers.tls |= parts.scheme == "etcds";
            parts.login(&mut servers.user, &mut servers.password);
        }
        if servers.cert_file.as_os_str().is_empty() != servers.key_file.as_os_str().is_empty() {
            return Err("etcd.cert_file: it goes together with etcd.key_file".to_owned());
        }
        Ok(EtcdTarget::Servers(Box::new(servers)))
    }
}

/// `scheme://[user[:password]@]hosts[/path]`, login still percent-encoded.
struct UrlParts<'a> {
    scheme: &'a str,
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(key: &str, url: &'a SecretUrl, schemes: &[&str], hint: &str) -> Result<Self, String> {
        let parts = url.expose().split_once("://").filter(|(scheme, _)| schemes.contains(scheme));
        let (scheme, rest) = parts.ok_or_else(|| format!("{key}: {hint}"))?;
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        Ok(Self { scheme, login, hosts, path })
    }

    fn hosts(&self, key: &str, default_port: u16) -> Result<Vec<(String, u16)>, String> {
        hosts(key, self.hosts, default_port)
    }

    /// What the URL does not name stays as it is.
    fn login(&self, user: &mut String, password: &mut Secret) {
        let (name, secret) = self.login.split_once(':').unwrap_or((self.login, ""));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if !name.is_empty() {
            *user = decoded(name);
        }
        if !secret.is_empty() {
            *password = Secret::new(decoded(secret));
        }
    }
}

/// `host[:port]`, several with commas in between; IPv6 in brackets. `http://` before a host is tolerated.
fn hosts(key: &str, text: &str, default_port: u16) -> Result<Vec<(String, u16)>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let found: Vec<(String, u16)> =
        items.map(|item| host(key, item, default_port)).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(format!("{key}: name at least one host:port"));
    }
    Ok(found)
}

fn host(key: &str, item: &str, default_port: u16) -> Result<(String, u16), String> {
    let bare = item.strip_prefix("http://").unwrap_or(item).trim_end_matches('/');
    let wrong = || format!("{key}: {item:?} is not host:port");
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !bare.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)
        }
        _ => (bare, default_port),
    };
    let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || is_bare_ipv6 || host.contains('/') {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

fn password(section: &str, password: &Secret, file: &Path) -> Result<Secret, String> {
    if file.as_os_str().is_empty() {
        return Ok(password.clone());
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{section}.password_file: cannot read {}: {error}", file.display()))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

mod shown;
#[cfg(test)]
mod tests;
