//! What a write to a pod was decided on. A kubelet writes its status whenever it likes, so the version that a decision was
//! made on is often not the newest any more, though nothing has changed that the decision was about.

use afloat_api::names;

use crate::action::{Action, Why};
use crate::pod::object::{ContainerStatus, Pod, PodCondition};

/// The write at the version of `present`, if it would have been decided in the same way on that. For the writes that change
/// a pod and let it return; going out of service is decided, and dated, by the very version that is written.
pub fn again(action: &Action, decided: &Pod, present: &Pod) -> Option<Action> {
    let mut moved = action.clone();
    let stands = match &mut moved {
        Action::PatchPod {
            at, why: Why::Update, ..
        } => {
            *at = present.at();
            same_ground(decided, present)
        }
        Action::PatchPodStatus {
            at, why: Why::Return, ..
        } => {
            *at = present.at();
            same_ground(decided, present) && runs_on(decided, present)
        }
        _ => false,
    };
    stands.then_some(moved)
}

/// Whether each container runs as it did: a return is decided on that. That one became ready is no reason against it; that the
/// pod did is, as it is out of service: a kubelet says so that has not seen the gate yet.
fn runs_on(decided: &Pod, present: &Pod) -> bool {
    let ready = |pod: &Pod| pod.condition("Ready").is_some_and(|ready| ready.status == "True");
    let (was, is) = (&decided.status, &present.status);
    let same = |(was, is): (&ContainerStatus, &ContainerStatus)| {
        was.state.running.is_some() == is.state.running.is_some()
            && was.started_at() == is.started_at()
            && was.resources == is.resources
    };
    ready(decided) == ready(present)
        && was.observed_generation <= is.observed_generation
        && was.container_statuses.iter().zip(&is.container_statuses).all(same)
}

/// Whether two views of a pod differ only in what no decision to change it reads: how its containers fare, as long as they
/// are the same ones, since the patch records which ran before. Spec, labels, annotations, owner and finalizers are
/// everybody's, gates are ours and OpenKruise's.
fn same_ground(decided: &Pod, present: &Pod) -> bool {
    fn ran(status: &ContainerStatus) -> (&str, Option<&str>, &str, &str) {
        (
            &status.name,
            status.container_id.as_deref(),
            &status.image_id,
            &status.image,
        )
    }
    fn gate<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, Option<&'a str>)> {
        let told = |condition: &'a PodCondition| (condition.status.as_str(), condition.message.as_deref());
        pod.condition(kind).map(told)
    }
    let gates = [names::INPLACE_READY, names::KRUISE_POD_READY];
    decided.is_meant_as(present)
        && decided.active() == present.active()
        // One that did not count for the budget must not have begun to.
        && (decided.ready() || !present.ready())
        && gates.iter().all(|kind| gate(decided, kind) == gate(present, kind))
        && decided
            .status
            .container_statuses
            .iter()
            .map(ran)
            .eq(present.status.container_statuses.iter().map(ran))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::action::patch::PodPatch;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-1", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
                "annotations": {"a": "1"}, "finalizers": ["x/y"]},
            "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "app:1"}],
                "readinessGates": [{"conditionType": names::INPLACE_READY}]},
            "status": {"phase": "Running", "conditions": [
                    {"type": names::INPLACE_READY, "status": "False", "message": "m"}, {"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "app", "image": "app:1", "imageID": "I1", "containerID": "c1", "ready": true,
                    "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
        })
    }

    fn changed(path: &str, to: Value) -> Pod {
        let mut value = pod();
        value["metadata"]["resourceVersion"] = json!("9");
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = value.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) => parent[index] = to,
            Err(_) => parent[key] = to,
        }
        serde_json::from_value(value).unwrap()
    }

    fn write(why: Why, decided: &Pod) -> Action {
        Action::PatchPod {
            at: decided.at(),
            patch: PodPatch {
                images: [("app".to_owned(), "app:2".to_owned())].into(),
                ..PodPatch::default()
            },
            why,
        }
    }

    fn back(decided: &Pod) -> Action {
        crate::pod::service::serve(decided, true, &[], jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_the_kubelet_writes_meanwhile_is_no_reason_to_decide_anew() {
        let decided: Pod = serde_json::from_value(pod()).unwrap();
        let status = "/status/containerStatuses/0";
        for (path, to) in [
            (format!("{status}/ready"), json!(false)),
            (format!("{status}/started"), json!(false)),
            (format!("{status}/restartCount"), json!(1)),
            (
                "/status/conditions/1".to_owned(),
                json!({"type": "Ready", "status": "False", "reason": "r"}),
            ),
            ("/status/observedGeneration".to_owned(), json!(3)),
            ("/status/podIP".to_owned(), json!("10.0.0.1")),
        ] {
            let present = changed(&path, to);
            let Some(Action::PatchPod { at, patch, .. }) = again(&write(Why::Update, &decided), &decided, &present)
            else {
                panic!("{path}")
            };
            assert_eq!(
                (at.resource_version.as_str(), patch.images["app"].as_str()),
                ("9", "app:2")
            );
            assert_eq!(again(&write(Why::Lifecycle, &decided), &decided, &present), None);
        }
    }

    #[test]
    fn whatever_else_has_changed_is_looked_at_anew() {
        let decided: Pod = serde_json::from_value(pod()).unwrap();
        let status = "/status/containerStatuses/0";
        for (path, to) in [
            ("/metadata/uid".to_owned(), json!("another")),
            ("/metadata/deletionTimestamp".to_owned(), json!("2026-01-01T00:00:00Z")),
            ("/metadata/labels".to_owned(), json!({"app": "web", "more": "1"})),
            ("/metadata/annotations".to_owned(), json!({"a": "2"})),
            ("/metadata/finalizers".to_owned(), json!([])),
            (
                "/metadata/ownerReferences".to_owned(),
                json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]),
            ),
            (
                "/spec/containers/0".to_owned(),
                json!({"name": "app", "image": "app:9"}),
            ),
            ("/status/phase".to_owned(), json!("Failed")),
            (format!("{status}/containerID"), json!("c2")),
            (format!("{status}/imageID"), json!("I2")),
            (
                "/status/conditions/0".to_owned(),
                json!({"type": names::INPLACE_READY, "status": "True"}),
            ),
        ] {
            let present = changed(&path, to);
            assert_eq!(again(&write(Why::Update, &decided), &decided, &present), None, "{path}");
            assert_eq!(again(&back(&decided), &decided, &present), None, "{path}");
        }
        let present = changed(
            &format!("{status}/state"),
            json!({"running": {"startedAt": "2026-01-01T00:00:09Z"}}),
        );
        assert_eq!(again(&back(&decided), &decided, &present), None, "started anew");
        let present = changed(
            &format!("{status}/state"),
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        );
        assert_eq!(again(&back(&decided), &decided, &present), None, "it does not run");
        let present = changed("/status/conditions/1", json!({"type": "Ready", "status": "True"}));
        assert_eq!(
            again(&back(&decided), &decided, &present),
            None,
            "late, from before the gate was closed"
        );
    }

    #[test]
    fn a_pod_that_has_become_ready_counts_for_the_budget() {
        let mut value = pod();
        value["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        let decided: Pod = serde_json::from_value(value.clone()).unwrap();
        value["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        let present: Pod = serde_json::from_value(value).unwrap();
        let write = write(Why::Update, &decided);
        assert_eq!(again(&write, &decided, &present), None);
        assert!(again(&write, &present, &decided).is_some());
    }
}
