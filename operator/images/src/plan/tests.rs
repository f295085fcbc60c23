mod stage;

use std::sync::Arc;

use afloat_words::key::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;

use super::*;
use crate::world::{Resident, Source};
use stage::{IMAGE, Stage, at};

#[test]
fn every_node_has_a_node_image_with_its_labels() {
    let mut stage = Stage::new(2);
    assert_eq!(stage.get("node", "n1")["metadata"]["labels"], json!({"name": "n1"}));
    let metadata = ObjectMeta {
        name: Some("n1".into()),
        labels: Some([("zone".to_owned(), "b".to_owned())].into()),
        ..ObjectMeta::default()
    };
    stage.nodes[1] = (metadata, false);
    stage.settle();
    assert_eq!(stage.get("node", "n1")["metadata"]["labels"], json!({"zone": "b"}));
    stage.nodes.pop();
    stage.settle();
    assert!(!stage.objects.contains_key(&("node", "n1".to_owned())));
    let fake = json!({"metadata": {"name": "fake", "labels": {"apps.kruise.io/fake-nodeimage": "true"}}});
    stage.create("node", fake);
    stage.settle();
    assert!(stage.objects.contains_key(&("node", "fake".to_owned())));
}

#[test]
fn a_job_asks_as_many_nodes_as_it_may_until_all_have_answered() {
    let mut stage = Stage::new(3);
    stage.job(
        "a",
        json!({"parallelism": 2, "completionPolicy": {"type": "Always", "ttlSecondsAfterFinished": 20}}),
    );
    stage.settle();
    assert_eq!(
        stage.pulling(),
        [("n0".into(), "web:1".into()), ("n1".into(), "web:1".into())]
    );
    assert_eq!([&stage.status("a")["desired"], &stage.status("a")["active"]], [3, 2]);
    stage.answer("n0", IMAGE, true);
    stage.settle();
    assert_eq!(stage.status("a")["message"], "job is running, progress 33.3%");
    stage.answer_all(true);
    assert_eq!(stage.status("a")["completionTime"], json!("1970-01-12T13:46:40Z"));
    assert_eq!([&stage.status("a")["succeeded"], &stage.status("a")["failed"]], [3, 0]);
    assert_eq!(stage.status("a")["message"], "job has completed");
    assert_eq!(stage.plan().wake_at, Some(at(20)));
    stage.now = 20;
    stage.settle();
    assert!(
        !stage.objects.contains_key(&("job", "a".to_owned())),
        "its time is over"
    );
    assert_eq!(
        stage.get("node", "n0")["spec"],
        json!({}),
        "and with it what it asked for"
    );
}

#[test]
fn what_fails_is_told_by_name() {
    let mut stage = Stage::new(2);
    stage.job("a", json!({"selector": {"names": ["n0", "nowhere"]}}));
    stage.settle();
    stage.answer_all(false);
    let status = stage.status("a");
    assert_eq!(status["failedNodes"], json!(["n0", "nowhere"]));
    let message = "job has completed; failed on n0: not found, nowhere: there is no such node";
    assert_eq!((&status["message"], &status["desired"]), (&json!(message), &json!(2)));
    assert!(
        stage
            .told
            .contains(&"Failed to pull image web:1 on node n0 for not found".to_owned())
    );
    stage.job("b", json!({"image": "Not A Name"}));
    stage.settle();
    assert!(
        stage.status("b")["message"]
            .as_str()
            .unwrap()
            .starts_with("invalid image Not A Name: ")
    );
}

#[test]
fn a_node_that_goes_is_an_error_with_its_name() {
    let mut stage = Stage::new(3);
    stage.job("a", json!({"parallelism": 3}));
    stage.settle();
    stage.nodes.remove(1);
    stage.settle();
    assert!(!stage.objects.contains_key(&("node", "n1".to_owned())));
    assert_eq!(stage.status("a")["failedNodes"], json!(["n1"]));
    stage.answer_all(true);
    assert_eq!([&stage.status("a")["desired"], &stage.status("a")["failed"]], [3, 1]);
    let message = stage.status("a")["message"].as_str().unwrap();
    assert!(message.starts_with("job has completed; failed on n1: "), "{message}");
}

#[test]
fn a_node_that_does_not_answer_has_failed_after_ten_minutes() {
    let mut stage = Stage::new(1);
    stage.job("a", json!({}));
    stage.settle();
    assert_eq!(stage.plan().wake_at, Some(at(600)));
    stage.now = 600;
    stage.settle();
    let message = "job has completed; failed on n0: node has not responded for a long time";
    assert_eq!(stage.status("a")["message"], message);
}

#[test]
fn a_deadline_ends_what_has_not_ended() {
    let mut stage = Stage::new(3);
    stage.job(
        "a",
        json!({"completionPolicy": {"type": "Always", "activeDeadlineSeconds": 700}}),
    );
    stage.settle();
    stage.answer("n0", IMAGE, true);
    stage.settle();
    stage.now = 700;
    let plan = stage.plan();
    stage.perform(
        plan.actions
            .into_iter()
            .find(|action| matches!(action, Action::PatchJobStatus { .. }))
            .unwrap(),
    );
    let status = stage.status("a");
    assert_eq!(
        (&status["succeeded"], &status["failedNodes"]),
        (&json!(1), &json!(["n1", "n2"]))
    );
    let message =
        "job exceeds activeDeadlineSeconds; failed on n1: not done in time, n2: its turn did not come in time";
    assert_eq!(status["message"], message);
}

#[test]
fn a_job_that_never_ends_takes_nodes_that_come_later() {
    let mut stage = Stage::new(1);
    stage.job("a", json!({"completionPolicy": {"type": "Never"}}));
    stage.settle();
    stage.answer_all(true);
    stage.node("late");
    stage.settle();
    assert_eq!(stage.pulling(), [("late".into(), "web:1".into())]);
    stage.answer_all(true);
    assert_eq!(
        (&stage.status("a")["succeeded"], &stage.status("a")["completionTime"]),
        (&json!(2), &Value::Null)
    );
    // What it asked for goes after a day, and is asked for again.
    stage.now = 25 * 3600;
    stage.settle();
    assert_eq!(stage.pulling().len(), 1, "one at a time");
}

#[test]
fn nodes_are_chosen_by_labels_and_by_pods() {
    let mut stage = Stage::new(3);
    stage.job(
        "labels",
        json!({"selector": {"matchExpressions": [{"key": "name", "operator": "NotIn", "values": ["n1"]}]}}),
    );
    stage.settle();
    assert_eq!(stage.status("labels")["desired"], 2);
    let pod = |namespace: &str, node: &str, app: &str, active| {
        Arc::new(Resident {
            namespace: namespace.into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            node: node.into(),
            active,
            ..Resident::default()
        })
    };
    stage.pods = vec![
        pod("default", "n2", "web", true),
        pod("default", "n1", "web", false),
        pod("default", "", "web", true),
        pod("other", "n0", "web", true),
        pod("default", "n0", "db", true),
    ];
    stage.job(
        "pods",
        json!({"image": "db:1", "podSelector": {"matchLabels": {"app": "web"}}}),
    );
    stage.settle();
    assert_eq!(stage.pulling().last(), Some(&("n2".into(), "db:1".into())));
    assert_eq!(stage.status("pods")["desired"], 1);
}

#[test]
fn two_jobs_for_one_image_are_two_pulls_or_one() {
    let mut stage = Stage::new(1);
    stage.job("a", json!({"imagePullPolicy": "IfNotPresent"}));
    stage.job("b", json!({"imagePullPolicy": "IfNotPresent"}));
    stage.settle();
    let tag = &stage.get("node", "n0")["spec"]["images"]["web"]["tags"][0];
    assert_eq!(
        (tag["ownerReferences"].as_array().unwrap().len(), &tag["version"]),
        (2, &Value::Null),
        "one pull for both"
    );
    stage.answer_all(true);
    assert_eq!(
        [&stage.status("a")["succeeded"], &stage.status("b")["succeeded"]],
        [1, 1]
    );
    stage.job("c", json!({"imagePullPolicy": "IfNotPresent"}));
    stage.settle();
    assert_eq!(
        stage.get("node", "n0")["spec"]["images"]["web"]["tags"][0]["version"],
        1,
        "it may have gone since"
    );
    stage.answer_all(true);
    assert_eq!(stage.status("c")["succeeded"], 1);
}

#[test]
fn limits_that_change_are_followed() {
    let mut stage = Stage::new(1);
    stage.job("a", json!({"pullPolicy": {"timeoutSeconds": 15}}));
    stage.settle();
    let job = stage.objects.get_mut(&("job", "a".to_owned())).unwrap();
    job["spec"]["pullPolicy"]["timeoutSeconds"] = json!(10);
    stage.settle();
    assert_eq!(
        stage.get("node", "n0")["spec"]["images"]["web"]["tags"][0]["pullPolicy"]["timeoutSeconds"],
        10
    );
}

fn secret(data: &str) -> Source {
    let secret = json!({"metadata": {"namespace": "default", "name": "login"}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": data}});
    Source::There(Box::new(serde_json::from_value(secret).unwrap()))
}

#[test]
fn logins_are_copied_kept_up_and_taken_away() {
    let mut stage = Stage::new(1);
    let login = Key::new("default", "login");
    for job in ["a", "b"] {
        stage.job(
            job,
            json!({"pullSecrets": ["login"], "completionPolicy": {"type": "Never"}}),
        );
    }
    stage.settle();
    assert!(stage.pulling().is_empty(), "not before it is known");
    stage.sources.insert(login.clone(), secret("YQ=="));
    stage.settle();
    let copies: Vec<Value> = stage
        .of("secret")
        .iter()
        .map(|copy: &Arc<Value>| (**copy).clone())
        .collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(
        copies[0]["metadata"]["annotations"],
        json!({
        "imagepulljobs.kruise.io/source-key": "default/login", "imagepulljobs.kruise.io/mode": "batch",
        "imagepulljobs.kruise.io/references": "default/a,default/b"})
    );
    let name = copies[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        stage.get("node", "n0")["spec"]["images"]["web"]["pullSecrets"],
        json!([{"namespace": "kruise-daemon-config", "name": name, "mode": "batch"}])
    );
    stage.sources.insert(login.clone(), secret("Yg=="));
    stage.settle();
    assert_eq!(stage.get("secret", &name)["data"], json!({".dockerconfigjson": "Yg=="}));
    stage.objects.remove(&("job", "a".to_owned()));
    stage.settle();
    assert_eq!(
        stage.get("secret", &name)["metadata"]["annotations"]["imagepulljobs.kruise.io/references"],
        "default/b"
    );
    stage.objects.remove(&("job", "b".to_owned()));
    stage.settle();
    assert!(stage.of::<Value>("secret").is_empty());

    stage.sources.insert(login, Source::Missing);
    stage.job("c", json!({"pullSecrets": ["login"]}));
    stage.settle();
    assert_eq!(stage.pulling().len(), 1, "perhaps it can be had without");
    assert!(
        stage.status("c")["message"]
            .as_str()
            .unwrap()
            .contains("secret default/login not found")
    );
}

#[test]
fn a_list_is_a_job_for_each_image_and_its_limit_is_theirs_together() {
    let mut stage = Stage::new(3);
    let spec = json!({"images": ["web:1", "db:1", "log:1"], "parallelism": 1,
        "completionPolicy": {"type": "Always", "ttlSecondsAfterFinished": 20}});
    stage.create(
        "list",
        json!({"metadata": {"namespace": "default", "name": "l"}, "spec": spec}),
    );
    stage.settle();
    assert_eq!(stage.of::<ImagePullJob>("job").len(), 3);
    for node in ["n0", "n1", "n2"] {
        let pulling = stage.pulling();
        assert_eq!(pulling.len(), 3);
        assert!(
            pulling.iter().all(|(at, _)| at == node),
            "one node at a time: {pulling:?}"
        );
        for (place, (node, image)) in pulling.iter().enumerate() {
            stage.answer(node, image, place > 0);
        }
        stage.settle();
    }
    let status = &stage.get("list", "l")["status"];
    assert_eq!(
        [&status["desired"], &status["completed"], &status["succeeded"]],
        [3, 3, 2]
    );
    assert_eq!(status["failedImageStatuses"].as_array().unwrap().len(), 1);
    stage.now = 20;
    stage.settle();
    assert!(stage.of::<Value>("list").is_empty());
}

#[test]
fn a_list_that_changes_changes_its_jobs() {
    let mut stage = Stage::new(1);
    let spec = json!({"images": ["web:1", "db:1"], "completionPolicy": {"type": "Never"}});
    stage.create(
        "list",
        json!({"metadata": {"namespace": "default", "name": "l"}, "spec": spec}),
    );
    stage.settle();
    let before: Vec<_> = stage
        .of::<ImagePullJob>("job")
        .iter()
        .map(|job| job.metadata.name.clone())
        .collect();
    let list = stage.objects.get_mut(&("list", "l".to_owned())).unwrap();
    list["spec"]["images"] = json!(["web:1"]);
    stage.settle();
    assert_eq!(stage.of::<ImagePullJob>("job").len(), 1);
    stage.objects.get_mut(&("list", "l".to_owned())).unwrap()["spec"]["parallelism"] = json!(2);
    stage.settle();
    let after: Vec<_> = stage
        .of::<ImagePullJob>("job")
        .iter()
        .map(|job| job.metadata.name.clone())
        .collect();
    assert_eq!(after.len(), 1);
    assert!(!before.contains(&after[0]));
}

#[test]
fn openkruises_finalizer_holds_no_job_for_ever() {
    let mut stage = Stage::new(1);
    stage.job("a", json!({}));
    let job = stage.objects.get_mut(&("job", "a".to_owned())).unwrap();
    job["metadata"]["finalizers"] = json!(["apps.kruise.io/deletion-protection", "mine"]);
    job["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    stage.settle();
    assert_eq!(stage.get("job", "a")["metadata"]["finalizers"], json!(["mine"]));
    assert!(stage.pulling().is_empty());
}

proptest! {
    /// Whatever nodes answer, or whether at all, and whichever of them go: no job has more nodes at work than it may, and each ends.
    #[test]
    fn limits_hold_and_every_job_ends(
        nodes in 1_usize..6,
        jobs in proptest::collection::vec(1_usize..4, 1..4),
        moves in proptest::collection::vec((0_u8..8, any::<prop::sample::Index>()), 0..60),
    ) {
        let mut stage = Stage::new(nodes);
        for (n, parallelism) in jobs.iter().enumerate() {
            stage.job(&format!("j{n}"), json!({"image": format!("web{n}:1"), "parallelism": parallelism}));
        }
        stage.settle();
        for (what, which) in moves {
            let pulling = stage.pulling();
            match what {
                0..=3 if !pulling.is_empty() => {
                    let (node, image) = which.get(&pulling).clone();
                    stage.answer(&node, &image, what > 0);
                }
                4 if !stage.nodes.is_empty() => {
                    stage.nodes.remove(which.index(stage.nodes.len()));
                }
                5 => stage.now += 100,
                _ => {}
            }
            stage.settle();
            let pulling = stage.pulling();
            for (n, parallelism) in jobs.iter().enumerate() {
                let image = format!("web{n}:1");
                prop_assert!(pulling.iter().filter(|(_, of)| *of == image).count() <= *parallelism);
                let ended = !stage.status(&format!("j{n}"))["completionTime"].is_null();
                let active = pulling.iter().any(|(_, of)| *of == image);
                prop_assert!(ended || active, "a job that has not ended is waited for: {}", stage.status(&format!("j{n}")));
            }
        }
        // Nobody answers any more.
        for _ in 0..20 {
            stage.now += 600;
            stage.settle();
        }
        for n in 0..jobs.len() {
            let name = format!("j{n}");
            prop_assert!(!stage.status(&name)["completionTime"].is_null());
        }
    }
}
