//! Addresses of nodes: `ws://host:port/ws`.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::error::Error;

/// What stands for itself in a query value (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const DEFAULT_PORT: u16 = 80;

/// A checked address of a node's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeUrl(Url);

impl NodeUrl {
    /// Takes `ws://host[:port]/path`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why| Error::InvalidUrl { url: text.to_owned(), why };
        let mut url = Url::parse(text).map_err(|_| invalid("it takes ws://host:port/ws"))?;
        match url.scheme() {
            "ws" => {}
            "wss" => return Err(invalid("wss needs TLS, which this build does not have; use ws://")),
            _ => return Err(invalid("it takes ws://host:port/ws")),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("it names no host"));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// `host:port` to connect to.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        format!("{host}:{}", self.0.port().unwrap_or(DEFAULT_PORT))
    }

    /// The address with more query parameters, their values percent-encoded.
    pub fn with_query<'a>(&self, query: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = self.0.to_string();
        let mut separator = if self.0.query().is_some() { '&' } else { '?' };
        for (name, value) in query {
            text.push(separator);
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, ENCODED));
            separator = '&';
        }
        text
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_percent_encoded() {
        let url = NodeUrl::parse("ws://localhost:8080/ws#x").unwrap();
        let text = url.with_query([("user_id", "a b+&ü"), ("since", "e:1")]);
        assert_eq!(text, "ws://localhost:8080/ws?user_id=a%20b%2B%26%C3%BC&since=e%3A1");
        assert_eq!(url.authority(), "localhost:8080");
        assert_eq!(NodeUrl::parse("ws://[::1]/ws?a=1").unwrap().authority(), "[::1]:80");
    }

    #[test]
    fn what_cannot_be_connected_to_says_why() {
        let why = |text| NodeUrl::parse(text).unwrap_err().to_string();
        assert!(why("wss://push.example.com/ws").contains("needs TLS"));
        assert!(why("http://localhost:8080/ws").contains("ws://host:port/ws"));
        assert!(why("localhost:8080").contains("ws://host:port/ws"));
    }
}
