//! What every workload reports, whatever its kind is.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The status of a workload, as far as it is asked for without regard to the kind.
pub trait Status: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Generation of the spec that the other fields speak of.
    fn observed_generation(&self) -> i64;
    /// Name of the revision that the spec's template has.
    fn update_revision(&self) -> &str;
    /// Hash collisions of revision names met so far.
    fn collision_count(&self) -> i32;
    /// Notes that many.
    fn set_collision_count(&mut self, count: i32);
    /// What is going on.
    fn conditions(&self) -> &[Condition];
    /// The same, to be told anew.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;

    /// The condition of a type.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.kind == kind)
    }
}

/// Implements [`Status`] for a type that has its fields under their names.
macro_rules! reports {
    ($status:ty) => {
        impl crate::status::Status for $status {
            fn observed_generation(&self) -> i64 {
                self.observed_generation
            }

            fn update_revision(&self) -> &str {
                &self.update_revision
            }

            fn collision_count(&self) -> i32 {
                self.collision_count.unwrap_or(0)
            }

            fn set_collision_count(&mut self, count: i32) {
                self.collision_count = Some(count);
            }

            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }
        }
    };
}
pub(crate) use reports;

/// Pods in numbers, as a status tells of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pods that are wanted.
    pub wanted: i32,
    /// Of those, how many are to be at the update revision.
    pub expected: i32,
    /// Pods that are neither terminating nor finished.
    pub total: i32,
    /// Of those, Ready.
    pub ready: i32,
    /// Of those, available.
    pub available: i32,
    /// At the update revision.
    pub updated: i32,
    /// At the update revision and Ready.
    pub updated_ready: i32,
    /// At the update revision and available.
    pub updated_available: i32,
}

/// One condition of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// When anything of it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When the status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
