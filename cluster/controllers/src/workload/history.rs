//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, so that `kubectl rollout undo` finds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::Error;
use crate::objects::{ControllerRevision, Kind, controlled_by};

use super::template::template_hash;
use super::{Turn, Workload};

/// Label of pods and revisions that tells which template they are of.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";

/// What makes the present template the newest revision.
#[derive(Clone, Debug, Default)]
pub(super) enum Record {
    /// It is already.
    #[default]
    Nothing,
    Create(Value),
    /// It is an old one, which gets the highest number.
    Renumber {
        found: Arc<ControllerRevision>,
        revision: i64,
    },
}

/// What to do about the history of one owner.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    record: Record,
    /// Neither used nor kept.
    surplus: Vec<Arc<ControllerRevision>>,
}

impl History {
    /// `used`: names of revisions that have to stay; `kept`: how many others stay (10 if the user does not say).
    pub(super) fn new(
        record: Record,
        revisions: &[Arc<ControllerRevision>],
        used: &BTreeSet<String>,
        kept: Option<i32>,
    ) -> Self {
        let kept = usize::try_from(kept.unwrap_or(10)).unwrap_or(usize::MAX);
        Self {
            record,
            surplus: surplus(revisions, used, kept),
        }
    }
}

/// The name of the present template's revision, and what makes it the newest.
pub(super) fn record_of<K: Kind>(
    owner: &ObjectMeta,
    revisions: &[Arc<ControllerRevision>],
    template: &Value,
) -> (String, Record) {
    let newest = revisions.iter().map(|one| one.revision).max().unwrap_or(0);
    if let Some(found) = revisions.iter().find(|one| one.template() == *template) {
        let name = found.name().to_owned();
        if found.revision == newest {
            return (name, Record::Nothing);
        }
        let record = Record::Renumber {
            found: found.clone(),
            revision: newest + 1,
        };
        return (name, record);
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
        "metadata": {"name": name, "namespace": owner.namespace, "labels": labels, "ownerReferences": [controlled_by::<K>(owner)]},
        "data": {"spec": {"template": kept}},
        "revision": newest + 1,
    });
    (name, Record::Create(object))
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
    /// Makes the present template the newest revision.
    ///
    /// # Errors
    /// What the API server answers.
    pub(super) async fn record_revision(&self, history: &History) -> Result<(), Error> {
        let (shell, cache) = (&self.context.shell, &self.context.caches.revisions);
        match &history.record {
            Record::Nothing => {}
            Record::Create(object) => drop(shell.create(&self.writing, cache, object.clone()).await?),
            Record::Renumber { found, revision } => {
                let patch = json!({"revision": revision});
                shell.patch(&self.writing, cache, &found.metadata, None, patch).await?;
            }
        }
        Ok(())
    }

    /// Deletes revisions that are neither used nor kept.
    ///
    /// # Errors
    /// What the API server answers.
    pub(super) async fn trim_revisions(&self, history: &History) -> Result<(), Error> {
        let (shell, cache) = (&self.context.shell, &self.context.caches.revisions);
        for one in &history.surplus {
            shell.delete(&self.writing, cache, &one.metadata, None).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::StatefulSet;

    #[test]
    fn an_old_template_comes_back_under_its_old_name() {
        let owner = ObjectMeta {
            name: Some("db".into()),
            ..ObjectMeta::default()
        };
        let (one, two) = (json!({"spec": {"image": "v1"}}), json!({"spec": {"image": "v2"}}));
        let mut revisions = Vec::new();
        for template in [&one, &two] {
            let (name, Record::Create(mut object)) = record_of::<StatefulSet>(&owner, &revisions, template) else {
                panic!("new")
            };
            assert_eq!(object["metadata"]["name"], *name);
            object["metadata"]["ownerReferences"] = Value::Null;
            let revision: ControllerRevision = serde_json::from_value(object).unwrap();
            revisions.push(Arc::new(revision));
        }
        assert_eq!(revisions[1].revision, 2);
        let (name, record) = record_of::<StatefulSet>(&owner, &revisions, &two);
        assert_eq!(name, revisions[1].name());
        assert!(matches!(record, Record::Nothing));
        let (name, record) = record_of::<StatefulSet>(&owner, &revisions, &one);
        assert_eq!(name, revisions[0].name());
        let Record::Renumber { found, revision } = record else {
            panic!("renumbered")
        };
        assert_eq!((found.name(), revision), (name.as_str(), 3));
        let used = BTreeSet::from([revisions[0].name().to_owned()]);
        assert_eq!(surplus(&revisions, &used, 0).len(), 1);
    }
}
