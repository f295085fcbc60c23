//! What an in-place update changes on a pod, and what forbids one.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{Gates, names};
use serde_json::Value;

use crate::config::stamp::Changes;

/// What an in-place update has to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// New image by container.
    pub images: BTreeMap<String, String>,
    /// New value by label; None removes it.
    pub labels: BTreeMap<String, Option<String>>,
    /// New value by annotation; None removes it.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Containers that take environment from labels or annotations that change, or are to be restarted for one.
    pub environment: BTreeMap<String, Keys>,
    /// By container: the ConfigMaps and Secrets that it reads and that hold something else now.
    pub configs: Changes,
    /// New cpu and memory by container, only what changes: `{"limits": {"cpu": "2"}}`.
    pub resources: BTreeMap<String, Value>,
    /// Which of these containers are sidecars.
    pub sidecars: BTreeSet<String>,
    /// Whose memory limit shrinks while they run.
    pub shrinking: BTreeSet<String>,
}

/// Keys of labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of labels.
    pub labels: BTreeSet<String>,
    /// Of annotations.
    pub annotations: BTreeSet<String>,
}

impl Keys {
    /// Whether both name a key.
    pub fn share(&self, other: &Self) -> bool {
        !self.labels.is_disjoint(&other.labels) || !self.annotations.is_disjoint(&other.annotations)
    }
}

impl Change {
    /// Whether containers change themselves.
    pub fn touches_containers(&self) -> bool {
        !(self.images.is_empty() && self.environment.is_empty() && self.resources.is_empty())
    }

    /// Whether it only writes down what containers have read.
    pub fn only_notes(&self) -> bool {
        let notes = |key: &String| key.starts_with(names::CONFIG_PREFIX);
        !self.touches_containers() && self.labels.is_empty() && self.annotations.keys().all(notes)
    }

    /// What of it is done in place under the feature gates; an error says what forbids it.
    ///
    /// # Errors
    /// Resources, where the gate for them is off.
    pub fn under(mut self, gates: Gates) -> Result<Self, String> {
        if let Some(container) = self.resources.keys().next().filter(|_| !gates.resize_in_place) {
            return Err(format!(
                "resources of container {container} changed, and the feature gate InPlaceWorkloadVerticalScaling is off"
            ));
        }
        if !gates.environment_in_place {
            // A restart that somebody asks for is another matter, and so is one for a ConfigMap.
            self.environment.retain(|_, keys| {
                keys.labels.clear();
                keys.annotations.retain(|key| {
                    [names::RESTART_PREFIX, names::CONFIG_PREFIX]
                        .iter()
                        .any(|prefix| key.starts_with(prefix))
                });
                *keys != Keys::default()
            });
        }
        Ok(self)
    }

    /// The containers that change themselves, each once.
    pub fn containers(&self) -> BTreeSet<&String> {
        let names = self.images.keys().chain(self.environment.keys());
        names.chain(self.resources.keys()).collect()
    }
}

/// The field of the template that cannot change on a live pod, as a path below `spec.template`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(pub String);
