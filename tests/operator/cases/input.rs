//! What the API server makes of CloneSets: it defaults, prunes and refuses by the CRD's schema and rules.

use serde_json::{Value, json};

use crate::case::{Case, NAME, cloneset};

pub(super) async fn both_versions_are_one_object(case: &Case) {
    let mut alpha = cloneset(0);
    alpha["apiVersion"] = json!("apps.kruise.io/v1alpha1");
    alpha["spec"]["updateStrategy"] = json!({"type": "InPlaceOnly", "partition": "50%", "maxUnavailable": 2,
        "inPlaceUpdateStrategy": {"gracePeriodSeconds": 3}});
    alpha["spec"]["scaleStrategy"] = json!({"disablePVCReuse": true});
    let created = case.create(&alpha).await;
    assert_eq!(created["apiVersion"], "apps.kruise.io/v1alpha1");
    let beta = case.set().await;
    assert_eq!(beta["apiVersion"], "apps.kruise.io/v1beta1");
    assert_eq!(
        (&beta["spec"], &beta["metadata"]["uid"]),
        (&created["spec"], &created["metadata"]["uid"])
    );
    // The other version's shape, written through this version, comes back in that one.
    case.patch(json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "InPlaceOnly"}}}}))
        .await;
    let alpha = case
        .api("apps.kruise.io", "v1alpha1", "CloneSet")
        .get(NAME)
        .await
        .expect("the CloneSet");
    assert_eq!(
        alpha.data["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"],
        "InPlaceOnly"
    );
    assert_eq!(alpha.data["spec"]["updateStrategy"]["partition"], "50%");
}

pub(super) async fn defaults_and_unknown_fields(case: &Case) {
    let mut set = cloneset(0);
    let spec = set["spec"].as_object_mut().unwrap();
    spec.remove("replicas");
    spec.insert("paused".into(), json!(true));
    // Anything may stand in a template: Kubernetes may know fields that the CRD does not.
    spec["template"]["spec"]["tomorrow"] = json!({"a": [1]});
    let created = case.create(&set).await;
    assert_eq!(
        (&created["spec"]["replicas"], &created["spec"]["revisionHistoryLimit"]),
        (&json!(1), &json!(10))
    );
    assert!(created["spec"]["paused"].is_null(), "pruned");
    assert_eq!(created["spec"]["template"]["spec"]["tomorrow"], json!({"a": [1]}));
    assert_eq!(created["metadata"]["generation"], 1);
    // Neither a status nor labels make a new generation; a spec does.
    let created = case
        .patch(json!({"metadata": {"labels": {"a": "b"}}, "status": {"replicas": 7}}))
        .await;
    assert_eq!(created["metadata"]["generation"], 1);
    assert_ne!(created["status"]["replicas"], 7);
    let created = case.patch(json!({"spec": {"minReadySeconds": 1}})).await;
    assert_eq!(created["metadata"]["generation"], 2);
}

/// What is wrong, how a good spec comes to it, and words that the refusal must hold.
type Refusal = (&'static str, fn(&mut Value), &'static [&'static str]);

pub(super) async fn bad_values_are_refused_by_name(case: &Case) {
    let refusals: &[Refusal] = &[
        (
            "a negative number",
            |spec| spec["replicas"] = json!(-1),
            &["spec.replicas", "greater than or equal to 0"],
        ),
        (
            "a word for a number",
            |spec| spec["replicas"] = json!("three"),
            &["spec.replicas", "integer"],
        ),
        (
            "no selector",
            |spec| drop(spec.as_object_mut().unwrap().remove("selector")),
            &["spec.selector", "Required value"],
        ),
        (
            "no template",
            |spec| drop(spec.as_object_mut().unwrap().remove("template")),
            &["spec.template", "Required value"],
        ),
        (
            "an empty selector",
            |spec| spec["selector"] = json!({}),
            &["spec.selector", "must not be empty"],
        ),
        (
            "a selector that does not match",
            |spec| spec["selector"] = json!({"matchLabels": {"app": "other"}}),
            &["spec.selector.matchLabels must match spec.template.metadata.labels"],
        ),
        (
            "an expression that does not match",
            |spec| spec["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
            &["spec.selector.matchExpressions must match spec.template.metadata.labels"],
        ),
        (
            "an unknown operator",
            |spec| spec["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Near"}]}),
            &[
                "spec.selector.matchExpressions[0].operator",
                "Unsupported value",
                "Near",
            ],
        ),
        (
            "an unknown policy",
            |spec| spec["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("InPlease"),
            &[
                "spec.updateStrategy.rollingUpdate.podUpdatePolicy",
                "Unsupported value",
                "InPlaceIfPossible",
            ],
        ),
        (
            "surge in place only",
            |spec| spec["updateStrategy"]["rollingUpdate"] = json!({"podUpdatePolicy": "InPlaceOnly", "maxSurge": 1}),
            &["spec.updateStrategy.rollingUpdate.maxSurge must be 0"],
        ),
        (
            "a negative grace period",
            |spec| spec["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": -1}),
            &["spec.updateStrategy.rollingUpdate.inPlaceUpdateStrategy.gracePeriodSeconds"],
        ),
        (
            "too heavy a weight",
            |spec| {
                let term = json!({"weight": 101, "matchSelector": {}});
                spec["updateStrategy"]["rollingUpdate"]["priorityStrategy"] = json!({"weightPriority": [term]});
            },
            &["weightPriority[0].weight", "less than or equal to 100"],
        ),
    ];
    for (what, spoil, words) in refusals {
        for version in ["v1alpha1", "v1beta1"] {
            let mut set = cloneset(0);
            set["apiVersion"] = format!("apps.kruise.io/{version}").into();
            spoil(&mut set["spec"]);
            let error = case.try_create(&set).await.expect_err(what);
            for word in *words {
                assert!(error.contains(word), "{what}: {word} in {error}");
            }
        }
    }
    assert!(case.list("apps.kruise.io", "v1beta1", "CloneSet").await.is_empty());
}

pub(super) async fn selector_is_immutable(case: &Case) {
    case.create(&cloneset(0)).await;
    let other = json!({"spec": {"selector": {"matchLabels": {"app": "other"}},
        "template": {"metadata": {"labels": {"app": "other"}}}}});
    let error = case.try_patch(&other).await.expect_err("a refusal");
    assert!(error.contains("spec.selector is immutable"), "{error}");
    // A template that no longer matches is refused as well.
    let error = case
        .try_patch(&json!({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}}))
        .await;
    let error = error.expect_err("a refusal");
    assert!(error.contains("spec.selector.matchLabels must match"), "{error}");
    assert_eq!(
        case.set().await["spec"]["selector"],
        json!({"matchLabels": {"app": NAME}})
    );
}
