//! How a worker asks whether the node takes its pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::{RETRY, Worker};
use crate::clock::later;
use crate::options::API_LIMIT;
use crate::pod::admission::{self, Labelled};
use crate::pod::spec;
use crate::told::told;

impl Worker {
    pub(super) async fn admit(&mut self) {
        let labels = if admission::asks_for_labels(&self.pod) {
            self.node_labels().await
        } else {
            Ok(BTreeMap::new())
        };
        let labels = match labels {
            Ok(labels) => labels,
            Err(error) => {
                tracing::warn!(
                    pod = spec::full_name(&self.pod),
                    error,
                    "the node's labels are not known"
                );
                self.state.retry_at = Some(later(self.context.clock.now(), RETRY));
                return;
            }
        };
        let node = Labelled {
            name: self.context.options.node_name.clone(),
            labels,
        };
        match self.context.admit(&self.pod, &node) {
            Ok(()) => self.state.to_admit = false,
            Err((reason, message)) => {
                self.tell_rejection(reason, &message);
                self.state.reject(reason, &message);
            }
        }
    }

    pub(super) fn tell_rejection(&self, reason: &str, message: &str) {
        self.event(None, true, reason, message, self.context.clock.now());
    }

    async fn node_labels(&self) -> Result<BTreeMap<String, String>, String> {
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        let get = nodes.get(&self.context.options.node_name);
        let node = tokio::time::timeout(API_LIMIT, get).await;
        let node = node.map_err(|_| "no answer from the API server in time".to_owned())?;
        let labels = node.map_err(|error| told(&error))?.metadata.labels;
        Ok(labels.unwrap_or_default())
    }
}
