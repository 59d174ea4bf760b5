//! A business server without a library: JSON over HTTP to one push-manager.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::wait::DEADLINE;

/// Keeps its connections.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    origin: String,
}

impl Api {
    /// Of the push-manager (or node) at this address.
    pub fn new(address: SocketAddr) -> Self {
        let http =
            reqwest::Client::builder().timeout(DEADLINE).no_proxy().build().expect("a client without TLS");
        Self { http, origin: format!("http://{address}") }
    }

    /// POSTs a body; status and reply.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let sent = self.http.post(format!("{}{path}", self.origin)).json(&body).send().await;
        read(sent.unwrap_or_else(|error| panic!("{path}: {error:?}"))).await
    }

    /// GETs; status and reply.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let sent = self.http.get(format!("{}{path}", self.origin)).send().await;
        read(sent.unwrap_or_else(|error| panic!("{path}: {error:?}"))).await
    }

    /// GETs text, for example metrics.
    pub async fn text(&self, path: &str) -> String {
        let sent = self.http.get(format!("{}{path}", self.origin)).send().await;
        sent.unwrap_or_else(|error| panic!("{path}: {error:?}")).text().await.expect("a body")
    }

    /// Pushes text to a room, which must be accepted; the reply.
    pub async fn push_room(&self, room: &str, data: &str) -> Value {
        self.push(&format!("/v1/push/room/{room}"), data).await
    }

    /// Pushes text to a user, which must be accepted; the reply.
    pub async fn push_user(&self, user: &str, data: &str) -> Value {
        self.push(&format!("/v1/push/user/{user}"), data).await
    }

    /// Pushes text to everybody, which must be accepted; the reply.
    pub async fn broadcast(&self, data: &str) -> Value {
        self.push("/v1/push/broadcast", data).await
    }

    async fn push(&self, path: &str, data: &str) -> Value {
        let (status, reply) = self.post(path, json!({"content": {"type": "TEXT", "data": data}})).await;
        assert_eq!(status, 200, "{path}: {reply}");
        let receipt = &reply["receipt"];
        let outcomes = receipt["outcomes"].as_object().expect("counts");
        let sum: u64 = outcomes.values().filter_map(Value::as_u64).sum();
        assert_eq!(
            receipt["targets"].as_u64().unwrap(),
            receipt["pending"].as_u64().unwrap() + sum,
            "a receipt that does not add up: {reply}"
        );
        reply
    }
}

async fn read(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// How many targets of a reply had this outcome.
pub fn outcome(reply: &Value, name: &str) -> u64 {
    reply["receipt"]["outcomes"][name].as_u64().unwrap_or(0)
}
