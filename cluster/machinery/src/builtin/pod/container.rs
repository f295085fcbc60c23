//! Defaults of containers.

use afloat_words::image::ImageName;
use serde_json::{Map, Value, json};

use super::probe;
use crate::json::{each, set, set_text, text};

/// Defaults of one container, whichever list it is in.
pub(crate) fn default_container(container: &mut Map<String, Value>) {
    let policy = default_pull_policy(text(container.get("image")));
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set(Some(container), "resources", || json!({}));
    each(container, "ports", |port| set_text(port, "protocol", "TCP"));
    each(container, "env", |env| {
        each(env, "valueFrom", |from| {
            each(from, "fieldRef", |field| set_text(field, "apiVersion", "v1"));
        });
    });
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        each(container, key, probe::default_probe);
    }
    each(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            each(lifecycle, hook, |handler| each(handler, "httpGet", probe::default_http));
        }
    });
}

/// `Always` for the tag `latest` and for no tag, else `IfNotPresent`; a digest counts as a tag.
fn default_pull_policy(image: &str) -> &'static str {
    if ImageName::of(image).is_latest() {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// A port of a pod in the host's network is the host's port.
pub(crate) fn host_port(port: &mut Map<String, Value>) {
    if let Some(number) = port.get("containerPort").cloned() {
        set(Some(port), "hostPort", || number);
    }
}
