//! What ConfigMaps and Secrets that change do to the pods of a workload that rolls them out.

use std::sync::Arc;

use afloat_rollout::config::content::Content;
use afloat_rollout::config::reads::{Source, SourceKind};
use afloat_rollout::config::{Known, stamped, wished};
use afloat_rollout::workload::history::newest;
use afloat_rollout::workload::kind::Workload;
use afloat_rollout::workload::revision;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value};

use super::forecast::Situation;
use super::parts::template;

/// The workload as the operator will take it, and its template before and after.
pub(super) fn told<W: Workload>(
    seen: &Situation<'_>,
    set: W,
    old: &Value,
    revisions: &[Arc<ControllerRevision>],
) -> (W, Value, Value) {
    let (before, after) = (template(old), template(seen.new));
    if !wished(set.metadata()) {
        return (set, before, after);
    }
    let last = newest(revisions).and_then(|revision| revision::template(revision));
    let before = stamped(&before, last, &known(seen.configs_before)).template;
    let said = last.unwrap_or(&before);
    let known = known(seen.configs);
    let set = set.with_template(stamped(set.template(), Some(said), &known).template);
    let after = stamped(&after, Some(said), &known).template;
    (set, before, after)
}

/// What objects hold, as the API server would store them. Of a Secret that nobody has the UID of nothing can be told.
fn known(objects: &[Value]) -> Known {
    let held = |object: &Value| {
        let kind = match object["kind"].as_str()? {
            "ConfigMap" => SourceKind::ConfigMap,
            "Secret" => SourceKind::Secret,
            _ => return None,
        };
        let name = object["metadata"]["name"].as_str()?.to_owned();
        let salt = match kind {
            SourceKind::ConfigMap => "",
            SourceKind::Secret => object["metadata"]["uid"].as_str()?,
        };
        let mut values = Map::new();
        for field in ["data", "binaryData"] {
            values.extend(object[field].as_object().cloned().unwrap_or_default());
        }
        if let Some(texts) = object["stringData"].as_object() {
            let encoded = |text: &Value| Value::from(STANDARD.encode(text.as_str().unwrap_or_default()));
            values.extend(texts.iter().map(|(key, text)| (key.clone(), encoded(text))));
        }
        let values = values.iter();
        let values = values.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default().as_bytes()));
        Some((Source { kind, name }, Ok(Content::of(salt, values))))
    };
    objects.iter().filter_map(held).collect()
}
