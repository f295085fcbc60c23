use super::*;

fn revision(name: &str, image: &str) -> Arc<ControllerRevision> {
    let template =
        json!({"spec": {"containers": [{"name": "app", "image": image}, {"name": "log", "image": "log:1"}]}});
    let revision = json!({"metadata": {"name": format!("web-{name}"), "labels": {"controller.kubernetes.io/hash": name}}, "revision": 1,
        "data": {"spec": {"template": template}}});
    Arc::new(serde_json::from_value(revision).unwrap())
}

/// A workload of some kind: what lives as long as the test.
struct Set {
    metadata: ObjectMeta,
    template: Value,
    selector: LabelSelector,
    settings: InPlaceUpdateStrategy,
}

impl Set {
    fn new(prewarm: Option<&str>) -> Self {
        let mut metadata = ObjectMeta {
            name: Some("web".into()),
            uid: Some("uid".into()),
            ..ObjectMeta::default()
        };
        metadata.annotations = prewarm.map(|mode| [(names::PREWARM.to_owned(), mode.to_owned())].into());
        Self {
            metadata,
            template: json!({"metadata": {"labels": {"app": "web"}}, "spec": {"imagePullSecrets": [{"name": "login"}]}}),
            selector: serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap(),
            settings: InPlaceUpdateStrategy::default(),
        }
    }

    /// A rollout of five in place, from web-old to web-new.
    fn release(&self) -> Release<'_> {
        Release {
            api_version: names::API_VERSION,
            kind: "StatefulSet",
            metadata: &self.metadata,
            template: &self.template,
            selector: &self.selector,
            current: Some("web-old"),
            update: "web-new",
            observed_generation: 0,
            done: false,
            stays: true,
            gate: false,
            needless: false,
            replicas: 5,
            updated_ready: 0,
            settings: Some(&self.settings),
        }
    }
}

fn planned(release: &Release<'_>, jobs: &[Arc<ImagePullJob>], second: i64) -> Plan {
    let revisions = [revision("old", "app:1"), revision("new", "app:2")];
    let mut plan = Plan::default();
    let now = Timestamp::from_second(1_000_000 + second).unwrap();
    warm(release, &revisions, jobs, now, &mut plan);
    plan
}

#[test]
fn the_gate_asks_as_openkruise_does() {
    let mut set = Set::new(None);
    set.settings.image_pre_download_parallelism = Some(IntOrString::Int(2));
    let release = Release {
        gate: true,
        ..set.release()
    };
    let plan = planned(&release, &[], 0);
    let [Action::CreateJob { body }] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(body["metadata"]["name"], "web-new-app");
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    let spec = &body["spec"];
    assert_eq!((&spec["image"], &spec["parallelism"]), (&json!("app:2"), &json!(2)));
    assert_eq!(spec["pullPolicy"], json!({"backoffLimit": 1, "timeoutSeconds": 300}));
    assert_eq!(
        (&spec["pullSecrets"], &spec["completionPolicy"]),
        (&json!(["login"]), &json!({"type": "Always"}))
    );
    let other = json!([{"key": "controller-revision-hash", "operator": "NotIn", "values": ["web-new", "new"]}]);
    assert_eq!(
        spec["podSelector"],
        json!({"matchLabels": {"app": "web"}, "matchExpressions": other})
    );
}

#[test]
fn settings_are_annotations_where_a_kind_has_no_fields_for_them() {
    let mut set = Set::new(Some("BestEffort"));
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (place, value) in ["4", "60", "50%"].iter().enumerate() {
        annotations.insert(names::PREDOWNLOAD[place].0.to_owned(), (*value).to_owned());
    }
    let few = Release {
        settings: None,
        updated_ready: 2,
        ..set.release()
    };
    assert!(
        planned(&few, &[], 0).actions.is_empty(),
        "3 of 5 are to be updated and Ready first"
    );
    let plan = planned(
        &Release {
            updated_ready: 3,
            ..few
        },
        &[],
        0,
    );
    let [Action::CreateJob { body }] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (
            &body["spec"]["parallelism"],
            &body["spec"]["pullPolicy"]["timeoutSeconds"]
        ),
        (&json!(4), &json!(60))
    );
}

#[test]
fn nothing_is_pulled_where_nothing_is_gained() {
    let plain = Set::new(None);
    let (off, required, best_effort) = (
        Set::new(Some("Off")),
        Set::new(Some("Required")),
        Set::new(Some("BestEffort")),
    );
    let gate = Release {
        gate: true,
        ..plain.release()
    };
    for (what, release) in [
        ("nobody asks", plain.release()),
        (
            "few, or all at once",
            Release {
                needless: true,
                ..gate.clone()
            },
        ),
        ("new pods come anywhere", Release { stays: false, ..gate }),
        (
            "switched off",
            Release {
                gate: true,
                ..off.release()
            },
        ),
        (
            "new pods come anywhere, and it is required",
            Release {
                stays: false,
                ..required.release()
            },
        ),
    ] {
        assert!(planned(&release, &[], 0).actions.is_empty(), "{what}");
    }
    for set in [required, best_effort] {
        let release = Release {
            needless: true,
            replicas: 1,
            ..set.release()
        };
        assert_eq!(planned(&release, &[], 0).actions.len(), 1);
    }
}

#[test]
fn where_no_status_tells_what_pods_had_each_older_revision_counts() {
    let set = Set::new(Some("Required"));
    let release = Release {
        current: None,
        // As a DaemonSet's status has it.
        update: "new",
        ..set.release()
    };
    let names = |revisions: &[Arc<ControllerRevision>]| -> Vec<String> {
        let mut plan = Plan::default();
        warm(&release, revisions, &[], Timestamp::UNIX_EPOCH, &mut plan);
        let name = |action: &Action| match action {
            Action::CreateJob { body } => format!("{}: {}", body["metadata"]["name"], body["spec"]["image"]),
            other => panic!("{other:?}"),
        };
        plan.actions.iter().map(name).collect()
    };
    let new = revision("new", "app:2");
    assert_eq!(
        names(&[revision("older", "app:1"), revision("old", "app:2"), new.clone()]),
        ["\"web-new-app\": \"app:2\""]
    );
    assert!(
        names(&[revision("old", "app:2"), new.clone()]).is_empty(),
        "the image is the same"
    );
    assert!(
        names(&[new]).is_empty(),
        "the first revision, whose pods pull for themselves"
    );
}

#[test]
fn a_job_that_has_failed_makes_way_for_another_and_all_go_at_the_end() {
    let job = json!({"metadata": {"name": "web-new-app", "creationTimestamp": "1970-01-12T13:46:40Z"},
        "status": {"failed": 1}});
    let job: ImagePullJob = serde_json::from_value(job).unwrap();
    let jobs = [Arc::new(job)];
    let set = Set::new(Some("Required"));
    let early = planned(&set.release(), &jobs, 10);
    assert!(early.actions.is_empty() && early.wake_at.is_some());
    assert!(matches!(
        planned(&set.release(), &jobs, 60).actions.as_slice(),
        [Action::DeleteJob { .. }]
    ));
    let done = Release {
        done: true,
        ..set.release()
    };
    assert!(matches!(
        planned(&done, &jobs, 0).actions.as_slice(),
        [Action::DeleteJob { .. }]
    ));
}
