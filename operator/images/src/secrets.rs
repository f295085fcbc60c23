//! Copies of pull secrets. An agent may read secrets of one namespace only, so what jobs name is copied there, kept like its source,
//! and taken away when no job needs it. Names and annotations are OpenKruise's, whose copies are taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_api::{ImagePullJob, SecretReference, names};
use afloat_words::key::Key;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::action::{Action, At};
use crate::world::{Source, World};

/// What a job's logins are.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    pub(crate) references: Vec<SecretReference>,
    /// Whether all of them are in place that can be.
    pub(crate) complete: bool,
    /// Sentences about those that cannot.
    pub(crate) remarks: Vec<String>,
}

/// The copies that there are, and what has to become of them.
pub(crate) struct Copies<'a> {
    world: World<'a>,
    /// By source.
    there: BTreeMap<Key, &'a Arc<Secret>>,
    /// By source, the jobs that need it now.
    needed: BTreeMap<Key, BTreeSet<String>>,
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn source_of(copy: &Secret) -> Option<Key> {
    let text = annotation(&copy.metadata, names::SECRET_SOURCE)?;
    let (namespace, name) = text.split_once('/')?;
    Some(Key::new(namespace, name))
}

/// The secrets that a job names, where they have to be copied.
pub fn sources(job: &ImagePullJob) -> Vec<Key> {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    if namespace == names::DAEMON_NAMESPACE {
        return Vec::new();
    }
    let names = job.spec.template.pull_secrets.iter();
    names.map(|name| Key::new(namespace, name.as_str())).collect()
}

impl<'a> Copies<'a> {
    /// `running`: jobs that have not ended.
    pub(crate) fn of(world: &World<'a>, running: &[&'a ImagePullJob]) -> Self {
        let mut there = BTreeMap::new();
        let mut copies: Vec<_> = world.copies.unwrap_or_default().iter().collect();
        // Of several copies of one secret, as OpenKruise before 1.9 made them, the first by name.
        copies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        for copy in copies
            .into_iter()
            .filter(|copy| copy.metadata.deletion_timestamp.is_none())
        {
            if let Some(source) = source_of(copy) {
                there.entry(source).or_insert(copy);
            }
        }
        let mut needed: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
        for job in running {
            for source in sources(job) {
                needed
                    .entry(source)
                    .or_default()
                    .insert(Key::of(&job.metadata).to_string());
            }
        }
        Self {
            world: *world,
            there,
            needed,
        }
    }

    /// Where the logins of a job are.
    pub(crate) fn logins(&self, job: &ImagePullJob) -> Logins {
        let mut logins = Logins {
            complete: true,
            ..Logins::default()
        };
        if job.metadata.namespace.as_deref() == Some(names::DAEMON_NAMESPACE) {
            let direct = |name: &String| SecretReference {
                namespace: names::DAEMON_NAMESPACE.into(),
                name: name.clone(),
                mode: String::new(),
            };
            logins.references = job.spec.template.pull_secrets.iter().map(direct).collect();
            return logins;
        }
        for source in sources(job) {
            match (self.world.sources.get(&source), self.there.get(&source)) {
                (Some(Source::Missing), _) => logins.remarks.push(format!("secret {source} not found")),
                (Some(Source::There(secret)), Some(copy)) if same_data(secret, copy) => {
                    logins.references.push(SecretReference {
                        namespace: names::DAEMON_NAMESPACE.into(),
                        name: copy.metadata.name.clone().unwrap_or_default(),
                        mode: annotation(&copy.metadata, names::SECRET_MODE)
                            .unwrap_or_default()
                            .into(),
                    });
                }
                _ => logins.complete = false,
            }
        }
        if !logins.complete && self.world.copies.is_none() {
            logins.remarks.push(format!(
                "no secrets can be copied to namespace {}: it is missing, or not known yet",
                names::DAEMON_NAMESPACE
            ));
        }
        logins
    }

    /// The writes that make the copies what they have to be.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let Some(copies) = self.world.copies else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        for (place, (source, jobs)) in self.needed.iter().enumerate() {
            let Some(Source::There(secret)) = self.world.sources.get(source) else {
                continue;
            };
            match self.there.get(source) {
                None => {
                    let lot = (self.world.seed.rotate_left(8) ^ (place as u64)) & 0xff_ffff;
                    actions.push(Action::CreateSecret {
                        body: copy(secret, source, jobs, lot),
                    });
                }
                // A type cannot be changed.
                Some(old) if old.type_ != secret.type_ => actions.push(Action::DeleteSecret {
                    at: At::of(&old.metadata),
                }),
                Some(old) => actions.extend(update(old, secret, jobs)),
            }
        }
        for old in copies.iter().filter(|copy| copy.metadata.deletion_timestamp.is_none()) {
            let kept = source_of(old).is_some_and(|source| {
                let is_the_one = self.there.get(&source).is_some_and(|one| Arc::ptr_eq(one, old));
                is_the_one && self.needed.contains_key(&source)
            });
            // What nobody says that it is a copy is somebody's own.
            let ours = annotation(&old.metadata, names::SECRET_REFERENCES).is_some() && source_of(old).is_some();
            if ours && !kept {
                actions.push(Action::DeleteSecret {
                    at: At::of(&old.metadata),
                });
            }
        }
        actions
    }
}

fn same_data(source: &Secret, copy: &Secret) -> bool {
    source.data == copy.data && source.type_ == copy.type_
}

fn list(jobs: &BTreeSet<String>) -> String {
    jobs.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn copy(secret: &Secret, source: &Key, jobs: &BTreeSet<String>, lot: u64) -> Value {
    let mut annotations: BTreeMap<String, String> = secret.metadata.annotations.clone().unwrap_or_default();
    // The source's whole content once more, as kubectl keeps it.
    annotations.remove(afloat_words::annotation::LAST_APPLIED);
    annotations.extend([
        (names::SECRET_REFERENCES.to_owned(), list(jobs)),
        (names::SECRET_SOURCE.to_owned(), source.to_string()),
        (names::SECRET_MODE.to_owned(), names::SECRET_BATCH.to_owned()),
    ]);
    // A name has 253 characters at most.
    let name: String = source.name.chars().take(240).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "namespace": names::DAEMON_NAMESPACE, "name": format!("{name}-{lot:06x}"),
            "labels": secret.metadata.labels, "annotations": annotations,
        },
        "type": secret.type_, "data": secret.data,
    })
}

fn update(old: &Secret, secret: &Secret, jobs: &BTreeSet<String>) -> Option<Action> {
    let references = list(jobs);
    let noted = annotation(&old.metadata, names::SECRET_REFERENCES) == Some(&references);
    if noted && old.data == secret.data {
        return None;
    }
    let data = json!({"data": secret.data});
    let change = crate::difference::difference(&json!({"data": old.data}), &data).unwrap_or_else(|| json!({}));
    let mut patch = change;
    patch["metadata"] = json!({"annotations": {names::SECRET_REFERENCES: references}});
    Some(Action::PatchSecret {
        at: At::of(&old.metadata),
        patch,
    })
}
