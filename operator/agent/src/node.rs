//! A node, as those are given it who work on it by its runtime: with one look at its containers for all who ask.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::runtime::{NodeContainer, NodeRuntime, RuntimeError};

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

/// Publishes what the runtime has whenever that is another thing than before.
pub(crate) async fn look(node: &Node) {
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
                    node.runtime.look_interval()
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
