//! One session: connects, waits for its `welcome` or `joined`, and reads, or stops reading.

use std::{
    cell::{Cell, RefCell},
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    joins::{Joins, Then},
    tally::{Seen, Tally, histogram, record},
    target::Node,
    wire::{self, Opcode},
};

const SCRATCH_BYTES: usize = 64 << 10;
/// What a reader that stops reading may hold in the kernel, so that its node notices soon.
const SLOW_BUFFER_BYTES: u32 = 4 << 10;
/// How often a slow reader reads, at most.
const SLOW_READS_A_SECOND: u32 = 20;
/// A handshake answer is smaller.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// An emptied buffer above this is given back: most frames arrive whole and need none.
const KEPT_BYTES_MAX: usize = 16 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// What to open.
#[derive(Debug, Clone)]
pub struct Plan {
    pub node: Node,
    pub source: Ipv4Addr,
    pub user_id: String,
    pub room_id: Option<String>,
    /// Joined when everybody does, not by the URL.
    pub joins_later: bool,
    pub reading: Reading,
}

/// How a session reads once it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Whatever comes, and counts it.
    Counted,
    /// Nothing, until it is told to.
    Stopped,
    /// So many bytes a second; they are not counted.
    Slow(u32),
}

impl Plan {
    /// Whether nothing is expected to arrive in time.
    pub fn is_slow(&self) -> bool {
        self.reading != Reading::Counted
    }

    fn no_port(&self) -> String {
        format!("no port left on {}; more --source-addresses have more", self.source)
    }
}

/// Where the sessions of one thread write what they see.
#[derive(Clone)]
pub struct Ledger {
    pub latencies: RefCell<Histogram<u64>>,
    pub joins: RefCell<Joins>,
    /// From connecting to `welcome` or `joined`, session by session.
    pub opens: RefCell<Histogram<u64>>,
    /// Pings answered.
    pub pings: Cell<u64>,
    /// The longest time between two arrivals at one session.
    pub longest_gap: Cell<Duration>,
}

impl Ledger {
    pub fn new() -> Result<Self> {
        let (latencies, opens) = (RefCell::new(histogram()?), RefCell::new(histogram()?));
        let joins = RefCell::new(Joins::new()?);
        Ok(Self { latencies, joins, opens, pings: Cell::default(), longest_gap: Cell::default() })
    }

    /// Adds that of another thread.
    pub fn add(&self, other: Self) -> Result<()> {
        self.latencies.borrow_mut().add(other.latencies.into_inner())?;
        self.joins.borrow_mut().add(other.joins.into_inner())?;
        self.opens.borrow_mut().add(other.opens.into_inner())?;
        self.pings.set(self.pings.get() + other.pings.get());
        self.longest_gap.set(self.longest_gap.get().max(other.longest_gap.get()));
        Ok(())
    }
}

/// An open session.
pub struct Session {
    stream: TcpStream,
    /// The begin of a frame whose rest is still to come.
    rest: Vec<u8>,
    seen: Seen,
    last_arrival: Option<Instant>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a close frame.
    Code(u16),
    /// Without one.
    Broken,
}

impl Session {
    /// Connects and waits until the node says that pushes arrive from now on.
    pub async fn open(plan: &Plan) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        if plan.is_slow() {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        }
        // The session ends in a reset, so that its port is free at once: ports that wait for a minute would be missed by
        // the next run, and the kernel's search between them takes longer than everything else.
        socket.set_zero_linger()?;
        // Without a bind the kernel needs a port that is free towards this node only, not towards everybody.
        if plan.source != Ipv4Addr::LOCALHOST {
            socket.bind((plan.source, 0).into()).with_context(|| plan.no_port())?;
        }
        let stream = socket.connect(plan.node.address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => anyhow::Error::new(error).context(plan.no_port()),
            _ => anyhow::Error::new(error).context(plan.node.host.clone()),
        })?;
        let mut session = Self { stream, rest: Vec::new(), seen: Seen::default(), last_arrival: None };
        let room_id = plan.room_id.as_ref().filter(|_| !plan.joins_later);
        let room = room_id.map(|room_id| format!("&room_id={room_id}")).unwrap_or_default();
        let target = format!("{}?user_id={}&client_id=load{room}", plan.node.path, plan.user_id);
        session.write(wire::request(&plan.node.host, &target).as_bytes()).await?;
        session.upgraded().await?;
        let wanted = if room_id.is_some() { "joined" } else { "welcome" };
        session.ready(wanted).await?;
        Ok(session)
    }

    async fn upgraded(&mut self) -> Result<()> {
        loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
                let status = head.lines().next().unwrap_or_default();
                if status.split(' ').nth(1) != Some("101") {
                    bail!("the node answered {status:?}");
                }
                self.rest.drain(..end + 4);
                return Ok(());
            }
            if self.rest.len() > ANSWER_BYTES_MAX {
                bail!("the node's answer has no end");
            }
            self.read_more().await?;
        }
    }

    async fn ready(&mut self, wanted: &str) -> Result<()> {
        loop {
            let frame = self.next_frame().await?;
            if frame["type"] == "error" {
                bail!("the node said {}: {}", frame["code"], frame["message"]);
            }
            if frame["type"] == wanted {
                return Ok(());
            }
        }
    }

    /// Joins a room, asking again as often as the node says that it is worth it. Times count from `all`, when everybody
    /// began. A refusal that stands is in the ledger; an error is the end of the connection.
    pub async fn join(&mut self, room_id: &str, all: Instant, ledger: &Ledger) -> Result<()> {
        let asking = wire::text(&json!({"type": "join", "id": 1, "room_id": room_id}).to_string());
        for attempt in 0.. {
            let asked = Instant::now();
            self.write(&asking).await?;
            let answer = loop {
                let frame = self.next_frame().await?;
                if frame["type"] == "joined" || frame["type"] == "error" {
                    break frame;
                }
            };
            if answer["type"] == "joined" {
                ledger.joins.borrow_mut().joined(all.elapsed(), asked.elapsed());
                break;
            }
            let then = ledger.joins.borrow_mut().refused(&answer, asked.elapsed(), attempt);
            match then {
                Then::AskAgain(wait) => tokio::time::sleep(wait).await,
                Then::GiveUp => break,
            }
        }
        Ok(())
    }

    /// The next text frame; pings are answered on the way.
    async fn next_frame(&mut self) -> Result<Value> {
        loop {
            while let Some((frame, end)) = wire::parse(&self.rest) {
                let (text, pong) = match frame.opcode {
                    Opcode::Text => (Some(serde_json::from_slice(frame.payload)?), None),
                    Opcode::Ping => (None, Some(wire::pong(frame.payload))),
                    Opcode::Close => bail!("the node closed with {}", wire::close_code(frame.payload)),
                    Opcode::Other => (None, None),
                };
                self.rest.drain(..end);
                if let Some(pong) = pong {
                    self.write(&pong).await?;
                }
                if let Some(text) = text {
                    return Ok(text);
                }
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<()> {
        self.stream.readable().await?;
        let read: io::Result<usize> = SCRATCH.with_borrow_mut(|scratch| {
            let count = self.stream.try_read(scratch)?;
            self.rest.extend_from_slice(&scratch[..count]);
            Ok(count)
        });
        match read {
            Ok(0) => bail!("the node ended the connection"),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until the end, and counts what arrives.
    pub async fn read(self, tally: &Tally, ledger: &Ledger) -> End {
        self.read_in(SCRATCH_BYTES, Duration::ZERO, tally, ledger).await
    }

    /// The same at so many bytes a second at most.
    pub async fn read_slowly(self, bytes_a_second: u32, tally: &Tally, ledger: &Ledger) -> End {
        let bytes = bytes_a_second.div_ceil(SLOW_READS_A_SECOND).min(SCRATCH_BYTES as u32);
        let pause = Duration::from_secs_f64(f64::from(bytes) / f64::from(bytes_a_second.max(1)));
        self.read_in(bytes as usize, pause, tally, ledger).await
    }

    async fn read_in(mut self, bytes: usize, pause: Duration, tally: &Tally, ledger: &Ledger) -> End {
        let mut to_say = Vec::new();
        loop {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if self.stream.readable().await.is_err() {
                return End::Broken;
            }
            let read: io::Result<_> = SCRATCH.with_borrow_mut(|scratch| {
                let count = self.stream.try_read(&mut scratch[..bytes])?;
                Ok((count, self.take(&scratch[..count], tally, ledger, &mut to_say)))
            });
            match read {
                Ok((0, _)) => return End::Broken,
                Ok((_, Some(code))) => return End::Code(code),
                Ok((_, None)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return End::Broken,
            }
            if !to_say.is_empty() && self.write(&std::mem::take(&mut to_say)).await.is_err() {
                return End::Broken;
            }
        }
    }

    /// Takes bytes that arrived together; gives the close code when they hold one.
    fn take(&mut self, bytes: &[u8], tally: &Tally, ledger: &Ledger, to_say: &mut Vec<u8>) -> Option<u16> {
        let now = Instant::now();
        let mut latencies = ledger.latencies.borrow_mut();
        let mut rest = std::mem::take(&mut self.rest);
        let is_fresh = rest.is_empty();
        if !is_fresh {
            rest.extend_from_slice(bytes);
        }
        let mut unread = if is_fresh { bytes } else { &rest };
        let mut code = None;
        while let Some((frame, end)) = wire::parse(unread) {
            match frame.opcode {
                Opcode::Text => {
                    match tally.stamp(frame.payload).inspect(|_| to_say.extend(ack(frame.payload))) {
                        Some(stamp) if self.seen.is_new(stamp.number) => {
                            record(&mut latencies, tally.arrived(stamp, now));
                            let gap = self.last_arrival.map_or(Duration::ZERO, |last| now - last);
                            ledger.longest_gap.set(ledger.longest_gap.get().max(gap));
                            self.last_arrival = Some(now);
                        }
                        Some(_) => tally.repeated(),
                        None => tally.foreign(),
                    }
                }
                Opcode::Ping => {
                    ledger.pings.set(ledger.pings.get() + 1);
                    to_say.extend(wire::pong(frame.payload));
                }
                Opcode::Close => code = Some(wire::close_code(frame.payload)),
                Opcode::Other => {}
            }
            unread = &unread[end..];
        }
        self.rest = if is_fresh {
            unread.to_vec()
        } else {
            let taken = rest.len() - unread.len();
            rest.drain(..taken);
            if rest.is_empty() && rest.capacity() > KEPT_BYTES_MAX { Vec::new() } else { rest }
        };
        code
    }
}

/// The acknowledgement of a push, when it asks for one.
fn ack(frame: &[u8]) -> Vec<u8> {
    const MESSAGE_ID: &str = r#""message_id":""#;
    let Ok(text) = std::str::from_utf8(frame) else { return Vec::new() };
    if !text.contains(r#""ack":true"#) {
        return Vec::new();
    }
    let message_id = text.find(MESSAGE_ID).and_then(|at| text[at + MESSAGE_ID.len()..].split('"').next());
    wire::text(&json!({"type": "ack", "message_ids": [message_id]}).to_string())
}
