//! etcd with one member.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::Duration,
};

use crate::{
    ports::free_port,
    process::{self, Process},
};

/// An etcd of one member, empty at first.
#[derive(Debug)]
pub struct Etcd {
    port: u16,
    process: Process,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let (port, peer_port) = (free_port(), free_port());
        let folder = process::folder("etcd");
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let arguments = [
            format!("--data-dir={}", folder.join("data").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // Nothing here has to outlive the machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let etcd = Self { port, process: Process::start(folder, "etcd", &arguments) };
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
        format!("etcd://{}", self.endpoint())
    }

    /// Ends it as `kill -9` does; what it stored stays.
    pub fn kill(&self) {
        self.process.kill();
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

    fn wait(&self) {
        self.process.wait_until(|| self.is_healthy().unwrap_or(false));
    }

    fn is_healthy(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(r#""health":"true""#))
    }
}
