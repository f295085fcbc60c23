//! What a world is like, and its state.

use std::sync::Arc;

use afloat_api::{StatefulSet, names};
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::revision::{data, hash, object};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

/// Ordinals that there may be pods at.
pub(super) const PLACES: usize = 6;
/// The image of each revision; the second cannot be had.
pub(super) const IMAGES: [&str; 3] = ["app:1", BAD, "app:3"];
pub(super) const BAD: &str = "app:bad";

/// What may happen in a world.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) parallel: bool,
    pub(super) policy: &'static str,
    pub(super) max_unavailable: u8,
    pub(super) partition: u8,
    pub(super) replicas: u8,
    /// Other numbers of replicas that the user may want.
    pub(super) others: &'static [u8],
    /// Where ordinals may begin beside 0.
    pub(super) starts: &'static [u8],
    /// Ordinals that are reserved.
    pub(super) reserved: &'static [u8],
    /// Revisions that the user may want.
    pub(super) targets: u8,
    /// How often the user changes their mind.
    pub(super) edits: u8,
    /// Pods of which the controller may see an old version at a time.
    pub(super) lag: usize,
    /// Containers stop being ready.
    pub(super) breaks: bool,
    /// Nodes are lost, with pods on them that somebody deletes.
    pub(super) loses: bool,
    /// Somebody deletes pods, or they fail.
    pub(super) deletions: bool,
}

impl Setup {
    pub(super) fn calm(name: &'static str, replicas: u8) -> Self {
        Self {
            name,
            parallel: false,
            policy: "ReCreate",
            max_unavailable: 1,
            partition: 0,
            replicas,
            others: &[],
            starts: &[],
            reserved: &[],
            targets: 2,
            edits: 2,
            lag: 0,
            breaks: false,
            loses: false,
            deletions: false,
        }
    }

    /// Whether pods become unavailable without the controller's doing.
    pub(super) fn faults(&self) -> bool {
        self.breaks || self.loses || self.deletions
    }

    /// The wanted ordinals.
    pub(super) fn wanted(&self, spec: Spec) -> Vec<usize> {
        let free = (spec.start..).filter(|ordinal| !self.reserved.contains(ordinal));
        free.take(usize::from(spec.replicas)).map(usize::from).collect()
    }

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}],
            "readinessGates": [{"conditionType": names::INPLACE_READY}]}})
    }

    /// The object as the user wants it.
    pub(super) fn set(&self, spec: Spec) -> StatefulSet {
        let (current, update) = (self.revision_name(spec.current), self.revision_name(spec.target));
        let policy = if self.parallel { "Parallel" } else { "OrderedReady" };
        let set = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
            "spec": {
                "replicas": spec.replicas, "selector": {"matchLabels": {"app": "web"}}, "podManagementPolicy": policy,
                "ordinals": {"start": spec.start}, "reserveOrdinals": self.reserved,
                "template": Self::template(IMAGES[usize::from(spec.target)]),
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                    "podUpdatePolicy": self.policy, "maxUnavailable": self.max_unavailable, "partition": self.partition}},
            },
            "status": {"currentRevision": current, "updateRevision": update},
        });
        serde_json::from_value(set).unwrap()
    }

    pub(super) fn revision_name(&self, revision: u8) -> String {
        let template = Self::template(IMAGES[usize::from(revision)]);
        format!("web-{}", hash(&afloat_rollout::go::bytes(&data(&template)), 0))
    }

    /// The number of a revision's name.
    pub(super) fn revision(&self, name: &str) -> u8 {
        let mut all = 0..u8::try_from(IMAGES.len()).unwrap();
        all.find(|revision| self.revision_name(*revision) == name)
            .expect("a revision of this world")
    }

    /// All revisions, of which one is the newest.
    pub(super) fn revisions(&self, newest: u8) -> Vec<Arc<ControllerRevision>> {
        let set = |revision: u8| {
            self.set(Spec {
                target: revision,
                ..Spec::new(self)
            })
        };
        let all = 0..u8::try_from(IMAGES.len()).unwrap();
        all.map(|revision| {
            let set = set(revision);
            let number = if revision == newest { 9 } else { i64::from(revision) + 1 };
            let text = hash(&afloat_rollout::go::bytes(&data(&set.spec.template)), 0);
            let mut value = object(set.owner(), &text, number);
            value["metadata"]["uid"] = json!(format!("r{revision}"));
            Arc::new(serde_json::from_value(value).unwrap())
        })
        .collect()
    }
}

/// What the user wants, and what the status says of revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spec {
    pub(super) target: u8,
    pub(super) replicas: u8,
    pub(super) start: u8,
    /// `status.currentRevision`.
    pub(super) current: u8,
    /// Which revision is the newest.
    pub(super) newest: u8,
}

impl Spec {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            target: 0,
            replicas: setup.replicas,
            start: 0,
            current: 0,
            newest: 0,
        }
    }
}

/// The pod of an ordinal; numbers of [`super::object::Objects`], 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) object: u16,
    /// As the controller sees it.
    pub(super) seen: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) slots: [Slot; PLACES],
    pub(super) spec: Spec,
    /// How often the user may still change their mind.
    pub(super) edits: u8,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            slots: [Slot::default(); PLACES],
            spec: Spec::new(setup),
            edits: setup.edits,
        }
    }

    /// The controller sees everything.
    pub(super) fn up_to_date(mut self) -> Self {
        for slot in &mut self.slots {
            slot.seen = slot.object;
        }
        self
    }

    pub(super) fn lagging(&self) -> usize {
        self.slots.iter().filter(|slot| slot.seen != slot.object).count()
    }
}
