//! The protobuf form of the protocol: one message of package `pubsub.client` a binary message.

mod client;
mod server;

pub(super) use client::parse;
pub(super) use server::encode;
