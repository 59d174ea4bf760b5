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

/// The driver's process. Each page is a browser session of its own.
pub struct Driver {
    process: Child,
    address: String,
}

impl Driver {
    /// Starts chromedriver on a free port.
    pub async fn start() -> Result<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start chromedriver; `make test` installs it")?;
        let stdout = process.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let port = timeout(DEADLINE, async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, rest)) = line.split_once("started successfully on port ") {
                    return Ok(rest.trim_end_matches('.').to_owned());
                }
            }
            Err(anyhow!("chromedriver ended without naming its port"))
        })
        .await
        .context("chromedriver did not start in time")??;
        // Nobody reads the rest; a full pipe would block the driver.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { process, address: format!("http://127.0.0.1:{port}") })
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
