//! What the operator keeps of the objects that it follows, and what it finds them under.

use std::sync::Arc;

use afloat_api::{CloneSet, NodeTraffic, RolloutReport};
use afloat_rollout::pod::images::Node;
use afloat_rollout::pod::{Controller, Pod};
use afloat_rollout::workload::claim::Claim;
use afloat_rollout::workload::traffic::Service;
use afloat_watching::Kind;
use afloat_words::key::Key;
use afloat_words::owner::controller_of;
use afloat_words::texts::Pool;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A group of objects: by the UID of the CloneSet that controls them, by namespace, or all of a kind (empty).
pub(crate) type Group = Arc<str>;

/// Kinds with whole metadata, which are kept as they come, but for what only the API server needs and `shrink` takes away.
macro_rules! kinds {
    ($($name:ident: $kind:ty, $groups:expr, $shrink:expr;)*) => {$(
        #[doc = concat!("Stands for ", stringify!($kind), " in a cache.")]
        pub(crate) struct $name;

        impl Kind for $name {
            type Wire = $kind;
            type Kept = $kind;
            type Index = Group;
            fn keep(mut wire: $kind) -> $kind {
                wire.metadata.generate_name = None;
                let shrink: fn(&mut $kind) = $shrink;
                shrink(&mut wire);
                wire
            }
            fn key(object: &$kind) -> Key {
                Key::of(&object.metadata)
            }
            fn uid(object: &$kind) -> &str {
                object.metadata.uid.as_deref().unwrap_or_default()
            }
            fn deleting(object: &$kind) -> bool {
                object.metadata.deletion_timestamp.is_some()
            }
            fn indexes(object: &$kind) -> Vec<Group> {
                $groups(object)
            }
        }
    )*};
}

kinds! {
    CloneSets: CloneSet, everything, |_| ();
    Revisions: ControllerRevision, by_cloneset, |_| ();
    Claims: Claim, by_cloneset, |_| ();
    Nodes: Node, everything, |_| ();
    Services: Service, by_namespace, |_| ();
    Traffics: NodeTraffic, everything, |_| ();
    Reports: RolloutReport, by_cloneset, shrink_report;
}

/// Where an ended rollout lost something is history; how much, and what there was before, is not.
fn shrink_report(report: &mut RolloutReport) {
    let status = &mut report.status;
    if status.phase.ended() {
        status.steps = afloat_api::Steps::default();
        status.counters.retain(|counter| counter.lost.total() > 0);
        status.counters.truncate(1);
        status.services.clear();
        status.latency = None;
    }
}

/// Stands for pods, of which little is kept, as there are so many.
pub(crate) struct Pods;

impl Kind for Pods {
    type Wire = afloat_rollout::pod::Wire;
    type Kept = Pod;
    type Index = Group;
    fn read(text: &str) -> serde_json::Result<Self::Wire> {
        afloat_rollout::pod::read(text)
    }
    fn keep(wire: Self::Wire) -> Pod {
        let mut pod = Pod::from(wire);
        pod.look(jiff::Timestamp::now());
        pod
    }
    fn key(pod: &Pod) -> Key {
        Key::new(pod.metadata.namespace.shared(), pod.metadata.name.shared())
    }
    fn uid(pod: &Pod) -> &str {
        &pod.metadata.uid
    }
    fn deleting(pod: &Pod) -> bool {
        pod.metadata.terminating
    }
    fn indexes(pod: &Pod) -> Vec<Group> {
        match (cloneset_of(pod), &pod.controller) {
            (Some(owner), _) => vec![owner.uid.shared()],
            (None, None) => vec![orphans(&pod.metadata.namespace)],
            // Pods of other controllers are not kept at all.
            (None, Some(_)) => Vec::new(),
        }
    }
    fn share(pod: &mut Pod, before: Option<&Pod>, texts: &mut Pool) {
        pod.share(before, texts);
    }
}

/// One group for all objects of a kind.
fn everything<K>(_: &K) -> Vec<Group> {
    vec!["".into()]
}

/// By the CloneSet that controls the object; others are not kept.
fn by_cloneset<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<Group> {
    let owner = cloneset_owner(object.metadata());
    owner.map(|owner| owner.uid.as_str().into()).into_iter().collect()
}

/// By namespace.
fn by_namespace<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<Group> {
    let namespace = object.metadata().namespace.as_deref();
    namespace.map(Group::from).into_iter().collect()
}

/// The group of a namespace's orphans; no uid contains a slash.
pub(crate) fn orphans(namespace: &str) -> Group {
    format!("orphans/{namespace}").into()
}

/// The owner reference of a CloneSet, of either API version.
pub(crate) fn cloneset_owner(meta: &ObjectMeta) -> Option<&OwnerReference> {
    controller_of(meta).filter(|owner| is_cloneset(&owner.kind, &owner.api_version))
}

fn is_cloneset(kind: &str, api_version: &str) -> bool {
    kind == "CloneSet" && api_version.split('/').next() == Some(afloat_api::GROUP)
}

/// The CloneSet that controls a pod.
pub(crate) fn cloneset_of(pod: &Pod) -> Option<&Controller> {
    let owner = pod.controller.as_ref();
    owner.filter(|owner| is_cloneset(&owner.kind, &owner.api_version))
}
