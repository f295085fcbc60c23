//! What is kept as files because other programs read it: the chart's templates and the base for kustomize. Both are made here;
//! `UPDATE_EXPECT=1 cargo test -p afloat-install` writes them anew.

use std::collections::BTreeMap;

use expect_test::expect_file;
use serde_json::{Value, json};

use crate::put::{self, Settings, text};
use crate::{Options, Part, objects, parts, removable, yaml};

const WARNING: &str = "Made from operator/install by its tests; do not edit.";

/// How a hole becomes an expression of a template.
#[derive(Clone, Copy)]
enum Hole {
    /// Written as a quoted text, where it is all of a value.
    Text,
    /// A number.
    Number,
    /// Maps and lists, below their key.
    Yaml,
    /// Lines that are YAML already, below their key.
    Lines,
    /// More keys of the map that it stands in.
    Keys,
}

/// The holes of a chart: what stands in the objects, how, and what it becomes.
const HOLES: [(&str, Hole, &str); 22] = [
    ("HOLE-namespace", Hole::Text, ".Release.Namespace"),
    ("HOLE-version", Hole::Text, ".Chart.AppVersion"),
    ("HOLE-image", Hole::Text, "include \"afloat.image\" ."),
    ("HOLE-agentImage", Hole::Text, "include \"afloat.agentImage\" ."),
    ("HOLE-pullPolicy", Hole::Text, ".Values.image.pullPolicy"),
    ("HOLE-pullSecrets", Hole::Yaml, ".Values.image.pullSecrets"),
    ("HOLE-replicas", Hole::Number, "include \"afloat.replicas\" ."),
    (
        "HOLE-spread",
        Hole::Text,
        "ternary \"DoNotSchedule\" \"ScheduleAnyway\" .Values.ha",
    ),
    ("HOLE-leaseNamespace", Hole::Text, ".Values.lease.namespace"),
    ("HOLE-leaseName", Hole::Text, ".Values.lease.name"),
    ("HOLE-featureGates", Hole::Text, ".Values.featureGates"),
    ("HOLE-serve", Hole::Text, ".Values.serve"),
    ("HOLE-both", Hole::Number, "eq .Values.serve \"both\""),
    ("HOLE-conversion", Hole::Lines, "include \"afloat.conversion\" ."),
    ("HOLE-log", Hole::Text, ".Values.log"),
    ("HOLE-resources", Hole::Yaml, ".Values.resources"),
    ("HOLE-nodeSelector", Hole::Yaml, ".Values.nodeSelector"),
    ("HOLE-tolerations", Hole::Yaml, ".Values.tolerations"),
    ("HOLE-agentResources", Hole::Yaml, ".Values.agent.resources"),
    ("HOLE-agentNodeSelector", Hole::Yaml, ".Values.agent.nodeSelector"),
    ("HOLE-agentTolerations", Hole::Yaml, ".Values.agent.tolerations"),
    ("HOLE-monitorLabels", Hole::Keys, ".Values.serviceMonitor.labels"),
];

fn holes() -> Settings {
    let hole = |name: &str| format!("HOLE-{name}");
    let value = |name: &str| json!(hole(name));
    Settings {
        namespace: hole("namespace"),
        version: hole("version"),
        image: hole("image"),
        agent_image: hole("agentImage"),
        pull_policy: hole("pullPolicy"),
        pull_secrets: value("pullSecrets"),
        replicas: value("replicas"),
        spread: hole("spread"),
        lease_namespace: hole("leaseNamespace"),
        lease_name: hole("leaseName"),
        feature_gates: hole("featureGates"),
        serve: hole("serve"),
        log: hole("log"),
        resources: value("resources"),
        node_selector: value("nodeSelector"),
        tolerations: value("tolerations"),
        agent_resources: value("agentResources"),
        agent_node_selector: value("agentNodeSelector"),
        agent_tolerations: value("agentTolerations"),
        monitor_labels: BTreeMap::from([(hole("monitorLabels"), String::new())]),
    }
}

/// One line of an object as a line of a template.
fn line(line: &str) -> String {
    // Longer names first: one may begin with another.
    let mut found: Vec<_> = HOLES.iter().filter(|(name, ..)| line.contains(name)).collect();
    found.sort_by_key(|(name, ..)| std::cmp::Reverse(name.len()));
    let mut line = line.to_owned();
    for (name, how, expression) in found {
        let below = line.len() - line.trim_start().len() + 2;
        let whole = line.ends_with(&format!(": {name}"));
        line = match how {
            Hole::Text if whole => line.replace(name, &format!("{{{{ {expression} | quote }}}}")),
            Hole::Text | Hole::Number => line.replace(name, &format!("{{{{ {expression} }}}}")),
            Hole::Yaml => line.replace(name, &format!("{{{{- toYaml {expression} | nindent {below} }}}}")),
            Hole::Lines => line.replace(name, &format!("{{{{- {expression} | nindent {below} }}}}")),
            Hole::Keys => {
                let beside = below - 2;
                format!("{{{{- with {expression} }}}}\n{{{{- toYaml . | nindent {beside} }}}}\n{{{{- end }}}}")
            }
        };
    }
    line
}

/// Objects as a template. Each part is there if its value says so.
fn template(wanted: impl Fn(Part) -> Option<&'static str>) -> String {
    let mut text = format!("{{{{- /* {WARNING} */}}}}\n");
    for (part, mut object) in parts(&holes(), Some(crate::door("HOLE-namespace".to_owned()))) {
        let Some(condition) = wanted(part) else { continue };
        if part == Part::Crds {
            // What a user's objects are stored by outlives the release, and is brought up to date with it.
            object["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
            if object["spec"]["conversion"]["strategy"] == "Webhook" {
                object["spec"]["conversion"] = json!("HOLE-conversion");
                object["spec"]["versions"][1]["served"] = json!("HOLE-both");
            }
        }
        let lines: Vec<_> = yaml(&[object]).lines().map(line).collect();
        let lines = lines.join("\n");
        if condition.is_empty() {
            text.push_str(&format!("{lines}\n"));
        } else {
            text.push_str(&format!("{{{{- if {condition} }}}}\n{lines}\n{{{{- end }}}}\n"));
        }
    }
    text
}

#[test]
fn the_charts_templates() {
    let crds = template(|part| (part == Part::Crds).then_some(".Values.crds.install"));
    expect_file!["../../../charts/afloat/templates/crds.yaml"].assert_eq(&crds);
    let operator = template(|part| match part {
        Part::Base => Some(""),
        Part::Webhook => Some("eq .Values.serve \"both\""),
        Part::NetworkPolicy => Some(".Values.networkPolicy.enabled"),
        Part::ServiceMonitor => Some(".Values.serviceMonitor.enabled"),
        Part::Crds | Part::Agent => None,
    });
    expect_file!["../../../charts/afloat/templates/operator.yaml"].assert_eq(&operator);
    let agent = template(|part| (part == Part::Agent).then_some(".Values.agent.enabled"));
    expect_file!["../../../charts/afloat/templates/agent.yaml"].assert_eq(&agent);
}

#[test]
fn no_hole_is_left_and_each_is_used() {
    let all = template(|_| Some(""));
    assert!(!all.contains("HOLE"), "{all}");
    for (name, _, expression) in HOLES {
        assert!(all.contains(expression), "{name}");
    }
}

#[test]
fn the_base_for_kustomize() {
    let text = format!("# {WARNING}\n{}", yaml(&objects(&Options::default())));
    expect_file!["../../../deploy/kustomize/base/afloat.yaml"].assert_eq(&text);
}

/// `KIND NAMESPACE/NAME` of each.
fn listed(objects: &[Value]) -> Vec<String> {
    let name = |object: &Value| {
        let word = |path| text(object, path).to_owned();
        format!(
            "{} {}/{}",
            word("/kind"),
            word("/metadata/namespace"),
            word("/metadata/name")
        )
    };
    objects.iter().map(name).collect()
}

#[test]
fn every_choice_is_in_the_objects() {
    let options = Options {
        namespace: "here".into(),
        image: "example.com/a:1".into(),
        agent_image: Some("example.com/b:2".into()),
        pull_secrets: vec!["s".into()],
        replicas: 3,
        spread: true,
        service_monitor: true,
        lease_namespace: "there".into(),
        lease_name: "lease".into(),
        feature_gates: "A=true".into(),
        crds: false,
        ..Options::default()
    };
    let text = yaml(&objects(&options));
    for (word, times) in [
        ("example.com/a:1", 1),
        ("example.com/b:2", 1),
        ("name: s\n", 2),
        ("replicas: 3\n", 1),
        ("DoNotSchedule", 1),
        ("A=true", 1),
        ("value: lease\n", 1),
        ("value: there\n", 1),
        ("value: here/afloat-webhook", 1),
        ("kruise-system", 0),
        ("afloat-system", 0),
    ] {
        assert_eq!(text.matches(word).count(), times, "{word}");
    }
    assert!(listed(&objects(&options)).contains(&"Role there/afloat-operator".to_owned()));
}

#[test]
fn what_is_of_the_cluster_has_no_namespace() {
    let all = objects(&Options::default());
    for object in all
        .iter()
        .filter(|object| text(object, "/kind").starts_with("ValidatingAdmission"))
    {
        assert_eq!(object["metadata"]["namespace"], Value::Null, "{object}");
        assert_eq!(object["subjects"], Value::Null, "{object}");
    }
    let policies = listed(&all)
        .into_iter()
        .filter(|name| name.starts_with("ValidatingAdmissionPolicy"));
    assert_eq!(policies.count(), 4, "two policies, and that they are in force");
}

#[test]
fn parts_are_left_out() {
    let none = Options {
        agent: false,
        crds: false,
        network_policy: false,
        namespace: "one".into(),
        lease_namespace: "one".into(),
        ..Options::default()
    };
    assert_eq!(
        listed(&objects(&none)),
        [
            "Namespace /one",
            "Namespace /kruise-daemon-config",
            "ServiceAccount one/afloat-operator",
            "ClusterRole /afloat-operator",
            "ClusterRoleBinding /afloat-operator",
            "Role one/afloat-operator",
            "Role one/afloat-webhook",
            "RoleBinding one/afloat-operator",
            "RoleBinding one/afloat-webhook",
            "Role kruise-daemon-config/afloat-pull-secrets",
            "RoleBinding kruise-daemon-config/afloat-pull-secrets",
            "ClusterRole /afloat-aggregate-to-view",
            "ClusterRole /afloat-aggregate-to-edit",
            "ValidatingAdmissionPolicy /afloat-statefulset-ranges",
            "ValidatingAdmissionPolicyBinding /afloat-statefulset-ranges",
            "Deployment one/afloat-operator",
            "Service one/afloat-operator",
            "Service one/afloat-webhook",
            "PodDisruptionBudget one/afloat-operator",
        ]
    );
}

#[test]
fn one_version_needs_no_webhook() {
    let all = objects(&Options {
        v1alpha1: false,
        ..Options::default()
    });
    let text = yaml(&all);
    assert!(!text.contains("clientConfig:"), "{text}");
    assert!(text.contains("value: v1beta1\n"));
    let all = listed(&all);
    assert!(!all.contains(&"Service afloat-system/afloat-webhook".to_owned()));
    assert_eq!(all.len(), listed(&objects(&Options::default())).len() - 1);
}

#[test]
fn what_users_have_is_not_removed() {
    let removed = listed(&removable(&Options::default()));
    let theirs = |one: &String| one.starts_with("Namespace") || one.starts_with("CustomRes");
    let all = listed(&objects(&Options::default()));
    // And the configuration of webhooks, which the operator makes.
    assert_eq!(removed.len(), all.iter().filter(|one| !theirs(one)).count() + 1);
    assert!(!removed.iter().any(theirs));
}

#[test]
fn what_is_not_the_lease_is_in_our_own_namespace() {
    let lease = json!({"resources": ["leases"], "verbs": ["get"]});
    let secret = json!({"resources": ["secrets"], "verbs": ["create"]});
    let role = |rules: Value| {
        vec![
            json!({"kind": "Role", "metadata": {"name": "afloat-operator"}, "rules": rules}),
            json!({"kind": "RoleBinding", "metadata": {"name": "afloat-operator"}, "roleRef": {"name": "afloat-operator"}}),
        ]
    };
    assert_eq!(put::apart(role(json!([lease]))), role(json!([lease])));
    let mut both = put::apart(role(json!([lease, secret])));
    both.sort_by_key(|object| text(object, "/metadata/name").to_owned());
    let names: Vec<_> = both.iter().map(|object| text(object, "/metadata/name")).collect();
    assert_eq!(
        names,
        ["afloat-operator", "afloat-operator", "afloat-webhook", "afloat-webhook"]
    );
    assert_eq!(
        (&both[0]["rules"], &both[2]["rules"]),
        (&json!([lease]), &json!([secret]))
    );
    assert_eq!(both[3]["roleRef"]["name"], "afloat-webhook");
}
