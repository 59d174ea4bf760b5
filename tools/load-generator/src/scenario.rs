//! The run itself: opens the sessions, pushes, waits for what has to arrive, and sums up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use roomcast_client::{Controller, Pusher, Receipt};

use crate::{
    args::{Common, Scenario},
    counters,
    course::Course,
    crowd::Crowd,
    process::{self, Named, Samples},
    report::{Deliveries, Latencies, Pushes, Report, Slow},
    schedule::{self, Pace, Publisher, Sent, Target},
    session::{End, Ledger, Reading},
    tally::Tally,
    target::{self, Node},
    timeline::{self, Second},
};

/// Open files besides sessions.
const OTHER_FILES: u64 = 64;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where a run goes.
pub struct Platform {
    pub nodes: Vec<Node>,
    pub pusher: Arc<Pusher>,
    pub controller: Controller,
    /// A floor has no rooms to create.
    pub has_rooms: bool,
}

impl Platform {
    /// As the command line says.
    pub fn new(common: &Common) -> Result<Self> {
        let nodes = common.nodes.iter().map(|url| target::node(url)).collect::<Result<Vec<_>>>()?;
        for address in common.push_manager.iter().chain(&common.controller) {
            target::loopback(address)?;
        }
        let pusher = Arc::new(Pusher::new(&common.push_manager)?.attempts_per_address(1));
        let controller = Controller::new(&common.controller)?;
        Ok(Self { nodes, pusher, controller, has_rooms: common.floor.is_none() })
    }

    /// Rooms for these courses.
    pub async fn create_rooms(&self, courses: &[&Course]) -> Result<()> {
        for course in courses.iter().filter(|_| self.has_rooms) {
            course.create_rooms(&self.controller).await?;
        }
        Ok(())
    }

    /// Takes them away again.
    pub async fn delete_rooms(&self, courses: &[&Course]) -> Result<()> {
        for course in courses.iter().filter(|_| self.has_rooms) {
            course.delete_rooms(&self.controller).await?;
        }
        Ok(())
    }
}

/// Runs a scenario.
pub async fn run(common: &Common, scenario: &Scenario) -> Result<Report> {
    let course = Course::new(scenario, common.sessions, rand::random());
    course.check()?;
    check_open_files(u64::from(course.sessions + course.slow))?;
    let platform = Platform::new(common)?;
    platform.create_rooms(&[&course]).await?;
    let report = measure(common, &course, &platform).await;
    platform.delete_rooms(&[&course]).await?;
    report
}

/// Sessions that are open, and what there is to know of their opening.
pub struct Stage {
    pub crowd: Crowd,
    pub tally: Arc<Tally>,
    sessions: usize,
    connected: Duration,
    started: Instant,
}

impl Stage {
    /// Opens the sessions of a course.
    pub async fn open(common: &Common, course: &Course, platform: &Platform) -> Result<Self> {
        let tally = Arc::new(Tally::new(rand::random(), course.pushes_max()));
        let started = Instant::now();
        let plans = course.plans(common, &platform.nodes);
        let (sessions, handshakes) = (plans.len(), common.handshakes as usize);
        let mut crowd = Crowd::start(plans, usize::from(common.threads), handshakes, &tally)?;
        crowd.ready(sessions, Duration::from_secs(common.patience)).await?;
        Ok(Self { crowd, tally, sessions, connected: started.elapsed(), started })
    }

    /// Waits until everything accepted has arrived everywhere, or patience ends.
    pub async fn arrivals(&self, course: &Course, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.tally.is_complete(course.receivers) && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn measure(common: &Common, course: &Course, platform: &Platform) -> Result<Report> {
    let patience = Duration::from_secs(common.patience);
    let before = process::sample(&processes(common)?)?;
    let mut stage = Stage::open(common, course, platform).await?;
    let opened = process::sample_again(&before);
    let counters = counters::read(&common.controller_metrics).await?;
    let mut joins_error = None;
    if course.joins_later {
        stage.crowd.join();
        // Who did not get in is part of the result.
        joins_error = stage.crowd.ready(stage.sessions, patience).await.err();
    }
    tokio::time::sleep(course.hold).await;
    let open = process::sample_again(&before);
    let pushing = Instant::now();
    tokio::time::sleep(course.quiet).await;
    // A slow reader that reads on within the node's patience finds the close frame behind what waits for it.
    let look = |receipt: &Receipt| {
        if course.slow > 0 && receipt.targets <= u64::from(course.sessions) {
            stage.crowd.let_slow_read();
        }
    };
    let publisher = Publisher::open(&platform.pusher, course.load.way, common).await?;
    let pace = Pace::new(&course.load, course.pushes_max());
    let sent = schedule::run(publisher, &course.target, &course.load, pace, &stage.tally, look).await?;
    stage.arrivals(course, patience).await;
    let samples = Samples { opened, open, after: process::sample_again(&before), before };
    let usage = samples.usage(pushing.elapsed(), stage.sessions);
    let grown = counters::growth(&counters, counters::read(&common.controller_metrics).await?);
    let Stage { mut crowd, tally, sessions, connected, started } = stage;
    let open_for = started.elapsed();
    let is_closed = course.slow_reading == Reading::Stopped;
    crowd.drain(if is_closed { course.slow as usize } else { 0 }, patience).await;
    crowd.catch_up();
    let slow = (course.slow > 0).then(|| slow(course, &crowd.slow_ends));
    let ends = std::mem::take(&mut crowd.ends);
    let ledger = crowd.stop()?;
    let gap = ledger.longest_gap.get();
    let is_for_all = !matches!(course.target, Target::Users { .. });
    Ok(Report {
        scenario: course.name,
        sessions: sessions as u32,
        connect_seconds: connected.as_secs_f64(),
        sessions_per_second: sessions as f64 / connected.as_secs_f64(),
        open_us: (&*ledger.opens.borrow()).into(),
        pings: ledger.pings.get(),
        pings_a_second: ledger.pings.get() as f64 / open_for.as_secs_f64(),
        quiet_seconds: (!course.quiet.is_zero()).then_some(course.quiet.as_secs_f64()),
        joins: course
            .joins_later
            .then(|| ledger.joins.borrow().clone().report(course.sessions, course.rooms)),
        joins_error: joins_error.map(|error| format!("{error:#}")),
        deliveries: deliveries(&tally, course.receivers),
        latency_us: latencies(&tally, &ledger, &sent)?,
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

/// Everybody whose CPU time and memory are asked for.
pub fn processes(common: &Common) -> Result<Vec<Named>> {
    let mut processes = common.pid.clone();
    if let Some(folder) = &common.pid_files {
        processes.extend(process::pid_files(folder)?);
    }
    if let Some(pid) = common.children_of {
        processes.extend(process::descendants(pid)?);
    }
    Ok(processes)
}

/// Latencies of pushes that are over.
pub fn latencies(tally: &Tally, ledger: &Ledger, sent: &Sent) -> Result<Latencies> {
    Ok(Latencies {
        each: (&*ledger.latencies.borrow()).into(),
        last: (&tally.last_latencies()?).into(),
        reply: (&sent.replies).into(),
        send: (&sent.lateness).into(),
    })
}

/// What became of pushes.
pub fn pushes(sent: Sent) -> Pushes {
    let Sent { accepted, time, incomplete, failed, degraded, error, .. } = sent;
    let a_second = accepted as f64 / time.as_secs_f64();
    Pushes { accepted, a_second, incomplete, failed, degraded, first_error: error }
}

/// Counts of deliveries, when each push was for so many sessions.
pub fn deliveries(tally: &Tally, receivers: u32) -> Deliveries {
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
    timeline::troubles(tally.fates(), course.load.rate.max(1), course.receivers, late)
}

fn slow(course: &Course, ends: &[End]) -> Slow {
    let closed_4002 = ends.iter().filter(|end| **end == End::Code(4002)).count();
    let broken = ends.iter().filter(|end| **end == End::Broken).count();
    Slow {
        readers: course.slow,
        read_bytes_a_second: match course.slow_reading {
            Reading::Slow(bytes) => bytes,
            Reading::Counted | Reading::Stopped => 0,
        },
        closed_4002,
        broken,
        closed_otherwise: ends.len() - closed_4002 - broken,
        still_open: (course.slow as usize).saturating_sub(ends.len()),
    }
}

/// Whether this process may open so many sessions.
pub fn check_open_files(sessions: u64) -> Result<()> {
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
