//! One program of the platform on ports of its own, as its users see it.

use std::{net::SocketAddr, time::Duration};

use roomcast_test_servers::free_port;
use roomcast_testkit::{Api, DEADLINE};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    place::Place,
    process::{End, Process},
};

/// Longer than any of them takes to stop in order.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running program.
pub struct Service {
    pub process: Process,
    /// What was used to start it.
    place: Place,
    program: &'static str,
    id: String,
    ports: [u16; 3],
}

impl Service {
    /// A controller-manager.
    pub fn controller(place: &Place, id: &str) -> Self {
        Self::start(place, "controller-manager", id, free_ports())
    }

    /// A push-manager.
    pub fn push_manager(place: &Place, id: &str) -> Self {
        Self::start(place, "push-manager", id, free_ports())
    }

    /// A connect-node.
    pub fn node(place: &Place, id: &str) -> Self {
        Self::start(place, "connect-node", id, free_ports())
    }

    fn start(place: &Place, program: &'static str, id: &str, ports: [u16; 3]) -> Self {
        let name = match program {
            "controller-manager" => "CONTROLLER_ID",
            "push-manager" => "MANAGER_ID",
            _ => "NODE_ID",
        };
        let mut command = place.command(program);
        let names = ["GRPC_PORT", "METRICS_PORT", "HTTP_PORT"];
        command.env(name, id).envs(names.into_iter().zip(ports.map(|port| port.to_string())));
        let process = Process::start(command);
        Self { process, place: place.clone(), program, id: id.to_owned(), ports }
    }

    /// One more process with the same id and other ports.
    pub fn twin(&self) -> Self {
        Self::start(&self.place, self.program, &self.id, free_ports())
    }

    /// The same again, after its end: same id, same ports.
    pub async fn start_again(self) -> Self {
        let Self { process, place, program, id, ports } = self;
        drop(process);
        Self::start(&place, program, &id, ports).ready().await
    }

    /// Waits until it is ready.
    pub async fn ready(self) -> Self {
        self.until_ready().await;
        self
    }

    /// Waits until it is ready and does without nothing.
    pub async fn until_ready(&self) {
        self.until_says(200, &json!({"ready": true, "state": "ready", "missing": [], "degraded": []})).await;
    }

    /// Waits until `/ready` says this.
    pub async fn until_says(&self, status: u16, report: &Value) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = self.readiness().await;
            if said.as_ref().is_some_and(|said| (said.0, &said.1) == (status, report)) {
                return;
            }
            let id = &self.id;
            assert!(
                Instant::now() < deadline,
                "/ready of {id} stays {said:?} instead of {report}; {id} said:\n{}",
                self.process.said()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `/ready` of the metrics port answers; `None` before the port is served.
    pub async fn readiness(&self) -> Option<(u16, Value)> {
        let port = self.ports[1];
        let answer = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = answer.get(format!("http://127.0.0.1:{port}/ready")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// The gRPC port; of a push-manager JSON, too.
    pub fn grpc(&self) -> SocketAddr {
        address(self.ports[0])
    }

    /// The metrics port.
    pub fn metrics(&self) -> SocketAddr {
        address(self.ports[1])
    }

    /// The client port of a node.
    pub fn http(&self) -> SocketAddr {
        address(self.ports[2])
    }

    /// `ws://…/ws` of a node.
    pub fn ws(&self) -> String {
        format!("ws://{}/ws", self.http())
    }

    /// Requests to one of its ports.
    pub fn api(&self, port: SocketAddr) -> Api {
        Api::new(port)
    }

    /// SIGTERM: it ends in order.
    pub async fn stop(self) -> End {
        let end = self.process.terminate(STOP_LIMIT).await;
        assert_eq!(end.code, Some(0), "{}", end.said);
        end
    }
}

fn free_ports() -> [u16; 3] {
    [free_port(), free_port(), free_port()]
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
