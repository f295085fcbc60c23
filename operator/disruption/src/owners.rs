//! Which pods a budget is about.

use afloat_api::{Matcher, PodUnavailableBudget, TargetRef};
use serde_json::Value;

/// One owner in the chain above a pod, nearest first: what controls it, what controls that, and so on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl Owner {
    /// What controls an object.
    pub fn of(object: &Value) -> Option<Self> {
        let owners = object["metadata"]["ownerReferences"].as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        Some(Self {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
        })
    }

    fn is(&self, target: &TargetRef) -> bool {
        target.names(&self.api_version, &self.kind, &self.name)
    }
}

/// What a budget selects, read once. A selector that is empty or cannot be read selects nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Selected {
    /// Pods with such labels.
    Labels(Matcher),
    /// Pods of a workload, however many owners are between: a Deployment's, and as well those of a ReplicaSet that belongs to something else (kruise #2571).
    Target(TargetRef),
}

impl Selected {
    /// Of a budget.
    pub fn of(budget: &PodUnavailableBudget) -> Self {
        match (&budget.spec.target_ref, &budget.spec.selector) {
            (Some(target), _) => Self::Target(target.clone()),
            (None, Some(selector)) => Self::Labels(Matcher::new(selector)),
            (None, None) => Self::Labels(Matcher::default()),
        }
    }

    /// Whether it is about a pod with these labels and these owners above it.
    pub fn is_about(&self, labels: &impl afloat_api::Texts, owners: &[Owner]) -> bool {
        match self {
            Self::Labels(matcher) => matcher.selects(labels),
            Self::Target(target) => owners.iter().any(|owner| owner.is(target)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn owner(api_version: &str, kind: &str, name: &str) -> Owner {
        let reference = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": true});
        Owner::of(&json!({"metadata": {"ownerReferences": [{"controller": false}, reference]}})).unwrap()
    }

    /// kruise #2571
    #[test]
    fn a_target_may_be_far_above_its_pods() {
        let budget =
            json!({"spec": {"targetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web"}}});
        let selected = Selected::of(&serde_json::from_value(budget).unwrap());
        let (set, rollout) = (
            owner("apps/v1", "ReplicaSet", "web-1"),
            owner("argoproj.io/v1alpha1", "Rollout", "web"),
        );
        let labels = BTreeMap::new();
        assert!(selected.is_about(&labels, &[set.clone(), rollout]));
        assert!(!selected.is_about(&labels, &[set]));
    }

    #[test]
    fn a_budget_without_pods_is_about_none() {
        let selected = Selected::of(&PodUnavailableBudget::default());
        assert!(!selected.is_about(&BTreeMap::from([("a".to_owned(), "b".to_owned())]), &[]));
    }
}
