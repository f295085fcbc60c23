//! All pods of a CloneSet: by an annotation of the template for each container, which its rollout turns into a restart in place. It is
//! a revision as any other: it can be partitioned, paused and taken back, and OpenKruise sees an annotation that changed.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_api::{CloneSet, PodUpdatePolicy, names};
use anyhow::Context as _;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::chosen;
use super::progress::{Look, answered, follow};
use crate::output;

/// A rollout that was asked for.
pub(super) struct Asked {
    namespace: String,
    name: String,
    generation: i64,
}

/// Asks for it.
pub(super) async fn ask(
    client: &Client,
    (namespace, name): (&str, &str),
    containers: &[String],
) -> anyhow::Result<Asked> {
    let sets: Api<CloneSet> = Api::namespaced(client.clone(), namespace);
    let set = answered(async { Ok(sets.get_opt(name).await?) }).await;
    let set = set.with_context(|| format!("cannot read CloneSet {name}"))?;
    let set = set.with_context(|| format!("no CloneSet {name} in namespace {namespace}"))?;
    let rollout = set.spec.rollout();
    refuse(name, rollout.on_delete, rollout.policy)?;
    let listed = set.spec.template.pointer("/spec/containers").and_then(Value::as_array);
    let names = listed
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str());
    let there: Vec<String> = names.map(str::to_owned).collect();
    let chosen = chosen(&there, containers)?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(names::GROUP, "v1beta1", "CloneSet"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let patch = patch(set.metadata.resource_version.as_deref(), &chosen, Timestamp::now());
    let patched = answered(async { Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?) }).await;
    let patched = patched.with_context(|| format!("cannot ask for a restart of CloneSet {name}"))?;
    let replicas = set.spec.replicas.unwrap_or(1);
    output::print(&format!(
        "clone/{name}: {} to be started anew in {replicas} pods\n",
        chosen.join(", ")
    ))?;
    if rollout.paused {
        output::print("it is paused: the restarts come when it is not\n")?;
    }
    Ok(Asked {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        generation: patched.metadata.generation.unwrap_or_default(),
    })
}

/// What cannot restart in place.
fn refuse(name: &str, on_delete: bool, policy: PodUpdatePolicy) -> anyhow::Result<()> {
    anyhow::ensure!(
        !on_delete,
        "CloneSet {name} updates only pods that are deleted (updateStrategy.type: OnDelete): restart its pods one by one, afloat restart pod/NAME"
    );
    anyhow::ensure!(
        policy != PodUpdatePolicy::ReCreate,
        "CloneSet {name} recreates its pods (podUpdatePolicy: ReCreate), so nothing would restart in place: say InPlaceIfPossible there, \
         or restart its pods one by one, afloat restart pod/NAME"
    );
    Ok(())
}

/// A new value for each container.
fn patch(version: Option<&str>, containers: &[String], now: Timestamp) -> Value {
    let key = |name: &String| format!("{}{name}", names::RESTART_PREFIX);
    let annotations: BTreeMap<String, String> = containers.iter().map(|name| (key(name), now.to_string())).collect();
    json!({
        "metadata": {"resourceVersion": version},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    })
}

/// Waits for its end. 1 if it lost too much on its way.
pub(super) async fn wait(client: &Client, asked: &Asked, limit: Duration) -> anyhow::Result<u8> {
    let sets: Api<CloneSet> = Api::namespaced(client.clone(), &asked.namespace);
    follow(limit, || async {
        let set = sets.get_opt(&asked.name).await?;
        let set = set.with_context(|| format!("CloneSet {} is gone", asked.name))?;
        Ok(look(&set, asked.generation))
    })
    .await
}

fn look(set: &CloneSet, generation: i64) -> Look {
    let status = &set.status;
    if status.observed_generation < generation {
        return Look {
            line: "waits for the operator".to_owned(),
            end: None,
        };
    }
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.kind == kind && condition.status == "True")
    };
    if let Some(lost) = condition(names::LOSS_EXCEEDED) {
        return Look {
            line: format!("stopped: {}", lost.message),
            end: Some(1),
        };
    }
    let (done, wanted) = (status.updated_available_replicas, status.expected_updated_replicas);
    let over = done >= wanted;
    let mut line = format!("{done} of {wanted} pods are back");
    let kept = status.replicas - wanted;
    if over && kept > 0 {
        line += &format!("; {kept} are kept back by the partition");
    } else if let Some(rollout) = condition(names::ROLLOUT).filter(|_| !over) {
        line += &format!(" ({})", rollout.message);
    }
    Look {
        line,
        end: over.then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_has_its_annotation() {
        let now = "2026-01-01T00:00:00.5Z".parse().unwrap();
        assert_eq!(
            patch(Some("7"), &["app".into(), "log".into()], now),
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"template": {"metadata": {"annotations": {
                "restart.afloat.dev/app": "2026-01-01T00:00:00.5Z", "restart.afloat.dev/log": "2026-01-01T00:00:00.5Z"}}}}})
        );
    }

    #[test]
    fn who_recreates_is_told_what_to_do() {
        assert!(refuse("web", false, PodUpdatePolicy::InPlaceIfPossible).is_ok());
        let why = |on_delete, policy| refuse("web", on_delete, policy).unwrap_err().to_string();
        assert!(why(false, PodUpdatePolicy::ReCreate).contains("podUpdatePolicy: ReCreate"));
        assert!(why(true, PodUpdatePolicy::InPlaceOnly).contains("OnDelete"));
    }

    #[test]
    fn it_ends_when_all_that_may_are_back() {
        let told = |status: Value| {
            let set: CloneSet = serde_json::from_value(json!({"status": status})).unwrap();
            let look = look(&set, 3);
            (look.line, look.end)
        };
        let status = |done: i32, wanted: i32, seen: i64| {
            json!({"observedGeneration": seen, "replicas": 3, "updatedAvailableReplicas": done,
                "expectedUpdatedReplicas": wanted, "conditions": [
                    {"type": "afloat.dev/Rollout", "status": "True", "message": "1 of 3 pods updated"}]})
        };
        assert_eq!(told(status(3, 3, 2)), ("waits for the operator".into(), None));
        assert_eq!(
            told(status(1, 3, 3)),
            ("1 of 3 pods are back (1 of 3 pods updated)".into(), None)
        );
        assert_eq!(told(status(3, 3, 3)), ("3 of 3 pods are back".into(), Some(0)));
        assert_eq!(
            told(status(2, 2, 3)),
            ("2 of 2 pods are back; 1 are kept back by the partition".into(), Some(0))
        );
    }
}
