//! The audit: what the nodes say became of our pushes, compared with what we heard of it, minute by minute.
//!
//! Each push-manager compares its own pushes: it reads its ledger, asks the node, and reads its ledger once more. Where
//! that did not change meanwhile and the node has nothing on the lane, both must be equal. The one that is asked has
//! all the others do the same, and looks at the nodes' own balance for all.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use roomcast_proto::pubsub::{
    AuditReply, AuditRequest, GetLedgerReply, GetLedgerRequest, Imbalance, LedgerCounts, Unanswered,
    connect_node_service_client::ConnectNodeServiceClient,
    push_manager_service_client::PushManagerServiceClient,
};
use roomcast_registry::{Registration, Roster};
use roomcast_types::{Fault, unix_millis};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use crate::{fleet::Fleet, lane::Context, ledger::Share};

/// How far an audit may look back; the ledgers hold a little more.
const SINCE_MS: std::ops::RangeInclusive<u64> = 60_000..=86_400_000;
/// Parts asked at once.
const AT_ONCE: usize = 16;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a node may take, all looks together.
const NODE: Duration = Duration::from_secs(3);
/// How long another push-manager may take with its own part.
const MANAGER: Duration = Duration::from_millis(3_500);
/// Looks at a node whose numbers are on the move.
const LOOKS: u32 = 5;
/// Between two of them: what is on the way arrives.
const PAUSE: Duration = Duration::from_millis(100);
/// A node's answer: its entries are bounded.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Carries audits out.
pub struct Auditor {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
    managers: Arc<Roster>,
}

/// A node's answer beside what we knew before and after it.
struct Look {
    reply: GetLedgerReply,
    before: Vec<(i64, Share)>,
    after: Vec<(i64, Share)>,
}

/// What the looks at one node came to.
#[derive(Default)]
struct Verdict {
    imbalances: Vec<Imbalance>,
    unsettled: u64,
}

impl Auditor {
    /// Finds the other push-managers in `managers`.
    pub fn new(context: Arc<Context>, fleet: Arc<Fleet>, managers: Arc<Roster>) -> Self {
        Self { context, fleet, managers }
    }

    /// Looks back as far as the request says.
    pub async fn audit(&self, request: &AuditRequest) -> Result<AuditReply, Fault> {
        if !SINCE_MS.contains(&request.since_ms) {
            let (least, most) = (SINCE_MS.start(), SINCE_MS.end());
            let message = format!("since_ms is {}; it takes {least} to {most}", request.since_ms);
            return Err(Fault::bad_request(message));
        }
        let since_ms = unix_millis().saturating_sub_unsigned(request.since_ms);
        let (own, others) = tokio::join!(self.own(since_ms, !request.own), self.others(request));
        let mut reply = own;
        for other in others {
            match other {
                Ok(other) => add(&mut reply, other),
                Err(unanswered) => reply.unanswered.push(unanswered),
            }
        }
        reply.imbalances.sort_by(|a, b| {
            (a.minute_ms, &a.node_id, &a.manager_id).cmp(&(b.minute_ms, &b.node_id, &b.manager_id))
        });
        reply.unanswered.sort_by(|a, b| (&a.role, &a.id).cmp(&(&b.role, &b.id)));
        reply.unanswered.dedup_by(|a, b| (&a.role, &a.id) == (&b.role, &b.id));
        Ok(reply)
    }

    async fn others(&self, request: &AuditRequest) -> Vec<Result<AuditReply, Unanswered>> {
        if request.own {
            return Vec::new();
        }
        let listing = self.managers.current();
        let others: Vec<Registration> = listing
            .registrations
            .iter()
            .filter(|registration| registration.incarnation != self.context.incarnation)
            .cloned()
            .collect();
        let since_ms = request.since_ms;
        let asked = others.into_iter().map(|manager| async move {
            let asking = ask_manager(&manager.grpc_address, since_ms);
            let answer = timeout(MANAGER, asking).await.unwrap_or_else(|_| Err(silent(MANAGER)));
            answer.map_err(|reason| unanswered("push-manager", manager.id.as_str(), reason))
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
    }

    /// Our own pushes; and, with `all`, what the nodes themselves miss of anybody's.
    async fn own(&self, since_ms: i64, all: bool) -> AuditReply {
        let ledger = &self.context.ledger;
        let mut reply = AuditReply { pushes: ledger.pushes(since_ms), ..AuditReply::default() };
        for (minute_ms, node_id, _, share) in ledger.shares(since_ms) {
            reply.targets += share.told.targets + share.lost;
            reply.pending += share.told.pending;
            if share.told.unaccounted > 0 {
                let reason = "the push-manager was told counts that do not add up, or waits in vain";
                let found = self.imbalance(node_id.as_str(), minute_ms, share.told.unaccounted, reason);
                reply.imbalances.push(found);
            }
        }
        let listing = self.fleet.listing();
        let asked = listing.registrations.iter().cloned().map(|node| async move {
            let looking = self.compare(&node, since_ms, all);
            let verdict = timeout(NODE, looking).await.unwrap_or_else(|_| Err(silent(NODE)));
            verdict.map_err(|reason| unanswered("connect-node", node.id.as_str(), reason))
        });
        let verdicts: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        for verdict in verdicts {
            match verdict {
                Ok(verdict) => {
                    reply.imbalances.extend(verdict.imbalances);
                    reply.unsettled += verdict.unsettled;
                }
                Err(unanswered) => reply.unanswered.push(unanswered),
            }
        }
        reply
    }

    /// Looks at one node until nothing is on the move, or often enough.
    async fn compare(&self, node: &Registration, since_ms: i64, all: bool) -> Result<Verdict, String> {
        let mut client = ConnectNodeServiceClient::new(connect(&node.grpc_address).await?)
            .max_decoding_message_size(REPLY_BYTES_MAX);
        let manager_incarnation = if all { 0 } else { self.context.incarnation.as_u64() };
        let request = GetLedgerRequest { since_ms, manager_incarnation };
        let mut looks = 1;
        loop {
            let before = self.shares(node, since_ms);
            let reply = client.get_ledger(request).await.map_err(|status| status.message().to_owned())?;
            let look = Look { reply: reply.into_inner(), before, after: self.shares(node, since_ms) };
            check(&look.reply, node)?;
            let verdict = self.judge(node, &look);
            // What differs may be on its way still.
            if looks == LOOKS || (verdict.imbalances.is_empty() && verdict.unsettled == 0) {
                let mut verdict = verdict;
                if all {
                    verdict.imbalances.extend(misses(&look.reply));
                }
                return Ok(verdict);
            }
            looks += 1;
            sleep(PAUSE).await;
        }
    }

    /// Our shares of this life of the node, by minute.
    fn shares(&self, node: &Registration, since_ms: i64) -> Vec<(i64, Share)> {
        let shares = self.context.ledger.shares(since_ms).into_iter();
        let own = shares.filter(|(_, node_id, life, _)| {
            node_id.as_str() == node.id.as_str() && *life == node.incarnation.as_u64()
        });
        own.map(|(minute, _, _, share)| (minute, share)).collect()
    }

    fn judge(&self, node: &Registration, look: &Look) -> Verdict {
        let own = self.context.incarnation.as_u64();
        let is_settled = look.reply.settled_incarnations.contains(&own);
        let complete_from = look.reply.complete_since_ms.max(self.context.ledger.complete_from_ms());
        let entries = || look.reply.entries.iter().filter(|entry| entry.manager_incarnation == own);
        let share = |shares: &[(i64, Share)], minute: i64| {
            shares.iter().find(|(own, _)| *own == minute).map(|(_, share)| *share).unwrap_or_default()
        };
        let minutes: BTreeSet<i64> = entries()
            .map(|entry| entry.minute_ms)
            .chain(look.after.iter().map(|(minute, _)| *minute))
            .collect();
        let mut verdict = Verdict::default();
        for minute in minutes.into_iter().filter(|minute| *minute >= complete_from) {
            let (before, after) = (share(&look.before, minute), share(&look.after, minute));
            let told = entries().find(|entry| entry.minute_ms == minute).and_then(|entry| entry.counts);
            let told = told.unwrap_or_default();
            let differences = told.differences(&after.told);
            if differences.is_empty() && before == after {
                continue;
            }
            if before != after || !is_settled || after.unfollowed > 0 {
                verdict.unsettled += 1;
                continue;
            }
            let most = differences.iter().map(|(_, here, there)| here.abs_diff(*there)).max().unwrap_or(0);
            let words: Vec<_> = differences
                .iter()
                .map(|(word, told, heard)| format!("{told} {word} told, {heard} heard"))
                .collect();
            let reason = format!("the node told what the push-manager did not hear: {}", words.join("; "));
            verdict.imbalances.push(self.imbalance(node.id.as_str(), minute, most, &reason));
        }
        verdict
    }

    fn imbalance(&self, node_id: &str, minute_ms: i64, targets: u64, reason: &str) -> Imbalance {
        Imbalance {
            node_id: node_id.to_owned(),
            manager_id: self.context.manager_id.clone(),
            minute_ms,
            targets,
            reason: reason.to_owned(),
        }
    }
}

/// What a node itself knows to be missing.
fn misses(reply: &GetLedgerReply) -> Vec<Imbalance> {
    let missing = |counts: &LedgerCounts| counts.unaccounted.max(counts.excess());
    let entries = reply.entries.iter().filter_map(|entry| {
        let targets = entry.counts.as_ref().map_or(0, missing);
        (targets > 0).then(|| Imbalance {
            node_id: reply.node_id.clone(),
            manager_id: entry.manager_id.clone(),
            minute_ms: entry.minute_ms,
            targets,
            reason: "targets on the node have neither an outcome nor a place in a queue".to_owned(),
        })
    });
    entries.collect()
}

/// Whether an answer comes from this life of this node.
fn check(reply: &GetLedgerReply, node: &Registration) -> Result<(), String> {
    if reply.node_id == node.id.as_str() && reply.incarnation == node.incarnation.as_u64() {
        return Ok(());
    }
    Err(format!("another node, or another life of it, answers at {}", node.grpc_address))
}

async fn ask_manager(address: &str, since_ms: u64) -> Result<AuditReply, String> {
    let mut client =
        PushManagerServiceClient::new(connect(address).await?).max_decoding_message_size(REPLY_BYTES_MAX);
    let reply = client.audit(AuditRequest { since_ms, own: true }).await;
    reply.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| format!("{address} is no address"))?
        .connect_timeout(CONNECT);
    match timeout(CONNECT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(_)) => Err(format!("no connection to {address}")),
        Err(_) => Err(silent(CONNECT)),
    }
}

fn silent(after: Duration) -> String {
    format!("no answer within {after:?}")
}

fn unanswered(role: &str, id: &str, reason: String) -> Unanswered {
    Unanswered { role: role.to_owned(), id: id.to_owned(), reason }
}

fn add(sum: &mut AuditReply, other: AuditReply) {
    sum.pushes += other.pushes;
    sum.targets += other.targets;
    sum.pending += other.pending;
    sum.unsettled += other.unsettled;
    sum.imbalances.extend(other.imbalances);
    sum.unanswered.extend(other.unanswered);
}
