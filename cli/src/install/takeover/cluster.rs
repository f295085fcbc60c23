//! Objects of any kind, read and written as JSON.

use afloat_api::filled;
use afloat_rollout::kinds::{KINDS, Names};
use anyhow::{Context as _, anyhow};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use crate::check::live;

/// Name of whoever writes, as `managedFields` have it.
const MANAGER: &str = "afloat-takeover";
/// How often what somebody else wrote meanwhile is looked at again.
const LOOKS: u32 = 50;
/// Pause between two looks.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Which object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which<'a> {
    /// `group/version`, or `v1`.
    pub(super) version: &'a str,
    /// Its kind.
    pub(super) kind: &'a str,
    /// Its namespace; empty: it has none.
    pub(super) namespace: &'a str,
    /// Its name.
    pub(super) name: &'a str,
}

impl<'a> Which<'a> {
    /// The object that a manifest is about.
    pub(super) fn of(object: &'a Value) -> Self {
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        Self {
            version: text(&object["apiVersion"]),
            kind: text(&object["kind"]),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
        }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let (group, version) = self.version.rsplit_once('/').unwrap_or(("", self.version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, self.kind));
        if self.namespace.is_empty() {
            Api::all_with(client.clone(), &resource)
        } else {
            Api::namespaced_with(client.clone(), self.namespace, &resource)
        }
    }

    fn doing(&self, what: &str) -> String {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        format!("cannot {what} {} {}{slash}{}", self.kind, self.namespace, self.name)
    }
}

/// The object; None if it, or its kind, is not there.
pub(super) async fn get(client: &Client, which: Which<'_>) -> anyhow::Result<Option<Value>> {
    let found = which.api(client).get_opt(which.name).await;
    let Some(object) = found.with_context(|| which.doing("read"))? else {
        return Ok(None);
    };
    Ok(Some(serde_json::to_value(object)?))
}

/// Pods of a namespace that have these labels, written `key=value,…`.
pub(super) async fn pods(client: &Client, namespace: &str, labels: &str) -> anyhow::Result<Vec<Value>> {
    let which = Which {
        version: "v1",
        kind: "Pod",
        namespace,
        name: labels,
    };
    let pods = which.api(client).list(&ListParams::default().labels(labels)).await;
    let pods = pods.with_context(|| which.doing("list"))?;
    pods.into_iter().map(|pod| Ok(serde_json::to_value(pod)?)).collect()
}

/// Creates it; if it is there, changes what the manifest says.
pub(super) async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    if create(client, object).await? {
        return Ok(());
    }
    merge(client, Which::of(object), object).await
}

/// Creates it; false if it is there.
pub(super) async fn create(client: &Client, object: &Value) -> anyhow::Result<bool> {
    let which = Which::of(object);
    let typed: DynamicObject = serde_json::from_value(object.clone()).with_context(|| which.doing("read"))?;
    let parameters = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match which.api(client).create(&parameters, &typed).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(anyhow!(error).context(which.doing("create"))),
    }
}

/// Puts an object, with the resourceVersion that it was read with, in the place of what is there.
pub(super) async fn replace(client: &Client, object: &Value) -> anyhow::Result<()> {
    let which = Which::of(object);
    let typed: DynamicObject = serde_json::from_value(object.clone()).with_context(|| which.doing("read"))?;
    let parameters = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let done = which.api(client).replace(which.name, &parameters, &typed).await;
    done.map(|_| ()).with_context(|| which.doing("replace"))
}

/// Changes fields, as an RFC 7386 merge patch says.
pub(super) async fn merge(client: &Client, which: Which<'_>, patch: &Value) -> anyhow::Result<()> {
    let done = which
        .api(client)
        .patch(which.name, &parameters(), &Patch::Merge(patch))
        .await;
    done.map(|_| ()).with_context(|| which.doing("change"))
}

/// Changes fields, as an RFC 6902 patch says.
pub(super) async fn patch(client: &Client, which: Which<'_>, patch: json_patch::Patch) -> anyhow::Result<()> {
    let done = which
        .api(client)
        .patch(which.name, &parameters(), &Patch::<()>::Json(patch))
        .await;
    done.map(|_| ()).with_context(|| which.doing("change"))
}

/// Deletes it, if it is there.
pub(super) async fn delete(client: &Client, which: Which<'_>) -> anyhow::Result<()> {
    match which.api(client).delete(which.name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(anyhow!(error).context(which.doing("delete"))),
    }
}

/// Whether a version of a kind can be read, with whatever converts it.
pub(super) async fn can_read(client: &Client, kind: &str, version: &str) -> anyhow::Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(afloat_api::names::GROUP, version, kind));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.list(&ListParams::default().limit(1)).await?;
    Ok(())
}

/// Writes every object of a kind as it is, which makes the API server store it in the version that it stores now.
pub(super) async fn rewrite(client: &Client, kind: &str) -> anyhow::Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(afloat_api::names::GROUP, "v1alpha1", kind));
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut page = ListParams::default().limit(500);
    loop {
        let some = all
            .list_metadata(&page)
            .await
            .with_context(|| format!("cannot list {kind}s"))?;
        for item in &some.items {
            let (namespace, name) = (item.namespace().unwrap_or_default(), item.name_any());
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
            let nothing = Patch::Merge(serde_json::json!({}));
            match api.patch_metadata(&name, &parameters(), &nothing).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                done => drop(done.with_context(|| format!("cannot write {kind} {namespace}/{name}"))?),
            }
        }
        match some.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

async fn sets(client: &Client, kinds: impl Iterator<Item = &Names>) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for names in kinds {
        let sets = live::list(client, afloat_api::names::GROUP, "v1alpha1", names.kind, None).await?;
        all.extend(sets.unwrap_or_default());
    }
    Ok(all)
}

/// The workloads whose template lacks what OpenKruise's webhook fills in, with the template that has it.
pub(super) async fn unfilled(client: &Client) -> anyhow::Result<Vec<(Value, Value)>> {
    let full = |set: Value| filled(&set["spec"]["template"]).map(|template| (set, template));
    let sets = sets(client, KINDS.iter().filter(|names| names.filled)).await?;
    Ok(sets.into_iter().filter_map(full).collect())
}

/// Fills it in.
pub(super) async fn fill(client: &Client) -> anyhow::Result<()> {
    let change = async |(set, template): (Value, Value)| {
        let which = Which::of(&set);
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": set["metadata"]["resourceVersion"]}, "spec": {"template": template},
        });
        let api = which.api(client);
        unless_changed(api.patch(which.name, &parameters(), &Patch::Merge(&patch)).await, which)
    };
    until_none_is_left(async || unfilled(client).await, change).await
}

/// Changes all that are left, until none is or [`LOOKS`] are over. Whoever wrote one meanwhile wins (a controller writes its status at any
/// time), and it is looked at again.
async fn until_none_is_left<T>(
    left: impl AsyncFn() -> anyhow::Result<Vec<T>>,
    change: impl AsyncFn(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        let all = left().await?;
        if all.is_empty() {
            break;
        }
        for one in all {
            change(one).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn unless_changed(done: kube::Result<DynamicObject>, which: Which<'_>) -> anyhow::Result<()> {
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop).with_context(|| which.doing("change")),
    }
}

/// The workloads whose status has a condition of Afloat's.
pub(super) async fn told(client: &Client) -> anyhow::Result<Vec<Value>> {
    let mut sets = sets(client, KINDS.iter()).await?;
    sets.retain(|set| conditions(set).any(|condition| ours(&condition)));
    Ok(sets)
}

/// Takes Afloat's condition out of all workloads.
pub(super) async fn forget(client: &Client) -> anyhow::Result<()> {
    let change = async |set: Value| {
        let which = Which::of(&set);
        let rest: Vec<&Value> = conditions(&set).filter(|condition| !ours(condition)).collect();
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": set["metadata"]["resourceVersion"]}, "status": {"conditions": rest},
        });
        let api = which.api(client);
        unless_changed(
            api.patch_status(which.name, &parameters(), &Patch::Merge(&patch)).await,
            which,
        )
    };
    until_none_is_left(async || told(client).await, change).await
}

fn conditions(set: &Value) -> impl Iterator<Item = &Value> {
    set["status"]["conditions"].as_array().into_iter().flatten()
}

fn ours(condition: &&Value) -> bool {
    condition["type"] == afloat_api::names::ROLLOUT
}

fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_somebody_else_wrote_meanwhile_is_looked_at_again() {
        // Two others write before the first and the second change, whose writes then do nothing.
        let (others, changed) = (Cell::new(2), Cell::new(false));
        let left = async || Ok(if changed.get() { vec![] } else { vec!["web"] });
        let change = async |_: &str| {
            match others.get() {
                0 => changed.set(true),
                more => others.set(more - 1),
            }
            Ok(())
        };
        until_none_is_left(left, change).await.unwrap();
        assert!(changed.get());
    }
}
