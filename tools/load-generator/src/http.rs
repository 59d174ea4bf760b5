//! Pushes as HTTP POST of JSON, over connections that are kept alive: the least of HTTP/1.1 that this takes.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use anyhow::{Context, Result, bail};
use roomcast_client::{PushReply, Receipt};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::target;

/// An answer is smaller.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Connections to the push-managers; whoever finds none idle opens one, or waits when there are enough.
pub struct Http {
    addresses: Vec<String>,
    /// The youngest of these takes the next push.
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
    opened: AtomicUsize,
}

struct Connection {
    stream: TcpStream,
    host: String,
}

/// What is looked at of an answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    degraded: Vec<String>,
    receipt: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    complete: bool,
    targets: u64,
}

impl Http {
    /// So many connections at most, to these addresses in turn.
    pub fn new(addresses: &[String], connections: usize) -> Self {
        Self {
            addresses: addresses.to_vec(),
            idle: Mutex::default(),
            places: Semaphore::new(connections),
            opened: AtomicUsize::new(0),
        }
    }

    /// To a path below /v1/push; the data is a run of ASCII without quotes, as contents of this tool are.
    pub async fn push(&self, path: &str, data: &str) -> Result<PushReply> {
        let _place = self.places.acquire().await?;
        let idle = self.idle.lock().expect("nobody panics with it").pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let body = format!(r#"{{"content":{{"type":"TEXT","data":"{data}"}}}}"#);
        let (status, answer) = connection.post(path, &body).await?;
        self.idle.lock().expect("nobody panics with it").push(connection);
        if status != 200 {
            bail!("{path} was answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        let Answer { degraded, receipt } = serde_json::from_slice(&answer).context("a strange answer")?;
        let receipt = receipt.map(|counts| Receipt {
            complete: counts.complete,
            targets: counts.targets,
            ..Receipt::default()
        });
        Ok(PushReply { degraded, receipt, ..PushReply::default() })
    }

    async fn connect(&self) -> Result<Connection> {
        let host = &self.addresses[self.opened.fetch_add(1, Relaxed) % self.addresses.len()];
        let stream = TcpStream::connect(target::loopback(host)?).await;
        let stream = stream.with_context(|| format!("{host} does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, host: host.clone() })
    }
}

impl Connection {
    async fn post(&mut self, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let request = format!(
            "POST /v1/push/{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(1_024);
        loop {
            if self.stream.read_buf(&mut answer).await? == 0 {
                bail!("{} ended a connection in the middle of an answer", self.host);
            }
            if let Some((status, head, length)) = parse(&answer)?
                && answer.len() >= head + length
            {
                return Ok((status, answer.split_off(head)));
            }
            if answer.len() > ANSWER_BYTES_MAX {
                bail!("an answer of {} has no end", self.host);
            }
        }
    }
}

/// Status, where the body begins, and its length; `None` when the head is not whole.
fn parse(answer: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).context("an answer is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some((status, end + 4, length))),
        _ => bail!("an answer without status or length: {:?}", head.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_when_its_head_is_whole() {
        let answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 12\r\n\r\n{}";
        assert_eq!(parse(answer).unwrap(), Some((429, answer.len() - 2, 12)));
        assert_eq!(parse(&answer[..40]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "its end would never be known");
    }
}
