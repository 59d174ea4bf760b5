//! The run itself: opens the sessions, pushes, waits for what has to arrive, and sums up.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use roomcast_client::{Controller, Pusher, Receipt};
use roomcast_proto::pubsub::{CreateRoomRequest, DeleteRoomRequest};

use crate::{
    args::{Common, Load, Scenario},
    counters,
    crowd::Crowd,
    process,
    report::{Deliveries, Latencies, Pushes, Report, Slow},
    schedule::{self, Pace, Publisher, Sent, Target},
    session::{End, Plan},
    tally::Tally,
    target::{self, Node},
    timeline::{self, Second},
};

/// Most pushes of a run: what their counters may take of memory.
const PUSHES_MAX: u32 = 1_000_000;
/// Open files besides sessions.
const OTHER_FILES: u64 = 64;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a scenario comes down to.
struct Course {
    name: &'static str,
    load: Load,
    target: Target,
    /// 0: the sessions are in no room.
    rooms: u32,
    room_prefix: String,
    joins_later: bool,
    slow: u32,
    /// Between the last session's opening and the first push.
    hold: Duration,
    /// How many sessions get each push.
    receivers: u32,
}

impl Course {
    fn new(scenario: &Scenario, sessions: u32, run: u32) -> Self {
        let room_prefix = format!("load-{run:08x}-room-");
        let in_rooms = |name, rooms, load: &Load| Self {
            name,
            load: load.clone(),
            target: Target::Rooms { prefix: room_prefix.clone(), count: rooms },
            rooms,
            room_prefix: room_prefix.clone(),
            joins_later: false,
            slow: 0,
            hold: Duration::ZERO,
            receivers: sessions / rooms,
        };
        let once = |rate| Load {
            rate,
            window: None,
            stream: false,
            seconds: 1,
            bytes: 128,
            late: 1_000,
            ack: false,
        };
        match scenario {
            Scenario::Room { load, rooms } => in_rooms("room", rooms.rooms, load),
            Scenario::Join { rooms } => {
                Self { joins_later: true, ..in_rooms("join", rooms.rooms, &once(rooms.rooms)) }
            }
            Scenario::User(load) => {
                let target = Target::Users { prefix: user_prefix(run), count: sessions };
                Self { target, rooms: 0, receivers: 1, ..in_rooms("user", 1, load) }
            }
            Scenario::Broadcast(load) => {
                Self { target: Target::All, rooms: 0, ..in_rooms("broadcast", 1, load) }
            }
            Scenario::Connect { hold } => {
                let hold = Duration::from_secs(u64::from(*hold));
                Self { hold, ..in_rooms("connect", 1, &once(1)) }
            }
            Scenario::Slow { load, readers } => Self { slow: *readers, ..in_rooms("slow", 1, load) },
        }
    }

    /// A closed loop ends by time.
    fn pushes_max(&self) -> u32 {
        match self.load.window {
            Some(_) => PUSHES_MAX,
            None => self.load.rate * self.load.seconds,
        }
    }

    fn room_ids(&self) -> impl Iterator<Item = String> {
        (0..self.rooms).map(|number| format!("{}{number}", self.room_prefix))
    }

    /// Sessions that follow each other share a room, so that every room is spread over the nodes.
    fn room_of(&self, session: u32) -> Option<String> {
        let number = (session / self.receivers).min(self.rooms.checked_sub(1)?);
        Some(format!("{}{number}", self.room_prefix))
    }
}

fn user_prefix(run: u32) -> String {
    format!("load-{run:08x}-")
}

/// Runs a scenario.
pub async fn run(common: &Common, scenario: &Scenario) -> Result<Report> {
    let run = rand::random();
    let course = Course::new(scenario, common.sessions, run);
    let pushes = course.load.rate.saturating_mul(course.load.seconds);
    if pushes > PUSHES_MAX && course.load.window.is_none() {
        bail!("{pushes} pushes are too many for one run; at most {PUSHES_MAX} are allowed");
    }
    if course.rooms > 0 && course.receivers * course.rooms != common.sessions {
        bail!("{} sessions do not come out even in {} rooms", common.sessions, course.rooms);
    }
    check_open_files(u64::from(common.sessions + course.slow))?;
    let nodes = common.nodes.iter().map(|url| target::node(url)).collect::<Result<Vec<_>>>()?;
    for address in common.push_manager.iter().chain(&common.controller) {
        target::loopback(address)?;
    }
    let pusher = Arc::new(Pusher::new(&common.push_manager)?.attempts_per_address(1));
    let controller = Controller::new(&common.controller)?;
    let room_ids = course.room_ids().filter(|_| common.floor.is_none());
    for room_id in room_ids {
        let max_users = Some(course.receivers + course.slow);
        let request = CreateRoomRequest { room_id, max_users, membership: 0, ..CreateRoomRequest::default() };
        controller.create_room(request).await.context("a room of the run cannot be created")?;
    }
    let report = measure(common, &course, nodes, pusher, run).await;
    for room_id in course.room_ids().filter(|_| common.floor.is_none()) {
        let deleted = controller.delete_room(DeleteRoomRequest { room_id }).await;
        deleted.context("a room of the run cannot be deleted")?;
    }
    report
}

async fn measure(
    common: &Common,
    course: &Course,
    nodes: Vec<Node>,
    pusher: Arc<Pusher>,
    run: u32,
) -> Result<Report> {
    let tally = Arc::new(Tally::new(run, course.pushes_max()));
    let patience = Duration::from_secs(common.patience);
    let mut processes = common.pid.clone();
    if let Some(folder) = &common.pid_files {
        processes.extend(process::pid_files(folder)?);
    }
    let before = process::sample(&processes)?;
    let started = Instant::now();
    let plans = plans(common, course, &nodes, run);
    let sessions = plans.len();
    let handshakes = common.handshakes as usize;
    let mut crowd = Crowd::start(plans, usize::from(common.threads), handshakes, &tally)?;
    crowd.ready(sessions, patience).await?;
    let connected = started.elapsed();
    let counters = counters::read(&common.controller_metrics).await?;
    let mut joins_error = None;
    if course.joins_later {
        crowd.join();
        // Who did not get in is part of the result.
        joins_error = crowd.ready(sessions, patience).await.err();
    }
    tokio::time::sleep(course.hold).await;
    let open = process::sample_again(&before);
    let pushing = Instant::now();
    // A slow reader that reads on within the node's patience finds the close frame behind what waits for it.
    let look = |receipt: &Receipt| {
        if course.slow > 0 && receipt.targets <= u64::from(common.sessions) {
            crowd.let_slow_read();
        }
    };
    let publisher = Publisher::open(pusher, course.load.stream, common.floor.as_deref()).await?;
    let pace = Pace::new(&course.load, course.pushes_max());
    let sent = schedule::run(publisher, &course.target, &course.load, pace, &tally, look).await?;
    let until = Instant::now() + patience;
    while !tally.is_complete(course.receivers) && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let usage = process::usage(&before, &open, &process::sample_again(&before), pushing.elapsed());
    let grown = counters::growth(&counters, counters::read(&common.controller_metrics).await?);
    crowd.drain(course.slow as usize, patience).await;
    crowd.catch_up();
    let slow = (course.slow > 0).then(|| slow(course.slow, &crowd.slow_ends));
    let ends = std::mem::take(&mut crowd.ends);
    let ledger = crowd.stop()?;
    let gap = ledger.longest_gap.get();
    let joins = ledger.joins.into_inner().report(common.sessions, course.rooms);
    let is_for_all = !matches!(course.target, Target::Users { .. });
    Ok(Report {
        scenario: course.name,
        sessions: sessions as u32,
        connect_seconds: connected.as_secs_f64(),
        sessions_per_second: sessions as f64 / connected.as_secs_f64(),
        joins: course.joins_later.then_some(joins),
        joins_error: joins_error.map(|error| format!("{error:#}")),
        deliveries: deliveries(&tally, course.receivers),
        latency_us: Latencies {
            each: (&ledger.latencies.into_inner()).into(),
            last: (&tally.last_latencies()?).into(),
            reply: (&sent.replies).into(),
            send: (&sent.lateness).into(),
        },
        pushes: pushes(sent),
        longest_gap_ms: (is_for_all && !gap.is_zero()).then_some(gap.as_secs_f64() * 1_000.0),
        troubles: troubles(course, &tally),
        slow,
        ended_sessions: ends.len(),
        first_end: ends.into_iter().next(),
        controllers: grown,
        processes: usage,
    })
}

fn pushes(sent: Sent) -> Pushes {
    let Sent { accepted, time, incomplete, failed, degraded, error, .. } = sent;
    let a_second = accepted as f64 / time.as_secs_f64();
    Pushes { accepted, a_second, incomplete, failed, degraded, first_error: error }
}

fn deliveries(tally: &Tally, receivers: u32) -> Deliveries {
    let counts = tally.counts(receivers);
    Deliveries {
        expected: counts.expected,
        received: counts.received,
        lost: counts.lost,
        repeated: counts.repeated,
        foreign: tally.foreign_seen(),
    }
}

fn troubles(course: &Course, tally: &Tally) -> Vec<Second> {
    let late = Duration::from_millis(u64::from(course.load.late));
    timeline::troubles(tally.fates(), course.load.rate, course.receivers, late)
}

fn plans(common: &Common, course: &Course, nodes: &[Node], run: u32) -> Vec<Plan> {
    let prefix = user_prefix(run);
    let plan = |number: u32| Plan {
        node: nodes[number as usize % nodes.len()].clone(),
        source: Ipv4Addr::new(127, 0, 0, 1 + (number % u32::from(common.source_addresses)) as u8),
        user_id: format!("{prefix}{number}"),
        room_id: course.room_of(number),
        joins_later: course.joins_later,
        is_slow: number >= common.sessions,
    };
    (0..common.sessions + course.slow).map(plan).collect()
}

fn slow(readers: u32, ends: &[End]) -> Slow {
    let closed_4002 = ends.iter().filter(|end| **end == End::Code(4002)).count();
    let broken = ends.iter().filter(|end| **end == End::Broken).count();
    Slow {
        readers,
        closed_4002,
        broken,
        closed_otherwise: ends.len() - closed_4002 - broken,
        still_open: (readers as usize).saturating_sub(ends.len()),
    }
}

fn check_open_files(sessions: u64) -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let allowed = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    let needed = sessions + OTHER_FILES;
    match allowed {
        Some(allowed) if allowed < needed => {
            bail!(
                "{sessions} sessions need {needed} open files, {allowed} are allowed; run `ulimit -n {needed}` first"
            )
        }
        _ => Ok(()),
    }
}
