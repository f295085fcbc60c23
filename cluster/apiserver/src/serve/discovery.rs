//! What is served: the discovery documents, classic and aggregated. All derived from the table of kinds.

use std::sync::Arc;

use afloat_machinery::kinds::{Registry, Resource, Serving, api_version};
use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::wire::body::{self, Body};
use crate::wire::reply;
use crate::wire::status::Status;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Verbs of a stored resource.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// `/version`. Clients parse the numbers and compare them with their own.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+afloat", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/`
pub(crate) fn root(registry: &Registry) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for (group, versions) in groups_of(registry, false) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.extend(
        [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    json!({"paths": paths})
}

/// Groups with their versions: the core group or the named ones, those of built-in kinds first, since clients resolve a
/// short name to the first that has it.
pub(crate) fn groups_of(registry: &Registry, core: bool) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<_> = registry
        .groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .collect();
    let custom = |group: &str| registry.all().filter(|r| r.group == group).all(|r| r.schema.is_some());
    groups.sort_by_key(|(group, _)| custom(group));
    groups
}

pub(crate) fn rows<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Arc<Resource>> {
    registry.all().filter(move |r| r.group == group && r.version == version)
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let mut texts = headers.get_all(header::ACCEPT).iter().filter_map(|h| h.to_str().ok());
    texts.any(|t| {
        t.split(',')
            .any(|r| r.contains("as=APIGroupDiscoveryList") && r.contains("v=v2") && !r.contains("v=v2beta1"))
    })
}

/// `/api`
pub(crate) fn core(registry: &Registry, headers: &HeaderMap) -> Response<Body> {
    if wants_aggregated(headers) {
        return aggregated(registry, true);
    }
    reply::json(
        200,
        &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
    )
}

/// `/apis`
pub(crate) fn groups(registry: &Registry, headers: &HeaderMap) -> Response<Body> {
    if wants_aggregated(headers) {
        return aggregated(registry, false);
    }
    let groups: Vec<Value> = groups_of(registry, false)
        .iter()
        .map(|(group, versions)| group_entry(group, versions))
        .collect();
    reply::json(
        200,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
    )
}

/// `/apis/{group}`
pub(crate) fn group(registry: &Registry, group: &str) -> Result<Response<Body>, Status> {
    let found = groups_of(registry, false)
        .into_iter()
        .find(|(g, _)| g == group)
        .ok_or_else(Status::no_such_resource)?;
    let mut entry = group_entry(&found.0, &found.1);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Ok(reply::json(200, &entry))
}

fn group_entry(group: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": api_version(group, v), "version": v});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn verbs(resource: &Resource) -> Vec<&'static str> {
    match resource.serving() {
        Serving::Stored => VERBS.to_vec(),
        Serving::Review(_) => vec!["create"],
        Serving::Measured => vec!["get", "list"],
    }
}

/// Verbs of a subresource that is a part of the object.
const PART_VERBS: &[&str] = &["get", "patch", "update"];

/// Group, version, kind and verbs of a subresource.
struct Sub {
    name: String,
    group: String,
    version: String,
    kind: String,
    verbs: &'static [&'static str],
}

fn subresources(resource: &Resource) -> Vec<Sub> {
    let own = |name: &str, verbs| Sub {
        name: name.to_owned(),
        group: resource.group.clone(),
        version: resource.version.clone(),
        kind: resource.kind.clone(),
        verbs,
    };
    let foreign = |name: &str, group: &str, kind: &str, verbs| Sub {
        name: name.to_owned(),
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        verbs,
    };
    let mut subs = Vec::new();
    if resource.status {
        subs.push(own("status", PART_VERBS));
    }
    if resource.scale.is_some() {
        subs.push(foreign("scale", "autoscaling", "Scale", &["get", "patch", "update"]));
    }
    for name in resource
        .subresources
        .iter()
        .filter(|n| !matches!(**n, "status" | "scale"))
    {
        subs.push(match *name {
            "binding" => foreign(name, "", "Binding", &["create"]),
            "eviction" => foreign(name, "policy", "Eviction", &["create"]),
            "token" => foreign(name, "authentication.k8s.io", "TokenRequest", &["create"]),
            "log" => own(name, &["get"]),
            "exec" => foreign(name, "", "PodExecOptions", &["create", "get"]),
            "attach" => foreign(name, "", "PodAttachOptions", &["create", "get"]),
            "portforward" => foreign(name, "", "PodPortForwardOptions", &["create", "get"]),
            "proxy" => foreign(
                name,
                "",
                &format!("{}ProxyOptions", resource.kind),
                &["create", "delete", "get", "patch", "update"],
            ),
            "finalize" => own(name, &["update"]),
            _ => own(name, PART_VERBS),
        });
    }
    subs
}

/// The subresources that are read and written as parts of the object itself.
pub(crate) fn own_subresources(resource: &Resource) -> Vec<String> {
    let own = |sub: &Sub| sub.kind == resource.kind && sub.verbs == PART_VERBS;
    subresources(resource)
        .into_iter()
        .filter(own)
        .map(|sub| sub.name)
        .collect()
}

/// `/api/v1`, `/apis/{group}/{version}`
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Result<Response<Body>, Status> {
    let mut list = Vec::new();
    for r in rows(registry, group, version) {
        let mut entry = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": verbs(r),
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = r.short_names.clone().into();
        }
        if !r.categories.is_empty() {
            entry["categories"] = r.categories.clone().into();
        }
        list.push(entry);
        for sub in subresources(r) {
            let mut entry = json!({
                "name": format!("{}/{}", r.plural, sub.name), "singularName": "", "namespaced": r.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if sub.group != r.group || sub.version != r.version {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(Status::no_such_resource());
    }
    let document = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": list});
    Ok(reply::json(200, &document))
}

fn aggregated(registry: &Registry, core: bool) -> Response<Body> {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let resource = |r: &Arc<Resource>| {
        let mut entry = json!({
            "resource": r.plural, "singularResource": r.singular, "responseKind": kind(&r.group, &r.version, &r.kind),
            "scope": if r.namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs(r),
        });
        if !r.short_names.is_empty() {
            entry["shortNames"] = r.short_names.clone().into();
        }
        if !r.categories.is_empty() {
            entry["categories"] = r.categories.clone().into();
        }
        let subs: Vec<Value> = subresources(r)
            .iter()
            .map(|s| json!({"subresource": s.name, "responseKind": kind(&s.group, &s.version, &s.kind), "verbs": s.verbs}))
            .collect();
        if !subs.is_empty() {
            entry["subresources"] = subs.into();
        }
        entry
    };
    let version = |group: &str, version: &String| {
        let resources: Vec<Value> = rows(registry, group, version).map(resource).collect();
        json!({"version": version, "freshness": "Current", "resources": resources})
    };
    let items: Vec<Value> = groups_of(registry, core)
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions.iter().map(|v| version(group, v)).collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    body::typed(200, AGGREGATED, body::full(list.to_string()))
}
