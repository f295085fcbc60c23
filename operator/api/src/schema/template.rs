//! The schema of a pod template: kept verbatim but for what OpenKruise's webhook fills in (`apis/apps/defaults/pod.go` of
//! OpenKruise 1.9.1), so that a stored template has the same bytes with either. Both tell revisions by them: without these
//! defaults each manifest that is applied anew would lose them, and OpenKruise would recreate every pod after its return.
//!
//! A schema can say what is filled into an object that is there. It cannot say two of the webhook's defaults: the pull policy of
//! init containers, which goes by the tag, and `emptyDir: {}` of a volume without a source. The operator's comparison of
//! templates knows both.

use serde_json::{Map, Value, json};

use super::{anything, integer, or};

/// With those defaults, or just as it is written (OpenKruise's gate `TemplateNoDefaults`).
pub(crate) fn pod_template(defaults: bool) -> Value {
    let mut spec = if defaults { spec() } else { anything() };
    let restart = json!({"type": "string", "enum": ["Always", ""]});
    spec["properties"]["restartPolicy"] = if defaults {
        or(restart, json!("Always"))
    } else {
        restart
    };
    let mut metadata = anything();
    metadata["properties"] = json!({"labels": {
        "type": "object", "maxProperties": 128, "additionalProperties": {"type": "string", "maxLength": 63},
    }});
    let mut template = anything();
    template["properties"] = json!({"metadata": metadata, "spec": spec});
    template
}

/// An object of which some fields are known. It may be null, as manifests out of generators have it.
fn open(fields: &[(&str, Value)]) -> Value {
    let mut schema = anything();
    schema["nullable"] = json!(true);
    let fields: Map<String, Value> = fields
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    schema["properties"] = Value::Object(fields);
    schema
}

fn list_of(items: Value) -> Value {
    json!({"type": "array", "nullable": true, "items": items})
}

fn text(default: &str) -> Value {
    or(super::string(), json!(default))
}

fn number(default: i64) -> Value {
    or(integer(), json!(default))
}

fn spec() -> Value {
    open(&[
        ("dnsPolicy", text("ClusterFirst")),
        ("schedulerName", text("default-scheduler")),
        ("terminationGracePeriodSeconds", number(30)),
        ("securityContext", or(anything(), json!({}))),
        ("containers", list_of(container(true))),
        ("initContainers", list_of(container(false))),
        ("volumes", list_of(volume())),
    ])
}

/// `always`: the webhook has images of `containers` pulled always, so that another image behind the same tag is found in place.
fn container(always: bool) -> Value {
    let hook = || open(&[("httpGet", http_get())]);
    let value_from = open(&[("fieldRef", field_ref())]);
    let mut container = open(&[
        ("terminationMessagePath", text("/dev/termination-log")),
        ("terminationMessagePolicy", text("File")),
        ("ports", list_of(open(&[("protocol", text("TCP"))]))),
        ("env", list_of(open(&[("valueFrom", value_from)]))),
        ("livenessProbe", probe()),
        ("readinessProbe", probe()),
        ("startupProbe", probe()),
        ("lifecycle", open(&[("postStart", hook()), ("preStop", hook())])),
    ]);
    if always {
        container["properties"]["imagePullPolicy"] = text("Always");
    }
    container
}

fn probe() -> Value {
    open(&[
        ("timeoutSeconds", number(1)),
        ("periodSeconds", number(10)),
        ("successThreshold", number(1)),
        ("failureThreshold", number(3)),
        ("httpGet", http_get()),
    ])
}

fn http_get() -> Value {
    open(&[("path", text("/")), ("scheme", text("HTTP"))])
}

fn field_ref() -> Value {
    open(&[("apiVersion", text("v1"))])
}

fn volume() -> Value {
    let mode = || number(0o644);
    let items = || list_of(open(&[("fieldRef", field_ref())]));
    let token = open(&[("expirationSeconds", number(3600))]);
    let source = open(&[
        ("downwardAPI", open(&[("items", items())])),
        ("serviceAccountToken", token),
    ]);
    open(&[
        ("hostPath", open(&[("type", text(""))])),
        ("secret", open(&[("defaultMode", mode())])),
        ("configMap", open(&[("defaultMode", mode())])),
        ("downwardAPI", open(&[("defaultMode", mode()), ("items", items())])),
        (
            "projected",
            open(&[("defaultMode", mode()), ("sources", list_of(source))]),
        ),
    ])
}
