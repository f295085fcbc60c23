//! What the operator keeps of the objects that it follows, and what it finds them under.

use std::marker::PhantomData;
use std::sync::Arc;

use afloat_api::{ImagePullJob, NodeImage, NodeTraffic, RolloutReport};
use afloat_rollout::pod::images::Node;
use afloat_rollout::pod::{Controller, Pod};
use afloat_rollout::workload::claim::{Claim, StorageClass};
use afloat_rollout::workload::kind::Workload;
use afloat_rollout::workload::traffic::Service;
use afloat_watching::{Kind, Whole};
use afloat_words::key::Key;
use afloat_words::owner::controller_of;
use afloat_words::texts::Pool;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A group of objects: by the UID of the workload that controls them, by namespace, by the beginning of their names
/// ([`numbered`]), or all of a kind (empty).
pub(crate) type Group = Arc<str>;

/// Kinds with whole metadata, which are kept as they come, but for what only the API server needs and `shrink` takes away.
macro_rules! kinds {
    ($($name:ident: $kind:ty, $groups:expr, $shrink:expr;)*) => {$(
        #[doc = concat!("Stands for ", stringify!($kind), " in a cache.")]
        pub(crate) struct $name;

        impl Whole for $name {
            type Object = $kind;
            type Index = Group;
            fn shrink(object: &mut $kind) {
                object.metadata.generate_name = None;
                let shrink: fn(&mut $kind) = $shrink;
                shrink(object);
            }
            fn indexes(object: &$kind) -> Vec<Group> {
                $groups(object)
            }
        }
    )*};
}

kinds! {
    Revisions: ControllerRevision, by_owner, |_| ();
    Claims: Claim, by_owner_and_name, |_| ();
    Classes: StorageClass, everything, |_| ();
    Nodes: Node, everything, |_| ();
    Services: Service, by_namespace, |_| ();
    Traffics: NodeTraffic, everything, |_| ();
    Reports: RolloutReport, by_owner, shrink_report;
    NodeImages: NodeImage, everything, |_| ();
    PullJobs: ImagePullJob, by_any_owner, |_| ();
}

/// Stands for the workloads of a kind, which are kept as they come.
pub(crate) struct Sets<K>(PhantomData<K>);

impl<K: Workload> Whole for Sets<K> {
    type Object = K;
    type Index = Group;
    fn shrink(object: &mut K) {
        object.metadata_mut().generate_name = None;
    }
    fn indexes(object: &K) -> Vec<Group> {
        by_namespace(object)
    }
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
        match (controller_among_ours(pod), &pod.controller) {
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

/// By the object that controls it, whatever that is; those of nobody have a group, too, as all of them are looked at.
fn by_any_owner<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<Group> {
    let owner = controller_of(object.metadata());
    vec![owner.map_or("", |owner| owner.uid.as_str()).into()]
}

/// One group for all objects of a kind.
pub(crate) fn everything<K>(_: &K) -> Vec<Group> {
    vec!["".into()]
}

/// By the workload that controls the object; others are not kept.
fn by_owner<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<Group> {
    let owner = controller_of(object.metadata()).filter(|owner| is_ours(&owner.api_version));
    owner.map(|owner| owner.uid.as_str().into()).into_iter().collect()
}

/// And by the beginning of its name, where that ends in a number: a claim of an ordinal belongs to the workload whose name it
/// bears, whoever controls it.
fn by_owner_and_name(claim: &Claim) -> Vec<Group> {
    let mut groups = by_owner(claim);
    let meta = &claim.metadata;
    let parts = meta.name.as_deref().and_then(|name| name.rsplit_once('-'));
    if let Some((stem, number)) = parts
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        groups.push(numbered(meta.namespace.as_deref().unwrap_or_default(), stem));
    }
    groups
}

/// By namespace.
pub(crate) fn by_namespace<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<Group> {
    let namespace = object.metadata().namespace.as_deref();
    namespace.map(Group::from).into_iter().collect()
}

/// The group of a namespace's orphans; no uid contains a slash.
pub(crate) fn orphans(namespace: &str) -> Group {
    format!("orphans/{namespace}").into()
}

/// The group of claims whose names are this and a number.
pub(crate) fn numbered(namespace: &str, stem: &str) -> Group {
    format!("numbered/{namespace}/{stem}").into()
}

/// Of whatever version: OpenKruise's group has no other kinds that control pods, revisions or claims and are not workloads.
fn is_ours(api_version: &str) -> bool {
    api_version.split('/').next() == Some(afloat_api::GROUP)
}

/// The workload that controls a pod.
fn controller_among_ours(pod: &Pod) -> Option<&Controller> {
    pod.controller.as_ref().filter(|owner| is_ours(&owner.api_version))
}

/// The workload of that kind that controls an object.
pub(crate) fn owner_of<K: Workload>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller_of(meta).filter(|owner| is::<K>(&owner.kind, &owner.api_version))?;
    Some(Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        owner.name.as_str(),
    ))
}

/// The workload of that kind that controls a pod.
pub(crate) fn controller_of_pod<K: Workload>(pod: &Pod) -> Option<Key> {
    let owner = pod.controller.as_ref();
    let owner = owner.filter(|owner| is::<K>(&owner.kind, &owner.api_version))?;
    Some(Key::new(pod.metadata.namespace.shared(), owner.name.shared()))
}

/// Whether an owner reference, of whatever version, means this kind.
fn is<K: Workload>(kind: &str, api_version: &str) -> bool {
    kind == K::KIND && api_version.split('/').next() == Some(K::GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_of_an_ordinal_is_found_by_its_name() {
        let groups = |name: &str| {
            let claim = json!({"metadata": {"name": name, "namespace": "n"}});
            by_owner_and_name(&serde_json::from_value(claim).unwrap())
        };
        assert_eq!(groups("data-web-12"), [numbered("n", "data-web")]);
        for other in ["data", "data-web-x7", "data-web-"] {
            assert!(groups(other).is_empty(), "{other} is nobody's");
        }
    }
}
