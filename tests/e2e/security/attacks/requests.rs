//! Requests that cost their sender little and the server much.

use bytes::Bytes;
use serde_json::{Value, json};

use super::world::World;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// Documents that open and never close, and such as are as deep as may be read.
pub(super) async fn deep(world: &World) {
    let mut all = Vec::new();
    for opening in ["[", "{\"a\":", "- ", "{a: ", "? ", "!a "] {
        for kind in [JSON, YAML] {
            all.push(("POST", MAPS.to_owned(), kind, Bytes::from(opening.repeat(200_000))));
        }
        all.push((
            "PATCH",
            format!("{MAPS}/none"),
            MERGE,
            Bytes::from(opening.repeat(200_000)),
        ));
    }
    let nested = format!("{}1{}", "{\"a\":".repeat(95), "}".repeat(95));
    let many = format!(
        "{{\"metadata\":{{\"name\":\"x\"}},\"x\":[{}]}}",
        vec![nested; 1_000].join(",")
    );
    all.extend((0..8).map(|_| ("POST", MAPS.to_owned(), JSON, Bytes::from(many.clone()))));
    world.all(all, 8).await;
}

/// As large as a body may be: of texts, of small values, of one name; and as YAML, which takes longer.
pub(super) async fn large(world: &World) {
    let env: Vec<Value> = (0..20_000)
        .map(|n| json!({"name": format!("A{n}"), "value": "x".repeat(90)}))
        .collect();
    let pod = json!({"metadata": {"name": "large"}, "spec": {"containers": [{"name": "a", "image": "b", "env": env}]}});
    let texts = body(&pod);
    let small = body(&json!({"metadata": {"name": "large"}, "data": vec![json!([0]); 100_000]}));
    let empty = body(&json!({"metadata": {"name": "large"}, "data": vec![json!({}); 60_000]}));
    let lines = Bytes::from(format!(
        "metadata: {{name: large}}\ndata:\n{}",
        "  a: b\n".repeat(300_000)
    ));
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(("POST", format!("{PODS}?dryRun=All"), JSON, texts.clone()));
        all.push(("POST", format!("{MAPS}?dryRun=All"), JSON, small.clone()));
        all.push(("POST", format!("{MAPS}?dryRun=All"), JSON, empty.clone()));
        all.push(("POST", format!("{MAPS}?dryRun=All"), YAML, lines.clone()));
    }
    world.all(all, 24).await;
}

/// Texts that mean much more than they are: aliases in YAML, copies of copies in a patch.
pub(super) async fn doubling(world: &World) {
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        laughs.push_str(&format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(",")
        ));
    }
    laughs.push_str("metadata: {name: x}\n");
    world.expect("POST", MAPS, JSON, &body(&map("doubled")), 201).await;
    let mut copies = vec![json!({"op": "add", "path": "/data", "value": {"a": "x".repeat(1_000)}})];
    copies.extend((0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/a{n}")})));
    let copies = body(&Value::Array(copies));
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(("POST", MAPS.to_owned(), YAML, Bytes::from(laughs.clone())));
        all.push(("PATCH", format!("{MAPS}/doubled"), OPERATIONS, copies.clone()));
    }
    world.all(all, 8).await;
}

/// Patches of long lists, in every form.
pub(super) async fn merges(world: &World) {
    let finalizers = |word: &str| -> Vec<String> { (0..12_000).map(|n| format!("{word}.io/some-{n}")).collect() };
    let names = ["long-a", "long-b", "long-c", "long-d"];
    for name in names {
        let mut long = map(name);
        long["metadata"]["finalizers"] = json!(finalizers("a"));
        world.expect("POST", MAPS, JSON, &body(&long), 201).await;
    }
    let pod = |image: &str| {
        let env: Vec<Value> = (0..10_000)
            .map(|n| json!({"name": format!("{image}{n}"), "value": "x"}))
            .collect();
        json!({"metadata": {"name": "long"}, "spec": {"nodeName": "none", "containers": [{"name": "a", "image": image, "env": env}]}})
    };
    world.expect("POST", PODS, JSON, &body(&pod("a")), 201).await;
    let union = body(&json!({"metadata": {"finalizers": finalizers("b")}}));
    let order = body(
        &json!({"metadata": {"$setElementOrder/finalizers": finalizers("c"), "$deleteFromPrimitiveList/finalizers": finalizers("a"),
        "finalizers": finalizers("d")}}),
    );
    let moves = vec![json!({"op": "move", "from": "/metadata/finalizers/0", "path": "/metadata/finalizers/1"}); 5_000];
    let tests = vec![json!({"op": "test", "path": "/metadata/finalizers", "value": []}); 1];
    let mut all = Vec::new();
    for name in names {
        for (kind, patch) in [
            (STRATEGIC, union.clone()),
            (STRATEGIC, order.clone()),
            (OPERATIONS, body(&json!(moves))),
            (OPERATIONS, body(&json!(tests))),
        ] {
            all.push(("PATCH", format!("{MAPS}/{name}?dryRun=All"), kind, patch));
        }
        all.push(("PATCH", format!("{PODS}/long?dryRun=All"), STRATEGIC, body(&pod("b"))));
    }
    world.all(all, 8).await;
    for name in names {
        let none = body(&json!({"metadata": {"finalizers": null}}));
        world
            .expect("PATCH", &format!("{MAPS}/{name}"), MERGE, &none, 200)
            .await;
        world
            .expect("DELETE", &format!("{MAPS}/{name}"), JSON, &Bytes::new(), 200)
            .await;
    }
    let now = body(&json!({"gracePeriodSeconds": 0}));
    world.expect("DELETE", &format!("{PODS}/long"), JSON, &now, 200).await;
}

fn definition(plural: &str, schema: &Value) -> Value {
    let kind = format!("K{plural}");
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.bomb.example")},
        "spec": {"group": "bomb.example", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}}}]}})
}

/// Rules of custom resources and policies that would go on for ever, or fill the memory.
pub(super) async fn expressions(world: &World) {
    let rules = [
        "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))",
        "self.map(a, self.map(b, self.map(c, [a, b, c]))).size() > 0",
        "self.map(a, 'xxxxxxxx').map(a, a+a+a+a+a+a+a+a).map(a, a+a+a+a+a+a+a+a).map(a, a+a+a+a+a+a+a+a).map(a, a+a+a+a+a+a+a+a).size() > 0",
        "self.all(a, ('x' + string(a)).matches('(x{0,50}){0,50}' + string(a)))",
    ];
    for (n, rule) in rules.iter().enumerate() {
        let schema = json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": rule}]});
        world
            .expect(
                "POST",
                CRDS,
                JSON,
                &body(&definition(&format!("costs{n}"), &schema)),
                201,
            )
            .await;
    }
    let mut all = Vec::new();
    for n in 0..rules.len() {
        let items: Vec<usize> = (0..1_000).collect();
        let object = json!({"apiVersion": "bomb.example/v1", "kind": format!("Kcosts{n}"), "metadata": {"generateName": "w-"}, "spec": items});
        let uri = format!("/apis/bomb.example/v1/namespaces/default/costs{n}");
        all.extend((0..6).map(|_| ("POST", uri.clone(), JSON, body(&object))));
    }
    // What is compiled when a definition is made.
    let many: Vec<Value> = (0..2_000)
        .map(|n| json!({"rule": format!("self.size() != {n}")}))
        .collect();
    let long = json!([{"rule": vec!["self.size() > 0"; 5_000].join(" && ")}]);
    for (n, rules) in [json!(many), long].iter().enumerate() {
        let schema = json!({"type": "string", "x-kubernetes-validations": rules});
        all.push((
            "POST",
            CRDS.to_owned(),
            JSON,
            body(&definition(&format!("many{n}"), &schema)),
        ));
    }
    world.all(all, 12).await;
}

/// Regular expressions that are short, and large when they are compiled; in many fields.
pub(super) async fn patterns(world: &World) {
    let all = (0..8).map(|n| {
        let fields: serde_json::Map<String, Value> = (0..100)
            .map(|m| {
                (
                    format!("f{m}"),
                    json!({"type": "string", "pattern": format!("^\\pL{{20}}x{{{n}}}y{{{m}}}$")}),
                )
            })
            .collect();
        let schema = json!({"type": "object", "properties": fields});
        (
            "POST",
            CRDS.to_owned(),
            JSON,
            body(&definition(&format!("patterns{n}"), &schema)),
        )
    });
    world.all(all.collect(), 8).await;
}

/// Definitions as large as they may be, and everything that is made of them.
pub(super) async fn schemas(world: &World) {
    let fields = |n: usize| -> serde_json::Map<String, Value> {
        (0..10_000)
            .map(|m| (format!("f{n}x{m}"), json!({"type": "string", "maxLength": m + 1})))
            .collect()
    };
    let made = (0..6).map(|n| {
        let schema = json!({"type": "object", "properties": fields(n)});
        (
            "POST",
            CRDS.to_owned(),
            JSON,
            body(&definition(&format!("schemas{n}"), &schema)),
        )
    });
    world.all(made.collect(), 6).await;
    let mut read = Vec::new();
    for uri in [
        "/openapi/v3/apis/bomb.example/v1",
        "/openapi/v2",
        "/apis/bomb.example/v1",
        "/apis",
    ] {
        read.extend((0..16).map(|_| ("GET", uri.to_owned(), JSON, Bytes::new())));
    }
    world.all(read, 16).await;
    let gone = (0..6).map(|n| ("DELETE", format!("{CRDS}/schemas{n}.bomb.example"), JSON, Bytes::new()));
    world.all(gone.collect(), 6).await;
}

/// Lists of many objects of which nothing is wanted.
pub(super) async fn selectors(world: &World) {
    world.fill().await;
    let long: Vec<String> = (0..1_000).map(|n| format!("a{n}!%3Db")).collect();
    let queries = [
        "limit=1&labelSelector=no%3Dsuch".to_owned(),
        "labelSelector=no%3Dsuch".to_owned(),
        "limit=1&fieldSelector=metadata.name%3Dnone".to_owned(),
        format!("limit=1&labelSelector=no%3Dsuch,{}", long.join(",")),
    ];
    let uris = queries
        .iter()
        .flat_map(|query| (0..20).map(move |_| format!("{MAPS}?{query}")));
    world
        .all(uris.map(|uri| ("GET", uri, JSON, Bytes::new())).collect(), 40)
        .await;
}

/// What is written again and again stays in the history for a while.
pub(super) async fn history(world: &World) {
    let mut last = map("again");
    last["data"] = json!({"text": "x".repeat(900_000)});
    world.expect("POST", MAPS, JSON, &body(&last), 201).await;
    let all = (0..120).map(|n| {
        let patch = json!({"data": {"text": format!("{n}{}", "x".repeat(900_000))}});
        ("PATCH", format!("{MAPS}/again"), MERGE, body(&patch))
    });
    world.all(all.collect(), 8).await;
    // And what is worked on comes on top of it.
    large(world).await;
    world
        .expect("DELETE", &format!("{MAPS}/again"), JSON, &Bytes::new(), 200)
        .await;
}

/// Objects that are none of their kind, in every way that writes.
pub(super) async fn malformed(world: &World) {
    let junk = [
        json!("x"),
        json!(5),
        json!([5]),
        json!({"a": []}),
        json!(null),
        json!([null]),
        json!(1e300),
    ];
    let places = [
        "metadata",
        "metadata/ownerReferences",
        "metadata/finalizers",
        "metadata/labels",
        "spec",
        "spec/taints",
        "spec/ports",
        "spec/containers",
        "spec/template",
        "status",
        "status/conditions",
        "endpoints",
        "subsets",
        "data",
        "rules",
        "webhooks",
        "spec/versions",
    ];
    let kinds = [
        "/api/v1/nodes",
        PODS,
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces/default/endpoints",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        "/apis/apps/v1/namespaces/default/deployments",
        CRDS,
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    ];
    let mut all = Vec::new();
    for kind in kinds {
        for place in places {
            for value in &junk {
                let mut object = json!({"metadata": {"name": "bad"}});
                let mut at = &mut object;
                for part in place.split('/') {
                    if !at.is_object() {
                        *at = json!({});
                    }
                    at = &mut at[part];
                }
                *at = value.clone();
                all.push(("POST", kind.to_owned(), JSON, body(&object)));
            }
        }
    }
    world.all(all, 16).await;
}
