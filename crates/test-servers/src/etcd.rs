//! etcd with one member.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use crate::{
    authority::Authority,
    output,
    ports::free_port,
    process::{self, Process},
};

/// An etcd of one member, empty at first.
#[derive(Debug)]
pub struct Etcd {
    port: u16,
    /// Answers whether it is healthy, without a certificate or a login.
    health_port: u16,
    authority: Option<Authority>,
    /// What it stores.
    data: PathBuf,
    process: Process,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::start_in(process::folder("etcd"), None)
    }

    /// The same, but it encrypts, and serves only those who show a certificate of its own authority.
    pub fn start_with_tls() -> Self {
        let folder = process::folder("etcd");
        let authority = Authority::create(&folder);
        Self::start_in(folder, Some(authority))
    }

    fn start_in(folder: PathBuf, authority: Option<Authority>) -> Self {
        let (port, peer_port, health_port) = (free_port(), free_port(), free_port());
        let scheme = if authority.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let data = folder.join("data");
        let mut arguments = vec![
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{health_port}"),
            // Nothing here has to outlive the machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        if let Some(authority) = &authority {
            arguments.extend([
                "--client-cert-auth".to_owned(),
                format!("--trusted-ca-file={}", authority.ca_file().display()),
                format!("--cert-file={}", authority.cert_file().display()),
                format!("--key-file={}", authority.key_file().display()),
            ]);
        }
        let etcd =
            Self { port, health_port, authority, data, process: Process::start(folder, "etcd", &arguments) };
        etcd.wait();
        etcd
    }

    /// The one that all tests of this test binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Etcd> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// host:port.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `etcd://…`, as `etcd.url` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://{}", self.endpoint())
    }

    /// Whose certificates it takes, when it was started with TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Ends it as `kill -9` does; what it stored stays.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// The same, and what it stored goes too.
    pub fn kill_and_forget(&self) {
        self.process.kill();
        std::fs::remove_dir_all(&self.data).expect("its data");
    }

    /// Starts it again after [`Self::kill`] and waits until it answers.
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

    /// Runs one command with etcdctl; what it prints. Not with TLS.
    pub fn run(&self, command: &[&str]) -> String {
        output(Command::new("etcdctl").arg("--endpoints").arg(self.endpoint()).args(command))
    }

    /// Ends every lease there is, and the keys under them with it.
    pub fn revoke_leases(&self) {
        // The first line counts them.
        for lease in self.run(&["lease", "list"]).lines().skip(1) {
            // One that just ran out is no error.
            let _ = Command::new("etcdctl")
                .arg("--endpoints")
                .arg(self.endpoint())
                .args(["lease", "revoke", lease])
                .output();
        }
    }

    /// Removes every key, while it runs and nobody loses a connection.
    pub fn wipe(&self) {
        self.run(&["del", "--prefix", ""]);
    }

    fn wait(&self) {
        self.process.wait_until(|| self.is_healthy().unwrap_or(false));
    }

    fn is_healthy(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(r#""health":"true""#))
    }
}
