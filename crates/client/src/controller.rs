//! Questions and commands to the controller-managers.

use std::time::Duration;

use roomcast_proto::pubsub::{
    CreateRoomRequest, DeleteRoomReply, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest,
    GetUserNodeRequest, JoinRoomReply, JoinRoomRequest, KickUserReply, KickUserRequest, LeaveRoomReply,
    LeaveRoomRequest, ListNodesReply, ListNodesRequest, ListRoomsReply, ListRoomsRequest, ListSessionsReply,
    ListSessionsRequest, RoomCard, RoomInfo, RoomStats, SelectConnectNodeReply, SelectConnectNodeRequest,
    UpdateRoomRequest, UserNode, controller_service_client::ControllerServiceClient,
};
use tonic::transport::Channel;

use crate::{
    error::Error,
    rpc::{CallOptions, REPLY_BYTES_MAX, Servers},
};

const DEADLINE: Duration = Duration::from_secs(5);

/// Talks to one of several controller-managers, the one that answered last first. Connects on first use.
///
/// Questions, and commands that mean the same when given twice, are repeated at another address after a broken
/// connection; `create_room` and `delete_room` only when the first controller cannot have seen them.
pub struct Controller {
    servers: Servers,
    deadline: Duration,
}

impl Controller {
    /// Takes `host:port` addresses of controller-managers. Does not connect.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        Ok(Self { servers: Servers::new(addresses)?, deadline: DEADLINE })
    }

    /// Time for each call, over all attempts (5 s by default).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often an address is tried at most for one call (2 by default, at least 1).
    pub fn attempts_per_address(mut self, attempts: u32) -> Self {
        self.servers.set_rounds(attempts);
        self
    }

    fn options(&self, is_idempotent: bool) -> CallOptions {
        CallOptions { deadline: self.deadline, traceparent: None, is_idempotent }
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $reply:ty, idempotent: $idempotent:literal;)*) => {
        impl Controller {
            $($(#[$doc])*
            pub async fn $name(&self, request: $request) -> Result<$reply, Error> {
                self.servers
                    .call(request, &self.options($idempotent), |channel, request| async move {
                        client(channel).$name(request).await
                    })
                    .await
            })*
        }
    };
}

calls! {
    /// Totals over all rooms for an empty `room_id`, else of one room.
    get_room_stats(GetRoomStatsRequest) -> RoomStats, idempotent: true;
    /// The card of a room and one page of its members.
    get_room_info(GetRoomInfoRequest) -> RoomInfo, idempotent: true;
    /// All rooms by id, one page.
    list_rooms(ListRoomsRequest) -> ListRoomsReply, idempotent: true;
    /// Creates a room that is kept when empty.
    create_room(CreateRoomRequest) -> RoomCard, idempotent: false;
    /// Changes what is given and leaves the rest.
    update_room(UpdateRoomRequest) -> RoomCard, idempotent: true;
    /// Removes a room and its seats.
    delete_room(DeleteRoomRequest) -> DeleteRoomReply, idempotent: false;
    /// Gives a user a seat without a session.
    join_room(JoinRoomRequest) -> JoinRoomReply, idempotent: true;
    /// Takes the seat of a user.
    leave_room(LeaveRoomRequest) -> LeaveRoomReply, idempotent: true;
    /// Where a user is online now.
    get_user_node(GetUserNodeRequest) -> UserNode, idempotent: true;
    /// Sessions of one node, one page.
    list_sessions(ListSessionsRequest) -> ListSessionsReply, idempotent: true;
    /// Registered nodes with what they last reported.
    list_nodes(ListNodesRequest) -> ListNodesReply, idempotent: true;
    /// A ready node, at random weighted by free places.
    select_connect_node(SelectConnectNodeRequest) -> SelectConnectNodeReply, idempotent: true;
    /// Closes sessions of a user, or takes them out of one room.
    kick_user(KickUserRequest) -> KickUserReply, idempotent: true;
}

fn client(channel: Channel) -> ControllerServiceClient<Channel> {
    ControllerServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}
