//! What a plan asks for.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::difference::difference;

/// Which object, in which version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version that was decided on.
    pub resource_version: String,
}

impl At {
    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
            resource_version: text(&meta.resource_version),
        }
    }
}

/// One write. Patches are merge patches, without the version, which the one who writes puts in.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the variants say it
pub enum Action {
    CreateNodeImage { body: Value },
    PatchNodeImage { at: At, patch: Value },
    PatchNodeImageStatus { at: At, patch: Value },
    DeleteNodeImage { at: At },
    CreateJob { body: Value },
    PatchJob { at: At, patch: Value },
    PatchJobStatus { at: At, patch: Value },
    DeleteJob { at: At },
    PatchListStatus { at: At, patch: Value },
    DeleteList { at: At },
    CreateSecret { body: Value },
    PatchSecret { at: At, patch: Value },
    DeleteSecret { at: At },
}

/// Something worth an event of type Warning about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The job.
    pub job: At,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, independent of each other: any of them may fail or be left out.
    pub actions: Vec<Action>,
    /// When to plan again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Events.
    pub told: Vec<Told>,
}

impl Plan {
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }
}

/// The part of a patch that makes one status another.
pub(crate) fn change<T: Serialize>(from: &T, to: &T) -> Value {
    let value = |status| serde_json::to_value(status).unwrap_or_default();
    let (from, to): (Value, Value) = (value(from), value(to));
    let mut patch = difference(&from, &to).unwrap_or_else(|| json!({}));
    // An object that has no status yet lacks them, and the schema wants one of them.
    let counts = to
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_number());
    for (count, value) in counts {
        patch[count] = value.clone();
    }
    patch
}
