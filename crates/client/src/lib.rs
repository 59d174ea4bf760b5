//! What a Rust program uses to talk to Roomcast: push, ask about rooms and users, and subscribe.
//!
//! | part | does |
//! |---|---|
//! | [`Pusher`] | pushes to a room, a user, users or everyone; answers with the receipt, and follows it; reads logs |
//! | [`Controller`] | rooms, seats, who is where, kick |
//! | [`Subscriber`] | holds one session over WebSocket, over as many reconnects as it takes |
//!
//! ```no_run
//! # async fn example() -> Result<(), roomcast_client::Error> {
//! use roomcast_client::{Content, ContentType, PushOptions, Pusher};
//!
//! let pusher = Pusher::new(["localhost:50053"])?;
//! let content = Content::text(ContentType::Text, "Hello");
//! let reply = pusher.push_to_room("room-001", content, &PushOptions::default()).await?;
//! println!("{} reached {} sessions", reply.message_id, reply.receipt.unwrap_or_default().targets);
//! # Ok(())
//! # }
//! ```

mod content;
mod controller;
mod error;
mod node;
mod pusher;
mod rpc;
pub mod subscriber;

pub use content::{Content, ContentType};
pub use controller::Controller;
pub use error::Error;
pub use node::Node;
pub use pusher::{Class, LogOf, Offline, Page, PushOptions, PushStream, Pusher, Wait, Watch};
pub use roomcast_proto::pubsub::{
    AuditReply, DrainReply, GetHistoryReply, HistoryMessage, NodeCounts, PushReply, Receipt, SessionReceipt,
    UserReceipt, WatchPushReply,
};
pub use subscriber::{Event, Push, Subscriber};
