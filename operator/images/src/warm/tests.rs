use super::*;
use afloat_api::CloneSetSpec;

fn revision(name: &str, image: &str) -> Arc<ControllerRevision> {
    let template =
        json!({"spec": {"containers": [{"name": "app", "image": image}, {"name": "log", "image": "log:1"}]}});
    let revision = json!({"metadata": {"name": name, "labels": {"controller.kubernetes.io/hash": name}}, "revision": 1,
        "data": {"spec": {"template": template}}});
    Arc::new(serde_json::from_value(revision).unwrap())
}

fn set(prewarm: Option<&str>, replicas: i32, rolling: Value) -> CloneSet {
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"rollingUpdate": rolling},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"imagePullSecrets": [{"name": "login"}]}}});
    let mut set = CloneSet {
        spec: serde_json::from_value::<CloneSetSpec>(spec).unwrap(),
        ..CloneSet::default()
    };
    set.status.current_revision = "old".into();
    set.status.update_revision = "new".into();
    set.metadata.annotations = prewarm.map(|mode| [(names::PREWARM.to_owned(), mode.to_owned())].into());
    set
}

fn planned(set: &CloneSet, gate: bool, jobs: &[Arc<ImagePullJob>], second: i64) -> Plan {
    let revisions = [revision("old", "app:1"), revision("new", "app:2")];
    let mut plan = Plan::default();
    let now = Timestamp::from_second(1_000_000 + second).unwrap();
    warm(set, &revisions, jobs, (gate, now), &mut plan);
    plan
}

fn in_place() -> Value {
    json!({"podUpdatePolicy": "InPlaceIfPossible", "partition": 1})
}

#[test]
fn the_gate_asks_as_openkruise_does() {
    let mut rolling = in_place();
    rolling["inPlaceUpdateStrategy"] = json!({"imagePreDownloadParallelism": 2});
    let plan = planned(&set(None, 5, rolling), true, &[], 0);
    let [Action::CreateJob { body }] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(body["metadata"]["name"], "new-app");
    let spec = &body["spec"];
    assert_eq!((&spec["image"], &spec["parallelism"]), (&json!("app:2"), &json!(2)));
    assert_eq!(spec["pullPolicy"], json!({"backoffLimit": 1, "timeoutSeconds": 300}));
    assert_eq!(
        (&spec["pullSecrets"], &spec["completionPolicy"]),
        (&json!(["login"]), &json!({"type": "Always"}))
    );
    let other = json!([{"key": "controller-revision-hash", "operator": "NotIn", "values": ["new", "new"]}]);
    assert_eq!(
        spec["podSelector"],
        json!({"matchLabels": {"app": "web"}, "matchExpressions": other})
    );
}

#[test]
fn nothing_is_pulled_where_nothing_is_gained() {
    for (prewarm, gate, replicas, rolling) in [
        (None, false, 5, in_place()),
        (None, true, 3, in_place()),
        (
            None,
            true,
            5,
            json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "100%"}),
        ),
        (None, true, 5, json!({"podUpdatePolicy": "ReCreate", "partition": 1})),
        (Some("Off"), true, 5, in_place()),
        (Some("Required"), true, 5, json!({"podUpdatePolicy": "ReCreate"})),
    ] {
        let plan = planned(&set(prewarm, replicas, rolling.clone()), gate, &[], 0);
        assert!(plan.actions.is_empty(), "{prewarm:?} {gate} {replicas} {rolling}");
    }
    for mode in ["Required", "BestEffort"] {
        assert_eq!(
            planned(&set(Some(mode), 1, in_place()), false, &[], 0).actions.len(),
            1,
            "{mode}"
        );
    }
}

#[test]
fn a_job_that_has_failed_makes_way_for_another_and_all_go_at_the_end() {
    let job = json!({"metadata": {"name": "new-app", "creationTimestamp": "1970-01-12T13:46:40Z"},
        "status": {"failed": 1}});
    let job: ImagePullJob = serde_json::from_value(job).unwrap();
    let jobs = [Arc::new(job)];
    let mut set = set(Some("Required"), 5, in_place());
    let early = planned(&set, false, &jobs, 10);
    assert!(early.actions.is_empty() && early.wake_at.is_some());
    assert!(matches!(
        planned(&set, false, &jobs, 60).actions.as_slice(),
        [Action::DeleteJob { .. }]
    ));
    set.status.current_revision = "new".into();
    assert!(matches!(
        planned(&set, false, &jobs, 0).actions.as_slice(),
        [Action::DeleteJob { .. }]
    ));
}
