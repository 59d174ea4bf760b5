//! Lanes whose items are encoded once, however many nodes they go to and however often they are sent.

use prost::{Message, bytes::Bytes};
use tonic::{
    Request, Response, Status, Streaming,
    client::{Grpc, GrpcService},
    codegen::{Body as HttpBody, StdError, http::uri::PathAndQuery, tokio_stream::Stream},
};
use tonic_prost::ProstCodec;

use crate::pubsub::{Deliver, DownItem, LaneHello, LanePing, LaneUp, down_item::Item};

/// Where lanes are opened.
const PATH: &str = "/pubsub.ConnectNodeService/Lane";

/// The same on the wire as [`LaneDown`](crate::pubsub::LaneDown).
#[derive(Clone, PartialEq, Message)]
pub struct EncodedLaneDown {
    /// As there.
    #[prost(message, optional, tag = "1")]
    pub hello: Option<LaneHello>,
    /// As there.
    #[prost(message, optional, tag = "2")]
    pub ping: Option<LanePing>,
    /// As there.
    #[prost(uint64, tag = "3")]
    pub up_ack: u64,
    /// As there.
    #[prost(uint64, tag = "4")]
    pub first_number: u64,
    /// Each a [`DownItem`].
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub items: Vec<Bytes>,
}

/// An item as it travels.
pub fn encoded(item: Item) -> Bytes {
    DownItem { item: Some(item) }.encode_to_vec().into()
}

/// An encoded [`Deliver`] that has so many milliseconds left to live: a field that comes later stands.
pub fn with_ttl(item: &[u8], ttl_ms: u32) -> Bytes {
    let ttl = encoded(Item::Deliver(Deliver { ttl_ms: Some(ttl_ms), ..Deliver::default() }));
    [item, &ttl].concat().into()
}

/// Opens a lane to the node behind `channel`. It takes messages of up to `up_bytes_max` bytes.
pub async fn open<T>(
    channel: T,
    messages: impl Stream<Item = EncodedLaneDown> + Send + 'static,
    up_bytes_max: usize,
) -> Result<Response<Streaming<LaneUp>>, Status>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut grpc = Grpc::new(channel).max_decoding_message_size(up_bytes_max);
    grpc.ready().await.map_err(|error| {
        let error: StdError = error.into();
        Status::unavailable(format!("the node is not ready: {error}"))
    })?;
    let codec: ProstCodec<EncodedLaneDown, LaneUp> = ProstCodec::default();
    grpc.streaming(Request::new(messages), PathAndQuery::from_static(PATH), codec).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{AllTarget, LaneDown, deliver::Target};

    fn deliver(ttl_ms: Option<u32>) -> Deliver {
        let target = Some(Target::All(AllTarget {}));
        Deliver { message_id: "m".into(), target, ttl_ms, ack: true, ..Deliver::default() }
    }

    #[test]
    fn a_node_reads_encoded_items_as_if_they_were_not() {
        let items: Vec<DownItem> =
            vec![DownItem { item: Some(Item::Deliver(deliver(None))) }, DownItem::default()];
        let hello = Some(LaneHello { manager_id: "p".into(), incarnation: 7, ..LaneHello::default() });
        let encoded = EncodedLaneDown {
            hello: hello.clone(),
            ping: Some(LanePing { sent_us: 9 }),
            up_ack: 3,
            first_number: 4,
            items: items.iter().map(|item| item.encode_to_vec().into()).collect(),
        };
        let plain =
            LaneDown { hello, ping: Some(LanePing { sent_us: 9 }), up_ack: 3, first_number: 4, items };
        assert_eq!(encoded.encode_to_vec(), plain.encode_to_vec());
    }

    #[test]
    fn what_is_left_of_a_time_to_live_is_added_and_changes_nothing_else() {
        let item = with_ttl(&encoded(Item::Deliver(deliver(Some(0)))), 250);
        let read = DownItem::decode(item).unwrap();
        assert_eq!(read.item, Some(Item::Deliver(deliver(Some(250)))));
    }
}
