//! Headless Chromium, driven over WebDriver; both end with the test.

use std::process::Stdio;

use anyhow::{Context, Result, anyhow};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::wait::DEADLINE;

/// Ports that chromedriver may find taken.
const PORTS_MAX: usize = 5;

/// The driver's process. Each page is a browser session of its own.
pub struct Driver {
    process: Child,
    address: String,
}

impl Driver {
    /// Starts chromedriver on a free port.
    pub async fn start() -> Result<Self> {
        // The port that it got by IPv4 it takes by IPv6 as well, where another program may hold it; then it ends.
        for _ in 0..PORTS_MAX {
            if let Some(driver) = Self::start_once().await? {
                return Ok(driver);
            }
        }
        Err(anyhow!("chromedriver found no port that is free in both families"))
    }

    /// `None`: the port it got was taken.
    async fn start_once() -> Result<Option<Self>> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start chromedriver; `make test` installs it")?;
        let stdout = process.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut said = Vec::new();
        let naming = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, rest)) = line.split_once("started successfully on port ") {
                    return Ok(Some(rest.trim_end_matches('.').to_owned()));
                }
                said.push(line);
            }
            anyhow::Ok(None)
        };
        let Some(port) = timeout(DEADLINE, naming).await.context("chromedriver did not start in time")??
        else {
            let said = said.join("\n");
            let is_taken = said.contains("port not available");
            return if is_taken { Ok(None) } else { Err(anyhow!("chromedriver ended: {said}")) };
        };
        // Nobody reads the rest; a full pipe would block the driver.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Some(Self { process, address: format!("http://127.0.0.1:{port}") }))
    }

    /// Opens a browser window.
    pub async fn window(&self) -> Result<Client> {
        let options = json!({
            "goog:chromeOptions": { "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--window-size=1200,900"
            ]}
        });
        let capabilities = options.as_object().context("an object")?.clone();
        Ok(ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&self.address).await?)
    }

    /// Ends the driver and its browsers.
    pub async fn stop(mut self) {
        let _ = self.process.kill().await;
    }
}
