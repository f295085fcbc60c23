//! The roles and bindings that every cluster begins with, and what becomes of them when a newer server starts on an older
//! cluster's data: what is missing is added, and nothing that users added is taken away
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation>).
//!
//! The objects in `bootstrap.json` are those of Kubernetes 1.32.10: taken from a kube-apiserver that ran with
//! `--authorization-mode=RBAC`, without what it noted in their metadata.

use serde_json::{Map, Value, json};

use super::covers::{Excess, covers};
use super::rule::PolicyRule;
use super::subject::RoleRef;

const OBJECTS: &str = include_str!("bootstrap.json");

/// An object with this annotation set to `false` is left alone.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What becomes of a stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: this is created.
    Create(Value),
    /// It becomes this.
    Update(Value),
    /// Which role a binding gives cannot be changed, so it is deleted and this created.
    Recreate(Value),
}

/// All roles and bindings that every cluster has.
///
/// # Errors
/// Never, as long as the file is JSON.
pub fn objects() -> Result<Vec<Value>, serde_json::Error> {
    serde_json::from_str(OBJECTS)
}

/// What is to be done so that `stored` allows at least what `expected` does; None: nothing.
pub fn reconcile(stored: Option<&Value>, expected: &Value) -> Option<Step> {
    let Some(stored) = stored else {
        return Some(Step::Create(expected.clone()));
    };
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let is_binding = expected.get("roleRef").is_some();
    if is_binding && RoleRef::of(stored) != RoleRef::of(expected) {
        return Some(Step::Recreate(expected.clone()));
    }
    let mut new = stored.clone();
    for field in ["annotations", "labels"] {
        add_missing(&mut new["metadata"], field, &expected["metadata"][field]);
    }
    if is_binding {
        add_subjects(&mut new, expected);
    } else {
        add_rules(&mut new, expected);
        add_selectors(&mut new, expected);
    }
    (new != *stored).then_some(Step::Update(new))
}

/// Adds the entries of a map that are not there.
fn add_missing(metadata: &mut Value, field: &str, expected: &Value) {
    let Some(expected) = expected.as_object() else { return };
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let own = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if let Some(own) = own.as_object_mut() {
        for (key, value) in expected {
            own.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

/// The list of a field; made if it is missing or something else.
fn list<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let slot = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = json!([]);
    }
    slot.as_array_mut()
}

fn add_rules(new: &mut Value, expected: &Value) {
    let missing = match covers(&PolicyRule::read_all(new), &PolicyRule::read_all(expected)) {
        Ok(()) => return,
        Err(Excess::Missing(rules)) => rules,
        // Of ours none has as many; then all of them are.
        Err(Excess::TooMany) => PolicyRule::read_all(expected),
    };
    if let Some(rules) = list(new, "rules") {
        rules.extend(missing.iter().map(PolicyRule::to_value));
    }
}

fn add_selectors(new: &mut Value, expected: &Value) {
    let Some(wanted) = expected["aggregationRule"]["clusterRoleSelectors"].as_array() else {
        if let Some(fields) = new.as_object_mut() {
            fields.remove("aggregationRule");
        }
        return;
    };
    let present = new["aggregationRule"]["clusterRoleSelectors"].as_array();
    let present: Vec<Value> = present.cloned().unwrap_or_default();
    let missing: Vec<&Value> = wanted.iter().filter(|one| !present.contains(one)).collect();
    if !missing.is_empty() {
        let all: Vec<Value> = present.iter().chain(missing).cloned().collect();
        new["aggregationRule"] = json!({"clusterRoleSelectors": all});
    }
}

fn add_subjects(new: &mut Value, expected: &Value) {
    let same = |one: &Value, other: &Value| {
        let fields = ["kind", "apiGroup", "name", "namespace"];
        fields
            .iter()
            .all(|field| one[*field].as_str().unwrap_or_default() == other[*field].as_str().unwrap_or_default())
    };
    let wanted = expected["subjects"].as_array().into_iter().flatten();
    let present: Vec<Value> = new["subjects"].as_array().cloned().unwrap_or_default();
    let missing: Vec<Value> = wanted
        .filter(|one| !present.iter().any(|other| same(one, other)))
        .cloned()
        .collect();
    if !missing.is_empty()
        && let Some(subjects) = list(new, "subjects")
    {
        subjects.extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster_binding, rule, subject};
    use super::*;

    #[test]
    fn what_every_cluster_has_is_there_once_and_kept_up() {
        let objects = objects().unwrap();
        let mut keys: Vec<String> = objects
            .iter()
            .map(|o| format!("{} {} {}", o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]))
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), objects.len());
        for expected in &objects {
            assert_eq!(reconcile(None, expected), Some(Step::Create(expected.clone())));
            assert_eq!(reconcile(Some(expected), expected), None);
        }
        let role = objects
            .iter()
            .find(|o| o["metadata"]["name"] == "system:node-proxier")
            .unwrap();
        let mut own = role.clone();
        own["rules"] = json!([rule(&["delete"], &["mine"], &["things"])]);
        own["metadata"]["labels"] = json!({"mine": "x"});
        let Some(Step::Update(new)) = reconcile(Some(&own), role) else {
            panic!("rules are missing")
        };
        assert_eq!(new["metadata"]["labels"]["mine"], "x");
        assert_eq!(
            new["metadata"]["labels"]["kubernetes.io/bootstrapping"],
            "rbac-defaults"
        );
        assert_eq!(new["rules"][0], own["rules"][0]);
        assert_eq!(covers(&PolicyRule::read_all(&new), &PolicyRule::read_all(role)), Ok(()));
        own["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(reconcile(Some(&own), role), None);
    }

    #[test]
    fn a_binding_is_added_to_or_made_anew() {
        let expected = cluster_binding("b", "r", &[subject("Group", "g")]);
        let more = cluster_binding("b", "r", &[subject("User", "mine")]);
        let Some(Step::Update(new)) = reconcile(Some(&more), &expected) else {
            panic!("a subject is missing")
        };
        assert_eq!(new["subjects"], json!([subject("User", "mine"), subject("Group", "g")]));
        let other = cluster_binding("b", "other", &[subject("Group", "g")]);
        assert_eq!(reconcile(Some(&other), &expected), Some(Step::Recreate(expected)));
    }
}
