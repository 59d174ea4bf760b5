//! Tables of medians, with the least and the most of all rounds; ratios are of one round.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use crate::load::{Idle, Run};

/// Heads of the two tables.
pub const LOADS: &str = "\
| what | Roomcast | CPU a delivery, floor = 1 | in us | of it the node, floor = 1 | deliveries/s, floor = 1 | deliveries/s \
| last member p50, floor = 1 | p99, floor = 1 | p50, ms | p99, ms |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
pub const IDLES: &str = "\
| what | server | PSS a session, bytes | of it the node | CPU while idle, % of a core | of it the node | pings/s \
| CPU-s for 1,000 opened | time to open p50, ms | p99, ms |\n|---|---|---|---|---|---|---|---|---|---|\n";

/// The row of one contender beside the floor of the same rounds.
pub fn load_row(name: &str, words: &str, own: &[Run], floor: &[Run]) -> Result<String> {
    let rounds = || own.iter().zip(floor);
    let of = |ratio: fn(&Run, &Run) -> f64| spread(rounds().map(|(own, floor)| ratio(own, floor)));
    let value = |value: fn(&Run) -> f64| spread(own.iter().map(value));
    let node = rounds().filter_map(|(own, floor)| Some(own.node_us? / floor.cpu_us));
    let mut text = String::new();
    writeln!(
        text,
        "| {name} | {words} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        of(|own, floor| own.cpu_us / floor.cpu_us),
        value(|run| run.cpu_us),
        spread(node),
        of(|own, floor| own.deliveries_a_second / floor.deliveries_a_second),
        value(|run| run.deliveries_a_second),
        of(|own, floor| own.last_p50_ms / floor.last_p50_ms),
        of(|own, floor| own.last_p99_ms / floor.last_p99_ms),
        value(|run| run.last_p50_ms),
        value(|run| run.last_p99_ms),
    )?;
    Ok(text)
}

/// The row of one server that holds idle sessions.
pub fn idle_row(name: &str, words: &str, runs: &[Run]) -> Result<String> {
    let idle = || runs.iter().filter_map(|run| run.idle);
    let value = |value: fn(Idle) -> f64| spread(idle().map(value));
    let of_node = |value: fn(Idle) -> Option<f64>| spread(idle().filter_map(value));
    let mut text = String::new();
    writeln!(
        text,
        "| {name} | {words} | {} | {} | {} | {} | {} | {} | {} | {} |",
        value(|idle| idle.pss_bytes),
        of_node(|idle| idle.node_pss_bytes),
        value(|idle| idle.cpu_percent),
        of_node(|idle| idle.node_cpu_percent),
        value(|idle| idle.pings_a_second),
        value(|idle| idle.open_cpu_seconds),
        value(|idle| idle.open_p50_ms),
        value(|idle| idle.open_p99_ms),
    )?;
    Ok(text)
}

/// Median, least and most; - for nothing.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let show = |value: f64| match value {
        value if value.abs() >= 1_000.0 => format!("{value:.0}"),
        value if value.abs() < 0.1 => format!("{value:.3}"),
        value => format!("{value:.2}"),
    };
    match values.as_slice() {
        [] => "-".to_owned(),
        [only] => show(*only),
        [least, .., most] => format!("{} ({}-{})", show(values[values.len() / 2]), show(*least), show(*most)),
    }
}

/// What a page begins with.
pub fn head(title: &str, command: &str, rounds: u32, seconds: u32) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    format!(
        "# {title}\n\nWritten by `{command}`: {rounds} rounds of {seconds} s, Roomcast and the floor in turn, on {cores} cores ({model}). The\n\
         server has one core, the load generator the other, unless the row says otherwise. Roomcast is all three tiers in one\n\
         process unless the row says otherwise, receipts at WRITTEN, metrics on, pushes over one PushStream, by gRPC calls\n\
         (unary) or by HTTP POST of JSON. The floor is one thread that writes a frame to each socket\n\
         (`tools/load-generator`, `floor`). Medians, with the least and the most in parentheses; ratios are of the same round.\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_compared_with_its_own_floor() {
        let run = |cpu_us| Run {
            cpu_us,
            deliveries_a_second: 10.0,
            last_p50_ms: 1.0,
            last_p99_ms: 2.0,
            ..Run::default()
        };
        let (own, floor) = ([run(2.0), run(8.0), run(3.0)], [run(1.0), run(2.0), run(1.0)]);
        let text = load_row("x", "default logs", &own, &floor).unwrap();
        let begin = "| x | default logs | 3.00 (2.00-4.00) | 3.00 (2.00-8.00) | - | 1.00 (1.00-1.00) |";
        assert!(text.starts_with(begin), "{text}");
    }
}
