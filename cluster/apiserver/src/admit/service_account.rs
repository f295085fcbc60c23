//! What Kubernetes' admission plugin ServiceAccount adds to a new pod: its account's token, where every client library looks
//! for it. Pure.

use serde_json::{Value, json};

/// Where containers find token, certificate authority and namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// As in the original: its kubelets know this number.
const TOKEN_SECONDS: i64 = 3607;

/// Adds volume and mounts, unless pod or account do not want them. `account`: the pod's service account, if it exists.
pub(crate) fn mount(pod: &mut Value, account: Option<&Value>, suffix: &str) {
    let wish = |object: &Value| object["automountServiceAccountToken"].as_bool();
    let wanted = wish(&pod["spec"]).or_else(|| account.and_then(wish)).unwrap_or(true);
    if let Some(secrets) = account.and_then(|account| account["imagePullSecrets"].as_array())
        && pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && !secrets.is_empty()
    {
        pod["spec"]["imagePullSecrets"] = json!(secrets);
    }
    if !wanted {
        return;
    }
    let name = format!("kube-api-access-{suffix}");
    let mut mounted = false;
    for kind in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            mounted |= mount_in(container, &name);
        }
    }
    if !mounted {
        return;
    }
    let field = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    let volume = json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]}});
    push(&mut pod["spec"], "volumes", volume);
}

/// False where something is mounted there already.
fn mount_in(container: &mut Value, volume: &str) -> bool {
    let mounts = container["volumeMounts"].as_array();
    if !container.is_object()
        || mounts
            .into_iter()
            .flatten()
            .any(|mount| mount["mountPath"] == MOUNT_PATH)
    {
        return false;
    }
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    push(container, "volumeMounts", mount);
    true
}

fn push(parent: &mut Value, key: &str, item: Value) {
    match parent.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => parent[key] = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [
            {"name": "own", "mountPath": MOUNT_PATH}]}]}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        pod
    }

    #[test]
    fn each_container_gets_the_token_unless_it_has_something_there() {
        let mut mounted = pod(json!({}));
        mount(&mut mounted, Some(&json!({})), "x");
        let a = &mounted["spec"]["containers"][0]["volumeMounts"][0];
        assert_eq!(
            (a["name"].as_str(), a["readOnly"].as_bool()),
            (Some("kube-api-access-x"), Some(true))
        );
        assert_eq!(
            mounted["spec"]["containers"][1]["volumeMounts"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        assert_eq!(mounted["spec"]["volumes"].as_array().map(Vec::len), Some(1));
        assert!(mounted["spec"].get("initContainers").is_none(), "nothing else comes in");
    }

    #[test]
    fn the_pods_word_counts_before_the_accounts() {
        let no = json!({"automountServiceAccountToken": false});
        for (spec, account, wanted) in [
            (json!({}), no.clone(), false),
            (json!({"automountServiceAccountToken": true}), no.clone(), true),
            (no, json!({}), false),
        ] {
            let mut pod = pod(spec);
            mount(&mut pod, Some(&account), "x");
            assert_eq!(pod["spec"].get("volumes").is_some(), wanted, "{pod}");
        }
    }

    #[test]
    fn the_accounts_pull_secrets_are_the_pods() {
        let mut pod = pod(json!({}));
        mount(&mut pod, Some(&json!({"imagePullSecrets": [{"name": "s"}]})), "x");
        assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "s");
    }
}
