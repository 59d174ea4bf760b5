//! Opens one lane's own connection and tells apart who refuses from who does not answer.

use std::{error::Error, io, time::Duration};

use roomcast_proto::{lane, pubsub::LaneUp};
use tokio::time::timeout;
use tonic::{Streaming, transport::Endpoint};

use super::Downstream;

/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// How long it may take from there to the first message.
const HELLO: Duration = Duration::from_secs(2);
/// Up messages are bounded by the node to far less; a snapshot comes in parts.
const UP_BYTES_MAX: usize = 4 << 20;
/// What a node may have under way to us on its connection.
const WINDOW: u32 = 1 << 20;

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// Nobody listens there: the process is dead.
    Refused,
    /// No answer, or one that is no lane: it may be alive.
    Silent(String),
}

/// Connects and sends the hello. Each lane has its own TCP connection, so that a node that does not read fills its own
/// windows and nobody else's.
pub async fn dial(address: &str, messages: Downstream) -> Result<Streaming<LaneUp>, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| DialError::Silent(error.to_string()))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW);
    let channel = match timeout(CONNECT, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) if is_refused(&error) => return Err(DialError::Refused),
        Ok(Err(error)) => return Err(DialError::Silent(innermost(&error))),
        Err(_) => return Err(DialError::Silent("no connection in time".to_owned())),
    };
    match timeout(HELLO, lane::open(channel, messages, UP_BYTES_MAX)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(DialError::Silent(status.message().to_owned())),
        Err(_) => Err(DialError::Silent("no answer in time".to_owned())),
    }
}

/// The first message of a connection.
pub async fn first_message(messages: &mut Streaming<LaneUp>) -> Result<LaneUp, String> {
    match timeout(HELLO, messages.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err("the node ended the stream".to_owned()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no hello in time".to_owned()),
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
