//! Puts what a user chose into the objects of the sources, by paths (RFC 6901).

use std::collections::BTreeMap;

use afloat_api::names::{DAEMON_NAMESPACE, WEBHOOK_SERVICE};
use serde_json::{Value, json};

/// Name of the operator's account, roles, Deployment and Service for metrics.
pub const OPERATOR: &str = "afloat-operator";

/// Every value that differs between two installations. For the chart they are the expressions of its templates.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    pub(crate) version: String,
    pub(crate) image: String,
    pub(crate) agent_image: String,
    pub(crate) pull_policy: String,
    pub(crate) pull_secrets: Value,
    pub(crate) replicas: Value,
    /// What is to be done if two operators could only be on one node.
    pub(crate) spread: String,
    pub(crate) lease_namespace: String,
    pub(crate) lease_name: String,
    pub(crate) feature_gates: String,
    /// Versions of CloneSet that are served: `both` or `v1beta1`.
    pub(crate) serve: String,
    pub(crate) log: String,
    pub(crate) resources: Value,
    pub(crate) node_selector: Value,
    pub(crate) tolerations: Value,
    pub(crate) agent_resources: Value,
    pub(crate) agent_node_selector: Value,
    pub(crate) agent_tolerations: Value,
    pub(crate) monitor_labels: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        let linux = || json!({"kubernetes.io/os": "linux"});
        Self {
            namespace: String::new(),
            version: String::new(),
            image: String::new(),
            agent_image: String::new(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: json!([]),
            replicas: json!(2),
            spread: String::new(),
            lease_namespace: String::new(),
            lease_name: String::new(),
            feature_gates: String::new(),
            serve: "both".to_owned(),
            log: "info".to_owned(),
            // Memory follows the pods that are watched: 46 MiB at 10,000. Too low a limit would only end the operator at its busiest.
            resources: json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}),
            node_selector: linux(),
            tolerations: json!([]),
            agent_resources: json!({"requests": {"cpu": "10m", "memory": "32Mi"}}),
            agent_node_selector: linux(),
            agent_tolerations: json!([{"operator": "Exists"}]),
            monitor_labels: BTreeMap::new(),
        }
    }
}

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Puts the settings into one object.
pub(crate) fn put(object: &mut Value, settings: &Settings) {
    let kind = text(object, "/kind").to_owned();
    match kind.as_str() {
        "CustomResourceDefinition" => return,
        "ClusterRole" | "ClusterRoleBinding" | "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => {}
        // Where the copies of pull secrets are does not depend on where anything runs.
        "Role" | "RoleBinding" if text(object, "/metadata/namespace") == DAEMON_NAMESPACE => {}
        "Role" | "RoleBinding" => {
            let lease = text(object, "/metadata/name") == OPERATOR;
            let namespace = if lease {
                &settings.lease_namespace
            } else {
                &settings.namespace
            };
            word(object, "/metadata/namespace", namespace);
        }
        _ => word(object, "/metadata/namespace", &settings.namespace),
    }
    if matches!(kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
        word(object, "/subjects/0/namespace", &settings.namespace);
    }
    match kind.as_str() {
        "Deployment" => deployment(object, settings),
        "DaemonSet" => daemon_set(object, settings),
        "ServiceMonitor" => {
            for (name, value) in &settings.monitor_labels {
                set(object, &format!("/metadata/labels/{name}"), json!(value));
            }
        }
        _ => {}
    }
}

/// The Lease is where OpenKruise's is; everything else is in the namespace of the installation. A Role about both, with its binding,
/// becomes two, of which the second has the webhook's name: what is not the Lease is the webhook's Secret.
pub(crate) fn apart(objects: Vec<Value>) -> Vec<Value> {
    let fixed = |object: &Value| text(object, "/metadata/namespace") == DAEMON_NAMESPACE;
    let about_lease = |rule: &Value| {
        rule["resources"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "leases"))
    };
    let rules = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
    let roles = objects
        .iter()
        .filter(|object| text(object, "/kind") == "Role" && !fixed(object));
    let both = roles.flat_map(rules).any(|rule| !about_lease(&rule));
    let mut all = Vec::new();
    for object in objects {
        if fixed(&object) {
            all.push(object);
            continue;
        }
        let kind = text(&object, "/kind").to_owned();
        let (mut first, mut second) = (object.clone(), object);
        word(&mut second, "/metadata/name", WEBHOOK_SERVICE);
        match kind.as_str() {
            "Role" if both => {
                let (lease, own): (Vec<_>, Vec<_>) = rules(&first).into_iter().partition(about_lease);
                set(&mut first, "/rules", Value::Array(lease));
                set(&mut second, "/rules", Value::Array(own));
                all.extend([first, second]);
            }
            "RoleBinding" if both => {
                word(&mut second, "/roleRef/name", WEBHOOK_SERVICE);
                all.extend([first, second]);
            }
            _ => all.push(first),
        }
    }
    all
}

fn deployment(object: &mut Value, settings: &Settings) {
    set(object, "/spec/replicas", settings.replicas.clone());
    let pod = |path: &str| format!("{POD}{path}");
    set(object, &pod("/imagePullSecrets"), settings.pull_secrets.clone());
    set(object, &pod("/nodeSelector"), settings.node_selector.clone());
    set(object, &pod("/tolerations"), settings.tolerations.clone());
    word(
        object,
        &pod("/topologySpreadConstraints/0/whenUnsatisfiable"),
        &settings.spread,
    );
    let container = |path: &str| format!("{CONTAINER}{path}");
    word(object, &container("/image"), &settings.image);
    word(object, &container("/imagePullPolicy"), &settings.pull_policy);
    set(object, &container("/resources"), settings.resources.clone());
    let webhook = format!("{}/{WEBHOOK_SERVICE}", settings.namespace);
    for (name, value) in [
        ("AFLOAT_LEASE_NAMESPACE", settings.lease_namespace.as_str()),
        ("AFLOAT_LEASE_NAME", &settings.lease_name),
        ("AFLOAT_SERVE", &settings.serve),
        ("AFLOAT_WEBHOOK_SERVICE", &webhook),
        ("AFLOAT_FEATURE_GATES", &settings.feature_gates),
        ("RUST_LOG", &settings.log),
    ] {
        let variables = object.pointer_mut(&container("/env")).and_then(Value::as_array_mut);
        if let Some(variable) = variables.and_then(|all| all.iter_mut().find(|one| one["name"] == name)) {
            variable["value"] = json!(value);
        }
    }
}

fn daemon_set(object: &mut Value, settings: &Settings) {
    let pod = |path: &str| format!("{POD}{path}");
    set(object, &pod("/imagePullSecrets"), settings.pull_secrets.clone());
    set(object, &pod("/nodeSelector"), settings.agent_node_selector.clone());
    set(object, &pod("/tolerations"), settings.agent_tolerations.clone());
    let container = |path: &str| format!("{CONTAINER}{path}");
    word(object, &container("/image"), &settings.agent_image);
    word(object, &container("/imagePullPolicy"), &settings.pull_policy);
    set(object, &container("/resources"), settings.agent_resources.clone());
}

/// A text in an object; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a text.
pub(crate) fn word(object: &mut Value, path: &str, value: &str) {
    set(object, path, json!(value));
}

/// Sets a value. Maps on the way to it that are not there are made; a list's entry must be there.
fn set(object: &mut Value, path: &str, value: Value) {
    let Some((parent, key)) = path.rsplit_once('/') else {
        *object = value;
        return;
    };
    if object.pointer(parent).is_none() {
        set(object, parent, json!({}));
    }
    let key = key.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Array(list)) => {
            if let Some(entry) = key.parse().ok().and_then(|at: usize| list.get_mut(at)) {
                *entry = value;
            }
        }
        Some(Value::Object(map)) => {
            map.insert(key, value);
        }
        _ => {}
    }
}
