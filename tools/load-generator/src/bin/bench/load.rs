//! One run of the load generator against one server, and what of its report counts.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    measures::Measure,
    servers::{Cores, Kind, NODE, Server, on},
};

/// What one run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// CPU time of the server's processes per delivery, in microseconds.
    pub cpu_us: f64,
    /// Of them that of the connect-node, where it is a process of its own.
    pub node_us: Option<f64>,
    pub deliveries_a_second: f64,
    /// To the last receiver, in milliseconds.
    pub last_p50_ms: f64,
    pub last_p99_ms: f64,
    pub idle: Option<Idle>,
}

/// What holding sessions comes to: all processes, and the connect-node where it is one.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// By how much PSS grew, in bytes for each session.
    pub pss_bytes: f64,
    pub node_pss_bytes: Option<f64>,
    /// In percent of one core while nothing happens.
    pub cpu_percent: f64,
    pub node_cpu_percent: Option<f64>,
    pub pings_a_second: f64,
    /// For 1,000 sessions that open.
    pub open_cpu_seconds: f64,
    pub open_p50_ms: f64,
    pub open_p99_ms: f64,
}

/// Starts the server, loads it for so many seconds, and ends it.
pub fn take(programs: &Path, server: &Server, way: &str, measure: &Measure, seconds: u32) -> Result<Run> {
    let running = server.start(programs, measure.cores)?;
    let mut load = on(measure.cores, Cores::All, &programs.join("load-generator"));
    load.args(["--sessions", &measure.sessions.to_string(), "--json", "--patience", "120"]);
    for pid in running.pids() {
        load.args(["--pid", &pid]);
    }
    load.args(server.addresses()).args(measure.arguments);
    if !way.is_empty() && server.kind != Kind::Floor {
        load.arg(way);
    }
    load.args(["--seconds", &(seconds * measure.times).to_string()]);
    let out = load.stderr(Stdio::inherit()).output().context("load-generator does not start")?;
    ensure!(out.status.success(), "{} failed against {}", measure.name, server.words);
    read(&serde_json::from_slice(&out.stdout)?).context("the report of the load generator is strange")
}

fn read(report: &Value) -> Option<Run> {
    if report["quiet_seconds"].is_number() {
        return Some(Run { idle: Some(idle(report)?), ..Run::default() });
    }
    let is_mixed = report["scenario"] == "mixed";
    // What a big room costs, what the small one beside it feels.
    let (costly, felt) = if is_mixed { (&report["big"], &report["small"]) } else { (report, report) };
    let received = |part: &Value| part["deliveries"]["received"].as_f64();
    let all = received(costly)? + if is_mixed { received(felt)? } else { 0.0 };
    let last = &felt["latency_us"]["last"];
    let cpu_us = |seconds: f64| seconds * 1e6 / all;
    Some(Run {
        cpu_us: cpu_us(sum(report, "cpu_seconds_pushing")?),
        node_us: of_node(report, "cpu_seconds_pushing").map(cpu_us),
        deliveries_a_second: costly["pushes"]["a_second"].as_f64()? * received(costly)?
            / costly["pushes"]["accepted"].as_f64()?,
        last_p50_ms: last["p50"].as_f64()? / 1e3,
        last_p99_ms: last["p99"].as_f64()? / 1e3,
        idle: None,
    })
}

fn idle(report: &Value) -> Option<Idle> {
    let open = &report["open_us"];
    Some(Idle {
        pss_bytes: sum(report, "pss_bytes_session")?,
        node_pss_bytes: of_node(report, "pss_bytes_session"),
        cpu_percent: sum(report, "cores_pushing")? * 100.0,
        node_cpu_percent: of_node(report, "cores_pushing").map(|cores| cores * 100.0),
        pings_a_second: report["pings_a_second"].as_f64()?,
        open_cpu_seconds: sum(report, "cpu_seconds_opening_1000")?,
        open_p50_ms: open["p50"].as_f64()? / 1e3,
        open_p99_ms: open["p99"].as_f64()? / 1e3,
    })
}

/// Over the server's processes; the load generator itself is the last.
fn sum(report: &Value, figure: &str) -> Option<f64> {
    let (_own, servers) = report["processes"].as_array()?.split_last()?;
    servers.iter().map(|process| process[figure].as_f64()).sum()
}

fn of_node(report: &Value, figure: &str) -> Option<f64> {
    let processes = report["processes"].as_array()?;
    processes.iter().find(|process| process["name"] == NODE)?[figure].as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tiers_are_added_up_and_the_load_generator_is_not() {
        let process = |name: &str, seconds: f64| json!({"name": name, "cpu_seconds_pushing": seconds});
        let last = json!({"p50": 2_000.0, "p99": 3_000.0});
        let report = json!({
            "scenario": "room",
            "deliveries": {"received": 1_000_000},
            "pushes": {"accepted": 1_000, "a_second": 50.0},
            "latency_us": {"last": last},
            "processes": [process("push-manager", 1.0), process(NODE, 4.0), process("load-generator", 9.0)],
        });
        let run = read(&report).unwrap();
        assert_eq!((run.cpu_us, run.node_us, run.deliveries_a_second), (5.0, Some(4.0), 50_000.0));
        assert_eq!((run.last_p50_ms, run.last_p99_ms), (2.0, 3.0));
    }
}
