//! The JSON form of the protocol: one object a text message.

mod client;
mod object;
mod server;

pub(super) use client::parse;
pub(super) use server::encode;
