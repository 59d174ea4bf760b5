//! Which ports and names the nodes of one process take, from the ones configured for the first.

use roomcast_runtime::{Config, config::ConnectNode};

/// gRPC ports of the second and later nodes leave room for the push-manager's: 50052, 50055, 50056, …
const GRPC_GAP: u16 = 2;
/// Nodes with a metrics port next to the first one's: 9091, 9092, 9093; 9094 is the push-manager's.
const METRICS_PORTS: u16 = 3;

/// The most nodes in one process.
pub const NODES_MAX: u16 = 64;

/// The configuration of node `index` (0 is the first). Port 0 stays 0: a free one.
pub fn node_config(config: &Config, index: u16, nodes: u16) -> Config {
    let mut config = config.clone();
    let first = config.connect_node.clone();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let node = &mut config.connect_node;
    if index > 0 {
        node.id = node_id(&first, index);
        node.http_port = next(first.http_port, index);
        node.grpc_port = next(first.grpc_port, GRPC_GAP + index);
        node.metrics_port = if index < METRICS_PORTS { next(first.metrics_port, index) } else { 0 };
        // A public address names one node; the others say where they listen.
        node.public_ws_url = String::new();
    }
    if node.shards == 0 {
        node.shards = (cores / usize::from(nodes)).max(1);
    }
    config
}

fn next(port: u16, by: u16) -> u16 {
    if port == 0 { 0 } else { port.checked_add(by).unwrap_or(0) }
}

/// `connect-node-1` is followed by `connect-node-2`; any other name by itself with a number.
fn node_id(first: &ConnectNode, index: u16) -> String {
    match first.id.rsplit_once('-') {
        Some((stem, number)) if number.parse() == Ok(1u16) => format!("{stem}-{}", index + 1),
        _ => format!("{}-{}", first.id, index + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_the_ports_that_users_know() {
        let config = Config::default();
        let ports: Vec<_> = (0..5)
            .map(|index| {
                let node = node_config(&config, index, 5).connect_node;
                (node.id, node.http_port, node.grpc_port, node.metrics_port)
            })
            .collect();
        let expected = [
            ("connect-node-1", 8080, 50052, 9091),
            ("connect-node-2", 8081, 50055, 9092),
            ("connect-node-3", 8082, 50056, 9093),
            ("connect-node-4", 8083, 50057, 0),
            ("connect-node-5", 8084, 50058, 0),
        ];
        assert_eq!(ports, expected.map(|(id, http, grpc, metrics)| (id.to_owned(), http, grpc, metrics)));
    }
}
