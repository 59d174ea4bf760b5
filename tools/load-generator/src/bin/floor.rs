//! The least that a push server can do: one thread, one epoll, one frame encoded once, and one send(2) for each member.
//!
//! The yardstick of `make bench`. It speaks WebSocket to the load generator alone, whose key is constant, and takes pushes
//! as lines over TCP on the next port: `PAIR BYTES\n` and the payload, to all who have this pair (`room_id=x`) in their URL. Each
//! is answered with the number of members and a line end.

#![allow(clippy::print_stderr, reason = "a command-line tool")]

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::ExitCode,
};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// The answer to the constant key (RFC 6455, section 1.3).
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const READY: [&str; 2] = [r#"{"type":"welcome"}"#, r#"{"type":"joined"}"#];
/// Requests and publishes that are larger end their connection.
const UNREAD_MAX: usize = 2 << 20;
const EVENTS: usize = 1_024;
const MEMBERS: u64 = 0;
const PUBLISHERS: u64 = 1;
const FIRST: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its request is not whole.
    Opening,
    Member,
    Publisher,
}

struct Peer {
    stream: TcpStream,
    kind: Kind,
    unread: Vec<u8>,
    /// What the kernel did not take yet.
    unsent: Vec<u8>,
}

struct Floor {
    epoll: rustix::fd::OwnedFd,
    listeners: [TcpListener; 2],
    /// By event number.
    peers: HashMap<u64, Peer>,
    /// By pair of the URL.
    groups: HashMap<String, Vec<u64>>,
    next: u64,
}

fn main() -> ExitCode {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let Some(port) = port.filter(|port: &u16| *port < u16::MAX) else {
        eprintln!("usage: floor PORT; takes pushes on PORT + 1");
        return ExitCode::from(2);
    };
    match Floor::start(port).and_then(Floor::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Floor {
    fn start(port: u16) -> io::Result<Self> {
        let listen = |port: u16| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        };
        let listeners = [listen(port)?, listen(port + 1)?];
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, listener) in [MEMBERS, PUBLISHERS].into_iter().zip(&listeners) {
            epoll::add(&epoll, listener, EventData::new_u64(number), EventFlags::IN)?;
        }
        Ok(Self { epoll, listeners, peers: HashMap::new(), groups: HashMap::new(), next: FIRST })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    MEMBERS => self.accept(0, Kind::Opening)?,
                    PUBLISHERS => self.accept(1, Kind::Publisher)?,
                    number => {
                        if self.serve(number).is_err() {
                            self.peers.remove(&number);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self, listener: usize, kind: Kind) -> io::Result<()> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&self.epoll, &stream, EventData::new_u64(self.next), flags)?;
            self.peers.insert(self.next, Peer { stream, kind, unread: Vec::new(), unsent: Vec::new() });
            self.next += 1;
        }
    }

    /// Reads what is there, and does what it says.
    fn serve(&mut self, number: u64) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(&number) else { return Ok(()) };
        peer.send(&[])?;
        peer.read()?;
        match peer.kind {
            Kind::Member => peer.unread.clear(),
            Kind::Opening => {
                let Some(end) = find(&peer.unread, b"\r\n\r\n") else { return Ok(()) };
                let head = String::from_utf8_lossy(&peer.unread[..end]).into_owned();
                peer.kind = Kind::Member;
                peer.unread.clear();
                peer.send(UPGRADED)?;
                for text in READY {
                    peer.send(&frame(text.as_bytes()))?;
                }
                let query = head.split(' ').nth(1).and_then(|target| target.split_once('?'));
                for pair in query.map_or("", |(_, query)| query).split('&') {
                    self.groups.entry(pair.to_owned()).or_default().push(number);
                }
            }
            Kind::Publisher => {
                let mut unread = std::mem::take(&mut peer.unread);
                let mut taken = 0;
                while let Some((pair, payload, end)) = publish(&unread[taken..])? {
                    let members = self.publish(pair, payload);
                    taken += end;
                    if let Some(peer) = self.peers.get_mut(&number) {
                        peer.send(format!("{members}\n").as_bytes())?;
                    }
                }
                unread.drain(..taken);
                if let Some(peer) = self.peers.get_mut(&number) {
                    peer.unread = unread;
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, pair: &str, payload: &[u8]) -> usize {
        let frame = frame(payload);
        let Some(members) = self.groups.get_mut(pair) else { return 0 };
        let peers = &mut self.peers;
        members.retain(|member| {
            let sent = peers.get_mut(member).is_some_and(|peer| peer.send(&frame).is_ok());
            if !sent {
                peers.remove(member);
            }
            sent
        });
        members.len()
    }
}

impl Peer {
    fn read(&mut self) -> io::Result<()> {
        let mut scratch = [0; 64 << 10];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.unread.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.unread.len() > UNREAD_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            let unsent = std::mem::take(&mut self.unsent);
            let sent = self.write(&unsent)?;
            self.unsent = unsent[sent..].to_vec();
        } else if !bytes.is_empty() {
            let sent = self.write(bytes)?;
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// A whole text frame (RFC 6455, section 5.2).
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![0x81];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend(middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The first publish: pair, payload, and where it ends; `None` when it is not whole.
fn publish(bytes: &[u8]) -> io::Result<Option<(&str, &[u8], usize)>> {
    let Some(end) = find(bytes, b"\n") else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
    let (pair, length) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let whole = end + 1 + length;
    Ok(bytes.get(end + 1..whole).map(|payload| (pair, payload, whole)))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_are_cut_where_they_end() {
        let bytes = b"room_id=a 3\nxyzuser_id=b 1\n";
        let (pair, payload, end) = publish(bytes).unwrap().unwrap();
        assert_eq!((pair, payload), ("room_id=a", &b"xyz"[..]));
        assert!(publish(&bytes[end..]).unwrap().is_none(), "its payload is still to come");
        assert!(publish(b"nonsense\n").is_err());
    }
}
