//! What nodes that were told to stop said at their end.

use super::{Defect, Kind};

/// One node's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    node: String,
    /// Sessions that it cut before they were elsewhere and had everything.
    lost: u64,
    /// From the notice to the takeover.
    gap_p99_ms: u64,
}

/// The last lines of a node in its log, which holds all of its lives.
pub fn drains(node: &str, log: &str) -> Vec<Drain> {
    let ends = log.lines().filter(|line| line.contains(" the node stopped"));
    let drain = |line: &str| {
        let number = |field: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(field))?;
            value.strip_prefix('=')?.parse().ok()
        };
        Some(Drain { node: node.to_owned(), lost: number("lost")?, gap_p99_ms: number("gap_p99_ms")? })
    };
    ends.filter_map(drain).collect()
}

/// Of drains that cut sessions.
pub fn cut(drains: &[Drain]) -> Vec<Defect> {
    let told = |drain: &Drain| {
        let Drain { node, lost, .. } = drain;
        Defect::new(Kind::Drained, format!("{node} was told to stop and cut {lost} sessions"))
    };
    drains.iter().filter(|drain| drain.lost > 0).map(told).collect()
}

/// Of drains that took their sessions longer to move than promised.
pub fn slow(drains: &[Drain], promised_ms: u64) -> Vec<Defect> {
    let told = |drain: &Drain| {
        let Drain { node, gap_p99_ms, .. } = drain;
        let what = format!("{node} drained with gaps of {gap_p99_ms} ms; {promised_ms} were promised");
        Defect::new(Kind::TooLate, what)
    };
    drains.iter().filter(|drain| drain.gap_p99_ms > promised_ms).map(told).collect()
}

/// How many nodes stopped, what they cut, and the longest of their gaps in milliseconds.
pub fn sum(drains: &[Drain]) -> (usize, u64, u64) {
    let gap = drains.iter().map(|drain| drain.gap_p99_ms).max();
    (drains.len(), drains.iter().map(|drain| drain.lost).sum(), gap.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_in_a_log_is_found_and_judged() {
        let end = |lost, gap| {
            format!(
                "t  INFO n: the node stopped node_id=a sessions=3 moved=3 closed=0 lost={lost} gap_p99_ms={gap}\n"
            )
        };
        let log = format!("t  INFO n: started\n{}t  INFO n: started\n{}", end(0, 900), end(2, 1_600));
        let found = drains("a", &log);
        assert_eq!(sum(&found), (2, 2, 1_600));
        assert_eq!((cut(&found).len(), slow(&found, 1_500).len()), (1, 1));
    }
}
