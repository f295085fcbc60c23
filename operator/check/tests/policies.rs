//! Each policy says of an object what its rule says of that object alone. The expressions are evaluated by kube-cel here;
//! `tests/operator` has kube-apiserver take the same policies.

#![allow(clippy::panic, clippy::unwrap_used)] // helpers of tests may fail as tests do

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use afloat_check::policy::{self, Action, Binding};
use afloat_check::{Images, RULES, Rule, check};
use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

/// A policy whose expressions are compiled.
struct Policy {
    rule: &'static Rule,
    conditions: Vec<Program>,
    variables: Vec<(String, Program)>,
    good: Program,
    message: Program,
}

fn policies() -> Vec<Policy> {
    let binding = Binding {
        actions: vec![Action::Warn],
        namespaces: None,
    };
    let compile = |text: &Value| {
        let text = text.as_str().unwrap();
        Program::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    let made = RULES.iter().filter_map(|rule| {
        let [policy, _] = policy::objects(rule, &binding)?;
        let spec = &policy["spec"];
        let list = |name: &str| spec[name].as_array().cloned().unwrap();
        Some(Policy {
            rule,
            conditions: list("matchConditions")
                .iter()
                .map(|condition| compile(&condition["expression"]))
                .collect(),
            variables: list("variables")
                .iter()
                .map(|variable| {
                    (
                        variable["name"].as_str().unwrap().to_owned(),
                        compile(&variable["expression"]),
                    )
                })
                .collect(),
            good: compile(&spec["validations"][0]["expression"]),
            message: compile(&spec["validations"][0]["messageExpression"]),
        })
    });
    made.collect()
}

/// What CEL makes of JSON: whole numbers are `int`, whatever their sign.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap()),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.as_str().into(), cel(value)));
            map(fields)
        }
    }
}

fn map(entries: impl IntoIterator<Item = (Key, Cel)>) -> Cel {
    Cel::Map(Map {
        map: Arc::new(entries.into_iter().collect()),
    })
}

impl Policy {
    /// The message, if the policy speaks of the object.
    fn says(&self, object: &Value, old: Option<&Value>) -> Option<String> {
        let mut context = Context::default().with_all();
        context.add_function("dyn", |value: Cel| -> Result<Cel, ExecutionError> { Ok(value) });
        context.add_variable_from_value("object", cel(object));
        context.add_variable_from_value("oldObject", old.map_or(Cel::Null, cel));
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        context.add_variable_from_value("request", cel(&json!({"operation": operation})));
        let run = |program: &Program, context: &Context<'_>| {
            let result = program.execute(context);
            result.unwrap_or_else(|e| panic!("{}: {e} of {object:#}", self.rule.id))
        };
        if !self
            .conditions
            .iter()
            .all(|condition| run(condition, &context) == Cel::Bool(true))
        {
            return None;
        }
        let mut known: Vec<(Key, Cel)> = Vec::new();
        for (name, program) in &self.variables {
            let value = run(program, &context);
            known.push((name.as_str().into(), value));
            context.add_variable_from_value("variables", map(known.clone()));
        }
        match run(&self.good, &context) {
            Cel::Bool(true) => None,
            Cel::Bool(false) => match run(&self.message, &context) {
                Cel::String(text) => Some(text.to_string()),
                other => panic!("a message: {other:?}"),
            },
            other => panic!("{}: {other:?}", self.rule.id),
        }
    }
}

/// What the rule says of the object, with nothing beside it.
fn rule_says(rule: &Rule, object: &Value) -> bool {
    let found = check(std::slice::from_ref(object), &Images::new(), &BTreeSet::new());
    found.iter().any(|finding| finding.rule == rule.id)
}

fn kind_fits(policy: &Policy, object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap();
    match policy.rule.id {
        "pdb-allows-nothing" => kind == "PodDisruptionBudget",
        "init-shares-image" => object["apiVersion"].as_str().unwrap().starts_with("apps.kruise.io/"),
        _ => matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "CloneSet"),
    }
}

#[test]
fn cases_are_seen_as_the_rules_see_them() {
    let policies = policies();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut spoke = BTreeSet::new();
    for folder in RULES.iter().map(|rule| rule.id) {
        for name in ["bad.yaml", "good.yaml"] {
            let text = std::fs::read_to_string(cases.join(folder).join(name)).unwrap();
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            for (policy, object) in policies
                .iter()
                .flat_map(|policy| objects.iter().map(move |object| (policy, object)))
            {
                if kind_fits(policy, object) {
                    let said = policy.says(object, None);
                    assert_eq!(
                        said.is_some(),
                        rule_says(policy.rule, object),
                        "{}: {object:#}",
                        policy.rule.id
                    );
                    if said.is_some() && policy.rule.id == folder && name == "bad.yaml" {
                        spoke.insert(folder);
                    }
                }
            }
        }
    }
    // What is bad in the case of this one can be told only beside the workload.
    spoke.insert("pdb-allows-nothing");
    let all: BTreeSet<&str> = policies.iter().map(|policy| policy.rule.id).collect();
    assert_eq!(spoke, all, "each policy speaks of its own bad case");
}

#[test]
fn messages_name_what_is_at_fault() {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "app", "image": "web:1", "lifecycle": {"postStart": {"sleep": {"seconds": 2}}}},
            {"name": "log", "image": "log:1", "lifecycle": {"postStart": {"exec": {"command": ["sleep", "1"]}}}},
        ]}}},
    });
    let policies = policies();
    let policy = policies
        .iter()
        .find(|policy| policy.rule.id == "post-start-blocks")
        .unwrap();
    let message = policy.says(&object, None).unwrap();
    assert!(
        message.starts_with("post-start-blocks: postStart sleeps (app, log). Wait for"),
        "{message}"
    );

    // What was there before is let through, unless what the rule looks at is touched.
    let old = object.clone();
    object["metadata"]["finalizers"] = json!([]);
    assert_eq!(policy.says(&object, Some(&old)), None);
    object["spec"]["replicas"] = json!(3);
    assert!(policy.says(&object, Some(&old)).is_some());

    for (field, value) in [
        (
            "annotations",
            json!({"check.afloat.dev/ignore": "no-grace, post-start-blocks"}),
        ),
        ("annotations", json!({"check.afloat.dev/ignore": "*"})),
        ("ownerReferences", json!([{"controller": true}])),
    ] {
        let mut object = old.clone();
        object["metadata"][field] = value;
        assert_eq!(policy.says(&object, None), None, "{object:#}");
    }
}

/// Without the fields that are null.
fn object(fields: Vec<(&str, Value)>) -> Value {
    let stated = fields.into_iter().filter(|(_, value)| !value.is_null());
    stated
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect()
}

/// One of these; a null leaves the field out.
fn one(values: Value) -> impl Strategy<Value = Value> + Clone {
    let Value::Array(values) = values else { panic!("a list") };
    prop::sample::select(values)
}

fn hook() -> impl Strategy<Value = Value> {
    let script = "( |\t|\n|;|&&|\\(|\\)|/bin/|sleep|sleep |asleep |sleep 5|/sleep  '7m'|sleep 1\\.5h|sleep .5|sleep 1e2s|\"3\"|true|s|m){0,7}";
    prop_oneof![
        2 => one(json!([null, null, {"httpGet": {"port": 1}}, {"sleep": {"seconds": 5}}, {"sleep": {"seconds": 25}},
            {"sleep": {"seconds": 0}}, {"exec": {}}, {"exec": {"command": ["sleep", "30"]}}, {"exec": {"command": ["sleep"]}}])),
        1 => script.prop_map(|script| json!({"exec": {"command": ["sh", "-c", script]}})),
    ]
}

fn probe() -> impl Strategy<Value = Value> {
    let number = || one(json!([null, null, 0, 1, 3, 10, 29, 30, 60]));
    let ask = one(json!([{"tcpSocket": {"port": 1}}, {"httpGet": {"port": 1}}, {"httpGet": {"port": 2}}, {}]));
    let fields = (ask, number(), number(), number(), one(json!([null, 1, 5, 30])));
    let probe = fields.prop_map(|(ask, delay, period, threshold, grace)| {
        let mut probe = object(vec![
            ("initialDelaySeconds", delay),
            ("periodSeconds", period),
            ("failureThreshold", threshold),
            ("terminationGracePeriodSeconds", grace),
        ]);
        for (key, value) in ask.as_object().unwrap() {
            probe[key] = value.clone();
        }
        probe
    });
    prop_oneof![1 => Just(Value::Null), 3 => probe]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let images = json!([
        null,
        "",
        "web",
        "web:1",
        "web:1",
        "web:1",
        "web:1",
        "web:1",
        "web:latest",
        "localhost:5000/web",
        "localhost:5000/web:1",
        "web@sha256:1",
        "a/b:latest"
    ]);
    let ports = json!([null, [], [{"containerPort": 1}], [{"containerPort": 1, "hostPort": 0}], [{"containerPort": 1, "hostPort": 2}]]);
    let policies = json!([null, "Always", "IfNotPresent", "Never"]);
    let fields = (
        (
            one(images),
            one(policies),
            one(ports),
            one(json!([null, null, "Always"])),
        ),
        (probe(), probe(), probe(), hook(), hook(), any::<bool>()),
    );
    fields.prop_map(
        move |((image, policy, ports, restart), (liveness, readiness, startup, start, stop, hooks))| {
            let lifecycle = object(vec![("postStart", start), ("preStop", stop)]);
            object(vec![
                ("name", name.into()),
                ("image", image),
                ("imagePullPolicy", policy),
                ("ports", ports),
                ("restartPolicy", restart),
                ("livenessProbe", liveness),
                ("readinessProbe", readiness),
                ("startupProbe", startup),
                ("lifecycle", if hooks { lifecycle } else { Value::Null }),
            ])
        },
    )
}

fn annotations() -> impl Strategy<Value = Value> {
    let texts = json!([
        null,
        null,
        "",
        "0",
        "3",
        " 3 ",
        "-1",
        "5%",
        "0.5 %",
        "101%",
        "-0%",
        "1e2%",
        "5%%",
        ".%",
        "x",
        "99999999999999999999999"
    ]);
    let drain = json!([null, null, "Timed", "Observed", "observed", ""]);
    let action = json!([null, null, "Pause", "Rollback", "rollback"]);
    let fields = (any::<bool>(), one(texts), one(drain), one(action));
    fields.prop_map(|(any, limit, drain, action)| {
        let stated = object(vec![
            ("afloat.dev/max-loss", limit),
            ("afloat.dev/drain", drain),
            ("afloat.dev/on-loss", action),
            ("other", "x".into()),
        ]);
        if any { stated } else { Value::Null }
    })
}

fn rolling(kind: &'static str) -> impl Strategy<Value = Value> {
    let amounts = || {
        one(json!([
            null, null, 0, 1, 2, 3, 10, "0", "2", "0%", "1%", "25%", "50%", "51%", "67%", "99%", "100%", "101%", "x"
        ]))
    };
    let policies = json!([null, "ReCreate", "InPlaceIfPossible", "InPlaceOnly"]);
    let types = json!([null, "Standard", "Surging", "InPlaceIfPossible", "InPlaceIfPossible"]);
    let fields = (amounts(), amounts(), one(policies), one(types));
    fields.prop_map(move |(unavailable, surge, policy, way)| {
        // What a kind does not have is not stored.
        let daemons = kind == "DaemonSet";
        object(vec![
            ("maxUnavailable", unavailable),
            ("maxSurge", if kind == "StatefulSet" { Value::Null } else { surge }),
            ("podUpdatePolicy", if daemons { Value::Null } else { policy }),
            ("rollingUpdateType", if daemons { way } else { Value::Null }),
        ])
    })
}

fn workload() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("apps.kruise.io/v1alpha1", "CloneSet"),
        ("apps.kruise.io/v1beta1", "CloneSet"),
        ("apps.kruise.io/v1alpha1", "StatefulSet"),
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("apps.kruise.io/v1alpha1", "DaemonSet"),
        ("apps.kruise.io/v1beta1", "DaemonSet"),
    ])
    .prop_flat_map(|(version, kind)| workload_of(version, kind))
}

fn workload_of(version: &'static str, kind: &'static str) -> impl Strategy<Value = Value> {
    let types = json!([
        null,
        "RollingUpdate",
        "Recreate",
        "OnDelete",
        "ReCreate",
        "InPlaceIfPossible",
        "InPlaceIfPossible",
        "InPlaceOnly",
        "InPlaceOnly"
    ]);
    let strategy = (
        one(types),
        prop::option::of(rolling(kind)),
        prop::option::of(rolling(kind)),
    );
    let pods = (
        prop::collection::vec(container("app"), 1..3),
        prop::option::weighted(0.8, prop::collection::vec(container("init"), 0..3)),
        one(json!([null, 0, 1, 5, 30, 35, 36, 60])),
        annotations(),
    );
    let all = (
        one(json!([null, 0, 1, 2, 3, 4])),
        prop::option::of(strategy),
        pods,
        annotations(),
    );
    all.prop_map(
        move |(replicas, strategy, (containers, inits, grace, inside), outside)| {
            let strategy = strategy.map_or(Value::Null, |(kind, rolling, flat)| {
                let mut strategy = flat.unwrap_or_else(|| json!({}));
                strategy["type"] = kind;
                if let Some(rolling) = rolling {
                    strategy["rollingUpdate"] = rolling;
                }
                object(
                    strategy
                        .as_object()
                        .unwrap()
                        .iter()
                        .map(|(key, value)| (key.as_str(), value.clone()))
                        .collect(),
                )
            });
            let place = if kind == "Deployment" {
                "strategy"
            } else {
                "updateStrategy"
            };
            let pod = object(vec![
                ("containers", containers.into()),
                ("initContainers", inits.map_or(Value::Null, Value::from)),
                ("terminationGracePeriodSeconds", grace),
            ]);
            json!({
                "apiVersion": version, "kind": kind,
                "metadata": object(vec![("name", "web".into()), ("annotations", outside)]),
                "spec": object(vec![
                    ("replicas", replicas),
                    (place, strategy),
                    ("template", json!({"metadata": object(vec![("annotations", inside)]), "spec": pod})),
                ]),
            })
        },
    )
}

fn budget() -> impl Strategy<Value = Value> {
    let amounts = || one(json!([null, 0, 1, "0%", "1%", "100%", "50%", "0"]));
    let fields = (
        amounts(),
        amounts(),
        one(json!([null, {}, {"matchLabels": {"app": "web"}}])),
    );
    fields.prop_map(|(unavailable, available, selector)| {
        let spec = object(vec![
            ("maxUnavailable", unavailable),
            ("minAvailable", available),
            ("selector", selector),
        ]);
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec})
    })
}

/// Random objects; each policy must have spoken of some and been silent of others.
#[test]
fn random_objects_are_seen_as_the_rules_see_them() {
    let policies = policies();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let objects = prop_oneof![20 => workload(), 1 => budget()];
    let mut seen: BTreeMap<(&str, bool), u32> = BTreeMap::new();
    let enough = |seen: &BTreeMap<(&str, bool), u32>| {
        let times = |policy: &Policy, said| seen.get(&(policy.rule.id, said)).is_some_and(|times| *times >= 3);
        policies
            .iter()
            .all(|policy| times(policy, true) && times(policy, false))
    };
    for number in 0.. {
        if number >= 200 && enough(&seen) {
            return;
        }
        assert!(number < 3000, "too seldom: {seen:?}");
        let object = objects.new_tree(&mut runner).unwrap().current();
        for policy in policies.iter().filter(|policy| kind_fits(policy, &object)) {
            let said = policy.says(&object, None);
            assert_eq!(
                said.is_some(),
                rule_says(policy.rule, &object),
                "{}: {said:?} of {object:#}",
                policy.rule.id
            );
            *seen.entry((policy.rule.id, said.is_some())).or_default() += 1;
        }
    }
}
