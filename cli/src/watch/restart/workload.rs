//! All pods of a workload: by an annotation of the template for each container, which its rollout turns into a restart in place. It is
//! a revision as any other: it can be partitioned, paused and taken back, and OpenKruise sees an annotation that changed.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_api::{Condition, Figures, PodUpdatePolicy, Status as _, names};
use afloat_rollout::kinds::Visit;
use afloat_rollout::workload::foresight::Foreseen;
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::containers::chosen;
use super::progress::{Look, answered, follow};
use crate::output;

/// A restart that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Empty: all.
    pub(super) containers: &'a [String],
    /// How long to wait for its end; None: not at all.
    pub(super) limit: Option<Duration>,
}

impl<'a> Visit for Asked<'a> {
    type Out = LocalBoxFuture<'a, anyhow::Result<u8>>;
    fn visit<W: Foreseen>(self) -> Self::Out {
        restart::<W>(self).boxed_local()
    }
}

async fn restart<W: Foreseen>(asked: Asked<'_>) -> anyhow::Result<u8> {
    let Asked { namespace, name, .. } = asked;
    let kind = W::KIND;
    let api: Api<W> = Api::namespaced(asked.client.clone(), namespace);
    let set = answered(async { Ok(api.get_opt(name).await?) }).await;
    let set = set.with_context(|| format!("cannot read {kind} {name}"))?;
    let set = set.with_context(|| format!("no {kind} {name} in namespace {namespace}"))?;
    let rollout = set.rollout();
    refuse(&format!("{kind} {name}"), rollout.on_delete, rollout.policy)?;
    let listed = set.template().pointer("/spec/containers").and_then(Value::as_array);
    let names = listed
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str());
    let there: Vec<String> = names.map(str::to_owned).collect();
    let chosen = chosen(&there, asked.containers)?;
    let patch = patch(set.metadata().resource_version.as_deref(), &chosen, Timestamp::now());
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let patched = answered(async { Ok(api.patch(name, &parameters, &patch).await?) }).await;
    let patched = patched.with_context(|| format!("cannot ask for a restart of {kind} {name}"))?;
    let pods = set.figures().wanted;
    output::print(&format!(
        "{kind} {name}: {} to be started anew in {pods} pods\n",
        chosen.join(", ")
    ))?;
    if rollout.paused {
        output::print("it is paused: the restarts come when it is not\n")?;
    }
    let Some(limit) = asked.limit else { return Ok(0) };
    let generation = patched.metadata().generation.unwrap_or_default();
    let api = &api;
    follow(limit, || async move {
        let set = api.get_opt(name).await?;
        let set = set.with_context(|| format!("{kind} {name} is gone"))?;
        let status = set.status();
        let seen = status.observed_generation() >= generation;
        Ok(look(seen, &set.figures(), status.conditions()))
    })
    .await
}

/// What cannot restart in place.
fn refuse(what: &str, on_delete: bool, policy: PodUpdatePolicy) -> anyhow::Result<()> {
    anyhow::ensure!(
        !on_delete,
        "{what} updates only pods that are deleted (updateStrategy.type: OnDelete): restart its pods one by one, afloat restart pod/NAME"
    );
    anyhow::ensure!(
        policy != PodUpdatePolicy::ReCreate,
        "{what} recreates its pods, so nothing would restart in place: let its update strategy say InPlaceIfPossible, \
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

/// How far it is. 1 if it lost too much on its way. `seen`: the operator has seen what was asked for.
fn look(seen: bool, figures: &Figures, conditions: &[Condition]) -> Look {
    if !seen {
        return Look {
            line: "waits for the operator".to_owned(),
            end: None,
        };
    }
    let condition = |kind: &str| {
        let mut holding = conditions.iter().filter(|condition| condition.status == "True");
        holding.find(|condition| condition.kind == kind)
    };
    if let Some(lost) = condition(names::LOSS_EXCEEDED) {
        return Look {
            line: format!("stopped: {}", lost.message),
            end: Some(1),
        };
    }
    let (done, wanted) = (figures.updated_available, figures.expected);
    let over = done >= wanted;
    let mut line = format!("{done} of {wanted} pods are back");
    let kept = figures.wanted - wanted;
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
        assert!(refuse("CloneSet web", false, PodUpdatePolicy::InPlaceIfPossible).is_ok());
        let why = |on_delete, policy| refuse("CloneSet web", on_delete, policy).unwrap_err().to_string();
        assert!(why(false, PodUpdatePolicy::ReCreate).contains("CloneSet web recreates its pods"));
        assert!(why(true, PodUpdatePolicy::InPlaceOnly).contains("OnDelete"));
    }

    #[test]
    fn it_ends_when_all_that_may_are_back() {
        let told = |seen: bool, done: i32, expected: i32| {
            let conditions: Vec<Condition> = serde_json::from_value(json!([
                {"type": "afloat.dev/Rollout", "status": "True", "message": "1 of 3 pods updated"}]))
            .unwrap();
            let figures = Figures {
                wanted: 3,
                expected,
                updated_available: done,
                ..Figures::default()
            };
            let look = look(seen, &figures, &conditions);
            (look.line, look.end)
        };
        assert_eq!(told(false, 3, 3), ("waits for the operator".into(), None));
        assert_eq!(
            told(true, 1, 3),
            ("1 of 3 pods are back (1 of 3 pods updated)".into(), None)
        );
        assert_eq!(told(true, 3, 3), ("3 of 3 pods are back".into(), Some(0)));
        assert_eq!(
            told(true, 2, 2),
            ("2 of 2 pods are back; 1 are kept back by the partition".into(), Some(0))
        );
    }
}
