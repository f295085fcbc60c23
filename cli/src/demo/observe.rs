//! What the demo reads off the pods: who is still there, who was left alone, is the update done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// One pod at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    ip: String,
    node: String,
    /// containerID and restart count of the container that no release changes.
    untouched: Option<(String, i32)>,
}

/// The pods of the application before a change, by UID.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot(BTreeMap<String, Seen>);

/// What was kept from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Pods with the same UID.
    pub(crate) pods: usize,
    /// Addresses that still belong to the application.
    pub(crate) ips: usize,
    /// Pods that are still on their node.
    pub(crate) nodes: usize,
    /// Second containers that ran on: same containerID, not restarted.
    pub(crate) untouched: usize,
}

impl Snapshot {
    /// Pods that are being deleted do not count.
    pub(crate) fn of(pods: &[Pod], untouched_container: &str) -> Self {
        let live = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        Self(
            live.map(|pod| {
                (
                    pod.metadata.uid.clone().unwrap_or_default(),
                    see(pod, untouched_container),
                )
            })
            .collect(),
        )
    }

    pub(crate) fn kept(&self, after: &Self) -> Kept {
        let ips: BTreeSet<&str> = after.0.values().map(|s| s.ip.as_str()).collect();
        let both = || {
            self.0
                .iter()
                .filter_map(|(uid, old)| after.0.get(uid).map(|new| (old, new)))
        };
        Kept {
            pods: both().count(),
            ips: self
                .0
                .values()
                .filter(|s| !s.ip.is_empty() && ips.contains(s.ip.as_str()))
                .count(),
            nodes: both().filter(|(old, new)| old.node == new.node).count(),
            untouched: both()
                .filter(|(old, new)| old.untouched.is_some() && old.untouched == new.untouched)
                .count(),
        }
    }
}

fn see(pod: &Pod, untouched_container: &str) -> Seen {
    let status = pod.status.as_ref();
    let container = container(pod, untouched_container);
    Seen {
        ip: status.and_then(|s| s.pod_ip.clone()).unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
        untouched: container.and_then(|c| Some((c.container_id.clone()?, c.restart_count))),
    }
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|c| c.name == name)
}

/// How many of the application's pods run `image` (by what the node reports, not by the spec) and are Ready, and whether
/// those are all there are: `replicas` of them and no other that is not being deleted.
pub(crate) fn updated(pods: &[Pod], image: &str, replicas: u32) -> (usize, bool) {
    let live: Vec<&Pod> = pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .collect();
    let done = live.iter().filter(|pod| runs(pod, image) && is_ready(pod)).count();
    (done, done == live.len() && done == replicas as usize)
}

fn runs(pod: &Pod, image: &str) -> bool {
    container(pod, "web").is_some_and(|status| {
        let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        // A runtime may report the full name of what the spec names shortly.
        running && (status.image == image || status.image.ends_with(&format!("/{image}")))
    })
}

/// Whether the pod's Ready condition is True.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ip: &str, image: &str, ready: &str, collector: (&str, i32)) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [
                {"name": "web", "image": image, "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
                {"name": "collector", "image": "c", "imageID": "", "ready": true, "containerID": collector.0, "restartCount": collector.1},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_that_stays_keeps_everything_and_one_that_is_replaced_nothing() {
        let before = Snapshot::of(
            &[
                pod("a", "1", "v1", "True", ("x", 0)),
                pod("b", "2", "v1", "True", ("y", 0)),
            ],
            "collector",
        );
        let after = Snapshot::of(
            &[
                pod("a", "1", "v2", "True", ("x", 0)),
                pod("c", "3", "v2", "True", ("z", 0)),
            ],
            "collector",
        );
        assert_eq!(
            before.kept(&after),
            Kept {
                pods: 1,
                ips: 1,
                nodes: 1,
                untouched: 1
            }
        );
    }

    #[test]
    fn a_restarted_second_container_was_touched() {
        let before = Snapshot::of(&[pod("a", "1", "v1", "True", ("x", 0))], "collector");
        let after = Snapshot::of(&[pod("a", "1", "v2", "True", ("y", 1))], "collector");
        assert_eq!(before.kept(&after).untouched, 0);
    }

    #[test]
    fn an_update_is_done_when_every_live_pod_runs_the_image_and_is_ready() {
        let new = pod("a", "1", "docker.io/library/web:v2", "True", ("x", 0));
        let unready = pod("b", "2", "web:v2", "False", ("x", 0));
        let mut old = pod("c", "3", "web:v1", "True", ("x", 0));
        assert_eq!(updated(std::slice::from_ref(&new), "web:v2", 1), (1, true));
        assert_eq!(updated(std::slice::from_ref(&new), "web:v2", 2), (1, false));
        assert_eq!(updated(&[new.clone(), unready], "web:v2", 2), (1, false));
        assert_eq!(updated(&[new.clone(), old.clone()], "web:v2", 1), (1, false));
        old.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(updated(&[new, old], "web:v2", 1), (1, true));
    }
}
