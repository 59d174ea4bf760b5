//! Reports of nodes: one bidirectional stream each, from what a node says to facts in the stores and back.

mod apply;
mod asking;
mod change;
mod opening;
mod schedule;
mod slices;
mod stream;
mod streams;
mod watermarks;

pub(crate) use apply::drop_session;
pub(crate) use opening::open;
pub(crate) use streams::Streams;
