//! What the operator does on a node by its runtime: one look at the containers for all who ask, and the workers beside it.
//!
//! `afloat agent` and the embedded cluster call the same [`run`]; they differ in the [`NodeRuntime`] that they hand over.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::images;
use crate::runtime::{NodeContainer, NodeRuntime, RuntimeError};

/// How often the runtime is looked at: as often as the kubelet looks (`pleg/generic.go`), which is what a restart waits for anyway.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A list that takes longer is none.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Longest pause after a look that failed: a runtime that was restarted is found again within so long.
const BLIND_INTERVAL: Duration = Duration::from_secs(5);

/// All containers that the runtime had when it was looked at last, the oldest first; None: it was not seen yet, or is not now.
pub type Containers = Option<Arc<Vec<NodeContainer>>>;

/// A node, as its workers are given it.
#[derive(Clone)]
pub struct Node {
    /// To the API server, with the agent's rights.
    pub client: Client,
    /// Name of the Node object.
    pub name: String,
    /// What runs its containers.
    pub runtime: Arc<dyn NodeRuntime>,
    /// Its containers; changes when they do.
    pub containers: watch::Receiver<Containers>,
    /// Everything ends when it is cancelled.
    pub shutdown: CancellationToken,
    looks: Arc<watch::Sender<Containers>>,
}

impl Node {
    /// A node that nobody looks at yet.
    pub fn new(client: Client, name: &str, runtime: Arc<dyn NodeRuntime>, shutdown: CancellationToken) -> Self {
        let looks = Arc::new(watch::Sender::default());
        Self {
            client,
            name: name.to_owned(),
            runtime,
            containers: looks.subscribe(),
            shutdown,
            looks,
        }
    }
}

/// Looks and works until the node's shutdown. What a runtime that is away cannot do is tried again when it is back.
pub fn run(node: Node) -> BoxFuture<'static, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    async move {
        tokio::join!(look(&node), images::run(&node));
    }
    .boxed()
}

/// Publishes what the runtime has whenever that is another thing than before.
async fn look(node: &Node) {
    let watch = async {
        let mut pauses = pauses();
        loop {
            let seen = match timeout(LOOK_LIMIT, node.runtime.containers(None)).await {
                Ok(seen) => seen,
                Err(_) => Err(RuntimeError::Unavailable(format!("no answer within {LOOK_LIMIT:?}"))),
            };
            let pause = match seen {
                Ok(list) => {
                    pauses = self::pauses();
                    publish(&node.looks, Some(list));
                    LOOK_INTERVAL
                }
                Err(error) => {
                    if publish(&node.looks, None) {
                        tracing::warn!(node = node.name, %error, "the runtime cannot be seen, trying again");
                    }
                    pauses.next().unwrap_or(BLIND_INTERVAL)
                }
            };
            sleep(pause).await;
        }
    };
    let _: Option<()> = node.shutdown.run_until_cancelled(watch).await;
}

/// True if it is news.
fn publish(looks: &watch::Sender<Containers>, list: Option<Vec<NodeContainer>>) -> bool {
    looks.send_if_modified(|last| {
        let news = last.as_deref() != list.as_ref();
        if news {
            *last = list.map(Arc::new);
        }
        news
    })
}

fn pauses() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(BLIND_INTERVAL)
        .without_max_times()
        .with_jitter()
        .build()
}
