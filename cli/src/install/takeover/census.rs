//! The workloads and their pods at one moment, and what became of them since: nothing may have been recreated or restarted
//! that its workload did not ask for.

use std::collections::BTreeMap;

use afloat_api::{Status as _, convert};
use afloat_rollout::kinds::{Visit, with};
use afloat_rollout::workload::foresight::Foreseen;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a uid that tell pods of one workload apart.
const UID: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Census {
    /// By kind, namespace and name.
    pub(super) sets: BTreeMap<String, Set>,
}

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Set {
    /// `metadata.generation`.
    pub(super) generation: i64,
    /// `status.observedGeneration`.
    pub(super) observed: i64,
    /// `status.updateRevision`.
    pub(super) revision: String,
    /// Whether all pods that it wants are there, of that revision and available.
    pub(super) rests: bool,
    /// Beginning of each pod's uid, with the restarts of all of its containers.
    pub(super) pods: BTreeMap<String, i64>,
}

/// What is to be said about the time between two censuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Workloads that nobody has looked at yet since their last change.
    pub(super) unobserved: Vec<String>,
    /// What happened to workloads that were at rest and were not changed: nothing should have.
    pub(super) wrong: Vec<String>,
    /// Workloads that were compared.
    pub(super) compared: usize,
    /// Their pods.
    pub(super) pods: usize,
}

impl Census {
    /// From all workloads and all pods.
    pub(super) fn new<'a>(sets: impl Iterator<Item = &'a Value>, pods: impl Iterator<Item = &'a Value>) -> Self {
        let mut census = Self::default();
        let mut names = BTreeMap::new();
        for set in sets {
            let meta = &set["metadata"];
            let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
            let key = format!("{} {namespace}/{name}", text(&set["kind"]));
            names.insert(text(&meta["uid"]).to_owned(), key.clone());
            let Some(seen) = with(text(&set["kind"]), Read(set)).flatten() else {
                continue;
            };
            census.sets.insert(key, seen);
        }
        for pod in pods {
            let owners = pod["metadata"]["ownerReferences"].as_array();
            let owner = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
            let Some(key) = owner.and_then(|owner| names.get(text(&owner["uid"]))) else {
                continue;
            };
            if let Some(set) = census.sets.get_mut(key) {
                let uid = text(&pod["metadata"]["uid"]);
                let statuses = pod["status"]["containerStatuses"].as_array();
                let restarts = statuses
                    .into_iter()
                    .flatten()
                    .filter_map(|status| status["restartCount"].as_i64());
                set.pods.insert(uid.chars().take(UID).collect(), restarts.sum());
            }
        }
        census
    }

    /// What happened since `before`.
    pub(super) fn since(&self, before: &Self) -> Comparison {
        let mut comparison = Comparison::default();
        for (name, now) in &self.sets {
            if now.observed < now.generation {
                comparison.unobserved.push(name.clone());
            }
            // Who asks for a change in between gets it, and a rollout that was under way goes on.
            let Some(then) = before
                .sets
                .get(name)
                .filter(|then| then.rests && then.generation == now.generation)
            else {
                continue;
            };
            comparison.compared += 1;
            comparison.pods += then.pods.len();
            if then.revision != now.revision {
                comparison
                    .wrong
                    .push(format!("{name}: new revision {} after {}", now.revision, then.revision));
            }
            let gone = then.pods.keys().filter(|uid| !now.pods.contains_key(*uid)).count();
            if gone > 0 {
                comparison
                    .wrong
                    .push(format!("{name}: {gone} of {} pods replaced", then.pods.len()));
            }
            let restarts: i64 = then
                .pods
                .iter()
                .filter_map(|(uid, count)| Some(now.pods.get(uid)? - count))
                .sum();
            if restarts > 0 {
                comparison
                    .wrong
                    .push(format!("{name}: {restarts} restarts of containers"));
            }
        }
        comparison
    }
}

/// The question what an object says of itself.
struct Read<'a>(&'a Value);

impl Visit for Read<'_> {
    type Out = Option<Set>;
    fn visit<W: Foreseen>(self) -> Option<Set> {
        let mut object = self.0.clone();
        convert::convert(&mut object, W::API_VERSION).ok()?;
        let set: W = serde_json::from_str(&object.to_string()).ok()?;
        let figures = set.figures();
        let there = [figures.total, figures.updated, figures.ready];
        Some(Set {
            generation: set.metadata().generation.unwrap_or(0),
            observed: set.status().observed_generation(),
            revision: set.status().update_revision().to_owned(),
            rests: there.iter().all(|count| *count == figures.wanted),
            pods: BTreeMap::new(),
        })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn census(generation: i64, revision: &str, pods: &[(&str, i64)]) -> Census {
        let set = json!({
            "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "metadata": {"namespace": "default", "name": "web", "uid": "set", "generation": generation},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "updateRevision": revision, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
        });
        let pods: Vec<_> = pods
            .iter()
            .map(|(uid, restarts)| {
                json!({
                    "metadata": {"uid": uid, "ownerReferences": [{"controller": true, "uid": "set"}]},
                    "status": {"containerStatuses": [{"restartCount": restarts}, {"restartCount": 0}]},
                })
            })
            .chain([json!({"metadata": {"uid": "stranger"}})])
            .collect();
        Census::new([set].iter(), pods.iter())
    }

    #[test]
    fn what_happened_in_between() {
        let before = census(1, "web-1", &[("a", 0), ("b", 3)]);
        for (now, wrong) in [
            (census(1, "web-1", &[("a", 0), ("b", 3)]), vec![]),
            (
                census(1, "web-1", &[("a", 0), ("b", 4)]),
                vec!["CloneSet default/web: 1 restarts of containers"],
            ),
            (
                census(1, "web-1", &[("a", 0), ("c", 0)]),
                vec!["CloneSet default/web: 1 of 2 pods replaced"],
            ),
            (
                census(1, "web-2", &[("a", 0), ("b", 3)]),
                vec!["CloneSet default/web: new revision web-2 after web-1"],
            ),
        ] {
            let comparison = now.since(&before);
            assert_eq!(
                (comparison.wrong, comparison.compared),
                (wrong.into_iter().map(str::to_owned).collect(), 1)
            );
        }
    }

    #[test]
    fn whoever_asks_for_a_change_gets_it() {
        let before = census(1, "web-1", &[("a", 0), ("b", 0)]);
        let comparison = census(2, "web-2", &[("c", 0), ("d", 0)]).since(&before);
        assert_eq!(comparison.wrong, [""; 0]);
        assert_eq!(comparison.unobserved, ["CloneSet default/web"]);
    }
}
