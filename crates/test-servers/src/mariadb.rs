//! MariaDB, in place of MySQL.

use std::{net::TcpStream, process::Command, sync::OnceLock};

use crate::{
    output,
    ports::free_port,
    process::{self, Process},
    unique,
};

/// A MariaDB whose `root` needs no password.
#[derive(Debug)]
pub struct MariaDb {
    port: u16,
    process: Process,
}

impl MariaDb {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let folder = process::folder("mariadb");
        let data = format!("--datadir={}", folder.join("data").display());
        // Its scripts and the server refuse to run as root without being told to.
        let user = output(Command::new("id").arg("-un"));
        let user = format!("--user={}", user.trim());
        // A server that starts, the one of the installation too, removes the temporary tables it finds there, also those
        // of another one.
        let tmpdir = format!("--tmpdir={}", folder.display());
        output(Command::new("mariadb-install-db").args([
            "--no-defaults",
            &data,
            &tmpdir,
            &user,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]));
        let port = free_port();
        let arguments = [
            "--no-defaults".to_owned(),
            data,
            user,
            tmpdir,
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--socket={}", folder.join("socket").display()),
            format!("--pid-file={}", folder.join("pid").display()),
            "--skip-name-resolve".to_owned(),
            "--max-connections=500".to_owned(),
            // Nothing here has to outlive the machine.
            "--innodb-flush-log-at-trx-commit=2".to_owned(),
            "--innodb-doublewrite=0".to_owned(),
        ];
        let server = Self { port, process: Process::start(folder, "mariadbd", &arguments) };
        server.wait();
        server
    }

    /// The one that all tests of this test binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database that no other test uses; its name.
    pub fn create_database(&self) -> String {
        let name = unique("test");
        self.run("", &format!("CREATE DATABASE {name}"));
        name
    }

    /// `mysql://…` of a database, as `database.url` takes it.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements in a database (or in none: an empty name) with the command-line client; what it prints, values
    /// apart by tabs, without headings.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let port = format!("--port={}", self.port);
        let arguments = ["--no-defaults", "--host=127.0.0.1", &port, "--user=root", "--batch"];
        let mut client = Command::new("mariadb");
        client.args(arguments).args(["--skip-column-names", "--default-character-set=utf8mb4"]);
        output(client.args(["--execute", sql, "--database", database]))
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

    /// It listens only when it is ready.
    fn wait(&self) {
        self.process.wait_until(|| TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }
}
