//! Asks a node over plain HTTP which other nodes there are.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{address::NodeUrl, directory::NodeList};

const TIMEOUT: Duration = Duration::from_secs(3);
/// Some thousands of nodes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The list of the first of these nodes that gives one.
pub async fn ask(urls: Vec<NodeUrl>) -> Option<NodeList> {
    for url in urls {
        match timeout(TIMEOUT, get(&url)).await {
            Ok(Ok(list)) => return Some(list),
            Ok(Err(error)) => tracing::debug!(%url, %error, "no node list"),
            Err(_) => tracing::debug!(%url, "no node list in time"),
        }
    }
    None
}

/// HTTP/1.0, so that the answer is neither chunked nor followed by another: its body ends where the connection does.
async fn get(url: &NodeUrl) -> std::io::Result<NodeList> {
    let authority = url.authority();
    let mut socket = TcpStream::connect(&authority).await?;
    let request = format!("GET /nodes HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    read(&answer).ok_or_else(|| std::io::Error::other("the answer is no node list"))
}

fn read(answer: &[u8]) -> Option<NodeList> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..end]).ok()?.lines().next()?;
    (status.split(' ').nth(1)? == "200").then_some(())?;
    serde_json::from_slice(&answer[end + 4..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_answer_is_a_list() {
        assert!(read(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"nodes\":[]}").is_some());
        assert!(read(b"HTTP/1.0 503 No\r\n\r\n{\"nodes\":[]}").is_none());
        assert!(read(b"HTTP/1.0 200 OK\r\n\r\n{\"nodes\":").is_none());
        assert!(read(b"").is_none());
    }
}
