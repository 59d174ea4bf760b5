//! Where to connect: addresses of this machine only.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use url::Url;

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
}

/// Checks `ws://host:port/path`.
pub fn node(text: &str) -> Result<Node> {
    let url =
        Url::parse(text).with_context(|| format!("{text:?} is no address; write ws://127.0.0.1:8080/ws"))?;
    let (Some(host), "ws") = (url.host_str(), url.scheme()) else {
        bail!("{text:?} is no WebSocket address; write ws://127.0.0.1:8080/ws");
    };
    let host = format!("{host}:{}", url.port().unwrap_or(80));
    Ok(Node { address: loopback(&host)?, host, path: url.path().to_owned() })
}

/// Resolves `host:port`; anything but this machine is refused: this tool is no weapon.
pub fn loopback(text: &str) -> Result<SocketAddr> {
    let mut found = text.to_socket_addrs().with_context(|| format!("{text:?} is no host:port"))?.peekable();
    if found.peek().is_none() {
        bail!("{text:?} has no address");
    }
    let all: Vec<_> = found.collect();
    if let Some(other) = all.iter().find(|address| !address.ip().is_loopback()) {
        bail!("{text} is {}, which is not this machine; only loopback addresses are taken", other.ip());
    }
    let v4 = all.iter().find(|address| address.is_ipv4());
    v4.copied().with_context(|| format!("{text} has no IPv4 address; sessions come from 127.0.0.x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        let node = node("ws://127.0.0.1:8081/ws").unwrap();
        assert_eq!((node.address.port(), node.path.as_str()), (8081, "/ws"));
        for bad in ["ws://192.0.2.1:8080/ws", "wss://127.0.0.1/ws", "127.0.0.1:8080"] {
            assert!(super::node(bad).is_err(), "{bad}");
        }
        assert!(loopback("192.0.2.1:50053").unwrap_err().to_string().contains("only loopback"));
    }
}
