//! What a run found out, for people and for programs.

use std::{collections::BTreeMap, fmt::Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{counters::Counters, joins::JoinReport, process::Usage, timeline::Second};

/// Seconds with trouble that a table shows.
const SECONDS_SHOWN: usize = 20;

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub sessions: u32,
    pub connect_seconds: f64,
    pub sessions_per_second: f64,
    /// From connecting to `welcome` or `joined`, session by session.
    pub open_us: Quantiles,
    /// Pings answered, over all sessions and since the first of them opened.
    pub pings: u64,
    pub pings_a_second: f64,
    /// How long nothing was pushed, of an idle run: the processes tell of this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins: Option<JoinReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins_error: Option<String>,
    pub pushes: Pushes,
    pub deliveries: Deliveries,
    pub latency_us: Latencies,
    /// The longest time that one session waited between two pushes; only where every session gets several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap_ms: Option<f64>,
    /// Seconds in which anything was not as it should be.
    pub troubles: Vec<Second>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// Ends of sessions that nobody asked for.
    pub ended_sessions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_end: Option<String>,
    /// By how much counters of the controllers have grown since all sessions were open.
    pub controllers: Counters,
    pub processes: Vec<Usage>,
}

#[derive(Debug, Serialize)]
pub struct Pushes {
    pub accepted: u64,
    /// From the first push to the last reply.
    pub a_second: f64,
    pub incomplete: u64,
    pub failed: u64,
    /// How many replies named what the push did without.
    pub degraded: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Deliveries {
    pub expected: u64,
    pub received: u64,
    pub lost: u64,
    pub repeated: u64,
    /// Pushes of somebody else that arrived meanwhile.
    pub foreign: u64,
}

/// Microseconds from the time a push was due.
#[derive(Debug, Serialize)]
pub struct Latencies {
    /// To each receiver.
    pub each: Quantiles,
    /// To the last receiver of a push.
    pub last: Quantiles,
    /// To the reply.
    pub reply: Quantiles,
    /// To the sending: what the load generator itself adds to the others.
    pub send: Quantiles,
}

#[derive(Debug, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What became of slow readers.
#[derive(Debug, Serialize)]
pub struct Slow {
    pub readers: u32,
    /// What each of them read; 0: they stopped.
    pub read_bytes_a_second: u32,
    pub closed_4002: usize,
    /// The connection ended before the close frame could be read.
    pub broken: usize,
    pub closed_otherwise: usize,
    pub still_open: usize,
}

impl From<&Histogram<u64>> for Quantiles {
    fn from(nanoseconds: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| micros(nanoseconds.value_at_quantile(quantile));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: micros(nanoseconds.max()) }
    }
}

impl Report {
    /// Whether everything that had to arrive did, once; else why not.
    pub fn verdict(&self) -> Result<(), String> {
        let (pushes, deliveries) = (&self.pushes, &self.deliveries);
        let mut wrong = Vec::new();
        if let Some(joins) = &self.joins
            && joins.not_joined > 0
        {
            let why = joins.first_refusal.as_deref().or(self.joins_error.as_deref()).unwrap_or_default();
            wrong.push(format!("{} of {} sessions did not join ({why})", joins.not_joined, self.sessions));
        }
        if deliveries.lost > 0 {
            wrong.push(format!("{} of {} deliveries were lost", deliveries.lost, deliveries.expected));
        }
        if deliveries.repeated > 0 {
            wrong.push(format!("{} deliveries were repeated", deliveries.repeated));
        }
        if pushes.failed > 0 {
            let why = pushes.first_error.as_deref().unwrap_or_default();
            wrong.push(format!("{} pushes failed ({why})", pushes.failed));
        }
        if let Some(why) = &self.first_end {
            wrong.push(format!("{} sessions ended ({why})", self.ended_sessions));
        }
        if let Some(slow) = &self.slow
            && slow.read_bytes_a_second == 0
            && (slow.still_open > 0 || slow.closed_otherwise > 0 || slow.closed_4002 == 0)
        {
            wrong.push(format!(
                "of {} slow readers {} were closed with 4002, {} otherwise, {} broke, {} are still open",
                slow.readers, slow.closed_4002, slow.closed_otherwise, slow.broken, slow.still_open
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| error.to_string(), |text| text + "\n")
    }

    /// As text.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).map_or_else(|error| error.to_string(), |()| text)
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let (pushes, deliveries) = (&self.pushes, &self.deliveries);
        writeln!(
            to,
            "{}: {} sessions, opened in {:.2} s ({:.0} a second)",
            self.scenario, self.sessions, self.connect_seconds, self.sessions_per_second
        )?;
        if let Some(joins) = &self.joins {
            write_joins(to, joins)?;
        }
        if let Some(seconds) = self.quiet_seconds {
            let rate = self.pings as f64 / (seconds + self.connect_seconds);
            writeln!(
                to,
                "idle        {seconds:.0} s without a push; {} pings, {rate:.1} a second",
                self.pings
            )?;
        }
        write!(
            to,
            "pushes      {} accepted ({:.0} a second), {} of them incomplete, {} failed",
            pushes.accepted, pushes.a_second, pushes.incomplete, pushes.failed
        )?;
        for (what, count) in &pushes.degraded {
            write!(to, ", {count} degraded by {what}")?;
        }
        writeln!(to)?;
        writeln!(
            to,
            "deliveries  {} of {}, {} lost, {} repeated, {} foreign",
            deliveries.received,
            deliveries.expected,
            deliveries.lost,
            deliveries.repeated,
            deliveries.foreign
        )?;
        let mut rows = vec![("open", &self.open_us)];
        if let Some(joins) = &self.joins {
            rows.extend([("join", &joins.latency_us), ("answer", &joins.answer_us)]);
        }
        rows.extend(self.latency_us.rows());
        write_latencies(to, rows)?;
        if let Some(gap) = self.longest_gap_ms {
            writeln!(to, "gap         at most {gap:.1} ms between two pushes at one session")?;
        }
        write_troubles(to, &self.troubles)?;
        if let Some(slow) = &self.slow {
            writeln!(
                to,
                "slow        {} readers: {} closed with 4002, {} broke, {} closed otherwise, {} still open",
                slow.readers, slow.closed_4002, slow.broken, slow.closed_otherwise, slow.still_open
            )?;
        }
        for (name, count) in &self.controllers {
            writeln!(to, "controllers {name} +{count}")?;
        }
        write_processes(to, &self.processes, deliveries.received)
    }
}

impl Latencies {
    /// With their names.
    pub fn rows(&self) -> [(&'static str, &Quantiles); 4] {
        [("each", &self.each), ("last", &self.last), ("reply", &self.reply), ("send", &self.send)]
    }
}

/// A table of latencies in milliseconds.
pub fn write_latencies<'a>(
    to: &mut String,
    rows: impl IntoIterator<Item = (&'static str, &'a Quantiles)>,
) -> std::fmt::Result {
    writeln!(to, "latency       p50 ms    p90 ms    p99 ms  p99.9 ms    max ms")?;
    for (name, at) in rows {
        write!(to, "  {name:<8}")?;
        for micros in [at.p50, at.p90, at.p99, at.p999, at.max] {
            write!(to, "{:>10.3}", micros / 1_000.0)?;
        }
        writeln!(to)?;
    }
    Ok(())
}

fn write_joins(to: &mut String, joins: &JoinReport) -> std::fmt::Result {
    write!(
        to,
        "joins       {} in {} rooms, {} not; the last after {:.3} s; answers:",
        joins.joined, joins.rooms, joins.not_joined, joins.seconds_to_last
    )?;
    for (answer, count) in &joins.answers {
        write!(to, " {answer} {count}")?;
    }
    writeln!(to)
}

fn write_troubles(to: &mut String, troubles: &[Second]) -> std::fmt::Result {
    for at in troubles.iter().take(SECONDS_SHOWN) {
        writeln!(
            to,
            "second {:<4} {} pushes: {} failed, {} incomplete, {} degraded, {} late, {} deliveries lost, last {:.1} ms",
            at.second, at.pushes, at.failed, at.incomplete, at.degraded, at.late, at.lost, at.last_ms
        )?;
    }
    if troubles.len() > SECONDS_SHOWN {
        writeln!(to, "and {} more seconds; all are in --output json", troubles.len() - SECONDS_SHOWN)?;
    }
    Ok(())
}

/// A table of processes.
pub fn write_processes(to: &mut String, processes: &[Usage], deliveries: u64) -> std::fmt::Result {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        to,
        "process                 pid   CPU s  s/1,000 opened  cores while pushing  us a delivery  MiB before    open   after  PSS B/session"
    )?;
    for process in processes {
        writeln!(
            to,
            "  {:<16}{:>9}{:>8.2}{:>16.4}{:>21.4}{:>15.2}{:>12.1}{:>8.1}{:>8.1}{:>15}{}",
            process.name,
            process.pid,
            process.cpu_seconds,
            process.cpu_seconds_opening_1000,
            process.cores_pushing,
            process.cpu_seconds_pushing * 1e6 / deliveries.max(1) as f64,
            mib(process.resident_bytes_before),
            mib(process.resident_bytes_open),
            mib(process.resident_bytes_after),
            process.pss_bytes_session.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
            if process.is_gone { "  ended" } else { "" }
        )?;
    }
    Ok(())
}
