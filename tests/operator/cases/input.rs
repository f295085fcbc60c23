//! What the API server makes of CloneSets: it defaults, prunes and refuses by the CRD's schema and rules.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::case::{Case, NAME, cloneset};

/// A CloneSet in v1alpha1.
fn alpha(strategy: Value) -> Value {
    let mut set = cloneset(0);
    set["apiVersion"] = json!("apps.kruise.io/v1alpha1");
    set["spec"]["updateStrategy"] = strategy;
    set
}

pub(super) async fn both_versions_are_one_object(case: &Case) {
    if !case.ground.converts() {
        return;
    }
    let mut set = alpha(json!({"type": "InPlaceOnly", "partition": "50%", "maxUnavailable": 2,
        "inPlaceUpdateStrategy": {"gracePeriodSeconds": 3}}));
    set["spec"]["scaleStrategy"] = json!({"disablePVCReuse": true});
    let created = case.create_converted(&set).await;
    assert_eq!(created["apiVersion"], "apps.kruise.io/v1alpha1");
    let beta = case.set().await;
    assert_eq!(
        (&beta["apiVersion"], &beta["metadata"]["uid"]),
        (&json!("apps.kruise.io/v1beta1"), &created["metadata"]["uid"])
    );
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "InPlaceOnly", "partition": "50%",
        "maxUnavailable": 2, "maxSurge": 0, "inPlaceUpdateStrategy": {"gracePeriodSeconds": 3}}});
    assert_eq!(beta["spec"]["updateStrategy"], strategy);
    assert_eq!(beta["spec"]["scaleStrategy"], json!({"enablePVCReuse": false}));

    // What is written in one version counts in the other.
    let alphas = case.api("apps.kruise.io", "v1alpha1", "CloneSet");
    let partition = Patch::Merge(json!({"spec": {"updateStrategy": {"partition": 3}}}));
    alphas
        .patch(NAME, &PatchParams::default(), &partition)
        .await
        .expect("a patch");
    assert_eq!(
        case.set().await["spec"]["updateStrategy"]["rollingUpdate"]["partition"],
        3
    );
    case.rolling(json!({"podUpdatePolicy": "InPlaceIfPossible", "paused": true}))
        .await;
    let seen = alphas.get(NAME).await.expect("the CloneSet");
    assert_eq!(
        (
            &seen.data["spec"]["updateStrategy"]["type"],
            &seen.data["spec"]["updateStrategy"]["paused"]
        ),
        (&json!("InPlaceIfPossible"), &json!(true))
    );
    // A client of v1alpha1 that knows its fields and no others takes nothing away.
    // The operator writes meanwhile.
    for tries in 1.. {
        let mut seen = alphas.get(NAME).await.expect("the CloneSet");
        let spec = seen.data["spec"].as_object_mut().expect("a spec");
        spec.retain(|field, _| {
            ["replicas", "selector", "template", "updateStrategy", "scaleStrategy"].contains(&field.as_str())
        });
        seen.data["spec"]["replicas"] = json!(0);
        match alphas.replace(NAME, &PostParams::default(), &seen).await {
            Ok(_) => break,
            Err(kube::Error::Api(why)) if why.is_conflict() && tries < 50 => {}
            Err(why) => panic!("an update: {why}"),
        }
    }
    let after = case.set().await;
    let rolling = &after["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(
        (&rolling["podUpdatePolicy"], &rolling["partition"], &rolling["paused"]),
        (&json!("InPlaceIfPossible"), &json!(3), &json!(true))
    );
}

/// A new object looks as OpenKruise's webhook leaves it, in either version.
pub(super) async fn defaults_are_those_of_openkruise(case: &Case) {
    let mut beta = cloneset(0);
    for field in ["replicas", "updateStrategy"] {
        beta["spec"].as_object_mut().unwrap().remove(field);
    }
    beta["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let mut spec = beta["spec"].clone();
    let claim = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Pending"}}]);
    let settings = json!({"partition": 0, "maxUnavailable": "20%", "maxSurge": 0, "inPlaceUpdateStrategy": {}});
    for (field, value) in [
        ("replicas", json!(1)),
        ("revisionHistoryLimit", json!(10)),
        ("volumeClaimTemplates", claim),
    ] {
        spec[field] = value;
    }
    let (mut flat, mut rolling) = (settings.clone(), settings);
    flat["type"] = json!("ReCreate");
    rolling["podUpdatePolicy"] = json!("ReCreate");
    let mut wanted = spec.clone();
    wanted["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
    wanted["scaleStrategy"] = json!({"enablePVCReuse": false});
    beta["spec"]["template"]["spec"]["nodeSelector"] = json!({"none": "such"});
    wanted["template"]["spec"]["nodeSelector"] = json!({"none": "such"});
    let made = case.create(&beta).await;
    // Those of the template are OpenKruise's, too.
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
        "Always"
    );
    wanted["template"] = made["spec"]["template"].clone();
    assert_eq!(made["spec"], wanted);
    if case.ground.converts() {
        let mut alpha = beta;
        alpha["apiVersion"] = json!("apps.kruise.io/v1alpha1");
        alpha["metadata"]["name"] = json!("old");
        let mut wanted = wanted;
        wanted["updateStrategy"] = flat;
        wanted["scaleStrategy"] = json!({});
        assert_eq!(case.create_converted(&alpha).await["spec"], wanted);
    }
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
        let mut set = cloneset(0);
        spoil(&mut set["spec"]);
        let error = case.try_create(&set).await.expect_err(what);
        for word in *words {
            assert!(error.contains(word), "{what}: {word} in {error}");
        }
        // A policy that is none becomes the default on the way.
        if words.iter().any(|word| word.contains("podUpdatePolicy")) {
            continue;
        }
        afloat_api::convert::convert(&mut set, "apps.kruise.io/v1alpha1").expect("v1alpha1");
        let error = case.try_create(&set).await.expect_err(what);
        for word in *words {
            let word = word.replace("rollingUpdate.", "");
            assert!(error.contains(&word), "{what}: {word} in {error}");
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
