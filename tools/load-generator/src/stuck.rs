//! Whether one reader that stopped reading makes pushes slower: the same pushes one after the other, beside it and without
//! it, in turn.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use roomcast_client::{Content, ContentType, Controller, PushOptions, Pusher, Receipt};
use roomcast_proto::pubsub::{CreateRoomRequest, DeleteRoomRequest};
use serde::Serialize;

use crate::{
    args::{Common, Stuck},
    crowd::Crowd,
    session::{Plan, Reading, Session},
    tally::Tally,
    target::{self, Node},
};

/// Content of the pushes that fill what the kernel takes for a reader that does not read.
const FILLER_BYTES: usize = 16 << 10;
/// More of them than any kernel takes.
const FILLERS_MAX: u32 = 4_096;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct StuckReport {
    scenario: &'static str,
    sessions: u32,
    pushes: u32,
    bytes: u32,
    /// All pushes of one round, one after the other, in milliseconds.
    without_ms: Vec<f64>,
    beside_ms: Vec<f64>,
    /// Median beside a stuck reader by median without one.
    ratio: f64,
}

impl StuckReport {
    /// For people.
    pub fn table(&self) -> String {
        let rounds = |times: &[f64]| times.iter().map(|ms| format!("{ms:.1}")).collect::<Vec<_>>().join("  ");
        format!(
            "scenario               {}\nsessions               {}\npushes in a round      {} of {} bytes\n\
             without, ms            {}\nbeside one stuck, ms   {}\nratio of the medians   {:.3}\n",
            self.scenario,
            self.sessions,
            self.pushes,
            self.bytes,
            rounds(&self.without_ms),
            rounds(&self.beside_ms),
            self.ratio
        )
    }

    /// For programs.
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("numbers and words are JSON");
        format!("{text}\n")
    }
}

/// The run.
struct Run<'a> {
    common: &'a Common,
    stuck: &'a Stuck,
    pusher: Pusher,
    nodes: Vec<Node>,
    room_id: String,
}

/// Opens the sessions, pushes in rounds, and sums up.
pub async fn run(common: &Common, stuck: &Stuck) -> Result<StuckReport> {
    for address in common.push_manager.iter().chain(&common.controller) {
        target::loopback(address)?;
    }
    let nodes = common.nodes.iter().map(|url| target::node(url)).collect::<Result<Vec<_>>>()?;
    let room_id = format!("load-{:08x}-stuck", rand::random::<u32>());
    let pusher = Pusher::new(&common.push_manager)?.attempts_per_address(1);
    let controller = Controller::new(&common.controller)?;
    // Seats of readers that went stand for the rejoin grace.
    let max_users = Some(common.sessions + stuck.rounds);
    let request = CreateRoomRequest {
        room_id: room_id.clone(),
        max_users,
        membership: 0,
        ..CreateRoomRequest::default()
    };
    controller.create_room(request).await.context("the room of the run cannot be created")?;
    let run = Run { common, stuck, pusher, nodes, room_id: room_id.clone() };
    let report = run.measure().await;
    let deleted = controller.delete_room(DeleteRoomRequest { room_id }).await;
    deleted.context("the room of the run cannot be deleted")?;
    report
}

impl Run<'_> {
    async fn measure(&self) -> Result<StuckReport> {
        let tally = Arc::new(Tally::new(rand::random(), 0));
        let plans: Vec<_> = (0..self.common.sessions).map(|number| self.plan(number, false)).collect();
        let (threads, handshakes) = (usize::from(self.common.threads), self.common.handshakes as usize);
        let mut crowd = Crowd::start(plans, threads, handshakes, &tally)?;
        let patience = Duration::from_secs(self.common.patience);
        crowd.ready(self.common.sessions as usize, patience).await?;
        // What is done once, such as connecting to the push-manager, belongs to neither side.
        self.round(0).await?;
        let (mut without_ms, mut beside_ms) = (Vec::new(), Vec::new());
        for round in 0..self.stuck.rounds {
            without_ms.push(self.round(0).await?);
            let reader = self.stuck_reader(round).await?;
            beside_ms.push(self.round(1).await?);
            drop(reader);
            self.until_targets(u64::from(self.common.sessions), patience).await?;
        }
        crowd.stop()?;
        Ok(StuckReport {
            scenario: "stuck",
            sessions: self.common.sessions,
            pushes: self.stuck.pushes,
            bytes: self.stuck.bytes,
            ratio: median(&beside_ms) / median(&without_ms),
            without_ms,
            beside_ms,
        })
    }

    fn plan(&self, number: u32, is_slow: bool) -> Plan {
        Plan {
            node: self.nodes[number as usize % self.nodes.len()].clone(),
            source: Ipv4Addr::new(127, 0, 0, 1 + (number % u32::from(self.common.source_addresses)) as u8),
            user_id: format!("{}-{number}", self.room_id),
            room_id: Some(self.room_id.clone()),
            joins_later: false,
            reading: if is_slow { Reading::Stopped } else { Reading::Counted },
        }
    }

    /// One after the other at the default wait; in milliseconds. So many targets have to stay pending in each.
    async fn round(&self, pending: u64) -> Result<f64> {
        let began = Instant::now();
        for number in 0..self.stuck.pushes {
            let receipt = self.push(self.stuck.bytes as usize).await?;
            let written = receipt.outcomes.get("WRITTEN").copied().unwrap_or(0);
            if written != u64::from(self.common.sessions) || receipt.pending != pending || !receipt.complete {
                bail!(
                    "push {number} of a round says {receipt:?}; {pending} pending and the rest WRITTEN was meant"
                );
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1_000.0)
    }

    /// A member that does not read, with everything full that the kernel has for it.
    async fn stuck_reader(&self, round: u32) -> Result<Session> {
        let reader = Session::open(&self.plan(self.common.sessions + round, true)).await?;
        for _ in 0..FILLERS_MAX {
            if self.push(FILLER_BYTES).await?.pending > 0 {
                return Ok(reader);
            }
        }
        bail!(
            "the kernel took {FILLERS_MAX} messages of {FILLER_BYTES} bytes for a reader that does not read"
        );
    }

    async fn until_targets(&self, targets: u64, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        while self.push(self.stuck.bytes as usize).await?.targets != targets {
            if Instant::now() > until {
                bail!("the stuck reader is gone, and still a target after {patience:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn push(&self, bytes: usize) -> Result<Receipt> {
        let content = Content::text(ContentType::Text, "x".repeat(bytes));
        let reply = self.pusher.push_to_room(&self.room_id, content, &PushOptions::default()).await?;
        Ok(reply.receipt.unwrap_or_default())
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] }
}
