//! How full the node is: what the acceptor, the shards and the hub share.
