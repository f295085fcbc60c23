//! A world in memory: what plans ask for is done to it, nodes answer, and it is looked at.

use std::sync::Arc;

use afloat_api::{ImageListPullJob, PullPhase, TagStatus};
use k8s_openapi::api::core::v1::Secret;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::*;
use crate::time::seconds;
use crate::world::{Machine, Resident, Source};
use afloat_words::key::Key;

pub(super) const IMAGE: &str = "web:1";

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        let target = target.as_object_mut().unwrap();
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[derive(Default)]
pub(super) struct Stage {
    pub(super) now: i64,
    pub(super) nodes: Vec<(ObjectMeta, bool)>,
    /// By kind and name.
    pub(super) objects: BTreeMap<(&'static str, String), Value>,
    pub(super) pods: Vec<Arc<Resident>>,
    pub(super) sources: BTreeMap<Key, Source>,
    pub(super) told: Vec<String>,
    made: u64,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

impl Stage {
    pub(super) fn new(nodes: usize) -> Self {
        let mut stage = Self::default();
        for n in 0..nodes {
            stage.node(&format!("n{n}"));
        }
        stage.settle();
        stage
    }

    pub(super) fn node(&mut self, name: &str) {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some([("name".to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        };
        self.nodes.push((metadata, true));
    }

    pub(super) fn job(&mut self, name: &str, spec: Value) {
        let mut job = json!({"metadata": {"namespace": "default", "name": name}, "spec": {"image": IMAGE}});
        merge(&mut job["spec"], &spec);
        self.create("job", job);
    }

    pub(super) fn create(&mut self, kind: &'static str, mut object: Value) {
        self.made += 1;
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object["metadata"]["uid"] = json!(format!("u{}", self.made));
        let old = self.objects.insert((kind, name), object);
        assert!(old.is_none(), "it is there already");
    }

    pub(super) fn of<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<Arc<T>> {
        let all = self.objects.iter().filter(|((of, _), _)| *of == kind);
        all.map(|(_, object)| Arc::new(serde_json::from_value(object.clone()).unwrap()))
            .collect()
    }

    pub(super) fn plan(&self) -> Plan {
        let (jobs, lists, images) = (self.of("job"), self.of::<ImageListPullJob>("list"), self.of("node"));
        let copies = self.of::<Secret>("secret");
        let nodes = self.nodes.iter().map(|(metadata, ready)| Machine {
            metadata,
            ready: *ready,
        });
        plan(&World {
            now: at(self.now),
            jobs: &jobs,
            lists: &lists,
            node_images: &images,
            nodes: &nodes.collect::<Vec<_>>(),
            pods: Some(&self.pods),
            copies: Some(&copies),
            sources: &self.sources,
            seed: self.made,
        })
    }

    pub(super) fn perform(&mut self, action: Action) {
        let mut patch = |kind, at: At, patch: Value| {
            let object = self.objects.get_mut(&(kind, at.name)).unwrap();
            merge(object, &patch);
        };
        match action {
            Action::CreateNodeImage { body } => self.create("node", body),
            Action::CreateJob { body } => self.create("job", body),
            Action::CreateSecret { body } => self.create("secret", body),
            Action::PatchNodeImage { at, patch: change } | Action::PatchNodeImageStatus { at, patch: change } => {
                patch("node", at, change);
            }
            Action::PatchJob { at, patch: change } | Action::PatchJobStatus { at, patch: change } => {
                patch("job", at, change);
            }
            Action::PatchListStatus { at, patch: change } => patch("list", at, change),
            Action::PatchSecret { at, patch: change } => patch("secret", at, change),
            Action::DeleteNodeImage { at } => drop(self.objects.remove(&("node", at.name))),
            Action::DeleteJob { at } => drop(self.objects.remove(&("job", at.name))),
            Action::DeleteList { at } => drop(self.objects.remove(&("list", at.name))),
            Action::DeleteSecret { at } => drop(self.objects.remove(&("secret", at.name))),
        }
    }

    /// Plans and does until there is nothing to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            let plan = self.plan();
            self.told.extend(plan.told.into_iter().map(|told| told.message));
            if plan.actions.is_empty() {
                return;
            }
            for action in plan.actions {
                self.perform(action);
            }
        }
        panic!("it does not come to rest: {:?}", self.plan().actions);
    }

    pub(super) fn get(&self, kind: &'static str, name: &str) -> &Value {
        &self.objects[&(kind, name.to_owned())]
    }

    pub(super) fn status(&self, job: &str) -> &Value {
        &self.get("job", job)["status"]
    }

    /// Nodes that are to pull for somebody, and what.
    pub(super) fn pulling(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for image in self.of::<NodeImage>("node") {
            for (name, entry) in &image.spec.images {
                let open = entry.tags.iter().filter(|tag| {
                    let status = image.progress(name, &tag.tag, tag.version);
                    !status.is_some_and(|status| status.phase.ended())
                });
                let node = image.metadata.name.clone().unwrap();
                all.extend(open.map(|tag| (node.clone(), format!("{name}:{}", tag.tag))));
            }
        }
        all
    }

    /// A node answers to one image.
    pub(super) fn answer(&mut self, node: &str, image: &str, good: bool) {
        let now = at(self.now);
        let (name, tag) = image.rsplit_once(':').unwrap();
        let object = self.objects.get_mut(&("node", node.to_owned())).unwrap();
        let mut read: NodeImage = serde_json::from_value(object.clone()).unwrap();
        let version = read.spec.of(name, tag).unwrap().version;
        let entry = read.status.image_statuses.entry(name.into()).or_default();
        entry.tags.retain(|status| status.tag != tag);
        entry.tags.push(TagStatus {
            tag: tag.into(),
            phase: if good { PullPhase::Succeeded } else { PullPhase::Failed },
            completion_time: Some(seconds(now)),
            version,
            message: if good { String::new() } else { "not found".into() },
            ..TagStatus::default()
        });
        object["status"] = serde_json::to_value(read.status).unwrap();
    }

    pub(super) fn answer_all(&mut self, good: bool) {
        for (node, image) in self.pulling() {
            self.answer(&node, &image, good);
        }
        self.settle();
    }
}
