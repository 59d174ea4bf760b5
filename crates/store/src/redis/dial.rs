//! How a connection comes about: to one server, to a cluster, or to the master that the Sentinels name.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::select_ok};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    io::tcp::TcpSettings,
};
use roomcast_runtime::config::{RedisMode, RedisServer};

use super::{
    BACKEND,
    link::{Link, Watch},
};
use crate::error::{Error, Result};

/// Commands that wait to be written; more wait for room, within their deadline.
const WAITING_COMMANDS: usize = 4_096;
/// Bytes gathered before they are written: commands that come together go in one system call.
const WRITE_BYTES: usize = 64 * 1024;
/// A connection whose bytes nobody acknowledges ends after so many times the time-out: its host is gone.
const UNACKNOWLEDGED: u32 = 4;

/// A master that was replaced takes calls until it hears so, and forgets them then: the Sentinels know earlier.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Whether a command may be given again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// Done twice is as done once.
    Safe,
    /// A cluster's driver gives up what it would have tried again, also what was refused.
    Never,
}

/// Where to, as whom, and how long it may take.
#[derive(Debug)]
pub(super) struct Dialer {
    server: RedisServer,
    /// PEM of the authorities to trust instead of those of this machine.
    authorities: Option<Vec<u8>>,
    timeout: Duration,
    repeats: Repeats,
}

impl Dialer {
    /// Reads `redis.ca_file`; connects to nothing.
    pub(super) fn new(server: &RedisServer, timeout: Duration, repeats: Repeats) -> Result<Self> {
        let failed = |context: String, source| Error::Failed { backend: BACKEND, context, source };
        let is_custom = server.tls && !server.ca_file.as_os_str().is_empty();
        let authorities = is_custom.then(|| std::fs::read(&server.ca_file)).transpose().map_err(|error| {
            let context = format!("redis.ca_file: cannot read {}", server.ca_file.display());
            failed(context, Some(error.into()))
        })?;
        let dialer = Self { server: server.clone(), authorities, timeout, repeats };
        // What is wrong with the settings shows here and not with the first call.
        for (host, port) in &server.addresses {
            dialer.info(host, *port).and_then(|info| dialer.open(info)).map_err(|error| {
                failed("read the settings of section redis".to_owned(), Some(error.into()))
            })?;
        }
        Ok(dialer)
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.server.mode == RedisMode::Cluster
    }

    pub(super) async fn dial(self: Arc<Self>) -> RedisResult<Link> {
        let attempt = async {
            match self.server.mode {
                RedisMode::Single => {
                    let (host, port) = &self.server.addresses[0];
                    self.connect(self.login(self.info(host, *port)?)).await.map(Link::One)
                }
                RedisMode::Sentinel => self.clone().follow_sentinels().await,
                RedisMode::Cluster => self.cluster()?.get_async_connection().await.map(Link::Cluster),
            }
        };
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or_else(|_| Err(late()))
    }

    /// Connects to the master, and watches that it stays the one.
    async fn follow_sentinels(self: Arc<Self>) -> RedisResult<Link> {
        let named = self.named_master().await?;
        let mut master = self.connect(self.login(self.info(&named.0, named.1)?)).await?;
        // A failover is under way while the one that is named does not say so itself.
        match redis::cmd("ROLE").query_async::<Vec<Value>>(&mut master).await {
            Ok(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => {}
            Ok(_) => {
                let text = "the Sentinel names a master that is a replica still";
                return Err((ServerErrorKind::ReadOnly.into(), text).into());
            }
            // Users may lack the permission to ask.
            Err(error) if error.kind() == ServerErrorKind::NoPerm.into() => {}
            Err(error) => return Err(error),
        }
        let watch = Watch::default();
        let (dialer, deposed) = (self.clone(), watch.is_deposed.clone());
        Ok(Link::Master(
            master,
            Arc::new(watch.run(async move {
                let look = || tokio::time::timeout(dialer.timeout, dialer.named_master());
                // Sentinels that do not answer tell nothing.
                while !matches!(look().await, Ok(Ok(now)) if now != named) {
                    tokio::time::sleep(WATCH_EVERY).await;
                }
                deposed.store(true, Ordering::Relaxed);
            })),
        ))
    }

    /// All Sentinels at once, the first that answers is believed: a silent one costs no time.
    async fn named_master(&self) -> RedisResult<(String, u16)> {
        let answers = self.server.addresses.iter().map(|(host, port)| self.ask(host, *port).boxed());
        Ok(select_ok(answers).await?.0)
    }

    async fn ask(&self, host: &str, port: u16) -> RedisResult<(String, u16)> {
        let mut sentinel = self.connect(self.info(host, port)?).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.server.master);
        let named: Option<(String, u16)> = question.query_async(&mut sentinel).await?;
        let unknown = "set redis.master to the name that the Sentinels watch";
        let missing =
            || (ErrorKind::MasterNameNotFoundBySentinel, unknown, self.server.master.clone()).into();
        named.ok_or_else(missing)
    }

    async fn connect(&self, info: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        // The gate bounds each answer; the whole of the dialling has its own bound.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING_COMMANDS)
            .set_write_backpressure_boundary(WRITE_BYTES);
        self.open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }

    fn cluster(&self) -> RedisResult<ClusterClient> {
        let nodes: Vec<ConnectionInfo> = self
            .server
            .addresses
            .iter()
            .map(|(host, port)| self.info(host, *port))
            .collect::<RedisResult<_>>()?;
        // A moved slot or a lost connection is tried again at once; the gate bounds the whole.
        let mut cluster: ClusterClientBuilder = ClusterClient::builder(nodes)
            .retries(if self.repeats == Repeats::Safe { 3 } else { 0 })
            .min_retry_wait(5)
            .max_retry_wait(50)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .tcp_settings(self.tcp())
            .write_backpressure_boundary(WRITE_BYTES);
        if !self.server.user.is_empty() {
            cluster = cluster.username(&self.server.user);
        }
        if !self.server.password.is_empty() {
            cluster = cluster.password(self.server.password.expose());
        }
        if self.server.tls {
            cluster = cluster.tls(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates() {
            cluster = cluster.certs(certificates);
        }
        cluster.build()
    }

    /// Without a login: Sentinels are asked so.
    fn info(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = if self.server.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Ok(address.into_connection_info()?.set_tcp_settings(self.tcp()))
    }

    fn login(&self, info: ConnectionInfo) -> ConnectionInfo {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.server.db));
        if !self.server.user.is_empty() {
            login = login.set_username(&self.server.user);
        }
        if !self.server.password.is_empty() {
            login = login.set_password(self.server.password.expose());
        }
        info.set_redis_settings(login)
    }

    fn open(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.clone()?);
        Some(TlsCertificates { client_tls: None, root_cert })
    }

    fn tcp(&self) -> TcpSettings {
        TcpSettings::default().set_nodelay(true).set_user_timeout(UNACKNOWLEDGED * self.timeout)
    }
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
