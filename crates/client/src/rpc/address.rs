//! Reads `host:port`.

use crate::error::Error;

/// Checks and trims a `host:port`; an IPv6 host stands in brackets.
pub fn parse(text: &str) -> Result<String, Error> {
    let invalid = || Error::InvalidAddress { address: text.to_owned() };
    let address = text.trim();
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let is_ipv6 = host.starts_with('[') && host.ends_with(']');
    let is_plain = !host.is_empty() && !host.contains([':', '/', '@', '?', '#', '[', ']', ' ']);
    if !(is_ipv6 || is_plain) || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(invalid());
    }
    Ok(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:50053", "127.0.0.1:1", "[::1]:50053", " push.example.com:443 "] {
            assert_eq!(parse(good).unwrap(), good.trim());
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            ":1",
            "localhost:0",
            "localhost:99999",
            "http://a:1",
            "::1:5",
            "a b:1",
        ] {
            assert!(parse(bad).unwrap_err().to_string().contains("host:port"), "{bad}");
        }
    }
}
