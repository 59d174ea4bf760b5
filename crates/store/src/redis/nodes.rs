//! `{n:N:I}`: the sessions of each life of each node by report slice, the versions of the slices, and its load.
//!
//! The list of nodes is on a slot of its own. A life is entered there before its index begins, and again with each
//! batch of versions, so that a list that was lost is whole again within a minute; it is taken out after its index.

use std::time::Duration;

use redis::RedisResult;
use roomcast_types::SessionId;

use super::{
    keys::Keys,
    link::Wire,
    record::{read_indexed, read_load, read_node, write_indexed, write_load, write_node},
    script,
};
use crate::presence::{IndexedSession, Load, NodeRef, SLICES};

pub(super) async fn index(wire: &Wire, keys: &Keys, session: &IndexedSession) -> RedisResult<()> {
    let (node, id) = (&session.entry.node, session.entry.session_id);
    let (versions, slice) = (keys.versions(node), keys.slice(node, id.slice()));
    let record = write_indexed(session);
    let mut args: [&[u8]; 3] = [id.as_bytes(), record.as_bytes(), b"0"];
    let is_known: bool = wire.run(&script::INDEX, &[&versions, &slice], &args).await?;
    if !is_known {
        list(wire, keys, node).await?;
        args[2] = b"1";
        wire.run::<()>(&script::INDEX, &[&versions, &slice], &args).await?;
    }
    Ok(())
}

pub(super) async fn unindex(wire: &Wire, keys: &Keys, node: &NodeRef, session: SessionId) -> RedisResult<()> {
    let mut command = redis::cmd("HDEL");
    command.arg(keys.slice(node, session.slice())).arg(session.as_bytes());
    wire.query(&command).await
}

pub(super) async fn slice_versions(
    wire: &Wire,
    keys: &Keys,
    node: &NodeRef,
) -> RedisResult<Option<[u64; SLICES]>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys.versions(node));
    let found: Vec<(usize, u64)> = wire.query(&command).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut versions = [0; SLICES];
    for (slice, version) in found {
        if let Some(place) = versions.get_mut(slice) {
            *place = version;
        }
    }
    Ok(Some(versions))
}

/// Every slice given is below [`SLICES`].
pub(super) async fn set_slice_versions(
    wire: &Wire,
    keys: &Keys,
    node: &NodeRef,
    versions: &[(usize, u64)],
) -> RedisResult<()> {
    list(wire, keys, node).await?;
    let numbers = versions.iter().flat_map(|(slice, version)| [*slice as u64, *version]);
    let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    wire.run(&script::RAISE_VERSIONS, &[&keys.versions(node)], &args).await
}

pub(super) async fn indexed(
    wire: &Wire,
    keys: &Keys,
    node: &NodeRef,
    slice: usize,
) -> RedisResult<Vec<IndexedSession>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys.slice(node, slice));
    let found: Vec<(Vec<u8>, String)> = wire.query(&command).await?;
    found.iter().map(|(session, text)| read_indexed(node, session, text)).collect()
}

pub(super) async fn indexed_nodes(wire: &Wire, keys: &Keys) -> RedisResult<Vec<NodeRef>> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(keys.nodes());
    let found: Vec<String> = wire.query(&command).await?;
    found.iter().map(|text| read_node(text)).collect()
}

/// The server forgets it by its own clock.
pub(super) async fn set_load(
    wire: &Wire,
    keys: &Keys,
    node: &NodeRef,
    load: Load,
    ttl: Duration,
) -> RedisResult<()> {
    let mut command = redis::cmd("SET");
    let ttl_ms = ttl.as_millis().max(1) as u64;
    command.arg(keys.load(node)).arg(write_load(load)).arg("PX").arg(ttl_ms);
    wire.query(&command).await
}

pub(super) async fn load(wire: &Wire, keys: &Keys, node: &NodeRef) -> RedisResult<Option<(Load, Duration)>> {
    let found: Option<(String, u64)> = wire.run(&script::LOAD, &[&keys.load(node)], &[]).await?;
    found.map(|(text, left_ms)| Ok((read_load(&text)?, Duration::from_millis(left_ms)))).transpose()
}

pub(super) async fn forget(wire: &Wire, keys: &Keys, node: &NodeRef) -> RedisResult<()> {
    let mut command = redis::cmd("UNLINK");
    command.arg(keys.all_of(node));
    wire.query::<()>(&command).await?;
    let mut command = redis::cmd("SREM");
    command.arg(keys.nodes()).arg(write_node(node));
    wire.query(&command).await
}

async fn list(wire: &Wire, keys: &Keys, node: &NodeRef) -> RedisResult<()> {
    let mut command = redis::cmd("SADD");
    command.arg(keys.nodes()).arg(write_node(node));
    wire.query(&command).await
}
