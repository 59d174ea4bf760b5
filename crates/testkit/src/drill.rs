//! Faults under load, and the proof that nothing accepted was lost unseen: a platform of separate processes, a crowd of
//! sessions, a publisher, scenarios that break things, and a checker that reads what everybody saw.

pub mod checker;
pub mod crowd;
pub mod history;
pub mod publisher;
pub mod report;
pub mod scenarios;
pub mod stage;
pub mod truth;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};

pub use self::{
    checker::{Defect, Kind, Rules},
    report::Report,
    stage::{Scenario, Stage},
};
use self::{
    crowd::{Clock, Crowd},
    history::Run,
    publisher::Publisher,
};
use crate::{
    dice::Dice,
    platform::{Platform, Resources},
};

/// Load before the first fault, and after the last.
const CALM: Duration = Duration::from_secs(2);
/// How long all sessions may take to be there at the begin.
const THERE_WITHIN: Duration = Duration::from_secs(120);
/// How long all sessions may take to be back after the last fault: back-off goes up to 20 s.
const BACK_WITHIN: Duration = Duration::from_secs(45);
/// How long a session may take to move from a node that stops to another.
const GAP_P99_MS: u64 = 1_500;
/// The last messages are there when none came for so long.
const SILENCE: Duration = Duration::from_secs(1);
const SILENCE_WITHIN: Duration = Duration::from_secs(60);

/// How large a run is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The folder of the programs.
    pub programs: PathBuf,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// Sessions, each in one room.
    pub sessions: usize,
    /// Rooms.
    pub rooms: usize,
    /// Pushes a second.
    pub rate: u32,
    /// Controllers, push-managers, nodes.
    pub parts: [usize; 3],
    /// Threads of the crowd.
    pub threads: usize,
    /// Which client its sessions are.
    pub kind: crowd::Kind,
    /// Whether there are proxies between all parts and before one in ten clients: scenarios that break ways need them.
    pub is_proxied: bool,
    /// How long a fault stands that has no length of its own.
    pub hold: Duration,
    /// Whether it is a failure when something takes longer than promised; a busy machine cannot tell.
    pub is_timed: bool,
    /// Whether faults are told as they happen.
    pub is_told: bool,
    /// Where the logs of all parts go when a check fails.
    pub logs: Option<PathBuf>,
}

impl Setup {
    /// Some 500 sessions: for tests.
    pub fn small(programs: PathBuf) -> Self {
        Self {
            programs,
            seed: 1,
            sessions: 500,
            rooms: 20,
            rate: 50,
            parts: [2, 2, 3],
            threads: 1,
            kind: crowd::Kind::Lean,
            is_proxied: true,
            hold: Duration::from_secs(3),
            is_timed: false,
            is_told: false,
            logs: None,
        }
    }

    /// What the drill is: 10,000 sessions in 100 rooms, 100 pushes a second.
    pub fn large(programs: PathBuf, seed: u64) -> Self {
        let small = Self::small(programs);
        Self {
            seed,
            sessions: 10_000,
            rooms: 100,
            rate: 100,
            hold: Duration::from_secs(4),
            is_told: true,
            ..small
        }
    }
}

/// What is done in a run.
#[derive(Clone, Copy)]
pub enum Course<'a> {
    /// One scenario, so many times.
    Scenario(&'a Scenario, usize),
    /// A drawn one every so often, for so long.
    Drawn {
        /// From the begin of one to that of the next, if it is over by then.
        every: Duration,
        /// All together.
        time: Duration,
    },
}

/// Runs it all and judges it.
pub async fn run(setup: &Setup, course: Course<'_>) -> Report {
    let platform = start(setup).await;
    let (before, clock, mut defects) = (truth::resources(&platform), Clock::start(), Vec::new());
    let crowd = Crowd::start(gathering(setup, &platform), clock);
    if let Err(connected) = crowd.all_connected(THERE_WITHIN).await {
        let what = format!("only {connected} of {} sessions came; {:?}", setup.sessions, crowd.failures());
        defects.push(Defect::new(Kind::NotBack, what));
    }
    let plan = publisher::Plan {
        push_managers: platform.role("push-manager").iter().map(|part| part.grpc()).collect(),
        rooms: setup.rooms,
        rate: setup.rate,
        bytes: 128,
    };
    let (publisher, begun) = (Publisher::start(plan, clock), Instant::now());
    let stage = Stage::new(platform, crowd, clock, Dice::new(setup.seed), setup.hold, setup.is_told);
    sleep(CALM).await;
    let excuses = act(&stage, course).await;
    stage.heal().await;
    defects.extend(come_back(&stage).await);
    let (wrong, map) = truth::within(truth::MAP_WITHIN, || truth::map(&stage.platform, &stage.crowd)).await;
    defects.extend(wrong);
    sleep(CALM).await;
    let pushes = publisher.stop().await;
    let time = begun.elapsed();
    defects.extend(quiet(&stage).await);
    defects.extend(truth::within(truth::MAP_WITHIN, || truth::seats(&stage.platform, &stage.crowd)).await.0);
    defects.extend(truth::ledger_at_last(&stage.platform, begun.elapsed()).await);
    let mut report = Report { seed: setup.seed, time, map, defects, ..Report::default() };
    end(stage, pushes, &before, setup, &excuses, &mut report).await;
    report
}

/// Sends everybody home and judges what they saw.
async fn end(
    stage: Stage,
    pushes: Vec<history::Push>,
    before: &BTreeMap<String, Resources>,
    setup: &Setup,
    excuses: &Excuses,
    report: &mut Report,
) {
    let faults = stage.faults();
    report.failures = stage.crowd.failures();
    let Stage { platform, crowd, .. } = stage;
    let run = Run { sessions: crowd.stop().await, pushes };
    let checker::Judgement { defects, missing } = checker::check(&run, excuses.rules);
    report.missing = missing;
    report.defects.extend(defects);
    report.defects.extend(truth::baseline(&platform, before).await);
    let complaints = platform.complaints(&excuses.expected).into_iter();
    report.defects.extend(complaints.map(|line| Defect::new(Kind::Log, line)));
    let nodes: Vec<_> = platform.role("connect-node").iter().map(|node| node.name().to_owned()).collect();
    report.faults = report::aftermath(&faults, &run.sessions, &run.pushes, &nodes);
    let nodes = platform.role("connect-node").into_iter();
    report.drains = nodes.flat_map(|node| report::drains(node.name(), &node.said())).collect();
    report.defects.extend(report::cut(&report.drains));
    if setup.is_timed {
        report.defects.extend(report::late(&report.faults, run.sessions.len()));
        report.defects.extend(report::slow(&report.drains, GAP_P99_MS));
    }
    report.add_sums(&run);
    if let (Some(logs), false) = (&setup.logs, report.is_good()) {
        platform.keep_logs(logs).expect("the folder of logs can be written");
    }
}

async fn start(setup: &Setup) -> Platform {
    let [controllers, push_managers, nodes] = setup.parts;
    let seats = format!("room.default_max_users={}", (setup.sessions / setup.rooms + 1).max(100));
    let builder = Platform::builder(&setup.programs).controllers(controllers).push_managers(push_managers);
    let builder = if setup.is_proxied { builder } else { builder.direct() };
    builder.nodes(nodes).set(&seats).set("connect_node.shards=1").start().await
}

fn gathering(setup: &Setup, platform: &Platform) -> crowd::Plan {
    let nodes = platform.role("connect-node");
    let proxied = if setup.is_proxied { nodes.as_slice() } else { &[] };
    crowd::Plan {
        sessions: setup.sessions,
        rooms: setup.rooms,
        nodes: nodes.iter().map(|node| node.http()).collect(),
        proxied: proxied.iter().map(|node| node.http_proxied()).collect(),
        threads: setup.threads,
        seed: setup.seed,
        kind: setup.kind,
    }
}

/// What a course is bound to cause.
#[derive(Default)]
struct Excuses {
    rules: Rules,
    /// Words of ERROR lines.
    expected: Vec<&'static str>,
}

/// Carries a course out; what it excuses.
async fn act(stage: &Stage, course: Course<'_>) -> Excuses {
    let mut excuses = Excuses::default();
    let Excuses { rules, expected } = &mut excuses;
    let mut excuse = |scenario: &Scenario| {
        rules.keys_may_be_lost |= scenario.rules.keys_may_be_lost;
        rules.pushes_may_fail |= scenario.rules.pushes_may_fail;
        rules.logs_may_be_lost |= scenario.rules.logs_may_be_lost;
        expected.extend(scenario.expected);
    };
    match course {
        Course::Scenario(scenario, times) => {
            excuse(scenario);
            for _ in 0..times {
                (scenario.act)(stage).await;
            }
        }
        Course::Drawn { every, time } => {
            let drawn: Vec<_> = scenarios::all().into_iter().filter(|scenario| scenario.is_drawn).collect();
            let end = tokio::time::Instant::now() + time;
            loop {
                let next = tokio::time::Instant::now() + every;
                let scenario = *stage.dice().pick(&drawn);
                excuse(scenario);
                (scenario.act)(stage).await;
                if next > end {
                    break;
                }
                sleep_until(next).await;
            }
        }
    }
    excuses
}

async fn come_back(stage: &Stage) -> Option<Defect> {
    let (sessions, began) = (stage.crowd.sessions(), Instant::now());
    let connected = stage.crowd.all_connected(BACK_WITHIN).await.err()?;
    let what = format!("{connected} of {sessions} sessions are back after {:?}", began.elapsed());
    Some(Defect::new(Kind::NotBack, what))
}

/// Waits until the last messages have come.
async fn quiet(stage: &Stage) -> Option<Defect> {
    let began = Instant::now();
    loop {
        let messages = stage.crowd.messages();
        sleep(SILENCE).await;
        if stage.crowd.messages() == messages {
            return None;
        }
        if began.elapsed() > SILENCE_WITHIN {
            return Some(Defect::new(
                Kind::TooLate,
                "messages still come a minute after the last push".to_owned(),
            ));
        }
    }
}
