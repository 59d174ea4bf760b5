//! CPU time and memory of processes, from /proc.

use std::{fs, path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

/// Ticks a second in /proc/PID/stat: fixed at 100 for programs on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to look at, by the name that it is shown under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pid: u32,
    /// That of its program when there is none.
    name: Option<String>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = match text.split_once('=') {
            Some((name, pid)) => (Some(name.to_owned()), pid),
            None => (None, text),
        };
        let pid = pid.parse().map_err(|_| "it takes PID or NAME=PID".to_owned())?;
        Ok(Self { pid, name })
    }
}

/// Each NAME.pid of a folder.
pub fn pid_files(folder: &Path) -> Result<Vec<Named>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pid")) else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds no pid", path.display()))?;
        found.push(Named { pid, name: Some(name.to_owned()) });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

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
    /// Of the whole run.
    pub cpu_seconds: f64,
    /// From the first push to the last arrival.
    pub cpu_seconds_pushing: f64,
    /// Cores kept busy meanwhile, on average.
    pub cores_pushing: f64,
    pub resident_bytes_before: u64,
    /// With all sessions open.
    pub resident_bytes_open: u64,
    pub resident_bytes_after: u64,
    /// It was gone at the end; the figures are those of the last look.
    pub is_gone: bool,
}

/// These processes and this one, now.
pub fn sample(processes: &[Named]) -> Result<Vec<Sample>> {
    let own = Named { pid: std::process::id(), name: None };
    processes.iter().chain([&own]).map(read).collect()
}

/// The same processes now; `None` for those that are gone.
pub fn sample_again(before: &[Sample]) -> Vec<Option<Sample>> {
    let again = |sample: &Sample| read(&Named { pid: sample.pid, name: Some(sample.name.clone()) }).ok();
    before.iter().map(again).collect()
}

/// What happened between the samples of a run; `pushing` lies between the last two.
pub fn usage(
    before: &[Sample],
    open: &[Option<Sample>],
    after: &[Option<Sample>],
    pushing: Duration,
) -> Vec<Usage> {
    let samples = before.iter().zip(open).zip(after);
    let usage = samples.map(|((before, open), after)| {
        let open = open.as_ref().unwrap_or(before);
        let last = after.as_ref().unwrap_or(open);
        let cpu_seconds_pushing = last.cpu_seconds - open.cpu_seconds;
        Usage {
            pid: before.pid,
            name: before.name.clone(),
            cpu_seconds: last.cpu_seconds - before.cpu_seconds,
            cpu_seconds_pushing,
            cores_pushing: cpu_seconds_pushing / pushing.as_secs_f64(),
            resident_bytes_before: before.resident_bytes,
            resident_bytes_open: open.resident_bytes,
            resident_bytes_after: last.resident_bytes,
            is_gone: after.is_none(),
        }
    });
    usage.collect()
}

fn read(process: &Named) -> Result<Sample> {
    let pid = process.pid;
    let file = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is the process there?"))
    };
    let (program, cpu_seconds) =
        cpu(&file("stat")?).with_context(|| format!("/proc/{pid}/stat is strange"))?;
    let resident_bytes =
        resident(&file("status")?).with_context(|| format!("/proc/{pid}/status is strange"))?;
    let name = process.name.clone().unwrap_or(program);
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
        let missing: Named = "node=4294967295".parse().unwrap();
        assert!(sample(&[missing]).unwrap_err().to_string().contains("is the process there"));
        assert!("node".parse::<Named>().is_err());
    }
}
