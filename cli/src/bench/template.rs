//! The template of the pods that are measured.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// What a pod is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodForm {
    /// Two containers with an image each, and nothing more
    Bare,
    /// As in real clusters, about 8 KiB: variables, volumes, probes, resources, a token, and what webhooks add
    #[default]
    Real,
}

/// Variables of each container of a real pod.
const VARIABLES: usize = 20;

/// The template of a set's pods.
pub(super) fn template(name: &str, scheduler: &str, form: PodForm, image: &str) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"schedulerName": scheduler, "containers": containers(form, image)},
    });
    if form == PodForm::Real {
        dress(&mut template, name);
    }
    template
}

/// The containers, of which the first one is updated.
pub(super) fn containers(form: PodForm, image: &str) -> Value {
    let container = |name: &str, image: &str| {
        let mut container = json!({"name": name, "image": image});
        if let (PodForm::Real, Some(container)) = (form, container.as_object_mut()) {
            furnish(container, name);
        }
        container
    };
    json!([container("app", image), container("log", "log:1")])
}

fn furnish(container: &mut Map<String, Value>, name: &str) {
    let probe = |path: &str, period: u32| {
        json!({"httpGet": {"path": path, "port": 8080, "scheme": "HTTP"}, "periodSeconds": period, "timeoutSeconds": 1,
            "successThreshold": 1, "failureThreshold": 3})
    };
    let mut variables = vec![
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}),
        json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}),
    ];
    variables.extend((2..VARIABLES).map(|number| {
        let value = format!("http://service-{number}.backend.svc.cluster.local:8080/v1");
        json!({"name": format!("UPSTREAM_SERVICE_{number}_URL"), "value": value})
    }));
    let parts = json!({
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        "readinessProbe": probe("/ready", 5),
        "livenessProbe": probe("/alive", 10),
        "volumeMounts": [
            {"name": "config", "mountPath": format!("/etc/{name}"), "readOnly": true},
            {"name": "certificates", "mountPath": "/etc/tls/private", "readOnly": true},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
            "runAsNonRoot": true, "runAsUser": 10001},
    });
    container.extend(parts.as_object().cloned().unwrap_or_default());
}

/// What is beside the containers, a good part of it as admission and webhooks write it.
fn dress(template: &mut Value, name: &str) {
    let sidecar = json!({"initContainers": [], "containers": ["log"], "volumes": ["scratch", "certificates", "kube-api-access"],
        "imagePullSecrets": null, "revision": "default"});
    template["metadata"]["annotations"] = json!({
        "checksum/config": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "checksum/secret": "cd372fb85148700fa88095e3492d3f9f5beb43e555e5ff26d95f5a6adc36f8e6",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
        "kubectl.kubernetes.io/default-container": "app",
        "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
        "prometheus.io/path": "/metrics", "prometheus.io/port": "9090", "prometheus.io/scrape": "true",
        "sidecar.example.com/status": sidecar.to_string(),
    });
    template["metadata"]["labels"] = json!({"app": name, "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "Helm", "tier": "backend"});
    let spec = &mut template["spec"];
    spec["volumes"] = json!([
        {"name": "config", "configMap": {"name": format!("{name}-config"), "defaultMode": 420,
            "items": [{"key": "main", "path": "main.yaml"}, {"key": "logging", "path": "logging.yaml"}]}},
        {"name": "certificates", "secret": {"secretName": format!("{name}-tls"), "defaultMode": 420}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}},
    ]);
    spec["tolerations"] = json!([
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    ]);
    spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": name}}}]);
    spec["terminationGracePeriodSeconds"] = json!(30);
    // Tokens are for accounts. Of a server without the controllers that make accounts none is there, and none is asked for.
    spec["serviceAccountName"] = json!("default");
    spec["automountServiceAccountToken"] = json!(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_pod_is_about_eight_kibibytes() {
        let text = |form| template("set-0", "none", form, "app:1").to_string().len();
        assert!((6000..9000).contains(&text(PodForm::Real)), "{}", text(PodForm::Real));
        assert!(text(PodForm::Bare) < 300);
    }

    #[test]
    fn an_update_changes_an_image_and_nothing_else() {
        let (mut old, new) = (containers(PodForm::Real, "app:1"), containers(PodForm::Real, "app:2"));
        old[0]["image"] = json!("app:2");
        assert_eq!(old, new);
    }
}
