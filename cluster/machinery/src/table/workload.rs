//! Workloads as `kubectl get` shows them.

use serde_json::{Value, json};

use super::age::{between, since_creation};
use super::read::{containers, images, list, number, selector, truthy};
use crate::json::text;

fn template_cells(object: &Value) -> [Value; 3] {
    let spec = object.pointer("/spec/template/spec");
    [
        containers(spec).into(),
        images(spec).into(),
        selector(object.pointer("/spec/selector")).into(),
    ]
}

pub(crate) fn deployment(object: &Value, now: &str) -> Vec<Value> {
    let status = |key: &str| number(object, &["status", key]);
    let mut cells = vec![
        json!(format!(
            "{}/{}",
            status("readyReplicas"),
            number(object, &["spec", "replicas"])
        )),
        status("updatedReplicas").to_string().into(),
        status("availableReplicas").to_string().into(),
        since_creation(object, now).into(),
    ];
    cells.extend(template_cells(object));
    cells
}

pub(crate) fn replica_set(object: &Value, now: &str) -> Vec<Value> {
    let mut cells = vec![
        number(object, &["spec", "replicas"]).into(),
        number(object, &["status", "replicas"]).into(),
        number(object, &["status", "readyReplicas"]).into(),
        since_creation(object, now).into(),
    ];
    cells.extend(template_cells(object));
    cells
}

pub(crate) fn stateful_set(object: &Value, now: &str) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        number(object, &["status", "readyReplicas"]),
        number(object, &["spec", "replicas"])
    );
    let [containers, images, _] = template_cells(object);
    vec![ready.into(), since_creation(object, now).into(), containers, images]
}

pub(crate) fn daemon_set(object: &Value, now: &str) -> Vec<Value> {
    let status = |key: &str| Value::from(number(object, &["status", key]));
    let node_selector = object.pointer("/spec/template/spec/nodeSelector");
    let mut cells = vec![
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        selector(node_selector).into(),
        since_creation(object, now).into(),
    ];
    cells.extend(template_cells(object));
    cells
}

pub(crate) fn job(object: &Value, now: &str) -> Vec<Value> {
    let has = |kind: &str| {
        let conditions = list(object.pointer("/status/conditions"));
        conditions
            .iter()
            .any(|c| text(c.get("type")) == kind && text(c.get("status")) == "True")
    };
    let ended = ["Complete", "Failed"].into_iter().find(|kind| has(kind));
    let leaving = object.pointer("/metadata/deletionTimestamp").map(|_| "Terminating");
    let waiting = ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| has(kind));
    let word = ended.or(leaving).or(waiting).unwrap_or("Running");
    let succeeded = number(object, &["status", "succeeded"]);
    let parallelism = number(object, &["spec", "parallelism"]);
    let completions = match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let start = text(object.pointer("/status/startTime"));
    let end = text(object.pointer("/status/completionTime"));
    let duration = match (start, end) {
        ("", _) => String::new(),
        (start, "") => between(start, now),
        (start, end) => between(start, end),
    };
    let mut cells = vec![
        word.into(),
        completions.into(),
        duration.into(),
        since_creation(object, now).into(),
    ];
    cells.extend(template_cells(object));
    cells
}

pub(crate) fn cron_job(object: &Value, now: &str) -> Vec<Value> {
    let spec = object.pointer("/spec/jobTemplate/spec/template/spec");
    let last = match text(object.pointer("/status/lastScheduleTime")) {
        "" => "<none>".to_owned(),
        time => between(time, now),
    };
    let zone = match text(object.pointer("/spec/timeZone")) {
        "" => "<none>",
        zone => zone,
    };
    vec![
        text(object.pointer("/spec/schedule")).into(),
        zone.into(),
        if truthy(object.pointer("/spec/suspend")) {
            "True"
        } else {
            "False"
        }
        .into(),
        list(object.pointer("/status/active")).len().into(),
        last.into(),
        since_creation(object, now).into(),
        containers(spec).into(),
        images(spec).into(),
        selector(object.pointer("/spec/jobTemplate/spec/selector")).into(),
    ]
}

pub(crate) fn controller_revision(object: &Value, now: &str) -> Vec<Value> {
    let owners = list(object.pointer("/metadata/ownerReferences"));
    let owner = owners.iter().find(|o| truthy(o.get("controller")));
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |o| {
            let (kind, name) = (text(o.get("kind")).to_lowercase(), text(o.get("name")));
            match text(o.get("apiVersion")).split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        },
    );
    vec![
        controller.into(),
        number(object, &["revision"]).into(),
        since_creation(object, now).into(),
    ]
}
