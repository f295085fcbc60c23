//! Environment variables, arguments and the `$(VAR)` that may stand in them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use afloat_words::quantity::Quantity;
use afloat_words::quoted::quoted;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
};

use crate::pod::spec;

/// API objects and facts that containers' environments and volumes are filled from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Variables of Services, as Docker links had them.
    pub(crate) services: Vec<(String, String)>,
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) pod_ip: Option<IpAddr>,
    /// The node's, for resource fields without a limit.
    pub(crate) allocatable: BTreeMap<String, String>,
}

/// Replaces `$(NAME)` where `lookup` knows it; `$$(NAME)` stands for `$(NAME)` itself; what is unknown stays.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&lookup(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The container's variables in the order in which they were set, services first. Errors name what is missing.
pub(crate) fn variables(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, String> {
    let mut set = Variables(sources.services.clone());
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let entries = if let Some(reference) = &from.config_map_ref {
            config_map(sources, &reference.name, reference.optional)?
                .map(text_entries)
                .unwrap_or_default()
        } else if let Some(reference) = &from.secret_ref {
            secret(sources, &reference.name, reference.optional)?
                .map(secret_entries)
                .unwrap_or_default()
        } else {
            vec![]
        };
        for (key, value) in entries {
            set.put(format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, sources, &set)? {
            set.put(variable.name.clone(), value);
        }
    }
    Ok(set.0)
}

struct Variables(Vec<(String, String)>);

impl Variables {
    fn put(&mut self, name: String, value: String) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }
}

fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    set: &Variables,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, &|name| set.get(name))));
    };
    let EnvVarSource {
        config_map_key_ref,
        secret_key_ref,
        field_ref,
        resource_field_ref,
    } = from;
    if let Some(reference) = config_map_key_ref {
        let Some(map) = config_map(sources, &reference.name, reference.optional)? else {
            return Ok(None);
        };
        let found = map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned();
        return required(found, reference.optional, || {
            format!(
                "couldn't find key {} in ConfigMap {}/{}",
                reference.key,
                spec::namespace(pod),
                reference.name
            )
        });
    }
    if let Some(reference) = secret_key_ref {
        let Some(secret) = secret(sources, &reference.name, reference.optional)? else {
            return Ok(None);
        };
        let found = secret.data.as_ref().and_then(|data| data.get(&reference.key));
        let found = found.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return required(found, reference.optional, || {
            format!(
                "couldn't find key {} in Secret {}/{}",
                reference.key,
                spec::namespace(pod),
                reference.name
            )
        });
    }
    if let Some(reference) = field_ref {
        return field(pod, reference, sources).map(Some);
    }
    match resource_field_ref {
        Some(reference) => resource(pod, container, reference, sources).map(Some),
        None => Ok(Some(String::new())),
    }
}

fn required(
    found: Option<String>,
    optional: Option<bool>,
    message: impl FnOnce() -> String,
) -> Result<Option<String>, String> {
    if found.is_none() && optional != Some(true) {
        Err(message())
    } else {
        Ok(found)
    }
}

/// A ConfigMap by name; None only if it is optional.
pub(crate) fn config_map<'a>(
    sources: &'a Sources,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a ConfigMap>, String> {
    match sources.config_maps.get(name) {
        None if optional != Some(true) => Err(format!("configmap \"{name}\" not found")),
        found => Ok(found),
    }
}

/// A Secret by name; None only if it is optional.
pub(crate) fn secret<'a>(
    sources: &'a Sources,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Secret>, String> {
    match sources.secrets.get(name) {
        None if optional != Some(true) => Err(format!("secret \"{name}\" not found")),
        found => Ok(found),
    }
}

fn text_entries(map: &ConfigMap) -> Vec<(String, String)> {
    map.data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn secret_entries(secret: &Secret) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(&value.0)))
        .collect()
}

/// A downward API field.
pub(crate) fn field(pod: &Pod, reference: &ObjectFieldSelector, sources: &Sources) -> Result<String, String> {
    let path = reference.field_path.as_str();
    let metadata = &pod.metadata;
    let pod_spec = pod.spec.as_ref();
    let list = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<_> = map
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", quoted(value)))
            .collect();
        lines.join("\n")
    };
    let one = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.iter().flatten().find(|(k, _)| *k == key).map(|(_, v)| v.clone())
    };
    let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    if let Some(key) = path
        .strip_prefix("metadata.labels['")
        .and_then(|rest| rest.strip_suffix("']"))
    {
        return Ok(one(&metadata.labels, key).unwrap_or_default());
    }
    if let Some(key) = path
        .strip_prefix("metadata.annotations['")
        .and_then(|rest| rest.strip_suffix("']"))
    {
        return Ok(one(&metadata.annotations, key).unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => list(&metadata.labels),
        "metadata.annotations" => list(&metadata.annotations),
        "spec.nodeName" => pod_spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => pod_spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.hostIPs" => ip(sources.host_ip),
        "status.podIP" | "status.podIPs" => ip(sources.pod_ip),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `limits.cpu` and its like, divided by the divisor and rounded up.
pub(crate) fn resource(
    pod: &Pod,
    container: &Container,
    reference: &ResourceFieldSelector,
    sources: &Sources,
) -> Result<String, String> {
    let container = match &reference.container_name {
        Some(name) => spec::find(pod, name).ok_or_else(|| format!("container {name} not found"))?,
        None => container,
    };
    let bad = || format!("unsupported container resource: {}", reference.resource);
    let (side, name) = reference.resource.split_once('.').ok_or_else(bad)?;
    let resources = container.resources.as_ref();
    let from = |map: Option<&BTreeMap<String, _>>| {
        map.and_then(|m| m.get(name))
            .map(|q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| q.0.clone())
    };
    let limits = from(resources.and_then(|r| r.limits.as_ref()));
    let found = match side {
        // A limit of nothing is none (the kubelet's `MergeContainerResourceLimits`).
        "limits" => limits
            .filter(|limit| limit.parse().map_or(true, |limit: Quantity| limit.nano() != 0))
            .or_else(|| sources.allocatable.get(name).cloned()),
        "requests" => from(resources.and_then(|r| r.requests.as_ref())).or(limits),
        _ => return Err(bad()),
    };
    let divisor = reference.divisor.as_ref().map_or("1", |q| q.0.as_str());
    let read = |text: &str| -> Result<Quantity, String> {
        text.parse()
            .map_err(|error| format!("cannot read the quantity {text:?}: {error}"))
    };
    let value = read(found.as_deref().unwrap_or("0"))?;
    // No divisor is written as 0, and is 1 (the API server's default, and the kubelet's).
    let divided = value.divided_by(read(divisor)?);
    Ok(divided.unwrap_or_else(|| value.value()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_documented() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(B)"),
            ("$$(A)", "$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("5$", "5$"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    fn case(json: serde_json::Value, sources: &Sources) -> Result<Vec<(String, String)>, String> {
        let container: Container = serde_json::from_value(json).unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web"}},
            "spec": {"containers": [], "nodeName": "node-1"}
        }))
        .unwrap();
        variables(&pod, &container, sources)
    }

    #[test]
    fn later_variables_see_earlier_ones_and_sources_are_read() {
        let mut sources = Sources {
            pod_ip: "10.0.0.7".parse().ok(),
            ..Sources::default()
        };
        let map = serde_json::json!({"metadata": {"name": "m"}, "data": {"k": "v"}});
        sources
            .config_maps
            .insert("m".into(), serde_json::from_value(map).unwrap());
        let set = case(
            serde_json::json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}], "env": [
                {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)b $(P_k)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k", "optional": true}}}],
                "resources": {"limits": {"cpu": "1500m"}}}),
            &sources,
        )
        .unwrap();
        let text: Vec<_> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["P_k=v", "A=a", "B=ab v", "IP=10.0.0.7", "L=web", "CPU=1500"]);
    }

    #[test]
    fn resources_are_divided_exactly() {
        for (limits, resource, divisor, shown) in [
            // In floating point both were one more.
            (serde_json::json!({"cpu": "9m"}), "limits.cpu", "1m", "9"),
            (serde_json::json!({"cpu": "2010m"}), "limits.cpu", "1m", "2010"),
            (serde_json::json!({"cpu": "2010m"}), "limits.cpu", "0", "3"),
            (serde_json::json!({"cpu": "100u"}), "requests.cpu", "1m", "1"),
            (serde_json::json!({"memory": "64Mi"}), "limits.memory", "1Mi", "64"),
            (serde_json::json!({"memory": "64Mi"}), "limits.memory", "1M", "68"),
            (
                serde_json::json!({"memory": "1.5Gi"}),
                "requests.memory",
                "1",
                "1610612736",
            ),
            (serde_json::json!({"cpu": "1"}), "limits.memory", "1", "0"),
        ] {
            let from = serde_json::json!({"resource": resource, "divisor": divisor});
            let container = serde_json::json!({"name": "c", "resources": {"limits": limits},
                "env": [{"name": "N", "valueFrom": {"resourceFieldRef": from}}]});
            let set = case(container, &Sources::default()).unwrap();
            assert_eq!(
                set,
                [("N".to_owned(), shown.to_owned())],
                "{resource} of {limits} by {divisor}"
            );
        }
        let bad = serde_json::json!({"name": "c", "resources": {"limits": {"cpu": "much"}},
            "env": [{"name": "N", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]});
        let error = case(bad, &Sources::default()).unwrap_err();
        assert!(error.contains("cannot read the quantity \"much\""), "{error}");
    }

    #[test]
    fn labels_are_quoted_as_go_quotes_them_and_no_limit_is_the_nodes() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {
            "annotations": {"a": "it's\u{0007}\\ \"so\"\nand e\u{0301} \u{00ad}", "b": ""}}}))
        .unwrap();
        let reference = ObjectFieldSelector {
            field_path: "metadata.annotations".into(),
            ..Default::default()
        };
        assert_eq!(
            field(&pod, &reference, &Sources::default()).unwrap(),
            "a=\"it's\\a\\\\ \\\"so\\\"\\nand e\u{301} \\u00ad\"\nb=\"\""
        );
        let sources = Sources {
            allocatable: [("cpu".to_owned(), "2500m".to_owned())].into(),
            ..Sources::default()
        };
        for limits in [serde_json::json!({}), serde_json::json!({"cpu": "0"})] {
            let container = serde_json::json!({"name": "c", "resources": {"limits": limits},
                "env": [{"name": "N", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]});
            assert_eq!(case(container, &sources).unwrap(), [("N".to_owned(), "3".to_owned())]);
        }
    }

    #[test]
    fn a_missing_source_is_named() {
        let json = serde_json::json!({"name": "c", "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]});
        assert_eq!(
            case(json, &Sources::default()),
            Err("configmap \"m\" not found".to_owned())
        );
    }
}
