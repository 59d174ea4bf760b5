//! The wire between the tiers, package `pubsub`, and its mapping to our types; and the client protocol in protobuf, package
//! `pubsub.client`. Both are compiled from the `.proto` files.

pub mod convert;
pub mod lane;
pub mod ledger;
mod status;
mod words;

pub use status::{fault, status};

/// Messages, clients and servers of package `pubsub`.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod pubsub {
    tonic::include_proto!("pubsub");
}

/// Frames of package `pubsub.client`: what clients say, and hear, under the sub-protocol `pubsub.proto.v1`.
#[allow(missing_docs, clippy::all)]
pub mod client {
    tonic::include_proto!("pubsub.client");
}

/// The encoded descriptors of all `.proto` files, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pubsub.bin"));

/// Adds server reflection, v1 and v1alpha, that lists this service of package `pubsub` and the health service.
pub fn add_reflection(mut routes: tonic::service::Routes, service: &str) -> tonic::service::Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(service)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
    };
    let v1 = builder().build_v1().expect("descriptors made by the build are well-formed");
    let v1alpha = builder().build_v1alpha().expect("descriptors made by the build are well-formed");
    routes = routes.add_service(v1);
    routes.add_service(v1alpha)
}
