//! How the time of work grows with what a client sends: ratios within one run.

use std::time::Duration;

use afloat_machinery::kinds::Registry;
use afloat_machinery::patch::{PatchType, apply};
use serde_json::{Value, json};

/// A pod spec with the parts given.
fn pod(spec: &Value) -> Value {
    json!({"spec": spec})
}

/// Processor time of this thread: what others do meanwhile does not count.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// How much more `work` takes with an input of `8 * n` than with one of `n`; the least of some runs each.
fn growth<T>(n: usize, make: impl Fn(usize) -> T, work: impl Fn(&T)) -> f64 {
    let least = |size: usize| {
        let input = make(size);
        let run = || {
            let before = spent();
            work(&input);
            spent() - before
        };
        (0..5).map(|_| run()).min().unwrap_or_default()
    };
    least(8 * n).as_secs_f64() / least(n).as_secs_f64()
}

fn texts(n: usize, word: &str) -> Vec<Value> {
    (0..n).map(|i| json!(format!("{word}/{i}"))).collect()
}

fn images(n: usize, word: &str) -> Vec<Value> {
    let one = |i| json!({"name": format!("{word}{i}"), "image": "i"});
    (0..n).map(one).collect()
}

fn gone(n: usize) -> Vec<Value> {
    let one = |i| json!({"name": format!("a{i}"), "$patch": "delete"});
    (0..n).map(one).collect()
}

type MakePatch = Box<dyn Fn(usize) -> (Value, Value)>;

/// Objects and patches of them.
fn patches() -> Vec<(&'static str, MakePatch)> {
    vec![
        (
            "a set grows",
            Box::new(|n| {
                let of = |list| json!({"metadata": {"finalizers": list}});
                (of(texts(n, "a")), of(texts(n, "b")))
            }),
        ),
        (
            "a set shrinks",
            Box::new(|n| {
                let list = texts(n, "a");
                let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": list}});
                (json!({"metadata": {"finalizers": list}}), patch)
            }),
        ),
        (
            "a set is put in order",
            Box::new(|n| {
                let mut order = texts(n, "a");
                order.reverse();
                let patch = json!({"metadata": {"$setElementOrder/finalizers": order}});
                (json!({"metadata": {"finalizers": texts(n, "a")}}), patch)
            }),
        ),
        (
            "a list merged by key grows",
            Box::new(|n| {
                (
                    pod(&json!({"containers": images(n, "a")})),
                    pod(&json!({"containers": images(n, "b")})),
                )
            }),
        ),
        (
            "all elements of a list merged by key go",
            Box::new(|n| {
                (
                    pod(&json!({"containers": images(n, "a")})),
                    pod(&json!({"containers": gone(n)})),
                )
            }),
        ),
        (
            "fields are retained",
            Box::new(|n| {
                let fields: serde_json::Map<String, Value> = (0..n).map(|i| (format!("f{i}"), json!(1))).collect();
                let keys: Vec<String> = fields.keys().cloned().collect();
                let object = json!({"metadata": {"annotations": fields}});
                let patch = json!({"metadata": {"annotations": {"$retainKeys": keys}}});
                (object, patch)
            }),
        ),
    ]
}

#[test]
fn a_list_eight_times_as_long_takes_eight_times_as_long() {
    let pods = Registry::builtin().by_kind("v1", "Pod").unwrap();
    for (what, make) in patches() {
        let grew = growth(500, make, |(current, patch)| {
            apply(PatchType::Strategic, &pods, current, patch).unwrap();
        });
        // With a walk within a walk it is 64.
        assert!(grew < 32.0, "{what}: {grew}");
    }
}

fn widget(field: &str, list: Vec<Value>) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, field: list})
}

fn pod_with(spec: Value, finalizers: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers}, "spec": spec})
}

fn many(n: usize, make: &dyn Fn(usize) -> Value) -> Vec<Value> {
    (0..n).map(make).collect()
}

fn named(i: usize) -> Value {
    json!({"name": format!("n{i}")})
}

fn one() -> Value {
    json!([{"name": "c", "image": "i"}])
}

/// The built-in kinds and one with lists that are maps and sets.
fn registry() -> Registry {
    let mut registry = Registry::builtin();
    let list = |kind: &str| {
        let items = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        json!({"type": "array", "items": items, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["name"]})
    };
    let schema = json!({"type": "object", "properties": {"map": list("map"), "set": list("set")}});
    let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    registry.add_crd(&crd).unwrap();
    registry
}

type MakeObject = Box<dyn Fn(usize) -> Value>;

/// What is long in them, their kind, and how one is made.
type Objects = Vec<(&'static str, &'static str, MakeObject)>;

/// Objects with long lists.
fn objects() -> Objects {
    vec![
        (
            "a list that is a map",
            "Widget",
            Box::new(|n| widget("map", many(n, &named))),
        ),
        (
            "a list that is a set",
            "Widget",
            Box::new(|n| widget("set", many(n, &named))),
        ),
        (
            "the same element always",
            "Widget",
            Box::new(|n| widget("map", many(n, &|_| json!({"name": "a"})))),
        ),
        (
            "bad finalizers",
            "Pod",
            Box::new(|n| pod_with(json!({"containers": one()}), many(n, &|i| json!(format!("-{i}"))))),
        ),
    ]
}

/// Pods with long lists.
fn long_pods() -> Objects {
    vec![
        (
            "containers",
            "Pod",
            Box::new(|n| {
                let containers = many(n, &|i| json!({"name": format!("c{i}"), "image": "i"}));
                pod_with(json!({"containers": containers}), Vec::new())
            }),
        ),
        (
            "volumes",
            "Pod",
            Box::new(|n| {
                let volumes = many(n, &|i| json!({"name": format!("v{i}"), "emptyDir": {}}));
                let mounts = many(n, &|i| json!({"name": format!("v{i}"), "mountPath": format!("/{i}")}));
                pod_with(
                    json!({"volumes": volumes, "containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]}),
                    Vec::new(),
                )
            }),
        ),
        (
            "variables and ports",
            "Pod",
            Box::new(|n| {
                let env = many(n, &|i| json!({"name": format!("E{i}"), "value": "x"}));
                let ports = many(
                    n,
                    &|i| json!({"name": format!("p{i}"), "containerPort": i % 60_000 + 1}),
                );
                pod_with(
                    json!({"containers": [{"name": "c", "image": "i", "env": env, "ports": ports}]}),
                    Vec::new(),
                )
            }),
        ),
        (
            "tolerations and more",
            "Pod",
            Box::new(|n| {
                let tolerations = many(n, &|i| json!({"key": format!("k{i}"), "operator": "Exists"}));
                let aliases = many(
                    n,
                    &|i| json!({"ip": format!("10.0.{}.{}", i / 250 % 250, i % 250), "hostnames": ["a"]}),
                );
                pod_with(
                    json!({"containers": one(), "tolerations": tolerations, "hostAliases": aliases, "schedulingGates": many(n, &named)}),
                    Vec::new(),
                )
            }),
        ),
    ]
}

#[test]
fn checking_a_list_eight_times_as_long_takes_eight_times_as_long() {
    let registry = registry();
    let (widgets, pods) = (
        registry.by_kind("example.com/v1", "Widget").unwrap(),
        registry.by_kind("v1", "Pod").unwrap(),
    );
    let context = afloat_machinery::WriteContext {
        now: "2026-01-01T00:00:00Z".to_owned(),
        uid: "u".to_owned(),
        suffix: "abcde".to_owned(),
    };
    for (what, kind, make) in objects().into_iter().chain(long_pods()) {
        let resource = if kind == "Pod" { &pods } else { &widgets };
        let grew = growth(250, make, |object| {
            // Refused or not: both take their time.
            let _ = afloat_machinery::strategy::prepare_create(resource, &mut object.clone(), &context);
        });
        assert!(grew < 32.0, "{what}: {grew}");
    }
}
