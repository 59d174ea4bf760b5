//! The listening end of ways: open while the target takes connections, closed while it refuses them.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{Way, carry::carry};

/// Between two looks whether a target is back, or an address free again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Shared by the acceptor and the connections.
#[derive(Clone)]
pub struct Door {
    from: SocketAddr,
    to: SocketAddr,
    /// A connection found that the target refuses.
    is_refused: Arc<watch::Sender<bool>>,
    is_closed: Arc<watch::Sender<bool>>,
}

impl Door {
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self { from, to, is_refused: Arc::default(), is_closed: Arc::default() }
    }

    /// Accepts, for ever.
    pub async fn serve(self, mut listener: TcpListener, ways: Vec<Way>, sort: impl Fn(SocketAddr) -> usize) {
        let mut refused = self.is_refused.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, peer)) = accepted else { continue };
                    let way = &ways[sort(peer)];
                    let number = way.next.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(carry(self.clone(), stream, number, way.settings.clone()));
                    while connections.try_join_next().is_some() {}
                }
                () = until(&mut refused, true) => {
                    drop(listener);
                    self.is_closed.send_replace(true);
                    listener = self.open_again().await;
                }
            }
        }
    }

    async fn open_again(&self) -> TcpListener {
        while self.refuses().await {
            sleep(LOOK_EVERY).await;
        }
        self.is_refused.send_replace(false);
        self.is_closed.send_replace(false);
        loop {
            match TcpListener::bind(self.from).await {
                Ok(listener) => return listener,
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Connects to the target. When that refuses, returns after the door is closed.
    pub async fn connect(&self) -> Option<TcpStream> {
        match TcpStream::connect(self.to).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                if error.kind() == ErrorKind::ConnectionRefused {
                    self.close().await;
                }
                None
            }
        }
    }

    /// To be called when a connection broke, and before who connected learns of it: it dials again at once, and has to be
    /// refused then if the target is dead.
    pub async fn look(&self) {
        if self.refuses().await {
            self.close().await;
        }
    }

    async fn close(&self) {
        self.is_refused.send_replace(true);
        let (mut closed, mut refused) = (self.is_closed.subscribe(), self.is_refused.subscribe());
        // The target may be back before this task looks.
        tokio::select! {
            () = until(&mut closed, true) => {}
            () = until(&mut refused, false) => {}
        }
    }

    async fn refuses(&self) -> bool {
        matches!(TcpStream::connect(self.to).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    }
}

async fn until(state: &mut watch::Receiver<bool>, wanted: bool) {
    // An error means that the way is being dropped.
    let _ = state.wait_for(|is| *is == wanted).await;
}
