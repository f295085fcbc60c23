use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CREATED: &str = "2026-01-01T00:00:00Z";

fn at(seconds: i64) -> Timestamp {
    CREATED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn request(edit: impl FnOnce(&mut Value)) -> ContainerRecreateRequest {
    let mut request = json!({
        "metadata": {"name": "r", "namespace": "n", "creationTimestamp": CREATED, "labels": {
            "crr.apps.kruise.io/active": "true", "crr.apps.kruise.io/node-name": "n1", "crr.apps.kruise.io/pod-uid": "u"}},
        "spec": {"podName": "web", "strategy": {}, "containers": [
            {"name": "app", "statusContext": {"containerID": "c://1", "restartCount": 0}}]},
        "status": {"phase": "Recreating"},
    });
    edit(&mut request);
    serde_json::from_value(request).unwrap()
}

fn pod(edit: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "web", "uid": "u"}, "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "containerID": "c://1", "restartCount": 0}]},
    });
    edit(&mut pod);
    serde_json::from_value(pod).unwrap()
}

fn next(request: &ContainerRecreateRequest, pod: Option<&Pod>, service: Service, seconds: i64) -> Step {
    step(&Seen {
        request,
        pod,
        service,
        virtual_node: false,
        now: at(seconds),
    })
}

fn over(step: &Step) -> &str {
    match step {
        Step::Status(status) if status.phase == RecreatePhase::Completed && status.completion_time.is_some() => {
            &status.message
        }
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn limits_end_a_request_in_openkruises_words() {
    let none = Service::default();
    let pod = pod(|_| ());
    let new = request(|r| r["status"] = json!({}));
    assert_eq!(next(&new, Some(&pod), none, 59), Step::Wait(Some(at(60))));
    assert_eq!(
        over(&next(&new, Some(&pod), none, 60)),
        "daemon has not responded for a long time"
    );
    let short = request(|r| r["spec"]["activeDeadlineSeconds"] = json!(3));
    assert_eq!(next(&short, Some(&pod), none, 2), Step::Wait(Some(at(3))));
    assert_eq!(
        over(&next(&short, Some(&pod), none, 3)),
        "recreating has exceeded the activeDeadlineSeconds"
    );
    let open = request(|_| ());
    assert_eq!(next(&open, Some(&pod), none, 100_000), Step::Wait(None));
    let endless = request(|r| r["spec"]["activeDeadlineSeconds"] = json!(i64::MAX));
    assert_eq!(next(&endless, Some(&pod), none, 1), Step::Wait(Some(Timestamp::MAX)));
}

#[test]
fn a_pod_that_is_gone_ends_it() {
    let open = request(|_| ());
    let going = pod(|p| p["metadata"]["deletionTimestamp"] = json!(CREATED));
    let other = pod(|p| p["metadata"]["uid"] = json!("v"));
    for gone in [None, Some(&going), Some(&other)] {
        assert_eq!(over(&next(&open, gone, Service::default(), 1)), "pod has gone");
    }
}

/// Where no webhook was asked.
#[test]
fn a_new_request_is_filled_or_ended() {
    let bare = |container: &str| {
        request(|r| {
            r["metadata"]["labels"] = json!({});
            r["spec"]["containers"] = json!([{"name": container}]);
            r["status"] = json!({});
        })
    };
    let Step::Fill(filled) = next(&bare("app"), Some(&pod(|_| ())), Service::default(), 1) else {
        panic!()
    };
    assert_eq!(filled.labels[names::RECREATE_POD_UID], "u");
    assert_eq!(
        over(&next(&bare("other"), Some(&pod(|_| ())), Service::default(), 1)),
        "container other not found in Pod"
    );
    assert_eq!(
        over(&next(&bare("app"), None, Service::default(), 1)),
        "no found Pod named web"
    );
}

#[test]
fn what_runs_since_then_is_told_to_the_agent() {
    let running = |started: &str, id: &str| {
        pod(|p| {
            p["status"]["containerStatuses"][0] = json!({"name": "app", "containerID": id, "restartCount": 1,
                "ready": true, "state": {"running": {"startedAt": started}}});
        })
    };
    let none = Service::default();
    let old = running("2025-12-31T23:59:59Z", "c://1");
    assert_eq!(next(&request(|_| ()), Some(&old), none, 1), Step::Wait(None));
    let new = running("2026-01-01T00:00:01Z", "c://2");
    let Step::Status(status) = next(&request(|_| ()), Some(&new), none, 2) else {
        panic!()
    };
    let snapshot = json!([{"name": "app", "ready": true, "restartCount": 1, "containerID": "c://2"}]);
    assert_eq!(json!(status.container_status_snapshot), snapshot);
    // It stays while nothing runs.
    let told = request(|r| r["status"]["containerStatusSnapshot"] = snapshot);
    assert_eq!(next(&told, Some(&new), none, 2), Step::Wait(None));
    assert_eq!(next(&told, Some(&pod(|_| ())), none, 2), Step::Wait(None));
}

#[test]
fn a_pod_leaves_service_by_a_gate_that_a_finalizer_keeps() {
    let pod = pod(|_| ());
    let mut open = request(|r| r["spec"]["strategy"] = json!({"unreadyGracePeriodSeconds": 5}));
    let mut service = Service {
        gated: true,
        ready_at: 7,
        ..Service::default()
    };
    assert_eq!(next(&open, Some(&pod), service, 1), Step::AddFinalizer);
    open.metadata.finalizers = Some(vec![names::RECREATE_UNREADY.to_owned()]);
    assert_eq!(next(&open, Some(&pod), service, 1), Step::Hold);
    service.held = true;
    let Step::Status(status) = next(&open, Some(&pod), service, 2) else {
        panic!()
    };
    open.status = *status;
    assert_eq!(out_of_service(&open), Some((at(2), 7)));
    assert_eq!(next(&open, Some(&pod), service, 3), Step::Wait(None));
    service.gone = true;
    let Step::Status(status) = next(&open, Some(&pod), service, 3) else {
        panic!()
    };
    assert!(status.condition(names::RECREATE_DRAINED).is_some());
    open.status = *status;
    assert_eq!(next(&open, Some(&pod), service, 3), Step::Wait(None));
}

#[test]
fn a_pod_without_a_gate_stays_in_service_and_the_request_says_so() {
    let open = request(|r| r["spec"]["strategy"] = json!({"unreadyGracePeriodSeconds": 5}));
    let Step::Status(status) = next(&open, Some(&pod(|_| ())), Service::default(), 1) else {
        panic!()
    };
    let condition = status.condition(names::RECREATE_GRACE).unwrap();
    assert!(condition.message.contains("KruisePodReady"), "{}", condition.message);
    let mut after = open;
    after.status = *status;
    assert_eq!(out_of_service(&after), None);
}

#[test]
fn whatever_ends_it_the_pod_returns() {
    let held = Service {
        gated: true,
        held: true,
        ..Service::default()
    };
    let ended = |r: &mut Value| {
        r["metadata"]["finalizers"] = json!([names::RECREATE_UNREADY]);
        r["spec"]["ttlSecondsAfterFinished"] = json!(3);
        r["status"] = json!({"phase": "Completed", "completionTime": CREATED});
    };
    let deleted = |r: &mut Value| {
        r["metadata"]["finalizers"] = json!([names::RECREATE_UNREADY]);
        r["metadata"]["deletionTimestamp"] = json!(CREATED);
    };
    let pod = pod(|_| ());
    for request in [request(ended), request(deleted)] {
        assert_eq!(next(&request, Some(&pod), held, 1), Step::Release);
        assert_eq!(next(&request, Some(&pod), Service::default(), 1), Step::RemoveFinalizer);
        assert_eq!(next(&request, None, Service::default(), 1), Step::RemoveFinalizer);
    }
    let mut over = request(ended);
    over.metadata.finalizers = None;
    assert_eq!(next(&over, Some(&pod), Service::default(), 1), Step::Deactivate);
    over.metadata.labels = None;
    assert_eq!(next(&over, Some(&pod), Service::default(), 2), Step::Wait(Some(at(3))));
    assert_eq!(next(&over, Some(&pod), Service::default(), 3), Step::Delete);
    over.spec.ttl_seconds_after_finished = None;
    assert_eq!(next(&over, Some(&pod), Service::default(), 3), Step::Wait(None));
}

proptest! {
    /// Whatever is carried out of the steps, and whenever it ends: in the end nothing of the request is left on the pod.
    #[test]
    fn no_order_leaves_a_pod_out_of_service(
        outcomes in proptest::collection::vec((any::<bool>(), 0..4_u8), 1..40), gated in any::<bool>()
    ) {
        let pod = pod(|_| ());
        let mut request = request(|r| r["spec"]["strategy"] = json!({"unreadyGracePeriodSeconds": 5}));
        let mut service = Service { gated, ..Service::default() };
        let mut seen = BTreeSet::new();
        for (index, (done, event)) in outcomes.iter().enumerate() {
            let seconds = i64::try_from(index).unwrap();
            if *event == 0 && index > 20 {
                request.metadata.deletion_timestamp = Some(Time(at(seconds)));
            } else if *event == 1 && index > 30 {
                request.status = completed(&request.status, "", at(seconds));
            }
            if *done {
                seen.insert(perform(next(&request, Some(&pod), service, seconds), &mut request, &mut service));
            }
            prop_assert!(!service.held || has_finalizer(&request), "nobody would let it return");
        }
        request.status = completed(&request.status, "", at(100));
        for _ in 0..5 {
            perform(next(&request, Some(&pod), service, 101), &mut request, &mut service);
        }
        prop_assert!(!service.held && !has_finalizer(&request));
        prop_assert!(gated || !seen.contains("hold"));
    }
}

fn perform(step: Step, request: &mut ContainerRecreateRequest, service: &mut Service) -> &'static str {
    match step {
        Step::Status(status) => request.status = *status,
        Step::AddFinalizer => request.metadata.finalizers = Some(vec![names::RECREATE_UNREADY.to_owned()]),
        Step::RemoveFinalizer => request.metadata.finalizers = None,
        Step::Hold => {
            service.held = true;
            return "hold";
        }
        Step::Release => service.held = false,
        Step::Deactivate => request.metadata.labels = None,
        Step::Fill(_) | Step::Delete | Step::Wait(_) => {}
    }
    ""
}
