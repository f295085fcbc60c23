//! What happened to the pods of a Service, and which of it was around a loss. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;

use crate::loss::{Loss, milliseconds};

/// What happened so long before a request was due may have to do with its loss.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(2);

/// Something that was seen, when it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// By the probe's clock, so that it can be compared with losses.
    #[serde(serialize_with = "milliseconds")]
    pub time: Timestamp,
    /// In words.
    pub text: String,
}

/// Names for each loss what happened from [`WINDOW`] before it was due until it was known.
pub fn explain(losses: &mut [Loss], happenings: &[Happening]) {
    for loss in losses {
        let from = loss.due.checked_sub(WINDOW).unwrap_or(loss.due);
        loss.around = happenings
            .iter()
            .filter(|h| h.time >= from && h.time <= loss.time)
            .map(|h| h.text.clone())
            .collect();
    }
}

/// What changed about a pod. One that was not there before, or is not there any more, is None.
#[must_use]
pub fn pod_changes(old: Option<&Pod>, new: Option<&Pod>) -> Vec<String> {
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => vec![format!("pod {} appeared", name(new))],
        (Some(old), None) => vec![format!("pod {} is gone", name(old))],
        (Some(old), Some(new)) => {
            let name = name(new);
            let mut changes = Vec::new();
            if old.metadata.uid != new.metadata.uid {
                changes.push(format!("pod {name} was replaced by another of its name"));
            }
            if old.metadata.deletion_timestamp.is_none() && new.metadata.deletion_timestamp.is_some() {
                changes.push(format!("pod {name} is being deleted"));
            }
            if ready(old) != ready(new) {
                changes.push(format!("pod {name} Ready → {}", ready(new)));
            }
            for container in containers(new) {
                let before = containers(old).iter().find(|c| c.name == container.name);
                changes.extend(container_change(&name, before, container));
            }
            changes
        }
    }
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status
        .as_ref()
        .and_then(|s| s.container_statuses.as_deref())
        .unwrap_or_default()
}

fn ready(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .and_then(|all| all.iter().find(|c| c.type_ == "Ready"))
        .map_or("False", |c| c.status.as_str())
}

fn container_change(pod: &str, old: Option<&ContainerStatus>, new: &ContainerStatus) -> Option<String> {
    let old = old?;
    if new.restart_count > old.restart_count {
        return Some(format!("container {} of pod {pod} restarted", new.name));
    }
    let ended = |status: &ContainerStatus| status.state.as_ref().and_then(|s| s.terminated.clone());
    match (ended(old), ended(new)) {
        (None, Some(end)) => Some(format!("container {} of pod {pod} ended ({})", new.name, end.exit_code)),
        _ => None,
    }
}

/// The addresses of an EndpointSlice that get traffic, with their pods. A missing condition is true, as the API says.
#[must_use]
pub fn ready_endpoints(slice: &EndpointSlice) -> BTreeSet<String> {
    slice
        .endpoints
        .iter()
        .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .flat_map(|e| {
            let pod = e.target_ref.as_ref().and_then(|t| t.name.as_deref());
            let pod = pod.map(|pod| format!(" ({pod})")).unwrap_or_default();
            e.addresses.iter().map(move |address| format!("{address}{pod}"))
        })
        .collect()
}

/// What changed about the endpoints of a Service.
#[must_use]
pub fn endpoint_changes(old: &BTreeSet<String>, new: &BTreeSet<String>) -> Vec<String> {
    let left = old.difference(new).map(|e| format!("endpoint {e} left"));
    let joined = new.difference(old).map(|e| format!("endpoint {e} joined"));
    left.chain(joined).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::Mode;
    use crate::outcome::Kind;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn loss(due: i64, time: i64) -> Loss {
        Loss {
            time: at(time),
            due: at(due),
            mode: Mode::Http,
            kind: Kind::Timeout,
            detail: String::new(),
            remote: None,
            around: Vec::new(),
        }
    }

    #[test]
    fn a_loss_is_explained_by_what_was_shortly_before_or_during_it() {
        let happenings: Vec<Happening> = [2999, 3000, 5000, 9000, 9001]
            .map(|ms| Happening {
                time: at(ms),
                text: ms.to_string(),
            })
            .into();
        let mut losses = [loss(5000, 9000), loss(50_000, 50_001)];
        explain(&mut losses, &happenings);
        assert_eq!(losses[0].around, ["3000", "5000", "9000"]);
        assert!(losses[1].around.is_empty());
    }

    fn pod(ready: &str, restarts: i32, state: &Value, extra: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "web-1", "uid": "a"},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{
                    "name": "app", "restartCount": restarts, "state": state, "image": "", "imageID": "", "ready": true,
                }],
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn changes_of_pods_in_words() {
        let (running, ended) = (json!({"running": {}}), json!({"terminated": {"exitCode": 137}}));
        let (none, deleted) = (json!({}), json!({"deletionTimestamp": "2024-01-01T00:00:00Z"}));
        let base = pod("True", 0, &running, &none);
        for (new, expected) in [
            (pod("True", 0, &running, &none), &[][..]),
            (pod("False", 0, &running, &none), &["pod web-1 Ready → False"]),
            (
                pod("True", 1, &running, &none),
                &["container app of pod web-1 restarted"],
            ),
            (
                pod("True", 0, &ended, &none),
                &["container app of pod web-1 ended (137)"],
            ),
            (pod("True", 0, &running, &deleted), &["pod web-1 is being deleted"]),
            (
                pod("True", 0, &running, &json!({"uid": "b"})),
                &["pod web-1 was replaced by another of its name"],
            ),
        ] {
            assert_eq!(pod_changes(Some(&base), Some(&new)), expected);
        }
        assert_eq!(pod_changes(None, Some(&base)), ["pod web-1 appeared"]);
        assert_eq!(pod_changes(Some(&base), None), ["pod web-1 is gone"]);
    }

    #[test]
    fn changes_of_endpoints_in_words() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "web-1"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": true}},
            ],
        }))
        .unwrap();
        let new = ready_endpoints(&slice);
        let old = BTreeSet::from(["10.0.0.2".to_owned(), "10.0.0.3".to_owned()]);
        assert_eq!(
            endpoint_changes(&old, &new),
            ["endpoint 10.0.0.2 left", "endpoint 10.0.0.1 (web-1) joined"]
        );
    }
}
