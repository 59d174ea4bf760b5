//! The words of the platform as types: ids, session identity, message ids and classes, positions in logs, error codes and the
//! room card.

pub mod card;
pub mod class;
pub mod code;
pub mod id;
pub mod message;
pub mod position;
pub mod session;
pub mod time;

pub use card::{CardMark, LogPolicy, Membership, OnLogFailure, RoomCard, RoomState};
pub use class::Class;
pub use code::{Code, Fault};
pub use id::{ClientId, InvalidId, NodeId, RoomId, ServiceId, UserId};
pub use message::MessageId;
pub use position::{Epoch, Position};
pub use session::{Incarnation, SessionId, SessionPolicy};
pub use time::{StoreTime, unix_millis};
