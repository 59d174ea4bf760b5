//! Pushes that never cease while something else happens, and the proof that none of them was lost.

use std::{sync::Arc, time::Duration};

use roomcast_testkit::{Api, Client, Cluster, ws::Incoming};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ROOM: &str = "traffic";
const EVERY: Duration = Duration::from_millis(10);
const END: &str = "end";

/// Numbers pushed to one room, and clients that count what they get.
pub struct Traffic {
    end: CancellationToken,
    pusher: JoinHandle<usize>,
    listeners: Vec<JoinHandle<usize>>,
}

impl Traffic {
    /// Joins this many clients, spread over the nodes, and begins to push.
    pub async fn start(cluster: &Cluster, nodes: &[usize], clients: usize) -> Self {
        let mut listeners = Vec::new();
        for number in 0..clients {
            let node = nodes[number % nodes.len()];
            let client = Client::join(&cluster.ws(node), &listener(number), &[ROOM]).await;
            listeners.push(tokio::spawn(listen(client)));
        }
        let end = CancellationToken::new();
        let pusher = tokio::spawn(push(Arc::new(cluster.api(0)), end.clone()));
        Self { end, pusher, listeners }
    }

    /// Stops pushing. Fails unless every client got every push, once and in order.
    pub async fn finish(self) {
        self.end.cancel();
        let pushed = self.pusher.await.unwrap();
        assert!(pushed > 0);
        for listener in self.listeners {
            assert_eq!(listener.await.unwrap(), pushed);
        }
    }
}

/// The user of one of the clients.
pub fn listener(number: usize) -> String {
    format!("listener-{number}")
}

async fn push(api: Arc<Api>, end: CancellationToken) -> usize {
    let mut pushed = 0;
    while !end.is_cancelled() {
        api.push_room(ROOM, &pushed.to_string()).await;
        pushed += 1;
        tokio::time::sleep(EVERY).await;
    }
    api.push_room(ROOM, END).await;
    pushed
}

async fn listen(mut client: Client) -> usize {
    let mut next = 0;
    loop {
        match client.next().await {
            Incoming::Frame(frame) if frame["content"]["data"] == END => return next,
            // The log lost its place, or has one for the first time: no message is missing for that.
            Incoming::Frame(frame) if frame["type"] == "gap" => {}
            Incoming::Frame(frame) => {
                assert_eq!(frame["content"]["data"], next.to_string(), "every push, once and in order");
                next += 1;
            }
            Incoming::Closed(code) => panic!("closed with {code:?}"),
        }
    }
}
