//! A way that can break: forwards TCP connections, holds those that are there, or cuts them and lets no other through.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    HoldOld,
    Cut,
}

/// Forwards until dropped.
pub struct Proxy {
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Forwards what comes to `from`.
    pub async fn start(from: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(from).await.expect("the address is free");
        let mode = watch::Sender::new(Mode::Pass);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, mode.subscribe()));
        Self { mode, _tasks: tasks }
    }

    /// The connections that are there bring nothing more and stay open; further ones pass.
    pub fn hold_old(&self) {
        self.mode.send_replace(Mode::HoldOld);
    }

    /// The connections that are there end; further ones are accepted and bring nothing.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Further connections pass again, and those held end.
    pub fn mend(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(carry(stream, to, mode.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut stream: TcpStream, to: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let born_in = *mode.borrow_and_update();
    if born_in != Mode::Cut {
        let Ok(mut onward) = TcpStream::connect(to).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut stream, &mut onward) => return,
            // An error means that the proxy is being dropped.
            _ = mode.changed() => if *mode.borrow_and_update() != Mode::HoldOld { return },
        }
        let _ = mode.changed().await;
        return;
    }
    let _ = mode.changed().await;
}
