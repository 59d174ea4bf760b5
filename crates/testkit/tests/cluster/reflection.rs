//! What grpcurl relies on: reflection in both versions, and health, on every gRPC port.

use std::net::SocketAddr;

use roomcast_testkit::Cluster;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

macro_rules! services {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        let mut client = ServerReflectionClient::new($channel);
        let mut replies =
            client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        match replies.message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
            }
            other => panic!("no list of services: {other:?}"),
        }
    }};
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn every_grpc_port_names_its_own_service_and_its_health() {
    let cluster = Cluster::builder().nodes(1).start().await;
    for (address, service) in [
        (cluster.controller(0).grpc_address(), "pubsub.ControllerService"),
        (cluster.node(0).grpc_address(), "pubsub.ConnectNodeService"),
        (cluster.push_manager(0).grpc_address(), "pubsub.PushManagerService"),
    ] {
        let channel = channel(address).await;
        for names in [services!(v1, channel.clone()), services!(v1alpha, channel.clone())] {
            let ours: Vec<_> = names.iter().filter(|name| name.starts_with("pubsub.")).collect();
            assert_eq!(ours, [service]);
            assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
        }
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    cluster.finish().await;
}
