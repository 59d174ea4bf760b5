//! Pushes through the floor in place of a push-manager: a line and the payload over TCP, answered in their order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use roomcast_client::{Error, PushReply, Receipt};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::target;

/// Pushes that wait to be written; whoever makes a further one waits.
const WAITING_MAX: usize = 1_024;

/// One connection to the floor.
pub struct Floor {
    writing: mpsc::Sender<Vec<u8>>,
    /// Receivers: pushes, in the order in which they were written.
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<u64>>>>,
}

impl Floor {
    /// Connects to `host:port` of its publishers.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(target::loopback(address)?).await;
        let stream = stream.with_context(|| format!("no floor answers at {address}"))?;
        stream.set_nodelay(true)?;
        let (reading, mut to) = stream.into_split();
        let (writing, mut written) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(VecDeque::<oneshot::Sender<u64>>::new()));
        tokio::spawn(async move {
            while let Some(mut bytes) = written.recv().await {
                while let Ok(more) = written.try_recv() {
                    bytes.extend(more);
                }
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let answered = waiting.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(reading).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let next = answered.lock().expect("nobody panics with it").pop_front();
                if let (Some(next), Ok(members)) = (next, line.parse()) {
                    // A push that waits no more needs no answer.
                    let _ = next.send(members);
                }
            }
            answered.lock().expect("nobody panics with it").clear();
        });
        Ok(Self { writing, waiting })
    }

    /// To all who have this pair in their URL.
    pub async fn push(&self, pair: &str, data: &str) -> Result<PushReply, Error> {
        let bytes = format!("{pair} {}\n{data}", data.len()).into_bytes();
        let (answer, answered) = oneshot::channel();
        let place = self.writing.reserve().await.map_err(|_| Error::Closed)?;
        {
            // Answers come in the order of the pushes: nobody comes between the two.
            let mut waiting = self.waiting.lock().expect("nobody panics with it");
            waiting.push_back(answer);
            place.send(bytes);
        }
        let members = answered.await.map_err(|_| Error::Closed)?;
        let receipt = Receipt { complete: true, targets: members, ..Receipt::default() };
        Ok(PushReply { receipt: Some(receipt), ..PushReply::default() })
    }
}
