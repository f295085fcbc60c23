use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::json;

use super::*;

mod daemon_set;

const ALPHA: &str = "apps.kruise.io/v1alpha1";
const BETA: &str = "apps.kruise.io/v1beta1";

fn converted(mut object: Value, wanted: &str) -> Value {
    convert(&mut object, wanted).unwrap();
    object
}

/// An object with these fields; those that are None are absent.
fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let given = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..200).prop_map(|n| json!(n)),
        (0..100).prop_map(|n| json!(format!("{n}%")))
    ]
}

fn policy() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["ReCreate", "InPlaceIfPossible", "InPlaceOnly"]).prop_map(Value::from)
}

/// What both versions have, with one field that neither knows.
fn settings(in_place: BoxedStrategy<Value>) -> impl Strategy<Value = Vec<(&'static str, Option<Value>)>> {
    let order = json!({"orderPriority": [{"orderedKey": "a"}]});
    (
        (of(amount()), of(amount()), of(amount()), of(any::<bool>())),
        (
            of(Just(order)),
            of(Just(json!([{"key": "a", "value": "b"}]))),
            of(in_place),
        ),
    )
        .prop_map(
            |((partition, unavailable, surge, paused), (priority, scatter, in_place))| {
                vec![
                    ("partition", partition),
                    ("maxUnavailable", unavailable),
                    ("maxSurge", surge),
                    ("paused", paused.map(Value::from)),
                    ("priorityStrategy", priority),
                    ("scatterStrategy", scatter),
                    ("inPlaceUpdateStrategy", in_place),
                ]
            },
        )
}

fn meta(annotations: BoxedStrategy<Vec<(String, String)>>) -> impl Strategy<Value = Value> {
    let label = prop::sample::select(vec!["app", crate::names::EXCLUDE_PREPARING_DELETE]);
    let labels = btree_map(label, prop::sample::select(vec!["true", "web"]), 0..3);
    (of(labels), annotations).prop_map(|(labels, annotations)| {
        let mut meta = json!({"name": "web", "namespace": "n", "uid": "u", "generation": 4, "finalizers": ["a/b"]});
        if let Some(labels) = labels {
            meta["labels"] = json!(labels);
        }
        let map: std::collections::BTreeMap<_, _> = annotations.into_iter().collect();
        if !map.is_empty() {
            meta["annotations"] = json!(map);
        }
        meta
    })
}

fn whole(version: &str, meta: Value, scaling: Value, strategy: Value) -> Value {
    json!({
        "apiVersion": version, "kind": "CloneSet", "metadata": meta,
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "unknown": {"a": [1]},
            "template": {"spec": {"containers": [{"name": "app", "tomorrow": null}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "scaleStrategy": scaling, "updateStrategy": strategy,
        },
        "status": {"replicas": 3, "conditions": [{"type": "Progressing", "status": "True"}]},
    })
}

/// A v1alpha1 object as its schema leaves it: with a type.
fn alpha() -> impl Strategy<Value = Value> {
    let in_place = of(0..60).prop_map(|grace| object(vec![("gracePeriodSeconds", grace.map(Value::from))]));
    let kind = prop_oneof![policy(), Just(json!("OnDelete"))];
    let download = (
        prop::sample::select(crate::names::PREDOWNLOAD.map(|(annotation, _)| annotation).to_vec()),
        prop::sample::select(vec!["7", "0", "many", ""]),
    );
    let download = download.prop_map(|(key, value)| (key.to_owned(), value.to_owned()));
    let other = Just(("note".to_owned(), "x".to_owned()));
    let annotations = vec(prop_oneof![download, other], 0..4).boxed();
    // An annotation makes the strategy that it goes to and comes from.
    let scaling = (of(vec("[a-z]{1,5}", 0..3)), of(amount()), any::<bool>());
    (meta(annotations), scaling, kind, settings(in_place.boxed())).prop_map(
        |(meta, (pods, unavailable, disabled), kind, mut settings)| {
            settings.push(("type", Some(kind)));
            let scaling = object(vec![
                ("podsToDelete", pods.map(Value::from)),
                ("maxUnavailable", unavailable),
                ("disablePVCReuse", disabled.then(|| true.into())),
            ]);
            let mut strategy = object(settings);
            if meta["annotations"].is_object() && strategy["inPlaceUpdateStrategy"].is_null() {
                strategy["inPlaceUpdateStrategy"] = json!({});
            }
            whole(ALPHA, meta, scaling, strategy)
        },
    )
}

/// A v1beta1 object as its schema leaves it: with type, policy and `enablePVCReuse`.
fn beta() -> impl Strategy<Value = Value> {
    let in_place = (of(0..60), of(amount()), of(0..900)).prop_map(|(grace, parallel, seconds)| {
        object(vec![
            ("gracePeriodSeconds", grace.map(Value::from)),
            ("imagePreDownloadParallelism", parallel),
            ("imagePreDownloadTimeoutSeconds", seconds.map(Value::from)),
        ])
    });
    let kind = prop::sample::select(vec!["RollingUpdate", "OnDelete"]);
    let annotations = Just(vec![("note".to_owned(), "x".to_owned())]).boxed();
    (
        meta(annotations),
        any::<bool>(),
        any::<bool>(),
        kind,
        policy(),
        settings(in_place.boxed()),
    )
        .prop_map(|(meta, enabled, excludes, kind, policy, mut settings)| {
            settings.push(("podUpdatePolicy", Some(policy)));
            let labelled = meta["labels"][crate::names::EXCLUDE_PREPARING_DELETE] == "true";
            let scaling = object(vec![
                ("enablePVCReuse", Some(enabled.into())),
                ("excludePreparingDelete", (excludes || labelled).then(|| true.into())),
            ]);
            whole(
                BETA,
                meta,
                scaling,
                json!({"type": kind, "rollingUpdate": object(settings)}),
            )
        })
}

/// `podUpdatePolicy: ReCreate` of an object whose type is OnDelete: the default, which v1alpha1 does not say.
fn without_default_policy(mut object: Value) -> Value {
    let strategy = &mut object["spec"]["updateStrategy"];
    if strategy["type"] == "OnDelete" && strategy["rollingUpdate"]["podUpdatePolicy"] == "ReCreate" {
        let rolling = strategy["rollingUpdate"].as_object_mut().unwrap();
        rolling.remove("podUpdatePolicy");
        if rolling.is_empty() {
            strategy.as_object_mut().unwrap().remove("rollingUpdate");
        }
    }
    object
}

/// What the API server lets a conversion change of `metadata`.
fn identity(object: &Value) -> Value {
    let mut meta = object["metadata"].clone();
    meta.as_object_mut()
        .unwrap()
        .retain(|key, _| key != "labels" && key != "annotations");
    meta
}

proptest! {
    #[test]
    fn v1alpha1_comes_back_as_it_was(set in alpha()) {
        let there = converted(set.clone(), BETA);
        prop_assert_eq!(identity(&there), identity(&set));
        prop_assert_eq!(&there["status"], &set["status"]);
        prop_assert_eq!(converted(there, ALPHA), set);
    }

    #[test]
    fn v1beta1_comes_back_as_it_was(set in beta()) {
        let there = converted(set.clone(), ALPHA);
        prop_assert_eq!(identity(&there), identity(&set));
        prop_assert!(there["spec"]["updateStrategy"]["rollingUpdate"].is_null());
        prop_assert_eq!(converted(there, BETA), without_default_policy(set));
    }

    /// Whatever a client sends or a store holds.
    #[test]
    fn no_shape_is_too_strange(spec in strange(), meta in strange(), wanted in prop::sample::select(vec![ALPHA, BETA])) {
        let from = if wanted == ALPHA { BETA } else { ALPHA };
        converted(json!({"apiVersion": from, "kind": "CloneSet", "metadata": meta, "spec": spec}), wanted);
    }
}

proptest! {
    /// Both versions of a StatefulSet say the same in the same words.
    #[test]
    fn a_stateful_set_comes_back_as_it_was(spec in strange(), meta in strange(), from in prop::sample::select(vec![ALPHA, BETA])) {
        let there = if from == ALPHA { BETA } else { ALPHA };
        let set = json!({"apiVersion": from, "kind": "StatefulSet", "metadata": meta, "spec": spec});
        let other = converted(set.clone(), there);
        prop_assert_eq!(&other["apiVersion"], there);
        prop_assert_eq!(converted(other, from), set);
    }
}

fn strange() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from)
    ];
    let keys = [
        "updateStrategy",
        "rollingUpdate",
        "scaleStrategy",
        "inPlaceUpdateStrategy",
        "type",
        "partition",
        "labels",
        "annotations",
        "podUpdatePolicy",
        "enablePVCReuse",
        "disablePVCReuse",
        "imagePreDownloadParallelism",
        "rollingUpdateType",
        "partitionedScaling",
        "daemonSetHash",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(prop::sample::select(keys.to_vec()), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// How both versions say the same.
#[test]
fn the_two_spellings() {
    let rows = [
        (
            json!({"type": "InPlaceOnly", "partition": "50%", "maxUnavailable": 2}),
            json!({"type": "RollingUpdate",
                "rollingUpdate": {"podUpdatePolicy": "InPlaceOnly", "partition": "50%", "maxUnavailable": 2}}),
        ),
        (
            json!({"type": "ReCreate", "partition": 3, "paused": true}),
            json!({"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "ReCreate", "partition": 3, "paused": true}}),
        ),
        (
            json!({"type": "OnDelete", "partition": 0}),
            json!({"type": "OnDelete", "rollingUpdate": {"partition": 0}}),
        ),
    ];
    for (alpha, beta) in rows {
        let set = |version: &str, strategy: &Value| json!({"apiVersion": version, "kind": "CloneSet", "spec": {"updateStrategy": strategy}});
        assert_eq!(converted(set(ALPHA, &alpha), BETA)["spec"]["updateStrategy"], beta);
        assert_eq!(converted(set(BETA, &beta), ALPHA)["spec"]["updateStrategy"], alpha);
    }
}

/// The default of one version is the opposite of the other's, so it is written out.
#[test]
fn claims_are_reused_by_default_in_v1alpha1_only() {
    let empty = |version: &str| json!({"apiVersion": version, "kind": "CloneSet", "spec": {}});
    assert_eq!(
        converted(empty(ALPHA), BETA)["spec"]["scaleStrategy"],
        json!({"enablePVCReuse": true})
    );
    assert_eq!(
        converted(empty(BETA), ALPHA)["spec"]["scaleStrategy"],
        json!({"disablePVCReuse": true})
    );
}

#[test]
fn reviews_are_answered() {
    let ask = |objects: Value| {
        let question = json!({"apiVersion": REVIEW_VERSION, "kind": "ConversionReview",
            "request": {"uid": "u", "desiredAPIVersion": BETA, "objects": objects}});
        review(question.to_string().as_bytes()).unwrap()["response"].clone()
    };
    let alpha =
        |name: &str| json!({"apiVersion": ALPHA, "kind": "CloneSet", "metadata": {"name": name, "namespace": "n"}});
    let done = ask(json!([alpha("a"), alpha("b"), {"apiVersion": BETA, "kind": "CloneSet"}]));
    assert_eq!(
        (&done["uid"], &done["result"]),
        (&json!("u"), &json!({"status": "Success"}))
    );
    let versions: Vec<_> = done["convertedObjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["apiVersion"])
        .collect();
    assert_eq!(versions, [BETA; 3]);
    assert_eq!(done["convertedObjects"][1]["metadata"]["name"], "b");

    let failed = ask(
        json!([alpha("a"), {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}}]),
    );
    assert_eq!(failed["result"]["status"], "Failure");
    assert_eq!(
        failed["result"]["message"],
        "n/d: kind \"Deployment\" is not converted here"
    );
    assert!(failed["convertedObjects"].is_null());

    for bad in [
        "",
        "{}",
        r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}"#,
    ] {
        assert!(review(bad.as_bytes()).is_err(), "{bad}");
    }
}
