//! How many sessions each node has, as a controller last knew: asked every few seconds by one task, shown to clients
//! that choose a node.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use roomcast_proto::pubsub::{ListNodesRequest, controller_service_client::ControllerServiceClient};
use tonic::{Request, transport::Channel};

use crate::report::controllers::{self, Controllers};

/// How often a controller is asked.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How long it may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Sessions by node.
pub type ByNode = HashMap<String, u64>;

/// The last answer; nothing while no controller answers.
#[derive(Default)]
pub struct Loads(ArcSwapOption<ByNode>);

impl Loads {
    /// The last answer.
    pub fn current(&self) -> Option<Arc<ByNode>> {
        self.0.load_full()
    }

    /// Keeps asking. Runs until it is dropped.
    pub async fn keep(self: Arc<Self>, controllers: Arc<Controllers>) {
        let mut client = None;
        let mut tried: Option<String> = None;
        loop {
            self.0.store(ask(&mut client, &mut tried, &controllers).await.map(Arc::new));
            // Without an answer another controller is tried soon, as clients choose blindly meanwhile.
            let pause = if client.is_some() { ASK_EVERY } else { ASK_EVERY / 6 };
            tokio::time::sleep(pause).await;
        }
    }
}

type Client = ControllerServiceClient<Channel>;

/// Asks the same controller as the last time, or the one after it when that failed.
async fn ask(
    client: &mut Option<Client>,
    tried: &mut Option<String>,
    controllers: &Controllers,
) -> Option<ByNode> {
    let mut asked = match client.take() {
        Some(client) => client,
        None => {
            *tried = controllers.pick(tried.as_deref());
            ControllerServiceClient::new(controllers::connect(tried.as_deref()?).await.ok()?)
                .max_decoding_message_size(controllers::MESSAGE_BYTES_MAX)
        }
    };
    let mut request = Request::new(ListNodesRequest {});
    request.set_timeout(ASK_TIMEOUT);
    let answer = tokio::time::timeout(ASK_TIMEOUT, asked.list_nodes(request)).await.ok()?.ok()?;
    *client = Some(asked);
    let reported = answer.into_inner().nodes.into_iter().filter(|node| node.reporting);
    Some(reported.map(|node| (node.node_id, node.sessions)).collect())
}
