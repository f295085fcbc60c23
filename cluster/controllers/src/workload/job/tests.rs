//! Jobs in situations, and Jobs played to their end with pods that do what they like.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::objects::Kind;
use crate::objects::pod::{COMPLETION_INDEX, INDEX_FAILURES};
use crate::objects::time::seconds;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";

fn job(spec: Value) -> Job {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"job": "j"}});
    serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
}

/// A pod of the Job that is tracked, with what is said of it besides.
fn pod(name: &str, phase: &str, more: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"job": "j"}, "finalizers": [TRACKING],
            "creationTimestamp": "1970-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]},
        "status": {"phase": phase},
    });
    for (pointer, value) in more.as_object().unwrap() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        if object.pointer(parent).is_none() {
            let (above, name) = parent.rsplit_once('/').unwrap();
            object.pointer_mut(above).unwrap()[name] = json!({});
        }
        object.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    let mut pod: Pod = serde_json::from_value(object).unwrap();
    pod.trim();
    Arc::new(pod)
}

fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
    let named = phases.iter().enumerate();
    named
        .map(|(at, phase)| pod(&format!("p{at}"), phase, json!({})))
        .collect()
}

fn indexed(name: &str, phase: &str, index: usize, failures: i32) -> Arc<Pod> {
    let annotations = json!({COMPLETION_INDEX: index.to_string(), INDEX_FAILURES: failures.to_string()});
    pod(name, phase, json!({ "/metadata/annotations": annotations }))
}

fn at(now: i64) -> Timestamp {
    Timestamp::from_second(now).unwrap()
}

fn decide(job: &Job, pods: &[Arc<Pod>], now: i64) -> super::super::Plan<Steps, Next> {
    plan(job, pods, at(now)).unwrap()
}

fn indexes(steps: &Steps) -> Vec<usize> {
    steps.create.iter().filter_map(|new| new.index).collect()
}

/// The reason of the condition of that type.
fn why<'a>(next: Option<&'a Next>, type_: &str) -> Option<&'a str> {
    next?.done.holds(type_).map(|condition| condition.reason.as_str())
}

#[test]
fn as_many_at_a_time_as_asked_until_enough_succeeded() {
    let job = job(json!({"parallelism": 2, "completions": 3}));
    let first = decide(&job, &[], 0);
    assert_eq!(first.steps.create.len(), 2);
    let status = first.status.unwrap().done;
    assert_eq!(
        (status.active, status.start_time),
        (2, Some(crate::objects::time::whole_seconds(at(0))))
    );
    assert_eq!(decide(&job, &pods(&["Succeeded", "Running"]), 0).steps.create.len(), 1);
    assert_eq!(
        decide(&job, &pods(&["Succeeded", "Succeeded", "Running"]), 0)
            .steps
            .create
            .len(),
        0
    );
    let done = decide(&job, &pods(&["Succeeded", "Succeeded", "Succeeded"]), 0);
    assert_eq!(
        why(done.status.as_ref(), "SuccessCriteriaMet"),
        Some("CompletionsReached")
    );
    assert_eq!(why(done.status.as_ref(), "Complete"), None, "nothing is counted yet");
}

#[test]
fn failures_are_retried_later_and_not_for_ever() {
    let job = job(json!({"completions": 1, "backoffLimit": 1}));
    let early = decide(&job, &pods(&["Failed"]), 5);
    assert_eq!((early.steps.create.len(), early.wake_at), (0, Some(at(10))));
    assert_eq!(decide(&job, &pods(&["Failed"]), 10).steps.create.len(), 1);
    let over = decide(&job, &pods(&["Failed", "Failed", "Running"]), 100);
    assert_eq!(why(over.status.as_ref(), "FailureTarget"), Some("BackoffLimitExceeded"));
    assert_eq!((over.steps.stop.len(), over.steps.create.len()), (1, 0));
}

#[test]
fn restarts_count_where_containers_are_restarted() {
    let spec = |limit: i32| json!({"completions": 1, "backoffLimit": limit, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    let restarted = |times: i32| {
        vec![pod(
            "a",
            "Running",
            json!({"/status/containerStatuses": [{"name": "c", "restartCount": times}]}),
        )]
    };
    for (limit, restarts, fails) in [(2, 1, false), (2, 2, true), (0, 0, false), (0, 1, true)] {
        let decided = decide(&job(spec(limit)), &restarted(restarts), 0);
        assert_eq!(
            why(decided.status.as_ref(), "FailureTarget").is_some(),
            fails,
            "{limit} {restarts}"
        );
    }
}

#[test]
fn what_ended_is_recorded_then_freed_then_counted() {
    let mut job = job(json!({"completions": 2, "parallelism": 2}));
    let ended = pods(&["Succeeded", "Failed"]);
    let first = decide(&job, &ended, 100);
    assert!(first.steps.free.is_empty());
    let status = first.status.unwrap().done;
    let uncounted = status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(
        (uncounted.succeeded, uncounted.failed),
        (vec!["p0".to_owned()], vec!["p1".to_owned()])
    );
    assert_eq!((status.succeeded, status.failed), (0, 0));
    job.status = status;
    let second = decide(&job, &ended, 100);
    assert_eq!(second.steps.free.len(), 2);
    let next = second.status.unwrap();
    assert_eq!((next.done.succeeded, next.done.failed), (1, 1));
    assert_eq!(
        (next.not_done.succeeded, next.not_done.failed),
        (0, 0),
        "if the finalizers could not be taken away"
    );
    // The process died after the finalizers were gone: they are counted all the same.
    let freed = ended.iter().map(|pod| {
        let mut pod = Pod::clone(pod);
        pod.metadata.finalizers = None;
        Arc::new(pod)
    });
    let after = decide(&job, &freed.collect::<Vec<_>>(), 100).status.unwrap().done;
    assert_eq!(
        (after.succeeded, after.failed, after.uncounted_terminated_pods),
        (1, 1, Some(Default::default()))
    );
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew() {
    let mut suspended = job(json!({"suspend": true, "activeDeadlineSeconds": 5}));
    suspended.status.start_time = Some(crate::objects::time::whole_seconds(at(0)));
    let stopped = decide(&suspended, &pods(&["Running"]), 10);
    assert_eq!(stopped.steps.drop.len(), 1, "not counted as a failure");
    let status = stopped.status.unwrap().done;
    assert_eq!((status.active, status.terminating, status.failed), (0, Some(1), 0));
    assert!(status.holds("Suspended").is_some() && status.holds("FailureTarget").is_none());
    suspended.status = status;
    suspended.spec.suspend = false;
    let resumed = decide(&suspended, &[], 20).status.unwrap().done;
    assert!(resumed.holds("Suspended").is_none());
    assert_eq!(resumed.start_time, Some(crate::objects::time::whole_seconds(at(20))));
}

#[test]
fn indexes_are_made_once_each_and_the_smallest_first() {
    let spec = json!({"completions": 5, "parallelism": 3, "completionMode": "Indexed"});
    let job = job(spec);
    assert_eq!(indexes(&decide(&job, &[], 0).steps), [0, 1, 2]);
    let there = [
        indexed("a", "Succeeded", 0, 0),
        indexed("b", "Running", 2, 0),
        indexed("c", "Running", 2, 0),
        indexed("d", "Running", 7, 0),
    ];
    let decided = decide(&job, &there, 0);
    assert_eq!(decided.steps.drop.len(), 2, "one of two, and what has no place");
    assert!(decided.steps.create.is_empty());
    assert_eq!(decided.status.unwrap().done.completed_indexes, "0");
    assert_eq!(indexes(&decide(&job, &there[..2], 0).steps), [1, 3]);
}

#[test]
fn a_smaller_job_forgets_what_is_beyond() {
    let mut smaller = job(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"}));
    smaller.status.completed_indexes = "1-3".to_owned();
    smaller.status.succeeded = 3;
    let decided = decide(&smaller, &[], 0);
    assert_eq!(indexes(&decided.steps), [0]);
    let status = decided.status.unwrap().done;
    assert_eq!((status.completed_indexes.as_str(), status.succeeded), ("1", 1));
}

#[test]
fn each_index_has_its_own_limit() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX});
    let job = job(spec);
    let first = [
        indexed("a", "Failed", 0, 0),
        indexed("b", "Running", 1, 0),
        indexed("c", "Running", 2, 0),
    ];
    let early = decide(&job, &first, 5);
    assert_eq!((early.steps.create.len(), early.wake_at), (0, Some(at(10))));
    let again = decide(&job, &first, 10);
    assert_eq!(
        again.steps.create,
        [plan::NewPod {
            index: Some(0),
            failures: Some((1, 0))
        }]
    );
    assert!(
        again
            .status
            .unwrap()
            .done
            .uncounted_terminated_pods
            .unwrap()
            .failed
            .is_empty(),
        "it waits for its successor"
    );
    let second = [
        indexed("d", "Failed", 0, 1),
        indexed("b", "Succeeded", 1, 0),
        indexed("c", "Running", 2, 0),
    ];
    let failed = decide(&job, &second, 100).status.unwrap().done;
    assert_eq!(
        (failed.failed_indexes.as_deref(), failed.completed_indexes.as_str()),
        (Some("0"), "1")
    );
    assert!(failed.holds("FailureTarget").is_none());
    let last = [
        indexed("d", "Failed", 0, 1),
        indexed("b", "Succeeded", 1, 0),
        indexed("c", "Succeeded", 2, 0),
    ];
    assert_eq!(
        why(decide(&job, &last, 100).status.as_ref(), "FailureTarget"),
        Some("FailedIndexes")
    );
}

#[test]
fn policies_end_a_job_or_forgive_a_pod() {
    let rules = json!([
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]);
    let job = job(json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": {"rules": rules}}));
    let exit = json!({"/status/containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 42}}}]});
    let fatal = decide(&job, &[pod("a", "Failed", exit)], 100);
    assert_eq!(why(fatal.status.as_ref(), "FailureTarget"), Some("PodFailurePolicy"));
    let disrupted = json!({"/status/conditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let forgiven = decide(&job, &[pod("a", "Failed", disrupted)], 100);
    assert_eq!((forgiven.steps.free.len(), forgiven.steps.create.len()), (1, 1));
    assert!(forgiven.status.unwrap().done.holds("FailureTarget").is_none());
    // With a policy a pod that is being deleted is replaced only once it has ended.
    let leaving = json!({"/metadata/deletionTimestamp": seconds(at(50))});
    assert!(
        decide(&job, &[pod("a", "Running", leaving)], 100)
            .steps
            .create
            .is_empty()
    );
}

#[test]
fn when_a_part_is_enough_the_rest_is_stopped_and_does_not_count() {
    let mut job = job(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}));
    let leaving = |pod: Arc<Pod>| {
        let mut pod = Pod::clone(&pod);
        pod.metadata.deletion_timestamp = Some(crate::objects::time::whole_seconds(at(5)));
        Arc::new(pod)
    };
    let (first, second) = (indexed("a", "Succeeded", 0, 0), indexed("b", "Running", 1, 0));
    let met = decide(&job, &[first.clone(), second.clone()], 5);
    assert_eq!(met.steps.stop.len(), 1);
    assert_eq!(why(met.status.as_ref(), "SuccessCriteriaMet"), Some("SuccessPolicy"));
    job.status = met.status.unwrap().done;
    let stopping = decide(&job, &[first, leaving(second)], 6);
    assert_eq!(stopping.steps.free.len(), 2);
    assert!(stopping.status.is_none(), "one has not ended");
    let status = decide(&job, &[], 7).status.unwrap().done;
    assert_eq!(
        (status.succeeded, status.failed, status.completed_indexes.as_str()),
        (1, 0, "0")
    );
    assert!(status.holds("Complete").is_some());
}

#[test]
fn pods_of_its_labels_are_adopted_and_others_released() {
    let job = job(json!({"parallelism": 2}));
    let orphan = pod(
        "orphan",
        "Running",
        json!({"/metadata/ownerReferences": [], "/metadata/finalizers": []}),
    );
    let stranger = pod("stranger", "Running", json!({"/metadata/labels": {"job": "k"}}));
    let decided = decide(&job, &[orphan, stranger], 0);
    assert_eq!(
        (
            decided.steps.adopt.len(),
            decided.steps.release.len(),
            decided.steps.create.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn one_that_others_manage_is_left_alone() {
    let job = job(json!({"parallelism": 2, "managedBy": "example.com/queue"}));
    let decided = decide(&job, &pods(&["Failed"]), 0);
    assert!(decided.status.is_none() && decided.steps.create.is_empty() && decided.steps.free.is_empty());
}

#[test]
fn pods_know_their_index() {
    let mut long = job(
        json!({"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "a"}]}, {"name": "d", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "own"}]}]}}}),
    );
    long.metadata.name = Some("a".repeat(60));
    let made = super::pod::pod(
        &long,
        &plan::NewPod {
            index: Some(12),
            failures: Some((2, 0)),
        },
    );
    assert_eq!(
        made["metadata"]["generateName"],
        json!(format!("{}-12-", "a".repeat(54)))
    );
    assert_eq!(made["metadata"]["labels"][COMPLETION_INDEX], "12");
    assert_eq!(
        made["metadata"]["annotations"],
        json!({COMPLETION_INDEX: "12", INDEX_FAILURES: "2"})
    );
    assert_eq!(made["spec"]["containers"][0]["env"][1]["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(
        made["spec"]["containers"][1]["env"],
        json!([{"name": "JOB_COMPLETION_INDEX", "value": "own"}])
    );
    assert_eq!(made["metadata"]["finalizers"], json!([TRACKING]));
}

/// A Job and its pods as the API server has them.
struct World {
    job: Job,
    pods: BTreeMap<String, Pod>,
    made: usize,
    now: i64,
}

impl World {
    /// One turn, of which the first `cut` writes are done; then the process may have died.
    fn turn(&mut self, cut: usize) -> bool {
        let pods: Vec<Arc<Pod>> = self.pods.values().cloned().map(Arc::new).collect();
        let planned = decide(&self.job, &pods, self.now);
        let mut writes: Vec<(&str, String, Option<plan::NewPod>)> = Vec::new();
        for (what, pods) in [
            ("free", &planned.steps.free),
            ("drop", &planned.steps.drop),
            ("stop", &planned.steps.stop),
        ] {
            writes.extend(pods.iter().map(|pod| (what, pod.name().to_owned(), None)));
        }
        writes.extend(
            planned
                .steps
                .create
                .iter()
                .map(|new| ("create", String::new(), Some(new.clone()))),
        );
        let all = writes.len();
        for (what, name, new) in writes.into_iter().take(cut) {
            self.write(what, &name, new);
        }
        let changed = planned.status.is_some();
        if let Some(next) = planned.status.filter(|_| cut > all) {
            self.job.status = next.done;
        }
        self.pods
            .retain(|_, pod| !(pod.is_terminating() && pod.is_finished() && !pod.is_tracked()));
        changed || all > 0
    }

    fn write(&mut self, what: &str, name: &str, new: Option<plan::NewPod>) {
        if let Some(new) = new {
            self.made += 1;
            let (name, index) = (format!("p{}", self.made), new.index);
            let mut made = Pod::clone(&*match index {
                Some(index) => indexed(&name, "Running", index, new.failures.unwrap_or_default().0),
                None => pod(&name, "Running", json!({})),
            });
            made.metadata.creation_timestamp = Some(crate::objects::time::whole_seconds(at(self.now)));
            self.pods.insert(name, made);
            return;
        }
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        if what != "stop" {
            pod.metadata.finalizers = None;
        }
        if what != "free" {
            pod.metadata.deletion_timestamp = Some(crate::objects::time::whole_seconds(at(self.now)));
        }
    }

    /// The end of the `at`-th pod that runs.
    fn end(&mut self, at: usize, phase: &str) {
        let mut running: Vec<&mut Pod> = self.pods.values_mut().filter(|pod| !pod.is_finished()).collect();
        if running.is_empty() {
            return;
        }
        let at = at % running.len();
        let pod = &mut running[at];
        pod.status.phase = if pod.is_terminating() {
            "Failed".to_owned()
        } else {
            phase.to_owned()
        };
    }
}

proptest! {
    /// Whatever ends when, and wherever the process dies: the Job comes to an end, its conditions in order, and what it says of
    /// successes is true.
    #[test]
    fn every_job_comes_to_a_true_end(
        completions in 0..5_i32, parallelism in 1..4_i32, limit in 0..3_i32, mode in 0..3_u8,
        happenings in proptest::collection::vec((0..6_usize, any::<bool>(), 0..5_usize), 0..40),
    ) {
        let mut spec = json!({"completions": completions, "parallelism": parallelism, "backoffLimit": limit});
        if mode > 0 {
            spec["completionMode"] = json!("Indexed");
        }
        if mode > 1 {
            spec["backoffLimitPerIndex"] = json!(limit);
            spec["backoffLimit"] = json!(i32::MAX);
        }
        let mut world = World { job: job(spec), pods: BTreeMap::new(), made: 0, now: 1000 };
        let mut succeeded: BTreeMap<String, Option<usize>> = BTreeMap::new();
        for (which, success, cut) in happenings {
            world.turn(cut);
            world.end(which, if success { "Succeeded" } else { "Failed" });
            succeeded.extend(world.pods.values().filter(|pod| pod.status.phase == "Succeeded").map(|pod| (pod.name().to_owned(), observe::index_of(pod))));
            world.now += 700;
            let targets = ["FailureTarget", "SuccessCriteriaMet"].map(|type_| world.job.status.holds(type_).is_some());
            let ends = ["Failed", "Complete"].map(|type_| world.job.status.holds(type_).is_some());
            prop_assert!((0..2).all(|at| !ends[at] || targets[at]) && targets != [true; 2]);
        }
        for _ in 0..60 {
            world.now += 700;
            let busy = world.turn(usize::MAX);
            if !busy {
                world.end(0, "Succeeded");
                succeeded.extend(world.pods.values().filter(|pod| pod.status.phase == "Succeeded").map(|pod| (pod.name().to_owned(), observe::index_of(pod))));
            }
        }
        let status = &world.job.status;
        prop_assert!(status.finished().is_some(), "{status:?}");
        prop_assert_eq!((status.active, status.terminating), (0, Some(0)));
        prop_assert_eq!(status.uncounted_terminated_pods.clone(), Some(Default::default()));
        let told = usize::try_from(status.succeeded).unwrap();
        let true_number = if mode == 0 {
            succeeded.len()
        } else {
            succeeded.values().flatten().collect::<std::collections::BTreeSet<_>>().len()
        };
        prop_assert_eq!(told, true_number);
        if status.holds("Complete").is_some() {
            prop_assert!(status.succeeded >= completions);
        }
    }
}
