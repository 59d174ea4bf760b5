//! One server process under a shell that ends it when the test binary ends, however that ends.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Obeys one word a line and answers each with a line; the end of its input ends the server and removes its folder.
const KEEPER: &str = r#"
folder=$1; shift
PATH=$PATH:/usr/sbin:/sbin
trap '' INT TERM HUP
start() { "$@" >>"$folder/log" 2>&1 & pid=$!; }
stop() { kill -KILL "$pid"; wait "$pid"; pid=; } 2>/dev/null
start "$@"; echo "$pid"
while read -r word; do
    case $word in
        start) start "$@" ;;
        kill) stop ;;
        freeze) kill -STOP "$pid" ;;
        thaw) kill -CONT "$pid" ;;
    esac
    echo "$pid"
done
[ -z "$pid" ] || stop
rm -rf "$folder"
"#;

/// A server's process. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct Process {
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

/// A folder that the keeper removes.
pub(crate) fn folder(name: &str) -> PathBuf {
    let prefix = format!("roomcast-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder").keep()
}

impl Process {
    /// Starts a program; what it prints goes into `log` of its folder, which goes when it ends.
    pub(crate) fn start(folder: PathBuf, program: &str, arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let orders = shell.stdin.take();
        let mut answers = BufReader::new(shell.stdout.take().expect("is piped"));
        answers.read_line(&mut String::new()).expect("the keeper answers");
        let keeper = Mutex::new(Keeper { shell, orders, answers });
        Self { name: program.to_owned(), folder, keeper }
    }

    /// Has the keeper do something; returns when it is done.
    fn order(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = keeper.orders.as_mut().expect("not ended");
        writeln!(orders, "{word}").expect("the keeper listens");
        keeper.answers.read_line(&mut String::new()).expect("the keeper answers");
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again after [`Self::kill`], on the same folder and port.
    pub(crate) fn start_again(&self) {
        self.order("start");
    }

    /// Stops it in its tracks: it takes connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.order("freeze");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.order("thaw");
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn wait_until(&self, is_ready: impl FnMut() -> bool) {
        crate::wait_until(&format!("{} answers", self.name), || self.log(), is_ready);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        keeper.orders = None;
        // It ends as soon as its input has.
        let _ = keeper.shell.wait();
    }
}
