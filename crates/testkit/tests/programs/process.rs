//! One process: what it says, the signals it gets, and its end. Dropping it kills it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use roomcast_testkit::eventually;
use tokio::time::Instant;

/// A running process.
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct End {
    /// `None`: by a signal that it does not handle.
    pub code: Option<i32>,
    /// Everything that it said.
    pub said: String,
}

impl Process {
    /// Starts it; both of its outputs are collected.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            collect(child.stdout.take().unwrap(), said.clone()),
            collect(child.stderr.take().unwrap(), said.clone()),
        ];
        Self { child, said, readers }
    }

    /// Runs it to its end.
    pub async fn run(command: Command) -> End {
        Self::start(command).end().await
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Sends SIGTERM and the like, by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until it has ended by itself.
    pub async fn end(mut self) -> End {
        let status = eventually(&format!("the process ends; it said:\n{}", self.said()), || {
            let status = self.child.try_wait().unwrap();
            async move { status }
        })
        .await;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        End { code: status.code(), said: self.said() }
    }

    /// SIGTERM, and the end that follows within `limit`.
    pub async fn terminate(self, limit: Duration) -> End {
        let told = Instant::now();
        self.signal("TERM");
        let end = self.end().await;
        assert!(told.elapsed() < limit, "it took {:?} to end:\n{}", told.elapsed(), end.said);
        end
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl End {
    /// The one line with which a program that cannot run ends, with code 1 and after its name.
    pub fn refusal(&self, program: &str) -> &str {
        assert_eq!(self.code, Some(1), "{}", self.said);
        assert!(!self.said.contains("panicked"), "{}", self.said);
        let prefix = format!("{program}: ");
        let lines: Vec<_> = self.said.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(lines.len(), 1, "{}", self.said);
        assert!(self.said.trim_end().ends_with(lines[0]), "its last line: {}", self.said);
        lines[0]
    }
}

fn collect(output: impl Read + Send + 'static, said: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap_or(0) > 0 {
            said.lock().unwrap().push_str(&line);
            line.clear();
        }
    })
}
