//! Where pods may come from that stand in no manifest: what a Service selects may be there although nothing that is looked at has its
//! labels.

use serde_json::Value;

use crate::object::namespace;

/// Labels that controllers give their pods; a trailing slash means all that begin so.
const GIVEN: &[&str] = &[
    "apps.kruise.io/",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "lifecycle.apps.kruise.io/",
    "pod-template-generation",
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "security.istio.io/",
    "service.istio.io/",
    "statefulset.kubernetes.io/pod-name",
    "topology.kubernetes.io/",
];

/// Where the labels of pods stand, in whatever object.
const LABELS: &[&str] = &[
    "/spec/template/metadata/labels",
    "/spec/jobTemplate/spec/template/metadata/labels",
];

/// API groups whose objects make no pods: beside them a Service that selects nothing is a mistake. Those of Kubernetes, whose names
/// have no dot or end in `.k8s.io`, are known anyway.
const WITHOUT_PODS: &[&str] = &[
    "acme.cert-manager.io",
    "bitnami.com",
    "cert-manager.io",
    "cilium.io",
    "external-secrets.io",
    "kyverno.io",
    "networking.istio.io",
    "policy.kruise.io",
    "projectcontour.io",
    "security.istio.io",
    "traefik.io",
];

/// Kinds of other groups that make none either.
const KINDS_WITHOUT_PODS: &[&str] = &[
    "AppProject",
    "Application",
    "PodMonitor",
    "Probe",
    "PrometheusRule",
    "RolloutReport",
    "ServiceMonitor",
];

/// Whether the Service's pods may be there all the same: a template that is no workload of ours has its labels, a controller gives the
/// labels that lack, or a custom resource is there of which nobody can say what its pods are like.
pub(super) fn may_be(objects: &[Value], service: &Value) -> bool {
    let near = objects.iter().filter(|object| namespace(object) == namespace(service));
    let mut near = near.filter(|object| object["kind"] != "Service");
    near.any(|object| makes_unknown_pods(object) || has_labels(object, service))
}

fn has_labels(object: &Value, service: &Value) -> bool {
    let templates = LABELS.iter().filter_map(|pointer| object.pointer(pointer));
    let selector = || service.pointer("/spec/selector").and_then(Value::as_object);
    let mut templates = templates.filter_map(Value::as_object);
    templates.any(|labels| {
        let mut wanted = selector().into_iter().flatten();
        wanted.all(|(key, value)| labels.get(key) == Some(value) || is_given(key) && !labels.contains_key(key))
    })
}

fn is_given(label: &str) -> bool {
    let is = |known: &&&str| {
        known
            .strip_suffix('/')
            .map_or(**known == label, |_| label.starts_with(**known))
    };
    GIVEN.iter().any(|known| is(&known))
}

/// A custom resource whose pods stand nowhere: no template in it is where we look for one.
fn makes_unknown_pods(object: &Value) -> bool {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let Some((group, _)) = text("apiVersion").split_once('/') else {
        return false;
    };
    let known = !group.contains('.') || group.ends_with(".k8s.io") || WITHOUT_PODS.contains(&group);
    let templated = LABELS.iter().any(|pointer| object.pointer(pointer).is_some());
    !known && !templated && !KINDS_WITHOUT_PODS.contains(&text("kind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(selector: Value) -> Value {
        json!({"kind": "Service", "apiVersion": "v1", "spec": {"selector": selector}})
    }

    fn template(api_version: &str, kind: &str, labels: Value) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "spec": {"template": {"metadata": {"labels": labels}}}})
    }

    fn app() -> Value {
        json!({"app": "a"})
    }

    #[test]
    fn pods_may_come_from_elsewhere() {
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "spec": {"jobTemplate": {"spec": {"template": {"metadata": {"labels": {"app": "a"}}}}}}});
        let custom = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "spec": {}});
        let cases = [
            (
                "an old controller",
                app(),
                template("v1", "ReplicationController", app()),
                true,
            ),
            (
                "a rollout of Argo",
                app(),
                template("argoproj.io/v1alpha1", "Rollout", app()),
                true,
            ),
            (
                "its labels are others",
                app(),
                template("argoproj.io/v1alpha1", "Rollout", json!({"app": "b"})),
                false,
            ),
            (
                "one that has its template elsewhere",
                app(),
                custom("argoproj.io/v1alpha1", "Rollout"),
                true,
            ),
            ("a database", app(), custom("postgresql.cnpg.io/v1", "Cluster"), true),
            ("a job", app(), cron, true),
            (
                "no pods of it",
                app(),
                custom("cert-manager.io/v1", "Certificate"),
                false,
            ),
            (
                "nor of this",
                app(),
                custom("monitoring.coreos.com/v1", "ServiceMonitor"),
                false,
            ),
            (
                "Kubernetes' own",
                app(),
                custom("networking.k8s.io/v1", "Ingress"),
                false,
            ),
            (
                "one pod of a StatefulSet",
                json!({"app": "a", "statefulset.kubernetes.io/pod-name": "a-0"}),
                template("apps/v1", "StatefulSet", app()),
                true,
            ),
            (
                "a job's pods",
                json!({"batch.kubernetes.io/job-name": "a"}),
                template("batch/v1", "Job", json!({})),
                true,
            ),
            (
                "a label that a template gives another value",
                json!({"app": "a", "job-name": "x"}),
                template("batch/v1", "Job", json!({"app": "a", "job-name": "y"})),
                false,
            ),
        ];
        for (what, selector, object, may) in cases {
            assert_eq!(may_be(&[object], &service(selector)), may, "{what}");
        }
    }

    #[test]
    fn pods_of_another_namespace_are_not_meant() {
        let mut elsewhere = template("v1", "ReplicationController", app());
        elsewhere["metadata"] = json!({"namespace": "other"});
        assert!(!may_be(&[elsewhere], &service(app())));
    }
}
