//! The node agents of this process, as the API server reaches them for logs, exec and port-forward.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use afloat_apiserver::{ByteStream, KubeletDialer};
use afloat_node::Agent;

/// By the names of their nodes.
#[derive(Default)]
pub(crate) struct LocalKubelets(RwLock<BTreeMap<String, Arc<Agent>>>);

impl LocalKubelets {
    /// From now on this is the agent of the node.
    pub(crate) fn put(&self, node: &str, agent: Arc<Agent>) {
        let mut agents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(node.to_owned(), agent);
    }

    fn get(&self, node: &str) -> Option<Arc<Agent>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }
}

#[async_trait::async_trait]
impl KubeletDialer for LocalKubelets {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        let agent = self.get(node).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("node {node} is not run by this process"),
            )
        })?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(agent.serve(far));
        Ok(Box::new(near))
    }
}
