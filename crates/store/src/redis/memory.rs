//! The memory as a whole: its clock, and the number that tells whether it lost its content.

use futures_util::future::try_join_all;
use redis::RedisResult;
use roomcast_types::{Incarnation, StoreTime};

use super::{
    keys::{Keys, fnv},
    link::Wire,
    script,
};

/// The clock of the one server, or of the master of one fixed slot, so that all handles read the same.
pub(super) async fn now(wire: &Wire, keys: &Keys) -> RedisResult<StoreTime> {
    let (seconds, micros): (i64, i64) = wire.run(&script::NOW, &[&keys.clock()], &[]).await?;
    Ok(StoreTime::from_millis(seconds * 1_000 + micros / 1_000))
}

/// Changes when a master was flushed, started again (what it read from a dump may be old) or replaced by its replica
/// (which may lack the last writes).
pub(super) async fn generation(wire: &Wire, keys: &[String]) -> RedisResult<u64> {
    let parts = keys.iter().map(async |key| {
        let fresh = Incarnation::random().to_string();
        wire.run::<(String, String)>(&script::GENERATION, &[key], &[fresh.as_bytes()]).await
    });
    let parts = try_join_all(parts).await?;
    Ok(fnv(parts.iter().flat_map(|(number, life)| [number.as_str(), life.as_str()])))
}
