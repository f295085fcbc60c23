//! How workload loops make and delete pods, and what they tell about it: ReplicaSets, DaemonSets and Jobs in the same words.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::Value;

use crate::Error;
use crate::loops::events::Tone;
use crate::objects::Pod;

use super::{Turn, Workload};

/// Requests in flight for one object.
const PARALLEL: usize = 32;

impl<K: Workload> Turn<'_, K> {
    /// Creates pods in batches of 1, 2, 4, …: where one fails, all would, and a quota is not hammered.
    ///
    /// # Errors
    /// What the API server answers to the first that fails.
    pub(super) async fn create_pods(&self, pods: Vec<Value>) -> Result<(), Error> {
        let (mut left, mut batch) = (pods.into_iter().peekable(), 1);
        while left.peek().is_some() {
            let now = left.by_ref().take(batch);
            all_of(now.map(|pod| self.create_pod(pod).boxed()).collect()).await?;
            batch *= 2;
        }
        Ok(())
    }

    /// Creates a pod for the object.
    ///
    /// # Errors
    /// What the API server answers; it has been told as an event by then.
    pub(super) async fn create_pod(&self, pod: Value) -> Result<(), Error> {
        let (shell, pods) = (&self.context.shell, &self.context.caches.pods);
        match shell.create(&self.writing, pods, pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.name.unwrap_or_default());
                self.event(Tone::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !error.is_end_of_namespace() {
                    let message = format!("Error creating: {}", error.told());
                    self.event(Tone::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod of the object.
    ///
    /// # Errors
    /// What the API server answers; it has been told as an event by then.
    pub(super) async fn delete_pod(&self, pod: &Pod) -> Result<(), Error> {
        let (shell, pods) = (&self.context.shell, &self.context.caches.pods);
        match shell.delete(&self.writing, pods, &pod.metadata, None).await {
            Ok(()) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.event(Tone::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                // Another pod of the same name by now: nothing was to be deleted.
                if !error.is_conflict() {
                    let message = format!("Error deleting: {}", error.told());
                    self.event(Tone::Warning, "FailedDelete", message);
                }
                Err(error)
            }
        }
    }
}

/// Waits for all requests, some at a time. The first failure among them counts.
pub(super) async fn all_of(requests: Vec<BoxFuture<'_, Result<(), Error>>>) -> Result<(), Error> {
    let mut results = futures::stream::iter(requests).buffer_unordered(PARALLEL);
    let mut outcome = Ok(());
    while let Some(result) = results.next().await {
        outcome = outcome.and(result);
    }
    outcome
}
