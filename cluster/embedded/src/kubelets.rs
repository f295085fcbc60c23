//! The node agents of this process, as the API server reaches them for logs, exec and port-forward.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use afloat_apiserver::{ByteStream, KubeletDialer};
use afloat_node::Agent;
use futures::FutureExt as _;

use crate::addresses::API_FOR_PODS;

/// By the names of their nodes.
#[derive(Default)]
pub(crate) struct LocalKubelets(RwLock<BTreeMap<String, Arc<Agent>>>);

impl LocalKubelets {
    /// From now on this is the agent of the node.
    pub(crate) fn put(&self, node: &str, agent: Arc<Agent>) {
        let mut agents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(node.to_owned(), agent);
    }

    fn get(&self, node: &str) -> io::Result<Arc<Agent>> {
        let agents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(node).cloned().ok_or_else(|| {
            let message = format!("node {node} is not run by this process");
            io::Error::new(io::ErrorKind::NotFound, message)
        })
    }
}

#[async_trait::async_trait]
impl KubeletDialer for LocalKubelets {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        let agent = self.get(node)?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(agent.serve(far).boxed());
        Ok(Box::new(near))
    }

    async fn dial_pod(&self, node: &str, uid: &str, port: u16, tls: bool) -> io::Result<Box<dyn ByteStream>> {
        let stream = self.get(node)?.connect(uid, port).await?;
        // Pods in their node's network share it with the API server, which shall not be asked by itself.
        let to = stream.peer_addr()?;
        if to == SocketAddr::V4(API_FOR_PODS) || to.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "address not allowed"));
        }
        if tls {
            return Ok(Box::new(afloat_node::unverified(stream, &to.ip().to_string()).await?));
        }
        Ok(Box::new(stream))
    }
}
