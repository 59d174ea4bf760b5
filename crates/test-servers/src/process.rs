//! One process under a shell that ends it when the test binary ends, however that ends.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Obeys one order a line and answers each with a line; the end of its input ends the process and removes its folder.
const KEEPER: &str = r#"
folder=$1; shift
PATH=$PATH:/usr/sbin:/sbin
trap '' INT TERM HUP
start() { (trap - INT TERM HUP; exec "$@") >>"$folder/log" 2>&1 & pid=$!; }
stop() { kill -KILL "$pid"; wait "$pid"; pid=; } 2>/dev/null
start "$@"; echo "$pid"
while read -r word; do
    case $word in
        start) start "$@" ;;
        kill) stop ;;
        freeze) kill -STOP "$pid" ;;
        thaw) kill -CONT "$pid" ;;
        signal*) kill -s "${word#signal }" "$pid" ;;
        wait) wait "$pid"; pid="ended $?" ;;
    esac
    echo "$pid"
    case $pid in ended*) pid= ;; esac
done
[ -z "$pid" ] || stop
rm -rf "$folder"
"#;

/// A process with a folder of its own, where `log` takes what it prints. Dropping it ends the process, whatever its
/// state, and removes the folder.
#[derive(Debug)]
pub struct Process {
    name: String,
    folder: PathBuf,
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    shell: Child,
    /// `None` when the keeper was told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A folder that the keeper of a [`Process`] removes.
pub fn folder(name: &str) -> PathBuf {
    let prefix = format!("roomcast-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder").keep()
}

impl Process {
    /// Starts a program; what it prints goes into `log` of its folder, which goes when it ends.
    pub fn start(folder: PathBuf, program: &str, arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        let orders = shell.stdin.take();
        let mut answers = BufReader::new(shell.stdout.take().expect("is piped"));
        answers.read_line(&mut String::new()).expect("the keeper answers");
        let keeper = Mutex::new(Keeper { shell, orders, answers });
        Self { name: program.to_owned(), folder, keeper }
    }

    /// Has the keeper do something; returns what it answers when it is done.
    fn order(&self, word: &str) -> String {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = keeper.orders.as_mut().expect("not ended");
        writeln!(orders, "{word}").expect("the keeper listens");
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).expect("the keeper answers");
        answer.trim().to_owned()
    }

    /// Its number; `None` while it is ended.
    pub fn pid(&self) -> Option<u32> {
        self.order("pid").parse().ok()
    }

    /// Sends a signal, by name: TERM, INT.
    pub fn signal(&self, name: &str) {
        self.order(&format!("signal {name}"));
    }

    /// Whether it has ended by itself, or by a signal of [`Self::signal`].
    pub fn has_ended(&self) -> bool {
        let Some(pid) = self.pid() else { return true };
        // Z: its parent was not told yet.
        state(Path::new(&format!("/proc/{pid}"))).is_none_or(|state| state == 'Z')
    }

    /// Waits until it ends, without a limit; its exit code, 128 and more for a signal.
    pub fn wait(&self) -> i32 {
        let answer = self.order("wait");
        answer.strip_prefix("ended ").and_then(|code| code.parse().ok()).expect("an exit code")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again after [`Self::kill`], on the same folder and port.
    pub fn start_again(&self) {
        self.order("start");
    }

    /// Stops it in its tracks: it takes connections and answers nothing. Returns when it stands.
    pub fn freeze(&self) {
        self.order("freeze");
        // Until the signal arrives, on a busy machine some time later, its threads go on and may answer.
        let is_standing =
            || self.pid().is_none_or(|pid| threads(pid).iter().all(|state| "TtZX".contains(*state)));
        crate::wait_until(&format!("{} stands", self.name), || self.log(), is_standing);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.order("thaw");
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where it may keep files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn wait_until(&self, is_ready: impl FnMut() -> bool) {
        crate::wait_until(&format!("{} answers", self.name), || self.log(), is_ready);
    }
}

/// The state of a process or a thread, as its folder under /proc tells; `None` when it is gone.
fn state(folder: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // Behind the name in parentheses.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The states of a process's threads.
fn threads(pid: u32) -> Vec<char> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.filter_map(|thread| state(&thread.ok()?.path())).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        keeper.orders = None;
        // It ends as soon as its input has.
        let _ = keeper.shell.wait();
    }
}
