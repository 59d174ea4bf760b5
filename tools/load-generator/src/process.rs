//! CPU time and memory of processes, from /proc.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Ticks a second in /proc/PID/stat: fixed at 100 for programs on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    pid: u32,
    name: String,
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// A process over a time.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    pub pid: u32,
    pub name: String,
    pub cpu_seconds: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes_after: u64,
}

/// These processes and this one, now.
pub fn sample(pids: &[u32]) -> Result<Vec<Sample>> {
    pids.iter().copied().chain([std::process::id()]).map(read).collect()
}

/// What happened between two samples of the same processes.
pub fn usage(before: &[Sample], after: &[Sample]) -> Vec<Usage> {
    let pairs = before.iter().zip(after);
    let usage = pairs.map(|(before, after)| Usage {
        pid: after.pid,
        name: after.name.clone(),
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        resident_bytes_before: before.resident_bytes,
        resident_bytes_after: after.resident_bytes,
    });
    usage.collect()
}

fn read(pid: u32) -> Result<Sample> {
    let file = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is the process there?"))
    };
    let (name, cpu_seconds) = cpu(&file("stat")?).with_context(|| format!("/proc/{pid}/stat is strange"))?;
    let resident_bytes =
        resident(&file("status")?).with_context(|| format!("/proc/{pid}/status is strange"))?;
    Ok(Sample { pid, name, cpu_seconds, resident_bytes })
}

/// The name stands in parentheses and may hold some itself; user and system time are the 14th and 15th field.
fn cpu(stat: &str) -> Option<(String, f64)> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let mut fields = stat[close + 1..].split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some((stat[open + 1..close].to_owned(), ticks as f64 / TICKS_PER_SECOND))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(cpu(stat), Some(("a) b (c".to_owned(), 3.0)));
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_is_told() {
        assert!(sample(&[]).unwrap()[0].resident_bytes > 100_000);
        assert!(sample(&[u32::MAX]).unwrap_err().to_string().contains("is the process there"));
    }
}
