//! What is installed in a cluster: every object, from one set of sources.
//!
//! The sources are `operator/manager/rbac.yaml`, `operator/agent/agent.yaml`, `objects/operator.yaml`, `objects/roles.yaml`,
//! `objects/policies.yaml` and the CRDs of `afloat-api`.
//! `afloat install` and `afloat takeover` render them with [`objects`]; the Helm chart's templates (`charts/afloat`) and the base for
//! kustomize (`deploy/kustomize`) are made of them as well, and tests hold those files to it. Pure: whoever calls does the I/O.

#[cfg(test)]
mod golden;
mod put;

use afloat_api::names::{DAEMON_NAMESPACE, WEBHOOK_SERVICE, WEBHOOKS};
use afloat_api::{Door, Serving};
use serde_json::{Value, json};

pub use put::OPERATOR;
use put::{Settings, text, word};

/// Name of the agents' account, role and DaemonSet.
pub const AGENT: &str = "afloat-agent";
/// Where it is installed if nothing else is said.
pub const NAMESPACE: &str = "afloat-system";

const RBAC: &str = include_str!("../../manager/rbac.yaml");
const AGENTS: &str = include_str!("../../agent/agent.yaml");
const ROLES: &str = include_str!("../objects/roles.yaml");
const POLICIES: &str = include_str!("../objects/policies.yaml");
const OPERATORS: &str = include_str!("../objects/operator.yaml");

/// What a user may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the operator and the agents run.
    pub namespace: String,
    /// Image of the operator.
    pub image: String,
    /// Image of the agents, which needs the node's tools as well (docs/agent.md); None: the same.
    pub agent_image: Option<String>,
    /// Names of Secrets to pull them with.
    pub pull_secrets: Vec<String>,
    /// Operators, of which one acts.
    pub replicas: u32,
    /// Never two operators on one node, rather leave one waiting.
    pub spread: bool,
    /// With agents on all nodes.
    pub agent: bool,
    /// With the CRDs.
    pub crds: bool,
    /// Both versions of CloneSet are served, between which the operator's webhook converts; else v1beta1 alone.
    pub v1alpha1: bool,
    /// With a NetworkPolicy.
    pub network_policy: bool,
    /// With a ServiceMonitor for Prometheus' operator.
    pub service_monitor: bool,
    /// Where the Lease of the acting operator is.
    pub lease_namespace: String,
    /// Its name; OpenKruise's own, so that only one of the two acts.
    pub lease_name: String,
    /// OpenKruise's feature gates, as its flag takes them.
    pub feature_gates: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: NAMESPACE.to_owned(),
            image: concat!("afloat:", env!("CARGO_PKG_VERSION")).to_owned(),
            agent_image: None,
            pull_secrets: Vec::new(),
            replicas: 2,
            spread: false,
            agent: true,
            crds: true,
            v1alpha1: true,
            network_policy: true,
            service_monitor: false,
            lease_namespace: afloat_api::names::MANAGER_NAMESPACE.to_owned(),
            lease_name: afloat_api::names::MANAGER_LEASE.to_owned(),
            feature_gates: String::new(),
        }
    }
}

/// Everything to apply, in the order to apply it in: each object comes after what it needs.
pub fn objects(options: &Options) -> Vec<Value> {
    let settings = settings(options);
    let wanted = |part: &Part| match part {
        Part::Base => true,
        Part::Crds => options.crds,
        Part::Webhook => options.v1alpha1,
        Part::Agent => options.agent,
        Part::NetworkPolicy => options.network_policy,
        Part::ServiceMonitor => options.service_monitor,
    };
    let mut all = namespaces(options);
    let door = options.v1alpha1.then(|| door(options.namespace.clone()));
    let parts = parts(&settings, door).into_iter();
    all.extend(parts.filter(|(part, _)| wanted(part)).map(|(_, object)| object));
    all
}

/// What the operator may do, word for word as `rbac.yaml` has it, with its account and namespace: for one that runs outside of any pod.
pub fn rights() -> Vec<Value> {
    documents(RBAC)
}

/// What users may do with CloneSets, word for word as `objects/roles.yaml` has it: parts of the roles that every cluster has.
pub fn user_roles() -> Vec<Value> {
    documents(ROLES)
}

/// What is refused beyond what the CRDs' schemas can say, word for word as `objects/policies.yaml` has it.
pub fn policies() -> Vec<Value> {
    documents(POLICIES)
}

/// The rules of the agents' roles: for the whole cluster, and for the copies of pull secrets.
pub fn agent_rules() -> [Value; 2] {
    let rules = |kind: &str| {
        let mut all = documents(AGENTS).into_iter();
        let role = all.find(|object| text(object, "/kind") == kind);
        role.map_or(Value::Null, |role| role["rules"].clone())
    };
    ["ClusterRole", "Role"].map(rules)
}

/// What may be deleted without a pod of anybody noticing: all of it but the CRDs, with which every CloneSet would go, and the
/// namespaces, in which others may have something.
pub fn removable(options: &Options) -> Vec<Value> {
    let kept = ["CustomResourceDefinition", "Namespace"];
    let mut all = objects(options);
    all.retain(|object| !kept.contains(&text(object, "/kind")));
    all.reverse();
    if options.v1alpha1 {
        // The operator makes it by itself. It goes first, so that nobody is asked who is gone.
        all.insert(0, configuration());
    }
    all
}

/// The configuration of webhooks that the operator makes, as far as its deletion needs it.
fn configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": WEBHOOKS},
    })
}

/// Objects as one text that `kubectl apply -f -` takes.
pub fn yaml(objects: &[Value]) -> String {
    let document = |object: &Value| {
        #[allow(clippy::expect_used)] // JSON values have text keys, and no number that YAML cannot write
        let text = serde_saphyr::to_string(object).expect("JSON can be written as YAML");
        format!("---\n{text}")
    };
    objects.iter().map(document).collect()
}

/// What an object belongs to: parts are left out as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Base,
    Crds,
    /// What only those need who convert.
    Webhook,
    Agent,
    NetworkPolicy,
    ServiceMonitor,
}

fn settings(options: &Options) -> Settings {
    let secrets = options.pull_secrets.iter().map(|name| json!({"name": name})).collect();
    let spread = if options.spread {
        "DoNotSchedule"
    } else {
        "ScheduleAnyway"
    };
    Settings {
        namespace: options.namespace.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        image: options.image.clone(),
        agent_image: options.agent_image.clone().unwrap_or_else(|| options.image.clone()),
        pull_secrets: Value::Array(secrets),
        replicas: json!(options.replicas),
        spread: spread.to_owned(),
        lease_namespace: options.lease_namespace.clone(),
        lease_name: options.lease_name.clone(),
        feature_gates: options.feature_gates.clone(),
        serve: if options.v1alpha1 { "both" } else { "v1beta1" }.to_owned(),
        ..Settings::default()
    }
}

/// The namespaces: that of the installation, that of the Lease, and that of pull secrets. Helm makes the first one itself.
fn namespaces(options: &Options) -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut own = namespace(&options.namespace);
    own["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "afloat"});
    if options.agent {
        // The node's network, which the agents are in, is not allowed by the other levels.
        own["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("privileged");
    }
    let mut all = vec![own];
    if options.lease_namespace != options.namespace {
        all.push(namespace(&options.lease_namespace));
    }
    if ![&options.namespace, &options.lease_namespace].contains(&&DAEMON_NAMESPACE.to_owned()) {
        all.push(namespace(DAEMON_NAMESPACE));
    }
    all
}

/// The way to the operators' webhook.
fn door(namespace: String) -> Door {
    Door::Service {
        namespace,
        name: WEBHOOK_SERVICE.to_owned(),
    }
}

/// All objects but the namespaces, each with what it belongs to.
fn parts(settings: &Settings, webhook: Option<Door>) -> Vec<(Part, Value)> {
    let serving = Serving {
        webhook,
        ..Serving::default()
    };
    let crds = afloat_api::definitions(&serving)
        .into_iter()
        .map(|crd| (Part::Crds, crd));
    let rbac = put::apart(documents(RBAC))
        .into_iter()
        .map(|object| (Part::Base, object));
    let beside = user_roles().into_iter().chain(policies());
    let beside = beside.map(|object| (Part::Base, object));
    let agents = documents(AGENTS).into_iter().map(|object| (Part::Agent, object));
    let operators = documents(OPERATORS).into_iter().map(|object| {
        let part = match text(&object, "/kind") {
            "NetworkPolicy" => Part::NetworkPolicy,
            "ServiceMonitor" => Part::ServiceMonitor,
            "Service" if text(&object, "/metadata/name") == WEBHOOK_SERVICE => Part::Webhook,
            _ => Part::Base,
        };
        (part, object)
    });
    let mut all: Vec<(Part, Value)> = crds.chain(rbac).chain(beside).chain(operators).chain(agents).collect();
    all.retain(|(_, object)| text(object, "/kind") != "Namespace");
    for (part, object) in &mut all {
        put::put(object, settings);
        // A label that says what installed it; the CRDs are also there without an installation.
        word(object, "/metadata/labels/app.kubernetes.io~1part-of", "afloat");
        if *part != Part::Crds {
            word(object, "/metadata/labels/app.kubernetes.io~1version", &settings.version);
        }
    }
    all
}

/// The objects of a source.
fn documents(source: &str) -> Vec<Value> {
    #[allow(clippy::expect_used)] // sources are part of the program, and each test reads all of them
    let read = |text| serde_saphyr::from_str(text).expect("the sources are YAML");
    source.split("---\n").map(read).collect()
}

/// One thing that an account must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The account's name; it is in the namespace of the installation.
    pub account: String,
    /// Where it must be allowed; None: everywhere.
    pub namespace: Option<String>,
    /// For example `list`.
    pub verb: String,
    /// API group; empty: the core.
    pub group: String,
    /// Plural, with its subresource after a stroke.
    pub resource: String,
    /// Only of this name; None: of all.
    pub name: Option<String>,
}

/// Everything that the accounts of an installation must be allowed to do, one by one.
pub fn needs(options: &Options) -> Vec<Need> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut needs = Vec::new();
    let of_users: Vec<Value> = user_roles()
        .iter()
        .map(|role| role["metadata"]["name"].clone())
        .collect();
    for role in objects(options) {
        if of_users.contains(&role["metadata"]["name"]) {
            continue;
        }
        let namespace = match text(&role, "/kind") {
            "ClusterRole" => None,
            "Role" => Some(text(&role, "/metadata/namespace").to_owned()),
            _ => continue,
        };
        let account = if options.agent && text(&role, "/metadata/name") == AGENT {
            AGENT
        } else {
            OPERATOR
        };
        for rule in role["rules"].as_array().into_iter().flatten() {
            let mut names: Vec<_> = texts(&rule["resourceNames"]).into_iter().map(Some).collect();
            if names.is_empty() {
                names.push(None);
            }
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        needs.extend(names.iter().map(|name| Need {
                            account: account.to_owned(),
                            namespace: namespace.clone(),
                            verb: verb.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                        }));
                    }
                }
            }
        }
    }
    needs
}
