//! Shards: threads that own sockets.
