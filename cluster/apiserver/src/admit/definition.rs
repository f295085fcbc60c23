//! CustomResourceDefinitions: accepted and established in the write that brings them.

use afloat_machinery::kinds::{Registry, Resource};
use serde_json::{Value, json};

use crate::clock::now;
use crate::view;

/// Keeps a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The definition of definitions.
pub(crate) fn definition(registry: &Registry) -> Option<std::sync::Arc<Resource>> {
    registry.resolve("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// Why the names cannot be had: another definition has them.
fn name_conflict(registry: &Registry, crd: &Value) -> Option<String> {
    let (group, plural) = (crd["spec"]["group"].as_str()?, crd["spec"]["names"]["plural"].as_str()?);
    let kind = crd["spec"]["names"]["kind"].as_str()?;
    let other = registry
        .all()
        .find(|r| r.group == group && r.plural != plural && r.kind == kind)?;
    Some(format!(
        "\"{kind}\" is already in use by {}.{}",
        other.plural, other.group
    ))
}

fn condition(old: &Value, kind: &str, yes: bool, reason: &str, message: &str) -> Value {
    let status = if yes { "True" } else { "False" };
    let before = old["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == kind);
    let since = before
        .filter(|c| c["status"] == status)
        .map_or_else(|| now().into(), |c| c["lastTransitionTime"].clone());
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

/// Completes a definition: names, conversion, finalizer.
pub(crate) fn complete(crd: &mut Value) {
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let spec = view::child(crd, "spec");
    spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    let names = view::child(&mut crd["spec"], "names");
    names.entry("singular").or_insert_with(|| kind.to_lowercase().into());
    names.entry("listKind").or_insert_with(|| format!("{kind}List").into());
    let deleting = crd["metadata"]["deletionTimestamp"].is_string();
    if !deleting && !view::finalizers(crd).iter().any(|f| f == CLEANUP) {
        let mut finalizers: Vec<String> = view::finalizers(crd).iter().map(ToString::to_string).collect();
        finalizers.push(CLEANUP.to_owned());
        view::metadata(crd).insert("finalizers".into(), finalizers.into());
    }
}

/// Gives a definition its status before it is stored.
pub(crate) fn admit(registry: &Registry, old: Option<&Value>, crd: &mut Value) {
    complete(crd);
    let accepted = crd["spec"]["names"].clone();
    let conflict = name_conflict(registry, crd);
    let previous = old.unwrap_or(&Value::Null);
    let (fine, message) = (
        conflict.is_none(),
        conflict.unwrap_or_else(|| "no conflicts found".into()),
    );
    let mut conditions = vec![
        condition(
            previous,
            "NamesAccepted",
            fine,
            if fine { "NoConflicts" } else { "NamesConflict" },
            &message,
        ),
        condition(
            previous,
            "Established",
            fine,
            if fine { "InitialNamesAccepted" } else { "NotAccepted" },
            if fine {
                "the initial names have been accepted"
            } else {
                "not all names are accepted"
            },
        ),
    ];
    let deleting = crd["metadata"]["deletionTimestamp"].is_string();
    if deleting {
        conditions.push(condition(
            previous,
            "Terminating",
            true,
            "InstanceDeletionInProgress",
            "its objects are being deleted",
        ));
    }
    let versions = crd["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let storage = versions
        .iter()
        .find(|v| v["storage"] == true)
        .and_then(|v| v["name"].as_str());
    let mut stored: Vec<Value> = crd["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if let Some(storage) = storage.filter(|s| !stored.iter().any(|v| v == s)) {
        stored.push(storage.into());
    }
    crd["status"] = json!({"acceptedNames": accepted, "conditions": conditions, "storedVersions": stored});
}
