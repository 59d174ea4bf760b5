//! Compiles the `.proto` files with protox: no protoc on the machine is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 6] = [
    "pubsub/common.proto",
    "pubsub/controller.proto",
    "pubsub/push.proto",
    "pubsub/node.proto",
    "pubsub/explain.proto",
    "pubsub/client.proto",
];

/// Replies that the JSON API and the command line show as they are, with enums as their words.
const JSON_REPLIES: [&str; 40] = [
    "RoomCard",
    "SessionInfo",
    "RoomStats",
    "RoomInfo",
    "RoomMember",
    "ListRoomsReply",
    "RoomSummary",
    "UserNode",
    "ListSessionsReply",
    "ListNodesReply",
    "NodeInfo",
    "PushReply",
    "WatchPushReply",
    "Receipt",
    "NodeCounts",
    "UserReceipt",
    "SessionReceipt",
    "DeleteRoomReply",
    "JoinRoomReply",
    "LeaveRoomReply",
    "SelectConnectNodeReply",
    "KickUserReply",
    "Explanation",
    "MissingPart",
    "UserEvidence",
    "RoomEvidence",
    "NodeEvidence",
    "PushEvidence",
    "PushHop",
    "InspectReply",
    "LiveSession",
    "SessionRoom",
    "EndedSession",
    "LeftRoom",
    "NodeMessage",
    "SessionFate",
    "AuditReply",
    "Imbalance",
    "Unanswered",
    "DrainReply",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=pubsub");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("pubsub.bin"), descriptors.encode_to_vec())?;

    let mut config = tonic_prost_build::Config::new();
    config.bytes([
        "pubsub.Content.data",
        "pubsub.Outcome.message_id",
        "pubsub.SessionOutcome.session_id",
        "pubsub.client.Content.binary",
    ]);
    for message in JSON_REPLIES {
        config.type_attribute(format!("pubsub.{message}"), "#[derive(serde::Serialize, serde::Deserialize)]");
    }
    for (field, module) in [
        ("RoomCard.state", "room_state"),
        ("RoomCard.membership", "membership"),
        ("RoomCard.log", "room_log"),
        ("RoomCard.on_log_failure", "on_log_failure"),
    ] {
        config.field_attribute(
            format!("pubsub.{field}"),
            format!("#[serde(with = \"crate::words::{module}\")]"),
        );
    }
    config.type_attribute("pubsub.Receipt", "#[serde(default)]");
    config.btree_map([
        "pubsub.Receipt.outcomes",
        "pubsub.NodeMessage.outcomes",
        "pubsub.PushHop.outcomes",
        "pubsub.PushEvidence.outcomes",
    ]);
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
