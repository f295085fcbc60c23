//! Conversion of Advanced DaemonSets.

use super::*;
use crate::names::PROGRESSIVE_CREATE;

fn rolling(kinds: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(kinds);
    let selector = Just(json!({"matchLabels": {"zone": "a"}}));
    (
        kind,
        of(amount()),
        of(amount()),
        of(amount()),
        of(any::<bool>()),
        of(selector),
    )
        .prop_map(|(kind, unavailable, surge, partition, paused, selector)| {
            object(vec![
                ("rollingUpdateType", Some(kind.into())),
                ("maxUnavailable", unavailable),
                ("maxSurge", surge),
                ("partition", partition),
                ("paused", paused.map(Value::from)),
                ("selector", selector),
            ])
        })
}

fn daemon(version: &str, meta: &Value, strategy: Option<Value>, scaling: Option<Value>, revision: &str) -> Value {
    let spec = object(vec![
        ("selector", Some(json!({"matchLabels": {"app": "web"}}))),
        (
            "template",
            Some(json!({"spec": {"containers": [{"name": "app", "tomorrow": null}]}})),
        ),
        ("unknown", Some(json!({"a": [1]}))),
        ("burstReplicas", Some(json!("10%"))),
        (
            "updateStrategy",
            strategy.map(|rolling| json!({"type": "RollingUpdate", "rollingUpdate": rolling})),
        ),
        ("scaleStrategy", scaling),
    ]);
    json!({
        "apiVersion": version, "kind": "DaemonSet", "metadata": meta, "spec": spec,
        "status": {"numberReady": 3, revision: "5f9c"},
    })
}

fn progress() -> impl Strategy<Value = Vec<(String, String)>> {
    let ours = prop::sample::select(vec!["true", "false", ""])
        .prop_map(|value| (PROGRESSIVE_CREATE.to_owned(), value.to_owned()));
    vec(prop_oneof![ours, Just(("note".to_owned(), "x".to_owned()))], 0..3)
}

fn alpha() -> impl Strategy<Value = Value> {
    let rolling = of(rolling(&["Standard", "InPlaceIfPossible"]));
    (meta(progress().boxed()), rolling).prop_map(|(meta, rolling)| daemon(ALPHA, &meta, rolling, None, "daemonSetHash"))
}

fn beta() -> impl Strategy<Value = Value> {
    let rolling = of(rolling(&["Standard", "InPlaceIfPossible"]));
    let note = Just(vec![("note".to_owned(), "x".to_owned())]).boxed();
    (meta(note), rolling, any::<bool>()).prop_map(|(meta, rolling, progressive)| {
        let scaling = progressive.then(|| json!({"partitionedScaling": true}));
        daemon(BETA, &meta, rolling, scaling, "updateRevision")
    })
}

proptest! {
    #[test]
    fn daemon_sets_of_v1alpha1_come_back_as_they_were(set in alpha()) {
        let there = converted(set.clone(), BETA);
        prop_assert_eq!(identity(&there), identity(&set));
        prop_assert_eq!(&there["status"]["updateRevision"], "5f9c");
        prop_assert_eq!(converted(there, ALPHA), set);
    }

    #[test]
    fn daemon_sets_of_v1beta1_come_back_as_they_were(set in beta()) {
        let there = converted(set.clone(), ALPHA);
        prop_assert_eq!(identity(&there), identity(&set));
        prop_assert!(there["spec"]["scaleStrategy"].is_null());
        prop_assert_eq!(converted(there, BETA), set);
    }

    #[test]
    fn no_daemon_set_is_too_strange(spec in strange(), meta in strange(), wanted in prop::sample::select(vec![ALPHA, BETA])) {
        let from = if wanted == ALPHA { BETA } else { ALPHA };
        let object = json!({"apiVersion": from, "kind": "DaemonSet", "metadata": meta, "spec": spec, "status": spec});
        converted(object, wanted);
    }
}

/// What OpenKruise's webhook makes of it.
#[test]
fn surging_is_standard_with_a_surge() {
    for (alpha, beta) in [
        (json!({}), json!({"maxSurge": 1, "maxUnavailable": 0})),
        (
            json!({"maxSurge": "30%"}),
            json!({"maxSurge": "30%", "maxUnavailable": 0}),
        ),
        (
            json!({"maxUnavailable": 0}),
            json!({"maxSurge": 1, "maxUnavailable": 0}),
        ),
    ] {
        let mut rolling = alpha.clone();
        rolling["rollingUpdateType"] = json!("Surging");
        let set = daemon(ALPHA, &json!({}), Some(rolling), None, "daemonSetHash");
        let mut wanted = beta.clone();
        wanted["rollingUpdateType"] = json!("Standard");
        assert_eq!(
            converted(set, BETA)["spec"]["updateStrategy"]["rollingUpdate"],
            wanted,
            "{alpha}"
        );
    }
}
