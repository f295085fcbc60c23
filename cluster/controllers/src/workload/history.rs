//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, so that `kubectl rollout undo` finds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::Error;
use crate::objects::{ControllerRevision, Index, controlled_by};

use super::template::template_hash;
use super::{Turn, Workload};

/// Label of pods and revisions that tells which template they are of.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";

/// What to do about the history.
#[derive(Debug, PartialEq)]
enum Record {
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
fn plan_record(
    owner: &ObjectMeta,
    reference: &Value,
    revisions: &[Arc<ControllerRevision>],
    template: &Value,
) -> Record {
    let newest = revisions.iter().map(|one| one.revision).max().unwrap_or(0);
    if let Some(found) = revisions.iter().find(|one| one.template() == *template) {
        let name = found.name().to_owned();
        return if found.revision == newest {
            Record::Current(name)
        } else {
            Record::Renumber {
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
    Record::Create { name, object }
}

/// The revisions to delete: the oldest beyond `kept`, never one that is in use.
fn surplus(
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

impl<K: Workload> Turn<'_, K> {
    /// The revisions of the object.
    pub(super) fn revisions(&self) -> Vec<Arc<ControllerRevision>> {
        let uid = self.meta.uid.clone().unwrap_or_default();
        self.context.caches.revisions.by_index(&Index::Owner(uid))
    }

    /// Makes the present template the newest revision. Returns its name.
    ///
    /// # Errors
    /// What the API server answers.
    pub(super) async fn record_revision(&self, template: &Value) -> Result<String, Error> {
        let revisions = self.revisions();
        let (shell, cache) = (&self.context.shell, &self.context.caches.revisions);
        match plan_record(&self.meta, &controlled_by::<K>(&self.meta), &revisions, template) {
            Record::Current(name) => Ok(name),
            Record::Create { name, object } => {
                shell.create(self.key, cache, object).await?;
                Ok(name)
            }
            Record::Renumber { name, revision } => {
                if let Some(found) = revisions.iter().find(|one| one.name() == name) {
                    let patch = json!({"revision": revision});
                    shell.patch(self.key, cache, &found.metadata, None, patch).await?;
                }
                Ok(name)
            }
        }
    }

    /// Deletes revisions that are neither used nor kept.
    ///
    /// # Errors
    /// What the API server answers.
    pub(super) async fn trim_revisions(&self, used: &BTreeSet<String>, kept: Option<i32>) -> Result<(), Error> {
        let kept = usize::try_from(kept.unwrap_or(10)).unwrap_or(usize::MAX);
        let (shell, cache) = (&self.context.shell, &self.context.caches.revisions);
        for one in surplus(&self.revisions(), used, kept) {
            shell.delete(self.key, cache, &one.metadata, None).await?;
        }
        Ok(())
    }
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
            let Record::Create { object, .. } = plan_record(&owner, &json!({}), &revisions, template) else {
                panic!("new")
            };
            revisions.push(Arc::new(
                serde_json::from_value::<ControllerRevision>(strip(object)).unwrap(),
            ));
        }
        assert_eq!(revisions[1].revision, 2);
        assert_eq!(
            plan_record(&owner, &json!({}), &revisions, &two),
            Record::Current(revisions[1].name().to_owned())
        );
        let back = plan_record(&owner, &json!({}), &revisions, &one);
        assert_eq!(
            back,
            Record::Renumber {
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
