//! From a section to one client per server: time-outs, pings, certificates. Nothing here waits for a server.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use futures_util::FutureExt;
use roomcast_runtime::config::EtcdServers;

use crate::OpenError;

/// etcd ends connections that ping faster than one per 5 s, or without a call under way, by GOAWAY
/// "too_many_pings". A watch is a call under way.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// A client of one server, which connects when it is first used and again whenever the connection was lost.
///
/// The driver's own balancing over several servers gives every second call to one that refuses or is frozen; so each
/// server has a client of its own and [`Servers`](super::servers::Servers) chooses.
pub(super) fn client(
    address: &str,
    servers: &EtcdServers,
    connect_within: Duration,
) -> Result<Client, OpenError> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(connect_within)
        .with_keep_alive(PING_EVERY, PONG_WITHIN)
        .with_keep_alive_while_idle(false)
        // A member without a leader ends watches and refuses calls, instead of answering from the past.
        .with_require_leader(true);
    let mut scheme = "http";
    if servers.tls {
        scheme = "https";
        options = options.with_tls(tls(servers)?.timeout(connect_within));
    }
    let connected = Client::connect([format!("{scheme}://{address}")], Some(options));
    // Without a user there is nothing to ask a server for.
    let client = connected.now_or_never().expect("it does not wait");
    client.map_err(|source| OpenError::Refused { address: address.to_owned(), source: Box::new(source) })
}

fn tls(servers: &EtcdServers) -> Result<TlsOptions, OpenError> {
    let mut tls = TlsOptions::new();
    if let Some(pem) = pem("ca_file", &servers.ca_file, "CERTIFICATE")? {
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    } else {
        tls = tls.with_native_roots();
    }
    let certificate = pem("cert_file", &servers.cert_file, "CERTIFICATE")?;
    let key = pem("key_file", &servers.key_file, "PRIVATE KEY")?;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Ok(tls)
}

/// `None` when no file is named. The driver ignores a file without a PEM section, so that is looked for here.
fn pem(key: &'static str, path: &Path, wanted: &'static str) -> Result<Option<String>, OpenError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(path);
    match fs::read_to_string(&path) {
        Ok(text) if text.contains(&format!("{wanted}-----")) => Ok(Some(text)),
        Ok(_) => Err(OpenError::NotPem { key, path, wanted }),
        Err(source) => Err(OpenError::Unreadable { key, path, source }),
    }
}
