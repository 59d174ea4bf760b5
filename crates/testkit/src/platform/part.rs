//! One program of the platform: where it is, what it is told, and the signals it gets.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use roomcast_test_servers::{Process, folder, free_port};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ways::{Pids, Stores};
use crate::wait::DEADLINE;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Starting waits for leases of former lives, among other things.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Where a part is.
#[derive(Debug, Clone)]
pub struct Place {
    pub role: &'static str,
    pub name: String,
    /// Where it listens itself.
    pub own: Ipv4Addr,
    /// Where others find it.
    pub advertised: Ipv4Addr,
    /// Where it finds the stores.
    pub stores: Ipv4Addr,
    pub grpc: u16,
    pub http: u16,
    pub metrics: u16,
}

impl Place {
    /// `is_proxied`: others find it at another address than where it listens.
    pub fn new(index: usize, role: &'static str, name: String, is_proxied: bool) -> Self {
        let number = u8::try_from(index + 1).expect("less than 255 parts");
        let at = |net| Ipv4Addr::new(127, 0, net, number);
        let port = || free_on([at(1), at(2)]);
        let (own, advertised, stores) = (at(1), at(if is_proxied { 2 } else { 1 }), at(3));
        Self { role, name, own, advertised, stores, grpc: port(), http: port(), metrics: port() }
    }
}

/// A port that is free on both addresses.
fn free_on(addresses: [Ipv4Addr; 2]) -> u16 {
    loop {
        let port = free_port();
        if addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return port;
        }
    }
}

/// A program under control.
pub struct Part {
    place: Place,
    process: Process,
    pids: Pids,
    index: usize,
    http: reqwest::Client,
}

impl Part {
    /// Starts it; returns at once.
    pub(super) fn start(
        place: Place,
        programs: &Path,
        stores: &Stores,
        sets: &[String],
        pids: Pids,
        index: usize,
    ) -> Self {
        let arguments = command(&place, programs, stores, sets);
        let process = Process::start(folder(&place.name), "env", &arguments);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
        let part = Self { place, process, pids, index, http: http.expect("a client without TLS") };
        part.note_pid();
        part
    }

    /// `connect-node-1` and the like.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its name without the number.
    pub fn role(&self) -> &'static str {
        self.place.role
    }

    /// Its gRPC port behind the proxy; of a push-manager JSON, too.
    pub fn grpc(&self) -> SocketAddr {
        (self.place.advertised, self.place.grpc).into()
    }

    /// Its gRPC port itself: no fault of a way is in between.
    pub fn grpc_direct(&self) -> SocketAddr {
        (self.place.own, self.place.grpc).into()
    }

    /// Where clients find a node.
    pub fn http(&self) -> SocketAddr {
        (self.place.own, self.place.http).into()
    }

    /// The same behind a proxy.
    pub fn http_proxied(&self) -> SocketAddr {
        (self.place.advertised, self.place.http).into()
    }

    /// Metrics and readiness.
    pub fn metrics(&self) -> SocketAddr {
        (self.place.own, self.place.metrics).into()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        self.process.kill();
        self.note_pid();
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Starts it again after its end, on the same ports; returns at once.
    pub fn start_again(&self) {
        self.process.start_again();
        self.note_pid();
    }

    /// SIGTERM, and waits for its end; the exit code, and how long it took. Panics when it takes longer than `limit`.
    pub async fn stop(&self, limit: Duration) -> (i32, Duration) {
        let told = Instant::now();
        self.signal("TERM");
        while !self.process.has_ended() {
            assert!(told.elapsed() < limit, "{} does not end; it said:\n{}", self.name(), self.last_words());
            sleep(LOOK_EVERY).await;
        }
        let code = self.process.wait();
        self.note_pid();
        (code, told.elapsed())
    }

    /// Whether it runs, frozen or not.
    pub fn is_running(&self) -> bool {
        !self.process.has_ended()
    }

    /// Its process; `None` after its end.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Everything that it said, in all of its lives.
    pub fn said(&self) -> String {
        self.process.log()
    }

    /// Waits until it is ready and does without nothing.
    pub async fn until_whole(&self) {
        let whole = json!({"ready": true, "state": "ready", "missing": [], "degraded": []});
        self.until(|status, report| status == 200 && *report == whole).await;
    }

    /// Waits until it is ready, whatever it does without.
    pub async fn until_ready(&self) {
        self.until(|status, _| status == 200).await;
    }

    /// Waits for what `/ready` says.
    pub async fn until(&self, is_wanted: impl Fn(u16, &Value) -> bool) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let said = self.readiness().await;
            if said.as_ref().is_some_and(|(status, report)| is_wanted(*status, report)) {
                return;
            }
            let name = self.name();
            assert!(Instant::now() < deadline, "/ready of {name} stays {said:?}:\n{}", self.last_words());
            assert!(self.is_running(), "{name} has ended:\n{}", self.last_words());
            sleep(LOOK_EVERY).await;
        }
    }

    /// What `/ready` answers; `None` when nothing.
    pub async fn readiness(&self) -> Option<(u16, Value)> {
        let answer = self.http.get(format!("http://{}/ready", self.metrics())).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// The sum of all series of a metric; 0 when there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let asked = self.http.get(format!("http://{}/metrics", self.metrics())).send().await;
            match asked {
                Ok(answer) => return sum(&answer.text().await.unwrap_or_default(), name),
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.name()),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Open files and threads of its process.
    pub fn resources(&self) -> Resources {
        let Some(pid) = self.pid() else { return Resources::default() };
        let count = |what| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Resources { files: count("fd"), threads: count("task") }
    }

    fn note_pid(&self) {
        self.pids.set(self.index, self.pid());
    }

    fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Open files, sockets among them.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

/// A program with nothing of this process's environment.
fn command(place: &Place, programs: &Path, stores: &Stores, sets: &[String]) -> Vec<String> {
    let (program, id) = match place.role {
        "controller" => ("controller-manager", "CONTROLLER_ID"),
        "push-manager" => ("push-manager", "MANAGER_ID"),
        _ => ("connect-node", "NODE_ID"),
    };
    let ws = format!("ws://{}:{}/ws", place.own, place.http);
    let variables = [
        (id, place.name.clone()),
        ("GRPC_PORT", place.grpc.to_string()),
        ("HTTP_PORT", place.http.to_string()),
        ("METRICS_PORT", place.metrics.to_string()),
        ("BIND", place.own.to_string()),
        ("ADVERTISE_HOST", place.advertised.to_string()),
        ("PUBLIC_WS_URL", ws),
        ("ETCD_URL", stores.etcd.clone()),
        ("REDIS_URL", stores.redis.clone()),
        ("DATABASE_URL", stores.mariadb.clone()),
    ];
    let variables = variables.into_iter().map(|(name, value)| format!("{name}={value}"));
    let sets = sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
    ["-i".to_owned()]
        .into_iter()
        .chain(variables)
        .chain([programs.join(program).display().to_string()])
        .chain(sets)
        .collect()
}

fn sum(text: &str, name: &str) -> f64 {
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let own = series.filter(|(series, _)| series.split('{').next() == Some(name));
    own.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_metric_are_added_up_and_no_other() {
        let text = "# TYPE a gauge\na{b=\"c d\"} 3\na{b=\"e\"} 4.5\nab 9\nc 1\n";
        assert_eq!(sum(text, "a"), 7.5);
        assert_eq!(sum(text, "c"), 1.0);
        assert_eq!(sum(text, "d"), 0.0);
    }
}
