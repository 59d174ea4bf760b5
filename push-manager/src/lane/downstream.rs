//! The stream that HTTP/2 pulls a lane's messages from, whenever the connection has room for one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use roomcast_proto::lane::EncodedLaneDown;
use tokio_stream::Stream;

use super::Lane;

/// Messages of one connection. Ends when another connection begins or this one is given up.
#[derive(Debug)]
pub struct Downstream {
    lane: Arc<Lane>,
    connection: u64,
}

impl Downstream {
    /// The stream of connection number `connection`.
    pub fn new(lane: Arc<Lane>, connection: u64) -> Self {
        Self { lane, connection }
    }
}

impl Stream for Downstream {
    type Item = EncodedLaneDown;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<EncodedLaneDown>> {
        let now_us = self.lane.context.clock.now_us();
        let mut outgoing = self.lane.lock();
        if outgoing.connection() != self.connection {
            return Poll::Ready(None);
        }
        match outgoing.compose(now_us) {
            Some(message) => Poll::Ready(Some(message)),
            None => {
                outgoing.set_waker(context.waker());
                Poll::Pending
            }
        }
    }
}
