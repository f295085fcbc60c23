//! How workload loops make and delete pods, and what they tell about it: ReplicaSets, DaemonSets and Jobs in the same words.

use serde_json::Value;

use crate::Error;
use crate::loops::events::Tone;
use crate::objects::Pod;

use super::{Turn, Workload};

impl<K: Workload> Turn<'_, K> {
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
