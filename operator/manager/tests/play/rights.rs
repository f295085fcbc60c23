//! Lets through what `rbac.yaml` allows and notes the rest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use http::{Method, Request};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Client;
use kube::client::Body;

/// What was asked for without a right to it, or though the API server has no such kind.
pub(crate) type Denied = Arc<Mutex<BTreeSet<String>>>;

/// The manifest that people apply.
const MANIFEST: &str = include_str!("../../rbac.yaml");

/// A client that has just the operator's rights.
pub(crate) fn limited(client: Client, denied: Denied) -> Client {
    let rules = Arc::new(rules());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, rules, denied) = (client.clone(), rules.clone(), denied.clone());
        async move {
            // Every authenticated user may ask what is served (ClusterRole system:discovery).
            if is_discovery(request.uri().path()) {
                return client.send(request).await;
            }
            let (group, resource, verb) = asked(&request);
            let what = format!("{verb} {resource}.{group}");
            if !allowed(&rules, &group, &resource, &verb) {
                denied.lock().unwrap().insert(what.clone());
            }
            let answer = client.send(request).await;
            let status = answer.as_ref().map(http::Response::status);
            if matches!(status, Ok(http::StatusCode::NOT_FOUND)) && ["list", "watch"].contains(&verb.as_str()) {
                denied.lock().unwrap().insert(format!("{what}, which is not there"));
            }
            answer
        }
    });
    Client::new(service, "default")
}

fn rules() -> Vec<PolicyRule> {
    let documents = MANIFEST.split("\n---\n");
    let rules = documents.flat_map(|text| {
        if text.contains("\nkind: ClusterRole\n") {
            serde_saphyr::from_str::<ClusterRole>(text).unwrap().rules
        } else if text.contains("\nkind: Role\n") {
            serde_saphyr::from_str::<Role>(text).unwrap().rules
        } else {
            None
        }
    });
    rules.flatten().collect()
}

fn allowed(rules: &[PolicyRule], group: &str, resource: &str, verb: &str) -> bool {
    let has = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
    rules.iter().any(|rule| {
        has(rule.api_groups.as_deref().unwrap_or_default(), group)
            && has(rule.resources.as_deref().unwrap_or_default(), resource)
            && has(&rule.verbs, verb)
    })
}

/// What groups, versions and resources there are, and which server it is.
fn is_discovery(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.count()) {
        (Some("api"), rest) => rest <= 1,
        (Some("apis"), rest) => rest <= 2,
        (first, _) => first == Some("version"),
    }
}

/// Group, resource (with subresource) and verb of a request, as Kubernetes' authorization sees them.
fn asked(request: &Request<Body>) -> (String, String, String) {
    let mut parts: Vec<&str> = request
        .uri()
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let group = if parts[0] == "api" { "" } else { parts[1] }.to_owned();
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    if parts[0] == "namespaces" && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = match parts.get(2) {
        Some(subresource) => format!("{}/{subresource}", parts[0]),
        None => parts[0].to_owned(),
    };
    let query = request.uri().query().unwrap_or("");
    let verb = match *request.method() {
        Method::GET if query.contains("watch=") => "watch",
        Method::GET if parts.len() > 1 => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        _ => "delete",
    };
    (group, resource, verb.to_owned())
}
