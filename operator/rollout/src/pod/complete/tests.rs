//! Pods between two images, and whether they have arrived.

use super::hash::plain_hash;
use super::*;
use crate::pod::images::Known;
use afloat_api::names;
use serde_json::json;
use std::sync::Arc;

const START: &str = "2026-01-01T00:00:00Z";

/// A pod whose container `app` had `before` (imageID, containerID, ran image, outgoing images) when `spec` was
/// written, and now shows `after` (imageID, containerID, image).
fn pod(spec: &str, before: (&str, &str, &str, &[&str]), after: (&str, &str, &str)) -> Pod {
    let state = json!({"revision": "r", "updateTimestamp": START,
        "lastContainerStatuses": {"app": {"imageID": before.0}}, "updateImages": true});
    let from = json!({"app": {"containerID": before.1, "ran": before.2, "images": before.3}});
    serde_json::from_value(json!({
        "metadata": {"annotations": {names::INPLACE_STATE: state.to_string(), names::INPLACE_FROM: from.to_string()}},
        "spec": {"containers": [{"name": "app", "image": spec}]},
        "status": {"containerStatuses": [{"name": "app", "image": after.2, "imageID": after.0, "containerID": after.1,
            "state": {"running": {}}}]}
    }))
    .unwrap()
}

fn done_after(seconds: i64, pod: &Pod) -> bool {
    let now = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
    completion(pod, &nodes(), now) == Completion::Done
}

/// On this node `app:2` and `app:two` are one image, I2; `app:1` and `app:one` are I1.
fn nodes() -> Nodes {
    let node = json!({"metadata": {"name": "node"}, "status": {"images": [
        {"names": ["app@sha256:I1", "app:1", "app:one"]}, {"names": ["app@sha256:I2", "app:2", "app:two"]}]}});
    let node = Arc::new(serde_json::from_value(node).unwrap());
    [("node".to_owned(), Known { node, report: None })].into()
}

/// kruise #635, #1493, #2297: another tag of the digest that runs, and the runtime keeps saying the old tag.
#[test]
fn the_node_says_that_two_names_are_one_image() {
    let before: (_, _, _, &[&str]) = ("sha256:I1", "c1", "app:1", &["app:1"]);
    for (what, spec, after, seconds, done) in [
        (
            "restarted, old tag reported",
            "app:one",
            ("sha256:I1", "c2", "app:1"),
            60,
            true,
        ),
        ("restarted just now", "app:one", ("sha256:I1", "c2", "app:1"), 1, false),
        ("long enough ago", "app:one", ("sha256:I1", "c2", "app:1"), 4, true),
        ("not restarted", "app:one", ("sha256:I1", "c1", "app:1"), 60, false),
        (
            "the old container crashed, and the new tag is another image",
            "app:two",
            ("sha256:I1", "c2", "app:1"),
            60,
            false,
        ),
        (
            "a tag that the node does not have",
            "app:9",
            ("sha256:I1", "c2", "app:1"),
            60,
            false,
        ),
    ] {
        let mut pod = pod(spec, before, after);
        pod.spec.node_name = Some("node".into());
        let running = json!({"startedAt": "2026-01-01T00:00:01Z"});
        pod.status.container_statuses[0].state.running = serde_json::from_value(running).unwrap();
        assert_eq!(done_after(seconds, &pod), done, "{what}");
        if done {
            pod.metadata.generation = Some(2);
            pod.status.observed_generation = Some(1);
            assert!(!done_after(60, &pod), "{what}, but the node has not acted");
        }
    }
}

/// The agent of a node that can ask its runtime says by which text a container was started: nothing is waited for.
#[test]
fn what_a_container_was_started_by_decides_at_once() {
    let before: (_, _, _, &[&str]) = ("sha256:I1", "c1", "app:1", &["app:1"]);
    for (what, told, done) in [
        ("the new tag", json!({"c2": "app:one"}), true),
        ("the old tag, after a crash", json!({"c2": "app:1"}), false),
        (
            "another text of the new tag",
            json!({"c2": "docker.io/library/app:one"}),
            false,
        ),
        ("of the container before", json!({"c1": "app:one"}), false),
        ("nothing", json!({}), false),
    ] {
        let mut pod = pod("app:one", before, ("sha256:I1", "c2", "app:1"));
        pod.spec.node_name = Some("node".into());
        let running = json!({"startedAt": START});
        pod.status.container_statuses[0].state.running = serde_json::from_value(running).unwrap();
        let mut nodes = nodes();
        let report = serde_json::from_value(json!({"status": {"running": told}})).unwrap();
        nodes.get_mut("node").unwrap().report = Some(Arc::new(report));
        let now = START.parse().unwrap();
        assert_eq!(completion(&pod, &nodes, now) == Completion::Done, done, "{what}");
    }
}

/// Each changed container must run from the new spec, the slowest one decides.
#[test]
fn several_containers_complete_together() {
    let before: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1"]);
    let mut pod = pod("app:2", before, ("I2", "c2", "app:2"));
    let state = json!({"revision": "r", "updateTimestamp": START, "updateImages": true,
        "lastContainerStatuses": {"app": {"imageID": "I1"}, "log": {"imageID": "L1"}}});
    let from = json!({"app": {"containerID": "c1", "ran": "app:1", "images": ["app:1"]},
        "log": {"containerID": "d1", "ran": "log:1", "images": ["log:1"]}});
    pod.annotations.set(names::INPLACE_STATE, Some(&state.to_string()));
    pod.annotations.set(names::INPLACE_FROM, Some(&from.to_string()));
    let log = |id: &str, container: &str| json!({"name": "log", "image": "log:2", "imageID": id, "containerID": container, "state": {"running": {}}});
    std::sync::Arc::make_mut(&mut pod.spec.containers)
        .push(serde_json::from_value(json!({"name": "log", "image": "log:2"})).unwrap());
    assert!(!done_after(60, &pod), "no status of the second one yet");
    pod.status
        .container_statuses
        .push(serde_json::from_value(log("L1", "d1")).unwrap());
    assert!(!done_after(60, &pod), "the second one is the old one");
    pod.status.container_statuses[1] = serde_json::from_value(log("L2", "d2")).unwrap();
    assert!(done_after(60, &pod));
}

/// kruise #1156, #2269: an image that cannot be pulled, then a good one, then the way back.
#[test]
fn from_an_image_that_cannot_be_pulled() {
    let stuck: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1", "app:bad"]);
    for (what, spec, after, done) in [
        ("nothing acted on yet", "app:2", ("I1", "c1", "app:1"), false),
        ("the old container is stopped", "app:2", ("I1", "", "app:bad"), false),
        ("fixed forward", "app:2", ("I2", "c2", "app:2"), true),
        ("rolled back, not restarted yet", "app:1", ("I1", "", "app:bad"), false),
        ("rolled back and restarted", "app:1", ("I1", "c2", "app:1"), true),
    ] {
        assert_eq!(done_after(60, &pod(spec, stuck, after)), done, "{what}");
    }
}

/// OpenKruise's record has no container; the node's list decides where its own rule would wait for ever.
#[test]
fn an_update_that_openkruise_began_under_another_tag() {
    let mut pod = pod(
        "app:one",
        ("sha256:I1", "c1", "app:1", &[]),
        ("sha256:I1", "c2", "app:1"),
    );
    pod.annotations.set(names::INPLACE_FROM, None);
    assert!(!done_after(60, &pod), "its node is not known");
    pod.spec.node_name = Some("node".into());
    assert!(done_after(60, &pod));
}

#[test]
fn images_by_situation() {
    let before: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1"]);
    for (what, spec, before, after, done) in [
        ("nothing happened yet", "app:2", before, ("I1", "c1", "app:1"), false),
        ("a new digest runs", "app:2", before, ("I2", "c2", "app:2"), true),
        (
            "a new digest runs and the runtime names it otherwise",
            "app:2",
            before,
            ("I2", "c2", "sha256:2"),
            true,
        ),
        (
            "same digest, restarted from the new tag (kruise #635)",
            "app:2",
            before,
            ("I1", "c2", "docker.io/library/app:2"),
            true,
        ),
        (
            "the old container crashed before the node saw the change",
            "app:2",
            before,
            ("I1", "c2", "app:1"),
            false,
        ),
        (
            "rolled back while the second image still runs",
            "app:1",
            ("I1", "c1", "app:1", &["app:1", "app:2"]),
            ("I2", "c2", "app:2"),
            false,
        ),
        (
            "rolled back and restarted",
            "app:1",
            ("I1", "c1", "app:1", &["app:1", "app:2"]),
            ("I1", "c3", "app:1"),
            true,
        ),
        (
            "same digest, status already names the new tag but the container is the old one",
            "app:2",
            before,
            ("I1", "c1", "app:2"),
            false,
        ),
        (
            "stopped, and waiting for the new tag to be pulled",
            "app:2",
            before,
            ("I1", "", "app:2"),
            false,
        ),
        (
            "digest reference",
            "app@sha256:2",
            before,
            ("docker.io/library/app@sha256:2", "c2", "x"),
            true,
        ),
    ] {
        assert_eq!(done_after(60, &pod(spec, before, after)), done, "{what}");
    }
}

#[test]
fn a_rollback_before_the_node_acted_settles() {
    let mut pod = pod("app:1", ("I1", "c1", "app:1", &["app:2"]), ("I1", "c1", "app:1"));
    assert!(!done_after(4, &pod));
    assert!(done_after(5, &pod));
    pod.metadata.generation = Some(3);
    pod.status.observed_generation = Some(2);
    assert!(!done_after(60, &pod));
    pod.status.observed_generation = Some(3);
    assert!(done_after(0, &pod));
}

#[test]
fn another_text_of_the_same_image_waits_for_its_restart() {
    let full = "docker.io/library/app:1";
    let mut same = pod(full, ("I1", "c1", full, &["app:1"]), ("I1", "c1", full));
    same.metadata.generation = Some(3);
    same.status.observed_generation = Some(3);
    assert!(!done_after(60, &same), "the node has seen it and not acted yet");
    let mut other = pod(full, ("I1", "c1", full, &["app:1"]), ("I1", "c2", full));
    other.status.container_statuses[0]
        .state
        .running
        .as_mut()
        .unwrap()
        .started_at = Some(serde_json::from_value(json!("2026-01-01T00:00:10Z")).unwrap());
    assert!(!done_after(12, &other), "it may be the old one after a crash");
    assert!(done_after(13, &other));
}

/// Found by the model: A, then B, then A again, while the container of A crashes and the node has seen B only.
#[test]
fn a_crash_during_a_rollback_is_no_completion() {
    let mut pod = pod(
        "app:1",
        ("I1", "c1", "app:1", &["app:1", "app:2"]),
        ("I1", "c2", "app:1"),
    );
    pod.metadata.generation = Some(3);
    pod.status.observed_generation = Some(2);
    assert!(!done_after(60, &pod));
    pod.status.observed_generation = Some(3);
    assert!(done_after(0, &pod));
}

#[test]
fn the_daemons_hash_decides_when_names_cannot() {
    let mut pod = pod("app:2", ("I1", "c1", "app:1", &["app:1"]), ("I1", "c2", "app:1"));
    assert!(!done_after(60, &pod));
    let hash = plain_hash(&pod.spec.containers[0]);
    let meta = json!({"containers": [{"name": "app", "containerID": "c2", "hashes": {"plainHash": hash}}]});
    pod.annotations
        .set(names::RUNTIME_CONTAINERS_META, Some(&meta.to_string()));
    assert!(done_after(60, &pod));
}

#[test]
fn the_kubelets_hash_decides_when_the_runtime_keeps_no_names() {
    let mut pod = pod("app:2", ("I1", "c1", "app:1", &["app:1"]), ("I1", "c2", "app:1"));
    pod.spec.node_name = Some("n".into());
    let hash = u64::from(plain_hash(&pod.spec.containers[0]));
    let told = |id: &str, hash: u64| {
        let mut report = afloat_api::NodeTraffic::default();
        report.status.hashes.insert(id.to_owned(), hash);
        let known = Known {
            node: Arc::default(),
            report: Some(Arc::new(report)),
        };
        Nodes::from([("n".to_owned(), known)])
    };
    let done = |nodes: &Nodes| completion(&pod, nodes, START.parse().unwrap()) == Completion::Done;
    assert!(!done(&told("c2", hash + 1)), "another spec's");
    assert!(!done(&told("c1", hash)), "of the container before");
    assert!(done(&told("c2", hash)));
}
