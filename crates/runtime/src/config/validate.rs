//! Limits between and within keys: reports every problem at once, with the key's path.

use std::time::Duration;

use roomcast_types::{ServiceId, card::MAX_USERS_BOUNDS};

use super::{CallDrain, Config, ConfigError};

/// The longest of the waits of an end.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(300);

impl Config {
    /// Checks every bound; lists all problems.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        self.check_network(&mut problems);
        self.check_stores(&mut problems);
        self.check_controller(&mut problems);
        self.check_push_manager(&mut problems);
        self.check_node(&mut problems);
        self.check_rest(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    fn check_network(&self, problems: &mut Vec<String>) {
        let network = &self.network;
        if !network.bind.is_loopback() && !network.allow_insecure {
            problems.push(format!(
                "network.bind: {} can be reached from other machines and nothing here asks for credentials; \
                 set network.allow_insecure (ALLOW_INSECURE=true) if you want that",
                network.bind
            ));
        }
        if network.bind.is_unspecified() && network.advertise_host.is_empty() {
            problems.push(format!(
                "network.advertise_host: others cannot reach {}; name the host (ADVERTISE_HOST)",
                network.bind
            ));
        }
    }

    fn check_stores(&self, problems: &mut Vec<String>) {
        problems.extend(self.database.target().err());
        problems.extend(self.redis.target().err());
        problems.extend(self.etcd.target().err());
        at_least(problems, "database.connections_max", self.database.connections_max as usize, 1);
        let least = Duration::from_millis(10);
        no_shorter(problems, "database.pool_timeout", self.database.pool_timeout, least);
        no_shorter(problems, "database.statement_timeout", self.database.statement_timeout, least);
        no_shorter(problems, "redis.timeout", self.redis.timeout, least);
        no_shorter(problems, "etcd.lease_ttl", self.etcd.lease_ttl, Duration::from_secs(2));
    }

    fn check_controller(&self, problems: &mut Vec<String>) {
        id(problems, "server.id", &self.server.id);
        at_least(problems, "server.join_batch_max", self.server.join_batch_max, 1);
        call_drain(problems, "server.drain", &self.server.drain);
        if !MAX_USERS_BOUNDS.contains(&self.room.default_max_users) {
            problems.push(format!(
                "room.default_max_users: {} is outside {} to {}",
                self.room.default_max_users,
                MAX_USERS_BOUNDS.start(),
                MAX_USERS_BOUNDS.end()
            ));
        }
    }

    fn check_push_manager(&self, problems: &mut Vec<String>) {
        let push = &self.push_manager;
        id(problems, "push_manager.id", &push.id);
        addresses(problems, "push_manager.controller_address", &push.controller_address);
        at_least(problems, "push_manager.lane_queue_messages", push.lane_queue_messages, 1);
        no_shorter(problems, "push_manager.lane_deadline", push.lane_deadline, Duration::from_millis(100));
        no_shorter(
            problems,
            "push_manager.lane_ping_interval",
            push.lane_ping_interval,
            Duration::from_millis(10),
        );
        if push.lane_trust < push.lane_ping_interval * 2 {
            problems.push(
                "push_manager.lane_trust: it must be at least twice push_manager.lane_ping_interval"
                    .to_owned(),
            );
        }
        if push.wait > Duration::from_secs(30) {
            problems.push("push_manager.wait: at most 30s".to_owned());
        }
        no_shorter(problems, "push_manager.receipt_ttl", push.receipt_ttl, Duration::from_secs(1));
        if push.receipt_ttl > Duration::from_secs(600) {
            problems.push("push_manager.receipt_ttl: at most 10m".to_owned());
        }
        call_drain(problems, "push_manager.drain", &push.drain);
        if self.limits.push_bytes_max > push.lane_queue_bytes {
            problems.push("push_manager.lane_queue_bytes: it must hold limits.push_bytes_max".to_owned());
        }
    }

    fn check_node(&self, problems: &mut Vec<String>) {
        let node = &self.connect_node;
        id(problems, "connect_node.id", &node.id);
        addresses(problems, "connect_node.controller_address", &node.controller_address);
        at_least(problems, "connect_node.sessions_max", node.sessions_max, 1);
        at_least(problems, "connect_node.handshakes_max", node.handshakes_max, 1);
        at_least(problems, "connect_node.rooms_max", node.rooms_max, 1);
        at_least(problems, "connect_node.queue_frames", node.queue_frames, 1);
        at_least(problems, "connect_node.frames_per_second", node.frames_per_second as usize, 1);
        at_least(problems, "connect_node.frames_burst", node.frames_burst as usize, 1);
        if node.shards > 256 {
            problems.push(format!("connect_node.shards: {} is more than 256", node.shards));
        }
        if !(256..=16 << 20).contains(&node.frame_bytes_max.0) {
            problems.push("connect_node.frame_bytes_max: it takes 256B to 16MiB".to_owned());
        }
        // A frame carries base64 (4/3) and its envelope beside the content.
        if node.queue_bytes.0 < self.limits.push_bytes_max.0 * 2 {
            problems
                .push("connect_node.queue_bytes: it must be at least twice limits.push_bytes_max".to_owned());
        }
        no_shorter(problems, "connect_node.ping_interval", node.ping_interval, Duration::from_millis(100));
        no_shorter(problems, "connect_node.pong_timeout", node.pong_timeout, Duration::from_millis(100));
        no_shorter(problems, "connect_node.stall_timeout", node.stall_timeout, Duration::from_millis(100));
        let drain = &node.drain;
        if !(1..=100_000).contains(&drain.notices_per_second) {
            problems.push(format!(
                "connect_node.drain.notices_per_second: {} is outside 1 to 100000",
                drain.notices_per_second
            ));
        }
        no_longer(problems, "connect_node.drain.accept_grace", drain.accept_grace);
        no_longer(problems, "connect_node.drain.leave_wait", drain.leave_wait);
        no_longer(problems, "connect_node.drain.flush_wait", drain.flush_wait);
        if !node.public_ws_url.is_empty()
            && !node.public_ws_url.starts_with("ws://")
            && !node.public_ws_url.starts_with("wss://")
        {
            problems.push(format!(
                "connect_node.public_ws_url: {:?} does not begin with ws:// or wss://",
                node.public_ws_url
            ));
        }
    }

    fn check_rest(&self, problems: &mut Vec<String>) {
        if !(1..=16 << 20).contains(&self.limits.push_bytes_max.0) {
            problems.push("limits.push_bytes_max: it takes 1B to 16MiB".to_owned());
        }
        if !(0.0..=1.0).contains(&self.telemetry.sample_ratio) {
            problems.push("telemetry.sample_ratio: it takes 0.0 to 1.0".to_owned());
        }
        no_shorter(problems, "telemetry.slow_push", self.telemetry.slow_push, Duration::from_millis(1));
        let endpoint = &self.telemetry.otlp_endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            problems.push(format!(
                "telemetry.otlp_endpoint: {endpoint:?} does not begin with http:// or https://"
            ));
        }
        self.check_logs(problems);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.level) {
            problems.push(format!("log.level: {:?} is not a filter: {error}", self.log.level));
        }
    }
}

impl Config {
    fn check_logs(&self, problems: &mut Vec<String>) {
        let log = &self.log;
        at_least(problems, "log.recent_messages", log.recent_messages as usize, 1);
        at_least(problems, "log.durable_messages", log.durable_messages as usize, 1);
        at_least(problems, "log.inbox_messages", log.inbox_messages as usize, 1);
        for (key, value) in [
            ("log.recent_age", log.recent_age),
            ("log.durable_age", log.durable_age),
            ("log.inbox_age", log.inbox_age),
            ("log.idempotency_ttl", log.idempotency_ttl),
        ] {
            no_shorter(problems, key, value, Duration::from_secs(1));
        }
        if log.recent_bytes < self.limits.push_bytes_max {
            problems.push("log.recent_bytes: it must hold limits.push_bytes_max".to_owned());
        }
        at_least(problems, "connect_node.catch_up_messages", self.connect_node.catch_up_messages as usize, 1);
        if self.connect_node.catch_up_bytes < self.limits.push_bytes_max {
            problems.push("connect_node.catch_up_bytes: it must hold limits.push_bytes_max".to_owned());
        }
    }
}

fn id(problems: &mut Vec<String>, key: &str, value: &str) {
    if let Err(error) = ServiceId::new(value) {
        problems.push(format!("{key}: {error}"));
    }
}

fn addresses(problems: &mut Vec<String>, key: &str, values: &[String]) {
    for value in values {
        let is_address = value
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !is_address {
            problems.push(format!("{key}: {value:?} is not host:port"));
        }
    }
}

fn at_least(problems: &mut Vec<String>, key: &str, value: usize, least: usize) {
    if value < least {
        problems.push(format!("{key}: {value} is below {least}"));
    }
}

fn call_drain(problems: &mut Vec<String>, section: &str, drain: &CallDrain) {
    no_longer(problems, &format!("{section}.accept_grace"), drain.accept_grace);
    no_longer(problems, &format!("{section}.settle_wait"), drain.settle_wait);
}

/// What an end waits for: whoever stops a process must be able to wait for its end.
fn no_longer(problems: &mut Vec<String>, key: &str, value: Duration) {
    if value > DRAIN_WAIT_MAX {
        problems.push(format!("{key}: {value:?} is longer than {DRAIN_WAIT_MAX:?}"));
    }
}

fn no_shorter(problems: &mut Vec<String>, key: &str, value: Duration, least: Duration) {
    if value < least {
        problems.push(format!("{key}: {value:?} is shorter than {least:?}"));
    }
}
