//! ContainerRecreateRequest. v1alpha1 has two annotations for what v1beta1 has in the status (`containerrecreaterequest_conversion.go`
//! of OpenKruise's main line).

use serde_json::{Value, json};

use super::fields::{Object, annotate, child, take_annotation, text};
use crate::names::{RECREATE_GRACE, RECREATE_SNAPSHOT, RECREATE_UNREADY};
use crate::recreate::ContainerSnapshot;

const SNAPSHOT: &str = "containerStatusSnapshot";
const CONDITIONS: &str = "conditions";

pub(super) fn to_v1beta1(request: &mut Object) {
    let snapshot = text(request, "annotations", RECREATE_SNAPSHOT).and_then(listed);
    let since = text(request, "annotations", RECREATE_UNREADY).map(str::to_owned);
    // Without a status there is nowhere to put them.
    let Some(status) = child(request, "status") else { return };
    let snapshot = snapshot.filter(|_| !status.contains_key(SNAPSHOT));
    let moved = snapshot.is_some();
    if let Some(snapshot) = snapshot {
        status.insert(SNAPSHOT.into(), snapshot);
    }
    let known = since.is_some_and(|since| take_in(status, &since));
    if moved {
        take_annotation(request, RECREATE_SNAPSHOT);
    }
    if known {
        take_annotation(request, RECREATE_UNREADY);
    }
}

pub(super) fn to_v1alpha1(request: &mut Object) {
    let written = |map: &str, key: &str| text(request, map, key).is_some();
    let (has_snapshot, has_since) = (
        written("annotations", RECREATE_SNAPSHOT),
        written("annotations", RECREATE_UNREADY),
    );
    let Some(status) = child(request, "status") else { return };
    let snapshot = status.get(SNAPSHOT).and_then(told).filter(|_| !has_snapshot);
    if snapshot.is_some() {
        status.remove(SNAPSHOT);
    }
    let since = if has_since { None } else { grace(status) };
    if let Some(text) = snapshot {
        annotate(request, RECREATE_SNAPSHOT, text);
    }
    if let Some(since) = since {
        annotate(request, RECREATE_UNREADY, since);
    }
}

/// The condition as it comes from the annotation, which has a time and nothing else.
fn plain(since: &str) -> Value {
    json!({
        "type": RECREATE_GRACE, "status": "True", "reason": RECREATE_GRACE, "message": "", "lastTransitionTime": since,
    })
}

/// Makes a condition of the annotation, or finds that there is one of the same time, which says more.
fn take_in(status: &mut Object, since: &str) -> bool {
    let conditions = status.entry(CONDITIONS).or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return false;
    };
    match conditions.iter().find(|condition| condition["type"] == RECREATE_GRACE) {
        None => {
            // Where the list is read, it is read as a map: the place says nothing.
            conditions.push(plain(since));
            true
        }
        Some(condition) => condition["lastTransitionTime"] == since && condition["status"] == "True",
    }
}

/// The time of the condition, which goes if that is all that it says.
fn grace(status: &mut Object) -> Option<String> {
    let conditions = status.get_mut(CONDITIONS)?.as_array_mut()?;
    let found = conditions
        .iter()
        .position(|condition| condition["type"] == RECREATE_GRACE && condition["status"] == "True")?;
    let since = conditions.get(found)?["lastTransitionTime"].as_str()?.to_owned();
    if conditions.get(found) == Some(&plain(&since)) {
        conditions.remove(found);
        if conditions.is_empty() {
            status.remove(CONDITIONS);
        }
    }
    Some(since)
}

/// The list that an annotation holds, if it would be written in the very same way.
fn listed(text: &str) -> Option<Value> {
    let list: Vec<ContainerSnapshot> = serde_json::from_str(text).ok()?;
    (serde_json::to_string(&list).ok()? == text).then(|| json!(list))
}

/// The text of a list, if nothing of it would be lost.
fn told(list: &Value) -> Option<String> {
    let read: Vec<ContainerSnapshot> = serde_json::from_value(list.clone()).ok()?;
    (json!(read) == *list).then(|| serde_json::to_string(&read).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::convert;

    const ALPHA: &str = "apps.kruise.io/v1alpha1";
    const BETA: &str = "apps.kruise.io/v1beta1";

    fn request(version: &str, annotations: Value, status: Value) -> Value {
        let mut request = json!({
            "apiVersion": version, "kind": "ContainerRecreateRequest", "metadata": {"name": "r", "labels": {"a": "b"}},
            "spec": {"podName": "web", "containers": [{"name": "app"}]}, "status": status,
        });
        if annotations.as_object().is_some_and(|all| !all.is_empty()) {
            request["metadata"]["annotations"] = annotations;
        }
        request
    }

    fn converted(mut object: Value, wanted: &str) -> Value {
        convert(&mut object, wanted).unwrap();
        object
    }

    /// As Go writes it.
    const LIST: &str = r#"[{"name":"app","ready":true,"restartCount":1,"containerID":"containerd://2"},{"name":"b","ready":false,"restartCount":0}]"#;
    const SINCE: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn annotations_of_the_one_are_the_status_of_the_other() {
        let alpha = request(
            ALPHA,
            json!({RECREATE_SNAPSHOT: LIST, RECREATE_UNREADY: SINCE, "note": "x"}),
            json!({"phase": "Recreating"}),
        );
        let list: Value = serde_json::from_str(LIST).unwrap();
        let status = json!({"phase": "Recreating", SNAPSHOT: list, CONDITIONS: [plain(SINCE)]});
        let beta = request(BETA, json!({"note": "x"}), status);
        assert_eq!(converted(alpha.clone(), BETA), beta);
        assert_eq!(converted(beta, ALPHA), alpha);
    }

    #[test]
    fn there_and_back_is_the_same() {
        let told = json!({"type": RECREATE_GRACE, "status": "True", "reason": RECREATE_GRACE, "message": "more",
            "lastTransitionTime": SINCE});
        let other =
            json!({"type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": SINCE});
        let statuses = [
            json!({"phase": "Recreating"}),
            json!({"phase": "Recreating", SNAPSHOT: []}),
            json!({"phase": "Recreating", SNAPSHOT: [{"name": "app", "ready": true, "restartCount": 1, "new": 1}]}),
            json!({"phase": "Recreating", CONDITIONS: [told]}),
            json!({"phase": "Recreating", CONDITIONS: [other, plain(SINCE)]}),
            json!("strange"),
            json!({SNAPSHOT: 7, CONDITIONS: {}}),
        ];
        let annotations = [
            json!({}),
            json!({RECREATE_SNAPSHOT: "[ ]"}),
            json!({RECREATE_SNAPSHOT: "[]"}),
            json!({RECREATE_UNREADY: "yesterday"}),
        ];
        for status in statuses {
            let beta = request(BETA, json!({}), status.clone());
            assert_eq!(converted(converted(beta.clone(), ALPHA), BETA), beta);
            for annotations in &annotations {
                let alpha = request(ALPHA, annotations.clone(), json!({"phase": "Pending"}));
                assert_eq!(converted(converted(alpha.clone(), BETA), ALPHA), alpha);
            }
        }
        let without = json!({"apiVersion": ALPHA, "kind": "ContainerRecreateRequest",
            "metadata": {"annotations": {RECREATE_SNAPSHOT: LIST}}});
        assert_eq!(converted(converted(without.clone(), BETA), ALPHA), without);
    }

    /// What says more than the annotation can stays, and whoever reads v1alpha1 finds the annotation all the same.
    #[test]
    fn a_condition_that_says_more_is_told_twice() {
        let told = json!({"type": RECREATE_GRACE, "status": "True", "reason": RECREATE_GRACE, "message": "more",
            "lastTransitionTime": SINCE});
        let beta = request(BETA, json!({}), json!({"phase": "Recreating", CONDITIONS: [told]}));
        let alpha = converted(beta, ALPHA);
        assert_eq!(alpha["metadata"]["annotations"][RECREATE_UNREADY], SINCE);
        assert_eq!(alpha["status"][CONDITIONS][0]["message"], "more");
    }
}
