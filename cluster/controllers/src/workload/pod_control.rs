//! How workload loops make and delete pods, and what they tell about it: ReplicaSets, DaemonSets and Jobs in the same words.

use std::sync::Arc;

use kube::api::ObjectMeta;
use serde_json::Value;

use crate::Error;
use crate::loops::cache::Cache;
use crate::loops::events::Tone;
use crate::loops::shell::Shell;
use crate::objects::{Key, Kind, Pod};

/// Creates a pod for `owner`.
///
/// # Errors
/// What the API server answers; it has been told as an event by then.
pub(crate) async fn create<O: Kind>(
    shell: &Shell,
    pods: &Arc<Cache<Pod>>,
    owner: &ObjectMeta,
    pod: Value,
) -> Result<(), Error> {
    match shell.create(&Key::of(owner), pods, pod).await {
        Ok(created) => {
            let message = format!("Created pod: {}", created.name.unwrap_or_default());
            shell.event::<O>(owner, Tone::Normal, "SuccessfulCreate", message);
            Ok(())
        }
        Err(error) => {
            if !error.is_end_of_namespace() {
                let message = format!("Error creating: {}", error.told());
                shell.event::<O>(owner, Tone::Warning, "FailedCreate", message);
            }
            Err(error)
        }
    }
}

/// Deletes a pod of `owner`.
///
/// # Errors
/// What the API server answers; it has been told as an event by then.
pub(crate) async fn delete<O: Kind>(
    shell: &Shell,
    pods: &Arc<Cache<Pod>>,
    owner: &ObjectMeta,
    pod: &Pod,
) -> Result<(), Error> {
    match shell.delete(&Key::of(owner), pods, &pod.metadata, None).await {
        Ok(()) => {
            let message = format!("Deleted pod: {}", pod.name());
            shell.event::<O>(owner, Tone::Normal, "SuccessfulDelete", message);
            Ok(())
        }
        Err(error) => {
            // Another pod of the same name by now: nothing was to be deleted.
            if !error.is_conflict() {
                let message = format!("Error deleting: {}", error.told());
                shell.event::<O>(owner, Tone::Warning, "FailedDelete", message);
            }
            Err(error)
        }
    }
}
