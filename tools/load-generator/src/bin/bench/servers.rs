//! Starts what is measured: Roomcast in one process, Roomcast as separate programs, or the floor; and ends it again.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub const FLOOR_PORT: u16 = 9310;
const ETCD_PORT: u16 = 9320;
/// WebSocket port of the first node, and the push-manager's.
const NODE_PORT: u16 = 8080;
const PUSH_PORT: u16 = 50053;
/// /ready of the controller-manager.
const CONTROLLER_PORT: u16 = 9090;
/// Of the connect-node among the processes of separate programs.
pub const NODE: &str = "connect-node";
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who is measured.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// What tells it from the others in a table.
    pub words: &'static str,
    pub kind: Kind,
    /// For --set.
    pub settings: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All tiers in one process, with so many connect-nodes.
    Standalone {
        nodes: u16,
    },
    /// Each tier a process, on etcd, and on stores of their own in memory and SQLite.
    Separate,
    Floor,
}

pub const FLOOR: Server = Server { words: "floor", kind: Kind::Floor, settings: &[] };

/// Which cores a server has; what loads it has the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// The first; the load generator has the second.
    First,
    /// Nobody is pinned.
    All,
}

/// A server under way; ended when dropped.
pub struct Running {
    processes: Vec<(&'static str, Child)>,
    /// Their logs and data.
    folder: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, process) in self.processes.iter_mut().rev() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    /// The processes to look at, as --pid takes them; etcd is none of ours.
    pub fn pids(&self) -> impl Iterator<Item = String> {
        let ours = self.processes.iter().filter(|(name, _)| *name != "etcd");
        ours.map(|(name, process)| format!("{name}={}", process.id()))
    }

    fn has_ended(&mut self) -> Option<&'static str> {
        self.processes.iter_mut().find_map(|(name, process)| process.try_wait().ok()?.map(|_| *name))
    }

    /// Waits until somebody listens on a port, and says that it is ready where it can be asked.
    fn wait(&mut self, port: u16, asks: bool) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while !is_ready(port, asks) {
            if let Some(name) = self.has_ended() {
                let log = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
                bail!("{name} does not start: {}", log.lines().last().unwrap_or("are its ports free?"));
            }
            if Instant::now() > until {
                bail!("nobody is ready on port {port} within {READY_WITHIN:?}");
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn start(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let log = fs::File::create(self.folder.join(name))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.processes.push((name, child.with_context(|| format!("{name} does not start"))?));
        Ok(())
    }
}

impl Server {
    /// Starts it afresh, with the programs of a folder, and waits until it is ready.
    pub fn start(&self, programs: &Path, cores: Cores) -> Result<Running> {
        let folder = std::env::temp_dir().join(format!("roomcast-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut running = Running { processes: Vec::new(), folder };
        let program = |name: &str| on(cores, Cores::First, &programs.join(name));
        match self.kind {
            Kind::Floor => {
                running.start("floor", program("floor").arg(FLOOR_PORT.to_string()))?;
                running.wait(FLOOR_PORT, false)?;
                running.wait(FLOOR_PORT + 1, false)?;
            }
            Kind::Standalone { nodes } => {
                let mut command = program("standalone");
                command.args(["--ephemeral", "--nodes", &nodes.to_string()]);
                running.start("standalone", self.set(&mut command))?;
                for node in 0..nodes {
                    running.wait(NODE_PORT + node, true)?;
                }
                running.wait(PUSH_PORT, true)?;
            }
            Kind::Separate => self.start_tiers(&mut running, cores, &program)?,
        }
        Ok(running)
    }

    fn start_tiers(
        &self,
        running: &mut Running,
        cores: Cores,
        program: &impl Fn(&str) -> Command,
    ) -> Result<()> {
        let (client, peer) =
            (format!("http://127.0.0.1:{ETCD_PORT}"), format!("http://127.0.0.1:{}", ETCD_PORT + 1));
        let mut etcd = on(cores, Cores::First, Path::new("etcd"));
        etcd.arg("--data-dir").arg(running.folder.join("etcd-data")).args(["--listen-client-urls", &client]);
        etcd.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
        etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")]);
        running.start("etcd", &mut etcd)?;
        running.wait(ETCD_PORT, false)?;
        let database = format!("sqlite:{}", running.folder.join("rooms").display());
        for name in ["controller-manager", "push-manager", NODE] {
            let mut command = program(name);
            command.env("ETCD_URL", format!("etcd://127.0.0.1:{ETCD_PORT}"));
            command.env("DATABASE_URL", &database).env("REDIS_URL", "memory:");
            running.start(name, self.set(&mut command))?;
        }
        for port in [CONTROLLER_PORT, PUSH_PORT, NODE_PORT] {
            running.wait(port, true)?;
        }
        Ok(())
    }

    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for setting in ["room.default_max_users=20000"].iter().chain(self.settings) {
            command.args(["--set", setting]);
        }
        command
    }

    /// What a load generator has to be told to reach it.
    pub fn addresses(&self) -> Vec<String> {
        let node = |port: u16| format!("ws://127.0.0.1:{port}/ws");
        let nodes = match self.kind {
            Kind::Standalone { nodes } => (0..nodes).map(|number| node(NODE_PORT + number)).collect(),
            Kind::Separate => vec![node(NODE_PORT)],
            Kind::Floor => vec![node(FLOOR_PORT)],
        };
        let mut arguments = vec!["--nodes".to_owned(), nodes.join(",")];
        if self.kind == Kind::Floor {
            arguments.extend(["--floor".to_owned(), format!("127.0.0.1:{}", FLOOR_PORT + 1)]);
        }
        arguments
    }
}

/// A program on its core: the first is the server's, the second that of the load.
pub fn on(cores: Cores, side: Cores, program: &Path) -> Command {
    let mut command = match cores {
        Cores::All => Command::new(program),
        Cores::First => {
            let core = if side == Cores::First { "0" } else { "1" };
            let mut command = Command::new("taskset");
            command.args(["-c", core]).arg(program);
            command
        }
    };
    // What the user's shell says about ports and stores is not meant for these.
    command.env_clear().envs(std::env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME")));
    command
}

/// Whether somebody listens, and says so.
fn is_ready(port: u16, asks: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let ask = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    !asks
        || (stream.write_all(ask).and_then(|()| stream.read_exact(&mut answer)).is_ok()
            && answer.ends_with(b" 200"))
}
