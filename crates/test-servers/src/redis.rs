//! Redis: one server, a cluster of three masters, or a master and a replica under Sentinels.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::{
    authority::Authority,
    output,
    ports::free_port,
    process::{self, Process},
};

/// One Redis server, empty at first.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    tls: Option<Tls>,
    process: Process,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, and it encrypts on a second port.
    pub fn start_with_tls() -> Self {
        let folder = process::folder("redis");
        let tls = Tls { port: free_port(), authority: Authority::create(&folder) };
        let port = tls.port.to_string();
        let [ca, cert, key] = [tls.authority.ca_file(), tls.authority.cert_file(), tls.authority.key_file()]
            .map(|file| file.display().to_string());
        let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
        let more = [&["--tls-port", &port, "--tls-auth-clients", "no"], &files[..]].concat();
        Self { tls: Some(tls), ..Self::start_in(folder, &more) }
    }

    fn start_with(more: &[&str]) -> Self {
        Self::start_in(process::folder("redis"), more)
    }

    fn start_in(folder: PathBuf, more: &[&str]) -> Self {
        let port = free_port();
        let (port_text, folder_text) = (port.to_string(), folder.display().to_string());
        let mut arguments = vec!["--port", &port_text, "--bind", "127.0.0.1", "--dir", &folder_text];
        // Nothing here has to outlive the server.
        arguments.extend(["--save", "", "--appendonly", "no"]);
        arguments.extend(more);
        let process = Process::start(folder, "redis-server", &arguments);
        let server = Self { port, tls: None, process };
        server.wait();
        server
    }

    /// The one that all tests of this test binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// host:port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://…`, as `redis.url` takes it.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// `rediss://…`, and the authority to trust, when it was started with TLS.
    pub fn tls(&self) -> Option<(String, &Authority)> {
        let tls = self.tls.as_ref()?;
        Some((format!("rediss://127.0.0.1:{}/0", tls.port), &tls.authority))
    }

    /// Runs one command with redis-cli; what it prints.
    pub fn run(&self, command: &[&str]) -> String {
        output(cli(self.port).args(command))
    }

    /// Writes what it holds now into a dump for [`Self::restore`].
    pub fn save(&self) {
        self.run(&["SAVE"]);
        // Under another name: an ordinary start finds nothing.
        std::fs::rename(self.dump("dump.rdb"), self.dump("saved.rdb")).expect("it wrote its dump");
    }

    /// Ends it as `kill -9` does and starts it with what it held at the last [`Self::save`].
    pub fn restore(&self) {
        self.kill();
        std::fs::rename(self.dump("saved.rdb"), self.dump("dump.rdb")).expect("it was saved");
        self.process.start_again();
        self.wait();
        std::fs::remove_file(self.dump("dump.rdb")).expect("it was loaded");
    }

    fn dump(&self, name: &str) -> PathBuf {
        self.process.folder().join(name)
    }

    /// Has it refuse whatever needs memory, as one whose memory is full and that may throw nothing away.
    pub fn fill(&self) {
        self.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]);
    }

    /// Ends [`Self::fill`].
    pub fn make_room(&self) {
        self.run(&["CONFIG", "SET", "maxmemory", "0"]);
    }

    /// Ends it as `kill -9` does: what it held is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`], empty, and waits until it answers.
    pub fn start_again(&self) {
        self.process.start_again();
        self.wait();
    }

    /// Stops it in its tracks: it takes connections and answers nothing.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    fn wait(&self) {
        self.process.wait_until(|| prints(self.port, &["PING"], "PONG"));
    }
}

/// Where a server encrypts, beside its plain port.
#[derive(Debug)]
struct Tls {
    port: u16,
    authority: Authority,
}

/// A Redis Cluster of three masters that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Redis>,
}

impl RedisCluster {
    /// Starts one and waits until every master takes commands.
    pub fn start() -> Self {
        let masters: Vec<Redis> = (0..3).map(|_| Self::start_master()).collect();
        let addresses = masters.iter().map(Redis::address);
        output(Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes"));
        for master in &masters {
            master.process.wait_until(|| prints(master.port, &["CLUSTER", "INFO"], "cluster_state:ok"));
        }
        Self { masters }
    }

    fn start_master() -> Redis {
        let bus = free_port().to_string();
        Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    }

    /// The one that all tests of this test binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisCluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The three masters.
    pub fn masters(&self) -> &[Redis] {
        &self.masters
    }

    /// `redis+cluster://…`, as `redis.url` takes it.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.masters.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }
}

/// A master and a replica, watched by one Sentinel under the name `mymaster`.
#[derive(Debug)]
pub struct RedisSentinel {
    /// Either may be the master after a failover.
    servers: [Redis; 2],
    port: u16,
    process: Process,
}

impl RedisSentinel {
    /// Starts them and waits until the Sentinel knows both servers.
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        let port = free_port();
        let folder = process::folder("sentinel");
        let file = folder.join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 3000\n",
            folder.display(),
            master.port
        );
        std::fs::write(&file, config).expect("the temporary folder takes files");
        let arguments = [file.display().to_string(), "--sentinel".to_owned()];
        let process = Process::start(folder, "redis-server", &arguments);
        let sentinel = Self { servers: [master, replica], port, process };
        let replica = sentinel.servers[1].port.to_string();
        sentinel.process.wait_until(|| prints(port, &["SENTINEL", "REPLICAS", "mymaster"], &replica));
        let in_sync = "master_link_status:up";
        sentinel.process.wait_until(|| prints(sentinel.servers[1].port, &["INFO", "replication"], in_sync));
        sentinel
    }

    /// The one that all tests of this test binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisSentinel> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// `redis+sentinel://…`, as `redis.url` takes it.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/mymaster/0", self.port)
    }

    /// The server that the Sentinel names as master.
    pub fn master(&self) -> &Redis {
        let named = self.master_port();
        self.servers.iter().find(|server| server.port == named).expect("the Sentinel names one of ours")
    }

    /// Has the replica become the master; returns when the Sentinel names it and it takes writes.
    pub fn fail_over(&self) {
        let before = self.master_port();
        output(cli(self.port).args(["SENTINEL", "FAILOVER", "mymaster"]));
        self.process.wait_until(|| {
            let now = self.master_port();
            now != before && prints(now, &["ROLE"], "master")
        });
    }

    fn master_port(&self) -> u16 {
        let named = output(cli(self.port).args(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]));
        named.lines().nth(1).and_then(|port| port.parse().ok()).expect("a host and a port")
    }
}

fn cli(port: u16) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]);
    command
}

fn prints(port: u16, command: &[&str], wanted: &str) -> bool {
    let output = cli(port).args(command).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).contains(wanted)
}
