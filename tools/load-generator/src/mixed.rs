//! A small room at a given rate beside a big one that is busy: the latency of each.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    args::{Common, Mixed},
    course::{Course, PUSHES_MAX},
    process::{self, Samples, Usage},
    report::{Deliveries, Latencies, Pushes, write_latencies, write_processes},
    scenario::{self, Platform, Stage},
    schedule::{self, Pace, Publisher, Sent},
};

/// What came of it.
#[derive(Debug, Serialize)]
pub struct MixedReport {
    scenario: &'static str,
    /// Pushes to the big room a second when nothing else happens, if that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    most_a_second: Option<f64>,
    big: Room,
    small: Room,
    processes: Vec<Usage>,
}

/// Of one of the rooms.
#[derive(Debug, Serialize)]
struct Room {
    sessions: u32,
    rate: u32,
    pushes: Pushes,
    deliveries: Deliveries,
    latency_us: Latencies,
}

/// Opens both rooms, pushes to both at once, and sums up.
pub async fn run(common: &Common, mixed: &Mixed) -> Result<MixedReport> {
    ensure!(
        mixed.rate.max(mixed.small_rate).saturating_mul(mixed.seconds) <= PUSHES_MAX,
        "too many pushes for one run; at most {PUSHES_MAX} to a room are allowed"
    );
    scenario::check_open_files(u64::from(common.sessions + mixed.small))?;
    let platform = Platform::new(common)?;
    let mut big = Course::of_mixed(mixed, "big", common.sessions, mixed.rate, rand::random());
    let small = Course::of_mixed(mixed, "small", mixed.small, mixed.small_rate, rand::random());
    platform.create_rooms(&[&big, &small]).await?;
    let report = measure(common, mixed, &mut big, &small, &platform).await;
    platform.delete_rooms(&[&big, &small]).await?;
    report
}

async fn measure(
    common: &Common,
    mixed: &Mixed,
    big: &mut Course,
    small: &Course,
    platform: &Platform,
) -> Result<MixedReport> {
    let mut most_a_second = None;
    if let Some(percent) = mixed.percent {
        big.load.window = Some(mixed.window);
        let most = most(common, big, platform).await?;
        big.load.window = None;
        let rate = (most * f64::from(percent) / 100.0).round().max(1.0) as u32;
        big.load.rate = rate.min(PUSHES_MAX / mixed.seconds);
        most_a_second = Some(most);
    }
    let before = process::sample(&scenario::processes(common)?)?;
    let mut stages = [Stage::open(common, big, platform).await?, Stage::open(common, small, platform).await?];
    let opened = process::sample_again(&before);
    let pushing = Instant::now();
    let (sent_big, sent_small) =
        tokio::join!(push(common, big, &stages[0], platform), push(common, small, &stages[1], platform));
    let samples = Samples { open: opened.clone(), opened, after: process::sample_again(&before), before };
    let processes = samples.usage(pushing.elapsed(), (common.sessions + mixed.small) as usize);
    for stage in &mut stages {
        stage.crowd.catch_up();
        ensure!(stage.crowd.ends.is_empty(), "sessions ended: {}", stage.crowd.ends.join(", "));
    }
    let [stage_big, stage_small] = stages;
    Ok(MixedReport {
        scenario: "mixed",
        most_a_second,
        big: room(big, stage_big, sent_big?)?,
        small: room(small, stage_small, sent_small?)?,
        processes,
    })
}

/// Pushes a second in a closed loop, over sessions of its own.
async fn most(common: &Common, big: &Course, platform: &Platform) -> Result<f64> {
    let stage = Stage::open(common, big, platform).await?;
    let sent = push(common, big, &stage, platform).await?;
    stage.crowd.stop()?;
    Ok(scenario::pushes(sent).a_second)
}

/// Pushes, and waits for what has to arrive.
async fn push(common: &Common, course: &Course, stage: &Stage, platform: &Platform) -> Result<Sent> {
    let publisher = Publisher::open(&platform.pusher, course.load.way, common).await?;
    let pace = Pace::new(&course.load, course.pushes_max());
    let sent = schedule::run(publisher, &course.target, &course.load, pace, &stage.tally, |_| {}).await?;
    stage.arrivals(course, Duration::from_secs(common.patience)).await;
    Ok(sent)
}

fn room(course: &Course, stage: Stage, sent: Sent) -> Result<Room> {
    let (tally, ledger) = (stage.tally, stage.crowd.stop()?);
    let latency_us = scenario::latencies(&tally, &ledger, &sent)?;
    let deliveries = scenario::deliveries(&tally, course.receivers);
    let pushes = scenario::pushes(sent);
    Ok(Room { sessions: course.sessions, rate: course.load.rate, pushes, deliveries, latency_us })
}

impl MixedReport {
    /// Whether everything that had to arrive did, once; else why not.
    pub fn verdict(&self) -> Result<(), String> {
        let wrong = [("big", &self.big), ("small", &self.small)].map(|(name, room)| {
            let Deliveries { lost, repeated, expected, .. } = room.deliveries;
            let (failed, why) = (room.pushes.failed, room.pushes.first_error.as_deref().unwrap_or_default());
            let is_wrong = lost + repeated + failed > 0;
            is_wrong.then(|| {
                format!(
                    "{name} room: of {expected} deliveries {lost} were lost, {repeated} repeated; {failed} pushes failed {why}"
                )
            })
        });
        let wrong: Vec<_> = wrong.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| error.to_string(), |text| text + "\n")
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).map_or_else(|error| error.to_string(), |()| text)
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        if let Some(most) = self.most_a_second {
            writeln!(to, "most        {most:.1} pushes a second to the big room alone")?;
        }
        for (name, room) in [("big", &self.big), ("small", &self.small)] {
            writeln!(
                to,
                "{name:<12}{} sessions, {} pushes a second asked for, {} accepted ({:.1} a second), {} of {} deliveries",
                room.sessions,
                room.rate,
                room.pushes.accepted,
                room.pushes.a_second,
                room.deliveries.received,
                room.deliveries.expected
            )?;
            write_latencies(to, room.latency_us.rows())?;
        }
        write_processes(to, &self.processes, self.big.deliveries.received + self.small.deliveries.received)
    }
}
