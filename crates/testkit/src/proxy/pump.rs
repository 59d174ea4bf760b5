//! One direction of one connection: pieces are read, wait for their time, and are written in their order.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::Shutdown,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use socket2::SockRef;
use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{
    Before, Direction,
    settings::{Flow, Settings},
};
use crate::dice::Dice;

/// Most that waits here; then the sender feels it.
const QUEUE_BYTES_MAX: usize = 4 << 20;
const PIECE_BYTES_MAX: usize = 16 << 10;
/// A throttled way carries this many pieces a second at least.
const PIECES_PER_SECOND: u64 = 20;

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its end of stream, which was passed on.
    Finished,
    /// A socket failed.
    Broken,
    /// After as many bytes as were allowed.
    Reset,
    /// Bytes came by that cut the connection.
    Trapped,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// Carries one direction.
pub struct Pump<'a> {
    direction: Direction,
    from: &'a TcpStream,
    to: &'a TcpStream,
    number: u64,
    settings: watch::Receiver<Settings>,
    /// The connection ends as soon as what goes onward was written; nothing goes back any more.
    is_doomed: &'a AtomicBool,
    pieces: VecDeque<Piece>,
    waiting: usize,
    last_due: Instant,
    /// Written since `reset_after` was set.
    counted: u64,
    has_ended: bool,
    dice: Option<(u64, Dice)>,
    /// The last bytes that came, for what is cut in two by the border of pieces.
    tail: Vec<u8>,
}

impl<'a> Pump<'a> {
    pub fn new(
        direction: Direction,
        from: &'a TcpStream,
        to: &'a TcpStream,
        number: u64,
        settings: watch::Receiver<Settings>,
        is_doomed: &'a AtomicBool,
    ) -> Self {
        Self {
            direction,
            from,
            to,
            number,
            settings,
            is_doomed,
            pieces: VecDeque::new(),
            waiting: 0,
            last_due: Instant::now(),
            counted: 0,
            has_ended: false,
            dice: None,
            tail: Vec::new(),
        }
    }

    /// Until the end of the direction.
    pub async fn run(mut self) -> End {
        self.carry().await.unwrap_or(End::Broken)
    }

    async fn carry(&mut self) -> io::Result<End> {
        let mut scratch = vec![0; PIECE_BYTES_MAX];
        let mut settings = self.settings.clone();
        loop {
            let (flow, is_half_closed) = {
                let now = settings.borrow_and_update();
                (now.flow(self.direction, self.number), now.is_half_closed(self.direction, self.number))
            };
            if is_half_closed {
                return self.swallow(&mut scratch).await;
            }
            if flow.is_fast() {
                self.pieces.iter_mut().for_each(|piece| piece.due = piece.due.min(Instant::now()));
            }
            if flow.reset_after.is_none() {
                self.counted = 0;
            } else if flow.reset_after <= Some(self.counted) {
                return Ok(End::Reset);
            }
            if self.pieces.is_empty() && self.has_ended {
                SockRef::from(self.to).shutdown(Shutdown::Write)?;
                return Ok(End::Finished);
            }
            if self.pieces.is_empty() && self.is_doomed() && self.direction == Direction::Onward {
                return Ok(End::Trapped);
            }
            let is_stopped = flow.is_held || (self.is_doomed() && self.direction == Direction::Back);
            let may_write = !is_stopped && !self.pieces.is_empty();
            let may_read = !self.has_ended && self.waiting < QUEUE_BYTES_MAX && !self.is_doomed();
            let size = flow.bytes_per_second.map_or(PIECE_BYTES_MAX, piece_size);
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { return Ok(End::Finished) },
                written = write(self.to, self.pieces.front(), left(&flow, self.counted)), if may_write => {
                    self.written(written?);
                }
                read = read(self.from, &mut scratch[..size]), if may_read => {
                    let read = read?;
                    if self.take(&scratch[..read], &flow) {
                        return Ok(End::Trapped);
                    }
                }
            }
        }
    }

    /// Takes what was read; true when it must not arrive.
    fn take(&mut self, bytes: &[u8], flow: &Flow) -> bool {
        if bytes.is_empty() {
            self.has_ended = true;
            return false;
        }
        match self.trapped(bytes) {
            Some(Before::Arrival) => return true,
            Some(Before::Answer) => self.is_doomed.store(true, Ordering::SeqCst),
            None => {}
        }
        let jitter = match (&mut self.dice, flow.jitter.is_zero()) {
            (_, true) => Duration::ZERO,
            (Some((seed, dice)), _) if *seed == flow.seed => dice.up_to(flow.jitter),
            (dice, _) => {
                let (_, dice) = dice.insert((flow.seed, Dice::new(flow.seed ^ self.number)));
                dice.up_to(flow.jitter)
            }
        };
        let mut due = self.last_due.max(Instant::now() + flow.delay + jitter);
        if let Some(rate) = flow.bytes_per_second {
            due += Duration::from_secs_f64(bytes.len() as f64 / rate as f64);
        }
        self.last_due = due;
        self.waiting += bytes.len();
        self.pieces.push_back(Piece { due, bytes: bytes.to_vec(), written: 0 });
        false
    }

    fn trapped(&mut self, bytes: &[u8]) -> Option<Before> {
        let trap = self.settings.borrow().trap.clone()?;
        if self.direction == Direction::Back {
            return None;
        }
        self.tail.extend_from_slice(bytes);
        let is_there = self.tail.windows(trap.bytes.len()).any(|window| window == trap.bytes);
        let kept = self.tail.len().min(trap.bytes.len() - 1);
        self.tail.drain(..self.tail.len() - kept);
        is_there.then_some(trap.before)
    }

    fn is_doomed(&self) -> bool {
        self.is_doomed.load(Ordering::SeqCst)
    }

    fn written(&mut self, count: usize) {
        self.counted += count as u64;
        self.waiting -= count;
        let front = self.pieces.front_mut().expect("it was written");
        front.written += count;
        if front.written == front.bytes.len() {
            self.pieces.pop_front();
        }
    }

    /// The receiver sees the end; the sender may go on for nobody.
    async fn swallow(&mut self, scratch: &mut [u8]) -> io::Result<End> {
        SockRef::from(self.to).shutdown(Shutdown::Write)?;
        while read(self.from, scratch).await? > 0 {}
        Ok(End::Finished)
    }
}

fn piece_size(bytes_per_second: u64) -> usize {
    usize::try_from(bytes_per_second / PIECES_PER_SECOND).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES_MAX)
}

/// How much may be written before the reset.
fn left(flow: &Flow, counted: u64) -> usize {
    flow.reset_after.map_or(usize::MAX, |most| usize::try_from(most - counted).unwrap_or(usize::MAX))
}

async fn write(to: &TcpStream, piece: Option<&Piece>, most: usize) -> io::Result<usize> {
    let Some(piece) = piece else { return std::future::pending().await };
    tokio::time::sleep_until(piece.due).await;
    let bytes = &piece.bytes[piece.written..];
    let bytes = &bytes[..bytes.len().min(most)];
    loop {
        to.writable().await?;
        match to.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn read(from: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
