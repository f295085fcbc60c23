//! CustomResourceDefinitions: accepted and established in the write that brings them, gone after their objects.

use std::time::Duration;

use afloat_machinery::kinds::{Registry, Resource};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::delete::DeleteOptions;
use crate::status::Status;
use crate::write::{Change, finished, now};
use crate::{ApiServer, view};

/// Keeps a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long one attempt to empty a definition lasts; housekeeping makes the next.
const CLEANUP_LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn is_crd(resource: &Resource) -> bool {
    resource.group == "apiextensions.k8s.io" && resource.plural == "customresourcedefinitions"
}

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

fn established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

impl ApiServer {
    /// Serves what a definition defines, or no longer. Reads the definition under the registry's lock, so that of two
    /// writes the later one counts whoever comes here first.
    pub(crate) fn register(&self, name: &str) {
        let Some(definition) = definition(&self.registry()) else {
            return;
        };
        let key = view::key(&definition, None, name);
        let result = self.change_registry(|registry| {
            let entry = self.inner.store.get(&key);
            let crd: Option<Value> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
            match crd {
                Some(crd) if established(&crd) => registry.add_crd(&crd),
                _ => {
                    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
                    registry.remove_crd(group, plural);
                    Ok(())
                }
            }
        });
        if let Err(why) = result {
            tracing::warn!(crd = name, why, "definition cannot be served");
        }
    }

    /// Empties a definition that is being deleted, in the background.
    pub(crate) fn finish_crd(&self, name: &str) {
        let (server, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let deadline = Instant::now() + CLEANUP_LIMIT;
            let mut pause = Duration::from_millis(5);
            while Instant::now() < deadline {
                match server.empty_crd(&name).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(status) if status.reason == "NotFound" => return,
                    Err(status) => tracing::warn!(crd = name, why = %status, "cannot empty definition"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        });
    }

    /// Deletes the objects of a definition; when none is left, the definition. True when all is done.
    async fn empty_crd(&self, name: &str) -> Result<bool, Status> {
        let registry = self.registry();
        let definition = definition(&registry).ok_or_else(Status::no_such_resource)?;
        let entry = self
            .inner
            .store
            .get(&view::key(&definition, None, name))
            .ok_or_else(|| Status::not_found(&definition, name))?;
        let crd = view::parse(&definition, &entry.value)?;
        if !crd["metadata"]["deletionTimestamp"].is_string() {
            return Ok(true);
        }
        let (group, plural) = (
            crd["spec"]["group"].as_str().unwrap_or_default(),
            crd["spec"]["names"]["plural"].as_str().unwrap_or_default(),
        );
        if let Some(resource) = registry.all().find(|r| r.group == group && r.plural == plural) {
            for entry in self.inner.store.list(&view::prefix(resource, None), None, 0).entries {
                let object = view::parse(resource, &entry.value)?;
                let namespace = resource.namespaced.then(|| view::meta(&object, "namespace"));
                match Box::pin(self.remove(
                    resource,
                    namespace,
                    view::meta(&object, "name"),
                    &DeleteOptions::default(),
                    None,
                ))
                .await
                {
                    Err(status) if status.reason != "NotFound" => return Err(status),
                    _ => {}
                }
            }
            if !self
                .inner
                .store
                .list(&view::prefix(resource, None), None, 1)
                .entries
                .is_empty()
            {
                return Ok(false);
            }
        }
        self.modify(&definition, None, name, false, |current| {
            let mut new = current.clone();
            let left: Vec<String> = view::finalizers(current)
                .iter()
                .filter(|f| *f != CLEANUP)
                .map(ToString::to_string)
                .collect();
            view::metadata(&mut new).insert("finalizers".into(), left.into());
            Ok(if finished(&definition, &new) {
                Change::Remove(new)
            } else {
                Change::Put(new)
            })
        })
        .await?;
        Ok(true)
    }
}
