//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, so that `kubectl rollout undo` finds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::objects::{ControllerRevision, Index, Key, controlled_by};
use crate::workload::template::template_hash;

/// Label of pods and revisions that tells which template they are of.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// What to do about the history.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// The present template is the newest revision, of this name.
    Current(String),
    Create {
        name: String,
        object: Value,
    },
    /// The present template is an old revision: it becomes the newest.
    Renumber {
        name: String,
        revision: i64,
    },
}

/// Decides.
pub(crate) fn plan(
    owner: &ObjectMeta,
    reference: &Value,
    revisions: &[Arc<ControllerRevision>],
    template: &Value,
) -> Plan {
    let newest = revisions.iter().map(|one| one.revision).max().unwrap_or(0);
    if let Some(found) = revisions.iter().find(|one| one.template() == *template) {
        let name = found.name().to_owned();
        return if found.revision == newest {
            Plan::Current(name)
        } else {
            Plan::Renumber {
                name,
                revision: newest + 1,
            }
        };
    }
    let owner_name = owner.name.as_deref().unwrap_or_default();
    let taken = |hash: &str| revisions.iter().any(|one| one.name() == format!("{owner_name}-{hash}"));
    let hash = (0..)
        .map(|collisions| template_hash(template, collisions))
        .find(|hash| !taken(hash))
        .unwrap_or_default();
    let name = format!("{owner_name}-{hash}");
    let mut kept = template.clone();
    // kubectl applies the data as a strategic merge patch to undo.
    kept["$patch"] = json!("replace");
    let mut labels = template
        .pointer("/metadata/labels")
        .cloned()
        .unwrap_or_else(|| json!({}));
    labels[HASH_LABEL] = json!(hash);
    let object = json!({
        "metadata": {"name": name, "namespace": owner.namespace, "labels": labels, "ownerReferences": [reference]},
        "data": {"spec": {"template": kept}},
        "revision": newest + 1,
    });
    Plan::Create { name, object }
}

/// The revisions to delete: the oldest beyond `kept`, never one that is in use.
pub(crate) fn surplus(
    revisions: &[Arc<ControllerRevision>],
    used: &BTreeSet<String>,
    kept: usize,
) -> Vec<Arc<ControllerRevision>> {
    let mut idle: Vec<_> = revisions
        .iter()
        .filter(|one| !used.contains(one.name()))
        .cloned()
        .collect();
    idle.sort_by_key(|one| one.revision);
    idle.truncate(idle.len().saturating_sub(kept));
    idle
}

/// The revisions of an owner.
pub(crate) fn of(context: &Context, owner: &ObjectMeta) -> Vec<Arc<ControllerRevision>> {
    context
        .caches
        .revisions
        .by_index(&Index::Owner(owner.uid.clone().unwrap_or_default()))
}

/// Makes the present template the newest revision. Returns its name.
///
/// # Errors
/// What the API server answers.
pub(crate) async fn record<K: Resource<DynamicType = ()>>(
    context: &Context,
    key: &Key,
    owner: &ObjectMeta,
    template: &Value,
) -> Result<String, Error> {
    let revisions = of(context, owner);
    let cache = &context.caches.revisions;
    match plan(owner, &controlled_by::<K>(owner), &revisions, template) {
        Plan::Current(name) => Ok(name),
        Plan::Create { name, object } => {
            context.shell.create(key, cache, object).await?;
            Ok(name)
        }
        Plan::Renumber { name, revision } => {
            if let Some(found) = revisions.iter().find(|one| one.name() == name) {
                context
                    .shell
                    .patch(key, cache, &found.metadata, None, json!({"revision": revision}))
                    .await?;
            }
            Ok(name)
        }
    }
}

/// Deletes revisions that are neither used nor kept.
///
/// # Errors
/// What the API server answers.
pub(crate) async fn trim(
    context: &Context,
    key: &Key,
    owner: &ObjectMeta,
    used: &BTreeSet<String>,
    kept: Option<i32>,
) -> Result<(), Error> {
    let kept = usize::try_from(kept.unwrap_or(10)).unwrap_or(usize::MAX);
    for one in surplus(&of(context, owner), used, kept) {
        context
            .shell
            .delete(key, &context.caches.revisions, &one.metadata, None)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_template_comes_back_under_its_old_name() {
        let owner = ObjectMeta {
            name: Some("db".into()),
            ..ObjectMeta::default()
        };
        let (one, two) = (json!({"spec": {"image": "v1"}}), json!({"spec": {"image": "v2"}}));
        let mut revisions = Vec::new();
        for template in [&one, &two] {
            let Plan::Create { object, .. } = plan(&owner, &json!({}), &revisions, template) else {
                panic!("new")
            };
            revisions.push(Arc::new(
                serde_json::from_value::<ControllerRevision>(strip(object)).unwrap(),
            ));
        }
        assert_eq!(revisions[1].revision, 2);
        assert_eq!(
            plan(&owner, &json!({}), &revisions, &two),
            Plan::Current(revisions[1].name().to_owned())
        );
        let back = plan(&owner, &json!({}), &revisions, &one);
        assert_eq!(
            back,
            Plan::Renumber {
                name: revisions[0].name().to_owned(),
                revision: 3
            }
        );
        let used = BTreeSet::from([revisions[0].name().to_owned()]);
        assert_eq!(surplus(&revisions, &used, 0).len(), 1);
    }

    fn strip(mut object: Value) -> Value {
        object["metadata"]["ownerReferences"] = Value::Null;
        object
    }
}
