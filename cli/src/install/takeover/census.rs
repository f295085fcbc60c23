//! The CloneSets and their pods at one moment, and what became of them since: nothing may have been recreated or restarted
//! that its CloneSet did not ask for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a uid that tell pods of one CloneSet apart.
const UID: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Census {
    /// By namespace and name.
    pub(super) sets: BTreeMap<String, Set>,
}

/// One CloneSet.
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
    /// CloneSets that nobody has looked at yet since their last change.
    pub(super) unobserved: Vec<String>,
    /// What happened to CloneSets that were at rest and were not changed: nothing should have.
    pub(super) wrong: Vec<String>,
    /// CloneSets that were compared.
    pub(super) compared: usize,
    /// Their pods.
    pub(super) pods: usize,
}

impl Census {
    /// From all CloneSets and all pods.
    pub(super) fn new<'a>(sets: impl Iterator<Item = &'a Value>, pods: impl Iterator<Item = &'a Value>) -> Self {
        let mut census = Self::default();
        let mut names = BTreeMap::new();
        for set in sets {
            let key = format!(
                "{}/{}",
                text(&set["metadata"]["namespace"]),
                text(&set["metadata"]["name"])
            );
            names.insert(text(&set["metadata"]["uid"]).to_owned(), key.clone());
            let (spec, status) = (&set["spec"], &set["status"]);
            let number = |field: &str| status[field].as_i64().unwrap_or(0);
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let rests = ["replicas", "updatedReplicas", "readyReplicas"]
                .iter()
                .all(|field| number(field) == wanted);
            census.sets.insert(
                key,
                Set {
                    generation: set["metadata"]["generation"].as_i64().unwrap_or(0),
                    observed: number("observedGeneration"),
                    revision: text(&status["updateRevision"]).to_owned(),
                    rests,
                    pods: BTreeMap::new(),
                },
            );
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn census(generation: i64, revision: &str, pods: &[(&str, i64)]) -> Census {
        let set = json!({
            "metadata": {"namespace": "default", "name": "web", "uid": "set", "generation": generation},
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
                vec!["default/web: 1 restarts of containers"],
            ),
            (
                census(1, "web-1", &[("a", 0), ("c", 0)]),
                vec!["default/web: 1 of 2 pods replaced"],
            ),
            (
                census(1, "web-2", &[("a", 0), ("b", 3)]),
                vec!["default/web: new revision web-2 after web-1"],
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
        assert_eq!(comparison.unobserved, ["default/web"]);
    }
}
