//! CPU time and memory of processes, from /proc.

use std::{collections::BTreeMap, fs, path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result, ensure};
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

/// All descendants of a process, under the names of their programs; whoever has none is an error.
pub fn descendants(of: u32) -> Result<Vec<Named>> {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile has no parent any more.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            parents.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut from) = (Vec::new(), vec![of]);
    while let Some(pid) = from.pop() {
        let children = parents.remove(&pid).unwrap_or_default();
        from.extend(&children);
        found.extend(children);
    }
    found.sort_unstable();
    ensure!(!found.is_empty(), "the process {of} has no children");
    Ok(found.into_iter().map(|pid| Named { pid, name: None }).collect())
}

/// A process at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    pid: u32,
    name: String,
    cpu_seconds: f64,
    resident_bytes: u64,
    pss_bytes: Option<u64>,
}

/// A process over a time.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    pub pid: u32,
    pub name: String,
    /// Of the whole run.
    pub cpu_seconds: f64,
    /// While the sessions opened.
    pub cpu_seconds_opening: f64,
    pub cpu_seconds_opening_1000: f64,
    /// From the first push to the last arrival; of an idle run, while nothing was pushed.
    pub cpu_seconds_pushing: f64,
    /// Cores kept busy meanwhile, on average.
    pub cores_pushing: f64,
    pub resident_bytes_before: u64,
    /// With all sessions open.
    pub resident_bytes_open: u64,
    pub resident_bytes_after: u64,
    /// Memory of its own and its share of what it shares with others (PSS); none where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes_open: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes_after: Option<u64>,
    /// By how much PSS grew over the run, for each session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes_session: Option<f64>,
    /// It was gone at the end; the figures are those of the last look.
    pub is_gone: bool,
}

/// Processes at the moments of a run.
pub struct Samples {
    pub before: Vec<Sample>,
    /// Right after the last session opened.
    pub opened: Vec<Option<Sample>>,
    /// Right before the first push.
    pub open: Vec<Option<Sample>>,
    pub after: Vec<Option<Sample>>,
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

impl Samples {
    /// What happened between them, with so many sessions; `pushing` lies between the last two.
    pub fn usage(&self, pushing: Duration, sessions: usize) -> Vec<Usage> {
        let each = self.before.iter().zip(&self.opened).zip(&self.open).zip(&self.after);
        each.map(|(((before, opened), open), after)| {
            let opened = opened.as_ref().unwrap_or(before);
            let open = open.as_ref().unwrap_or(opened);
            let last = after.as_ref().unwrap_or(open);
            let cpu_seconds_opening = opened.cpu_seconds - before.cpu_seconds;
            let cpu_seconds_pushing = last.cpu_seconds - open.cpu_seconds;
            let grown = |after: u64| (after as f64 - before.pss_bytes? as f64).into();
            let pss_bytes_grown: Option<f64> = last.pss_bytes.and_then(grown);
            Usage {
                pid: before.pid,
                name: before.name.clone(),
                cpu_seconds: last.cpu_seconds - before.cpu_seconds,
                cpu_seconds_opening,
                cpu_seconds_opening_1000: cpu_seconds_opening * 1_000.0 / sessions as f64,
                cpu_seconds_pushing,
                cores_pushing: cpu_seconds_pushing / pushing.as_secs_f64(),
                resident_bytes_before: before.resident_bytes,
                resident_bytes_open: open.resident_bytes,
                resident_bytes_after: last.resident_bytes,
                pss_bytes_before: before.pss_bytes,
                pss_bytes_open: open.pss_bytes,
                pss_bytes_after: last.pss_bytes,
                pss_bytes_session: pss_bytes_grown.map(|bytes| bytes / sessions as f64),
                is_gone: after.is_none(),
            }
        })
        .collect()
    }
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
        kibibytes(&file("status")?, "VmRSS:").with_context(|| format!("/proc/{pid}/status is strange"))?;
    // Not every kernel has it, and not every user may read it.
    let pss_bytes = file("smaps_rollup").ok().and_then(|text| kibibytes(&text, "Pss:"));
    let name = process.name.clone().unwrap_or(program);
    Ok(Sample { pid, name, cpu_seconds, resident_bytes, pss_bytes })
}

/// The name stands in parentheses and may hold some itself; user and system time are the 14th and 15th field.
fn cpu(stat: &str) -> Option<(String, f64)> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let mut fields = stat[close + 1..].split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some((stat[open + 1..close].to_owned(), ticks as f64 / TICKS_PER_SECOND))
}

/// The fourth field, the second after the name.
fn parent(stat: &str) -> Option<u32> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()
}

/// In bytes, what stands behind a word in kB.
fn kibibytes(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(cpu(stat), Some(("a) b (c".to_owned(), 3.0)));
        assert_eq!(parent(stat), Some(1));
    }

    #[test]
    fn children_and_their_children_are_found() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let own = std::process::id();
        let names = || descendants(own).map(|found| sample(&found).unwrap_or_default()).unwrap_or_default();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !names().iter().any(|sample| sample.name == "sleep") {
            assert!(std::time::Instant::now() < until, "{:?}", names());
        }
        for child in descendants(shell.id()).unwrap() {
            let pid = i32::try_from(child.pid).unwrap();
            std::process::Command::new("kill").arg(pid.to_string()).status().unwrap();
        }
        shell.wait().unwrap();
        assert!(descendants(shell.id()).unwrap_err().to_string().contains("has no children"));
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_is_told() {
        assert!(sample(&[]).unwrap()[0].resident_bytes > 100_000);
        let missing: Named = "node=4294967295".parse().unwrap();
        assert!(sample(&[missing]).unwrap_err().to_string().contains("is the process there"));
        assert!("node".parse::<Named>().is_err());
    }
}
