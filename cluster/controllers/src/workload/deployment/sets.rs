//! A Deployment's ReplicaSets by role, and the budgets that bind their sizes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::objects::counts::{Round, scaled};
use crate::objects::{Deployment, ReplicaSet, annotation};
use crate::workload::template::without_hash;

/// Annotations of ReplicaSets: their revision, and the sizes of the Deployment when they were sized.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The budgets in pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Limits {
    /// maxSurge rounds up, maxUnavailable down; if both come to 0 one pod may be unavailable, or nothing could move.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1).max(0);
        if deployment.is_recreate() {
            return Self {
                replicas,
                surge: 0,
                unavailable: 0,
            };
        }
        let quarter = IntOrString::String("25%".into());
        let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
        let surge = scaled(rolling.max_surge.as_ref().unwrap_or(&quarter), replicas, Round::Up).max(0);
        let mut unavailable = scaled(
            rolling.max_unavailable.as_ref().unwrap_or(&quarter),
            replicas,
            Round::Down,
        )
        .max(0);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// The most pods at a time.
    pub(super) fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest available pods at a time.
    pub(super) fn least_available(self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// The ReplicaSets by role.
pub(super) struct Sets {
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

/// New sizes of ReplicaSets, by name.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) replicas: BTreeMap<String, i32>,
    /// Create the new ReplicaSet with this size.
    pub(super) create: Option<i32>,
}

impl Changes {
    pub(super) fn set(&mut self, set: &ReplicaSet, replicas: i32) {
        if replicas != set.replicas() {
            self.replicas.insert(name_of(set), replicas);
        }
    }
}

/// Finds the ReplicaSet of the present template: the oldest, if there are several.
pub(super) fn divide(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> Sets {
    owned.sort_by_key(|set| {
        (
            set.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name_of(set),
        )
    });
    let template = without_hash(&deployment.spec.template);
    let new = owned
        .iter()
        .position(|set| without_hash(&set.spec.template) == template)
        .map(|at| owned.remove(at));
    Sets { new, old: owned }
}

pub(super) fn revision_of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// One more than any old revision; the present one if it is that already.
pub(super) fn revision_for_new(sets: &Sets) -> i64 {
    let old = sets.old.iter().map(|set| revision_of(set)).max().unwrap_or(0);
    let new = sets.new.as_ref().map_or(0, |set| revision_of(set));
    if new > old { new } else { old + 1 }
}

pub(super) fn name_of(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
}
