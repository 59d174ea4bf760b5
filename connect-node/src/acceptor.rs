//! Accepts connections on the client port and hands each to a shard.
