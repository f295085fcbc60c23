//! Hooks of a pod's life (spec/kruise-behaviour.md §13): a controller of the user's holds a pod by labels or finalizers
//! before it is updated, deleted or taken into service, and lets go when it is ready. The state stands in a label.

use afloat_api::{LifecycleHook, names};
use afloat_words::time::whole_seconds;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::patch::{ConditionPatch, Edit, PodPatch};
use crate::pod::object::Pod;

/// Key of [`names::KRUISE_POD_READY`] while a preDelete hook holds the pod.
pub const KEY_DELETE: &str = "preDeleteHook";
/// Key of [`names::KRUISE_POD_READY`] while an inPlaceUpdate hook holds the pod.
pub const KEY_UPDATE: &str = "preUpdateHook";
/// Who writes these two keys.
const AGENT: &str = "Lifecycle";

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It never had a state.
    None,
    /// See [`names::STATE_PREPARING_NORMAL`].
    PreparingNormal,
    /// See [`names::STATE_NORMAL`].
    Normal,
    /// See [`names::STATE_PREPARING_UPDATE`].
    PreparingUpdate,
    /// See [`names::STATE_UPDATING`].
    Updating,
    /// See [`names::STATE_UPDATED`].
    Updated,
    /// See [`names::STATE_PREPARING_DELETE`].
    PreparingDelete,
    /// One that nobody knows.
    Unknown,
}

impl State {
    /// The state that the label names.
    pub fn of(pod: &Pod) -> Self {
        match pod.labels.get(names::LIFECYCLE_STATE).unwrap_or_default() {
            "" => Self::None,
            names::STATE_PREPARING_NORMAL => Self::PreparingNormal,
            names::STATE_NORMAL => Self::Normal,
            names::STATE_PREPARING_UPDATE => Self::PreparingUpdate,
            names::STATE_UPDATING => Self::Updating,
            names::STATE_UPDATED => Self::Updated,
            names::STATE_PREPARING_DELETE => Self::PreparingDelete,
            _ => Self::Unknown,
        }
    }
}

/// A state that a pod is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// See [`names::STATE_PREPARING_NORMAL`].
    PreparingNormal,
    /// See [`names::STATE_NORMAL`].
    Normal,
    /// See [`names::STATE_PREPARING_UPDATE`].
    PreparingUpdate,
    /// See [`names::STATE_UPDATED`].
    Updated,
    /// See [`names::STATE_PREPARING_DELETE`].
    PreparingDelete,
}

impl Next {
    /// As the label names it.
    fn label(self) -> &'static str {
        match self {
            Self::PreparingNormal => names::STATE_PREPARING_NORMAL,
            Self::Normal => names::STATE_NORMAL,
            Self::PreparingUpdate => names::STATE_PREPARING_UPDATE,
            Self::Updated => names::STATE_UPDATED,
            Self::PreparingDelete => names::STATE_PREPARING_DELETE,
        }
    }
}

/// Whether the hook holds the pod: at least one of its labels or finalizers is there.
pub fn hooked(hook: Option<&LifecycleHook>, pod: &Pod) -> bool {
    hook.is_some_and(|hook| {
        hook.labels_handler.iter().any(|pair| labelled(pod, pair))
            || hook
                .finalizers_handler
                .iter()
                .any(|finalizer| finalized(pod, finalizer))
    })
}

/// Whether all labels and finalizers of the hook are there.
pub fn all_hooked(hook: &LifecycleHook, pod: &Pod) -> bool {
    hook.labels_handler.iter().all(|pair| labelled(pod, pair))
        && hook
            .finalizers_handler
            .iter()
            .all(|finalizer| finalized(pod, finalizer))
}

fn labelled(pod: &Pod, (key, value): (&String, &String)) -> bool {
    pod.labels.get(key) == Some(value)
}

fn finalized(pod: &Pod, finalizer: &String) -> bool {
    pod.metadata.finalizers.iter().any(|present| present == finalizer)
}

/// What moves the pod to a state; with `rehook` it is held by that hook again.
pub fn entry(pod: &Pod, state: Next, rehook: Option<&LifecycleHook>, now: Timestamp) -> PodPatch {
    let mut patch = PodPatch::default();
    let entry = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    patch.labels.extend([entry(names::LIFECYCLE_STATE, state.label())]);
    if let Some(hook) = rehook {
        patch
            .labels
            .extend(hook.labels_handler.iter().map(|(key, value)| entry(key, value)));
        let missing = hook.finalizers_handler.iter().filter(|name| !finalized(pod, name));
        patch.finalizers = missing.cloned().collect();
    }
    patch
        .annotations
        .extend([entry(names::LIFECYCLE_TIMESTAMP, &whole_seconds(now))]);
    patch
}

/// One writer's entry in the message of [`names::KRUISE_POD_READY`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    user_agent: String,
    key: String,
}

impl Entry {
    fn new(user_agent: &str, key: &str) -> Self {
        Self {
            user_agent: user_agent.to_owned(),
            key: key.to_owned(),
        }
    }
}

fn entries(pod: &Pod) -> Vec<Entry> {
    let message = pod
        .condition(names::KRUISE_POD_READY)
        .and_then(|c| c.message.as_deref());
    message
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Whether our key keeps the pod out of service.
pub fn marked(pod: &Pod, key: &str) -> bool {
    held(pod, AGENT, key)
}

/// Whether a writer's key keeps the pod out of service.
pub fn held(pod: &Pod, user_agent: &str, key: &str) -> bool {
    entries(pod)
        .iter()
        .any(|entry| entry.user_agent == user_agent && entry.key == key)
}

/// What the condition [`names::KRUISE_POD_READY`] has to become so that of our keys just these hold the pod; other
/// writers' keys stay. None: it is right, or the pod has no such gate.
pub fn pod_ready(pod: &Pod, ours: &[&str], now: Timestamp) -> Option<ConditionPatch> {
    let mut wanted = entries(pod);
    wanted.retain(|entry| entry.user_agent != AGENT);
    wanted.extend(ours.iter().map(|key| Entry::new(AGENT, key)));
    held_by(pod, wanted, now)
}

/// What the condition [`names::KRUISE_POD_READY`] has to become so that a writer's key holds the pod, or holds it no longer;
/// other keys stay. None: it is right, or the pod has no such gate.
pub(crate) fn keyed(pod: &Pod, (user_agent, key): (&str, &str), hold: bool, now: Timestamp) -> Option<ConditionPatch> {
    let entry = Entry::new(user_agent, key);
    let mut wanted = entries(pod);
    wanted.retain(|other| *other != entry);
    if hold {
        wanted.push(entry);
    }
    held_by(pod, wanted, now)
}

fn held_by(pod: &Pod, mut wanted: Vec<Entry>, now: Timestamp) -> Option<ConditionPatch> {
    if !pod.has_gate(names::KRUISE_POD_READY) {
        return None;
    }
    wanted.sort();
    let word = if wanted.is_empty() { "True" } else { "False" };
    let condition = pod.condition(names::KRUISE_POD_READY);
    if condition.is_some_and(|old| old.status == word) && wanted == entries(pod) {
        return None;
    }
    let message = if !wanted.is_empty() {
        Edit::Set(serde_json::to_string(&wanted).unwrap_or_default())
    } else if condition.is_some_and(|old| old.message.is_some()) {
        Edit::Remove
    } else {
        Edit::Keep
    };
    Some(ConditionPatch {
        kind: names::KRUISE_POD_READY,
        status: wanted.is_empty(),
        reason: Edit::Keep,
        message,
        since: now,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(message: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"labels": {"hold": "yes"}, "finalizers": ["a/b"]},
            "spec": {"readinessGates": [{"conditionType": names::KRUISE_POD_READY}]},
            "status": {"conditions": [{"type": names::KRUISE_POD_READY, "status": "False", "message": message}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_hook_holds_by_any_and_is_complete_by_all() {
        let hook = |labels: Value, finalizers: Value| -> LifecycleHook {
            serde_json::from_value(json!({"labelsHandler": labels, "finalizersHandler": finalizers})).unwrap()
        };
        for (hook, any, all) in [
            (hook(json!({"hold": "yes"}), json!(["a/b"])), true, true),
            (hook(json!({"hold": "no"}), json!(["a/b"])), true, false),
            (hook(json!({"hold": "no"}), json!(["c/d"])), false, false),
        ] {
            assert_eq!((hooked(Some(&hook), &pod("")), all_hooked(&hook, &pod(""))), (any, all));
        }
        assert!(!hooked(None, &pod("")));
    }

    #[test]
    fn keys_of_other_writers_stay() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let other = r#"{"userAgent":"ContainerRecreateRequest","key":"n/x"}"#;
        let ours = r#"{"userAgent":"Lifecycle","key":"preDeleteHook"}"#;
        let added = pod_ready(&pod(&format!("[{other}]")), &[KEY_DELETE], now).unwrap();
        assert_eq!(added.message, Edit::Set(format!("[{other},{ours}]")));
        let removed = pod_ready(&pod(&format!("[{other},{ours}]")), &[], now).unwrap();
        assert_eq!(
            (removed.status, removed.message),
            (false, Edit::Set(format!("[{other}]")))
        );
        let free = pod_ready(&pod(&format!("[{ours}]")), &[], now).unwrap();
        assert_eq!((free.status, free.message), (true, Edit::Remove));
        assert_eq!(pod_ready(&pod(&format!("[{ours}]")), &[KEY_DELETE], now), None);
    }

    #[test]
    fn a_writers_key_comes_and_goes_alone() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let ours = r#"{"userAgent":"Lifecycle","key":"preDeleteHook"}"#;
        let other = r#"{"userAgent":"ContainerRecreateRequest","key":"n/x"}"#;
        let writer = (names::RECREATE_AGENT, "n/x");
        let held_pod = pod(&format!("[{other},{ours}]"));
        assert!(held(&held_pod, names::RECREATE_AGENT, "n/x") && marked(&held_pod, KEY_DELETE));
        assert_eq!(keyed(&held_pod, writer, true, now), None);
        let added = keyed(&pod(&format!("[{ours}]")), writer, true, now).unwrap();
        assert_eq!(
            (added.status, added.message),
            (false, Edit::Set(format!("[{other},{ours}]")))
        );
        let free = keyed(&pod(&format!("[{other}]")), writer, false, now).unwrap();
        assert_eq!((free.status, free.message), (true, Edit::Remove));
        assert_eq!(keyed(&Pod::default(), writer, true, now), None, "it has no gate");
    }
}
