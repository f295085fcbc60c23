//! Admission plugin PodSecurity: pods, templates of pods, and the labels of namespaces.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afloat_machinery::admission::pod_security::{self, LevelVersion, NamespaceChange, PODS_MAX, Survey};
use afloat_machinery::kinds::Resource;
use afloat_store::Entry;
use serde_json::Value;

use crate::admit::Admission;
use crate::view;
use crate::wire::status::Status;

/// So long the pods of a namespace are looked at whose label is changed.
const SURVEY_LIMIT: Duration = Duration::from_secs(1);
/// Subresources by which nothing of a pod changes that is looked at.
const IGNORED: &[&str] = &["status", "binding", "eviction"];

impl Admission {
    /// Reviews a new object (`old`: none) or the change of one, as a whole or by a subresource.
    ///
    /// # Errors
    /// If its namespace does not allow such a pod, or the labels of a namespace name no level. Otherwise warnings.
    pub(crate) fn review_security(
        &self,
        resource: &Resource,
        subresource: &str,
        old: Option<&Value>,
        object: &Value,
    ) -> Result<Vec<String>, Status> {
        if resource.is_namespace() && subresource.is_empty() {
            let reviewed = pod_security::review_namespace(old, object);
            return match reviewed {
                Ok(_) => Ok(Vec::new()),
                Err(errors) => Err(Status::invalid(resource, view::meta(object, "name"), &errors)),
            };
        }
        let Some(path) = resource.builtin.and_then(|row| row.describes_pods) else {
            return Ok(Vec::new());
        };
        let is_pod = path.is_empty();
        if IGNORED.contains(&subresource) || !is_pod && !subresource.is_empty() {
            return Ok(Vec::new());
        }
        let entry = self.reader.namespace(view::meta(object, "namespace"));
        let namespace: Value = match entry.map(|entry| serde_json::from_slice(&entry.value)) {
            Some(Ok(namespace)) => namespace,
            _ => return Ok(Vec::new()),
        };
        let labels = &namespace["metadata"]["labels"];
        let name = view::meta(object, "name");
        let verdict = if is_pod {
            pod_security::review_pod(labels, old, object)
        } else {
            match afloat_machinery::get(object, path) {
                Some(template) => pod_security::review_template(labels, template),
                None => return Ok(Vec::new()),
            }
        };
        if let Some(text) = verdict.audit {
            let namespace = view::meta(object, "namespace");
            tracing::info!(namespace, name, kind = resource.kind, "audit: {text}");
        }
        match verdict.refused {
            Some(why) => Err(Status::forbidden(resource, name, &why)),
            None => Ok(verdict.warnings),
        }
    }

    /// What the author of a changed namespace is told of the pods in it. Reads them aside: they may be many.
    pub(crate) async fn survey(&self, resource: &Resource, old: &Value, new: &Value) -> Vec<String> {
        let asked = match pod_security::review_namespace(Some(old), new) {
            Ok(NamespaceChange::Stricter(asked)) if resource.is_namespace() => asked,
            _ => return Vec::new(),
        };
        let Some(pods) = self.reader.registry().resolve("", "v1", "pods") else {
            return Vec::new();
        };
        let namespace = view::meta(new, "name").to_owned();
        let entries = self.reader.all(&pods, Some(&namespace)).entries;
        let looked = tokio::task::spawn_blocking(move || survey(asked, &namespace, &entries));
        let failed = || vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
        looked.await.unwrap_or_else(|_| failed())
    }
}

/// Looks at pods that are alone, and at one of each controller; then at the others, as long as there is time.
fn survey(asked: LevelVersion, namespace: &str, entries: &[Entry]) -> Vec<String> {
    let started = Instant::now();
    let mut survey = Survey::new(asked);
    let in_time = |survey: &Survey| survey.checked() < PODS_MAX && started.elapsed() < SURVEY_LIMIT;
    let (mut controllers, mut others) = (BTreeSet::new(), Vec::new());
    for entry in entries.iter().take_while(|_| started.elapsed() < SURVEY_LIMIT) {
        let Ok(pod) = serde_json::from_slice::<Value>(&entry.value) else {
            continue;
        };
        if !pod_security::controller_uid(&pod).is_none_or(|uid| controllers.insert(uid.to_owned())) {
            others.push(&entry.value);
        } else if in_time(&survey) {
            survey.look_at(&pod);
        }
    }
    for bytes in others {
        if !in_time(&survey) {
            break;
        }
        if let Ok(pod) = serde_json::from_slice(bytes) {
            survey.look_at(&pod);
        }
    }
    survey.warnings(namespace, entries.len())
}
