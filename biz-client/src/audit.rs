//! Asks whether every target of the recent pushes is accounted for.

use roomcast_client::{AuditReply, Pusher};

use crate::{
    args::{Servers, Since},
    failure::Failure,
    output::{Output, list, pairs, utc},
};

/// Asks and shows the answer; fails when something is missing, or could not be asked.
pub async fn run(servers: &Servers, since: Since, output: &mut Output) -> Result<(), Failure> {
    let refused = |error| Failure::of("push-manager", "--push-manager", error);
    let pusher = Pusher::new(&servers.push_manager).map_err(refused)?;
    let pusher = pusher.deadline(servers.timeout).attempts_per_address(1);
    let reply = pusher.audit(since.0).await.map_err(refused)?;
    output.show(&reply, describe)?;
    match (reply.imbalances.len(), reply.unanswered.len()) {
        (0, 0) => Ok(()),
        (0, parts) => Err(Failure::Refused(format!("{parts} of the parts did not answer"))),
        (1, _) => Err(Failure::Refused("one imbalance was found".to_owned())),
        (count, _) => Err(Failure::Refused(format!("{count} imbalances were found"))),
    }
}

fn describe(reply: &AuditReply) -> String {
    let AuditReply { pushes, targets, pending, imbalances, unanswered, unsettled } = reply;
    let total = format!("{pushes} pushes, {targets} targets");
    let mut text = if imbalances.is_empty() && unanswered.is_empty() {
        format!("{total}, all accounted for\n")
    } else {
        let rows = imbalances.iter().map(|found| {
            let (node, manager) = (found.node_id.clone(), found.manager_id.clone());
            [utc(found.minute_ms), node, manager, found.targets.to_string(), found.reason.clone()]
        });
        let table = list(["minute", "node", "push-manager", "targets", "what is wrong"], rows);
        format!("{total}; imbalances:\n{table}")
    };
    let pending = if *pending == 0 { String::new() } else { format!("{pending} targets") };
    let unsettled =
        if *unsettled == 0 { String::new() } else { format!("{unsettled} minutes that were on the move") };
    let silent = unanswered.iter().map(|part| format!("{} {} ({})", part.role, part.id, part.reason));
    text.push_str(&pairs([
        ("pending", pending),
        ("not compared", unsettled),
        ("no answer", silent.collect::<Vec<_>>().join(", ")),
    ]));
    text
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::{Imbalance, Unanswered};

    use super::*;

    #[test]
    fn a_balance_is_one_line() {
        let reply = AuditReply { pushes: 3, targets: 40, ..AuditReply::default() };
        assert_eq!(describe(&reply), "3 pushes, 40 targets, all accounted for\n");
        let busy = AuditReply { pending: 2, unsettled: 1, ..reply };
        let shown = describe(&busy);
        assert!(shown.starts_with("3 pushes, 40 targets, all accounted for\n"), "{shown}");
        assert!(shown.contains("pending       2 targets\n") && shown.contains("1 minutes"), "{shown}");
    }

    #[test]
    fn an_imbalance_names_minute_node_and_push_manager() {
        let found = Imbalance {
            node_id: "connect-node-2".into(),
            manager_id: "push-manager-1".into(),
            minute_ms: 1_767_225_540_000,
            targets: 7,
            reason: "lost".into(),
        };
        let silent = Unanswered { role: "connect-node".into(), id: "x".into(), reason: "away".into() };
        let reply = AuditReply { imbalances: vec![found], unanswered: vec![silent], ..AuditReply::default() };
        let shown = describe(&reply);
        for word in ["2025-12-31 23:59:00 UTC", "connect-node-2", "push-manager-1", " 7 ", "lost"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        assert!(
            shown.contains("no answer  connect-node x (away)") && !shown.contains("accounted"),
            "{shown}"
        );
    }
}
