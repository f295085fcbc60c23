//! Roles and what binds them.

use serde_json::Value;

use super::age::since_creation;
use super::read::list;
use crate::json::text;

/// As the original: the time itself, not how long ago it was.
pub(crate) fn role(role: &Value, _now: &str) -> Vec<Value> {
    vec![role.pointer("/metadata/creationTimestamp").cloned().unwrap_or_default()]
}

pub(crate) fn binding(binding: &Value, now: &str) -> Vec<Value> {
    let of = |path: &str| text(binding.pointer(path));
    let subjects = |kind: &str| -> Value {
        let all = list(binding.get("subjects"))
            .iter()
            .filter(|one| text(one.get("kind")) == kind);
        let name = |one: &Value| match (text(one.get("namespace")), text(one.get("name"))) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        all.map(name).collect::<Vec<_>>().join(", ").into()
    };
    vec![
        format!("{}/{}", of("/roleRef/kind"), of("/roleRef/name")).into(),
        since_creation(binding, now).into(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bindings_show_whom_they_bind() {
        let object = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "roleRef": {"kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "Group", "name": "dev"}, {"kind": "User", "name": "joe"},
                {"kind": "ServiceAccount", "namespace": "a", "name": "robot"}]});
        let cells = binding(&object, "2026-01-01T00:05:00Z");
        assert_eq!(cells, ["ClusterRole/edit", "5m", "jane, joe", "dev", "a/robot"]);
        assert_eq!(role(&object, ""), ["2026-01-01T00:00:00Z"]);
    }
}
