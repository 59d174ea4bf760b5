//! Audits: one line when all is well, a table and exit code 1 when it is not.

use roomcast_proto::pubsub::{
    AuditReply, AuditRequest, Imbalance, Unanswered,
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
};
use serde_json::{Value, json};
use tonic::{Request, Response, Status, transport::Server};

use crate::{run, servers::serve};

/// A push-manager that finds this in any hour, and nothing is known of other times.
struct Auditor(AuditReply);

#[tonic::async_trait]
impl PushManagerService for Auditor {
    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<AuditReply>, Status> {
        match request.into_inner() {
            AuditRequest { since_ms: 3_600_000, own: false } => Ok(Response::new(self.0.clone())),
            other => Err(Status::internal(format!("INTERNAL: asked {other:?}"))),
        }
    }
}

async fn auditor(reply: AuditReply) -> String {
    serve(Server::builder().add_service(PushManagerServiceServer::new(Auditor(reply)))).await.0
}

#[tokio::test]
async fn a_balance_is_one_line_and_success() {
    let address = auditor(AuditReply { pushes: 12, targets: 600, ..AuditReply::default() }).await;
    for since in [&[][..], &["--since", "1h"], &["--since", "60m"]] {
        let ran = run(&[&["audit", "--push-manager", &address], since].concat()).await;
        let line = "12 pushes, 600 targets, all accounted for\n";
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, line, ""));
    }
}

#[tokio::test]
async fn what_is_missing_or_silent_fails_and_is_named() {
    let found = Imbalance {
        node_id: "connect-node-2".into(),
        manager_id: "push-manager-1".into(),
        minute_ms: 1_767_225_540_000,
        targets: 7,
        reason: "lost".into(),
    };
    let address = auditor(AuditReply { imbalances: vec![found.clone()], ..AuditReply::default() }).await;
    let ran = run(&["audit", "--push-manager", &address]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "biz-client: one imbalance was found\n"));
    for word in ["2025-12-31 23:59:00 UTC", "connect-node-2", "push-manager-1", "lost"] {
        assert!(ran.out.contains(word), "{ran:?}");
    }
    let ran = run(&["audit", "--push-manager", &address, "--output", "json"]).await;
    let reply: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &reply["imbalances"][0]["node_id"]), (1, &json!("connect-node-2")));
    assert_eq!(
        (&reply["unsettled"], &reply["imbalances"][0]["minute_ms"]),
        (&json!(0), &json!(found.minute_ms))
    );

    let silent = Unanswered { role: "connect-node".into(), id: "n".into(), reason: "no answer".into() };
    let address = auditor(AuditReply { unanswered: vec![silent], ..AuditReply::default() }).await;
    let ran = run(&["audit", "--push-manager", &address]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("connect-node n (no answer)") && !ran.out.contains("accounted"), "{ran:?}");
}

#[tokio::test]
async fn a_time_out_of_bounds_is_wrong_usage() {
    for since in ["30s", "25h", "1d", ""] {
        let ran = run(&["audit", "--since", since]).await;
        assert!(ran.code == 2 && ran.err.contains("--since"), "{ran:?}");
    }
    assert!(run(&["audit", "--since", "25h"]).await.err.contains("1m to 24h"));
}
