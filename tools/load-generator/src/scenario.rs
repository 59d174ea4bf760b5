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
    args::{Args, Common, Load, Scenario},
    crowd::Crowd,
    process,
    report::{Deliveries, Latencies, Pushes, Report, Slow},
    schedule::{self, Sent, Target},
    session::{End, Plan},
    tally::Tally,
    target::{self, Node},
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
    room_id: Option<String>,
    slow: u32,
    /// Between the last session's opening and the first push.
    hold: Duration,
    /// How many sessions get each push.
    receivers: u32,
}

impl Course {
    fn new(scenario: &Scenario, sessions: u32, run: u32) -> Self {
        let room_id = format!("load-{run:08x}");
        let in_room = |name, load: &Load| Self {
            name,
            load: load.clone(),
            target: Target::Room(room_id.clone()),
            room_id: Some(room_id.clone()),
            slow: 0,
            hold: Duration::ZERO,
            receivers: sessions,
        };
        match scenario {
            Scenario::Room(load) => in_room("room", load),
            Scenario::User(load) => {
                let target = Target::Users { prefix: user_prefix(run), count: sessions };
                Self { target, room_id: None, receivers: 1, ..in_room("user", load) }
            }
            Scenario::Broadcast(load) => {
                Self { target: Target::All, room_id: None, ..in_room("broadcast", load) }
            }
            Scenario::Connect { hold } => {
                let hold = Duration::from_secs(u64::from(*hold));
                Self { hold, ..in_room("connect", &Load { rate: 1, seconds: 1, bytes: 128 }) }
            }
            Scenario::Slow { load, readers } => Self { slow: *readers, ..in_room("slow", load) },
        }
    }
}

fn user_prefix(run: u32) -> String {
    format!("load-{run:08x}-")
}

/// Runs a scenario.
pub async fn run(args: &Args) -> Result<Report> {
    let common = &args.common;
    let run = rand::random();
    let course = Course::new(&args.scenario, common.sessions, run);
    let pushes = course.load.rate.saturating_mul(course.load.seconds);
    if pushes > PUSHES_MAX {
        bail!("{pushes} pushes are too many for one run; at most {PUSHES_MAX} are allowed");
    }
    check_open_files(u64::from(common.sessions + course.slow))?;
    let nodes = common.nodes.iter().map(|url| target::node(url)).collect::<Result<Vec<_>>>()?;
    for address in common.push_manager.iter().chain(&common.controller) {
        target::loopback(address)?;
    }
    let pusher = Arc::new(Pusher::new(&common.push_manager)?.attempts_per_address(1));
    let controller = Controller::new(&common.controller)?;
    if let Some(room_id) = &course.room_id {
        let max_users = Some(common.sessions + course.slow);
        let request = CreateRoomRequest { room_id: room_id.clone(), max_users, membership: 0 };
        controller.create_room(request).await.context("the room of the run cannot be created")?;
    }
    let report = measure(common, &course, nodes, pusher, run).await;
    if let Some(room_id) = course.room_id {
        let deleted = controller.delete_room(DeleteRoomRequest { room_id }).await;
        deleted.context("the room of the run cannot be deleted")?;
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
    let tally = Arc::new(Tally::new(run, course.load.rate * course.load.seconds));
    let patience = Duration::from_secs(common.patience);
    let before = process::sample(&common.pid)?;
    let started = Instant::now();
    let plans = plans(common, course, &nodes, run);
    let sessions = plans.len();
    let handshakes = common.handshakes as usize;
    let mut crowd = Crowd::start(plans, usize::from(common.threads), handshakes, &tally)?;
    crowd.ready(sessions, patience).await?;
    let connected = started.elapsed();
    tokio::time::sleep(course.hold).await;
    // A slow reader that reads on within the node's patience finds the close frame behind what waits for it.
    let look = |receipt: &Receipt| {
        if course.slow > 0 && receipt.targets <= u64::from(common.sessions) {
            crowd.let_slow_read();
        }
    };
    let sent = schedule::run(pusher, course.target.clone(), &course.load, &tally, look).await?;
    let until = Instant::now() + patience;
    while !tally.is_complete(course.receivers) && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let usage = process::usage(&before, &process::sample(&common.pid)?);
    crowd.drain(course.slow as usize, patience).await;
    crowd.catch_up();
    let slow = (course.slow > 0).then(|| slow(course.slow, &crowd.slow_ends));
    let (ended_sessions, first_end) = (crowd.ends.len(), crowd.ends.first().cloned());
    let each = crowd.stop()?;
    let counts = tally.counts(course.receivers);
    let Sent { accepted, incomplete, failed, error, replies, lateness } = sent;
    Ok(Report {
        scenario: course.name,
        sessions: sessions as u32,
        connect_seconds: connected.as_secs_f64(),
        sessions_per_second: sessions as f64 / connected.as_secs_f64(),
        pushes: Pushes { accepted, incomplete, failed, first_error: error },
        deliveries: Deliveries {
            expected: counts.expected,
            received: counts.received,
            lost: counts.lost,
            repeated: counts.repeated,
            foreign: tally.foreign_seen(),
        },
        latency_us: Latencies {
            each: (&each).into(),
            last: (&tally.last_latencies()?).into(),
            reply: (&replies).into(),
            send: (&lateness).into(),
        },
        slow,
        ended_sessions,
        first_end,
        processes: usage,
    })
}

fn plans(common: &Common, course: &Course, nodes: &[Node], run: u32) -> Vec<Plan> {
    let prefix = user_prefix(run);
    let plan = |number: u32| Plan {
        node: nodes[number as usize % nodes.len()].clone(),
        source: Ipv4Addr::new(127, 0, 0, 1 + (number % u32::from(common.source_addresses)) as u8),
        user_id: format!("{prefix}{number}"),
        room_id: course.room_id.clone(),
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
