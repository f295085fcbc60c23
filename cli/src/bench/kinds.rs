//! The kinds of workload that can be measured, a row each.

use afloat_api::{CloneSet, DaemonSet, Figures, StatefulSet, Status as _, convert, names};
use afloat_rollout::kinds::{Visit, called, with};
use afloat_rollout::workload::foresight::Foreseen;
use k8s_openapi::Resource as _;
use serde_json::{Value, json};

use super::version::ApiVersion;

/// How sets of a kind are made and changed for a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// As in an object.
    pub(super) kind: &'static str,
    /// There is a pod on each node, so that nodes are made for them.
    pub(super) per_node: bool,
    /// What a set of that name with so many pods says beside its template and how it is updated.
    spec: fn(&str, u32) -> Value,
    /// What the spec of its pods says beside what all have.
    pods: fn() -> Value,
    /// An update in place, with these settings.
    strategy: fn(ApiVersion, Value) -> Value,
}

const ROWS: [Row; 3] = [
    Row {
        kind: CloneSet::KIND,
        per_node: false,
        spec: |_, pods| json!({"replicas": pods}),
        pods: || json!({}),
        strategy: |version, mut settings| match version {
            ApiVersion::V1alpha1 => {
                settings["type"] = "InPlaceOnly".into();
                settings
            }
            ApiVersion::V1beta1 => rolling(settings, "podUpdatePolicy", "InPlaceOnly"),
        },
    },
    Row {
        kind: StatefulSet::KIND,
        per_node: false,
        // In order and one at a time there would be nothing to measure but the time that a container takes to start.
        spec: |name, pods| json!({"replicas": pods, "serviceName": name, "podManagementPolicy": "Parallel"}),
        // OpenKruise adds it to pods of the other kinds.
        pods: || json!({"readinessGates": [{"conditionType": names::INPLACE_READY}]}),
        strategy: |_, settings| rolling(settings, "podUpdatePolicy", "InPlaceOnly"),
    },
    Row {
        kind: DaemonSet::KIND,
        per_node: true,
        spec: |_, _| json!({}),
        pods: || json!({"nodeSelector": {afloat_sim::LABEL: "true"}}),
        strategy: |_, settings| rolling(settings, "rollingUpdateType", "InPlaceIfPossible"),
    },
];

fn rolling(mut settings: Value, field: &str, value: &str) -> Value {
    settings[field] = value.into();
    json!({"type": "RollingUpdate", "rollingUpdate": settings})
}

/// The kind that `--kind` means.
pub(super) fn parse_kind(text: &str) -> Result<Row, String> {
    let meant = called(text).map(|names| names.kind);
    let row = ROWS.iter().find(|row| Some(row.kind) == meant).copied();
    row.ok_or_else(|| {
        let all = ROWS.map(|row| row.kind.to_lowercase());
        format!("no such kind: say one of {}", all.join(", "))
    })
}

impl Row {
    /// The spec of a set.
    pub(super) fn spec(&self, name: &str, pods: u32, mut template: Value, strategy: Value) -> Value {
        merge(&mut template["spec"], (self.pods)());
        let mut spec =
            json!({"selector": {"matchLabels": {"app": name}}, "template": template, "updateStrategy": strategy});
        merge(&mut spec, (self.spec)(name, pods));
        spec
    }

    /// An `updateStrategy` in place, with these settings.
    pub(super) fn strategy(&self, version: ApiVersion, settings: &Value) -> Value {
        (self.strategy)(version, settings.clone())
    }

    /// The pods of a set in numbers, once its status speaks of its present spec.
    pub(super) fn figures(&self, set: Value) -> Option<Figures> {
        with(self.kind, Reading(set)).flatten()
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

struct Reading(Value);

impl Visit for Reading {
    type Out = Option<Figures>;
    fn visit<W: Foreseen>(mut self) -> Option<Figures> {
        convert::convert(&mut self.0, W::API_VERSION).ok()?;
        let set: W = serde_json::from_str(&self.0.to_string()).ok()?;
        let present = set.metadata().generation == Some(set.status().observed_generation());
        present.then(|| set.figures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_rollout::kinds::KINDS;

    #[test]
    fn each_kind_that_there_is_can_be_measured() {
        for names in KINDS {
            assert_eq!(parse_kind(&names.kind.to_lowercase()).unwrap().kind, names.kind);
        }
        assert!(parse_kind("deployment").is_err());
    }

    #[test]
    fn a_status_of_an_older_spec_says_nothing() {
        let set = |observed: u32| {
            json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "metadata": {"name": "a", "generation": 2},
                "spec": {"replicas": 3}, "status": {"observedGeneration": observed, "readyReplicas": 3}})
        };
        let row = parse_kind("clone").unwrap();
        assert_eq!(row.figures(set(1)), None);
        assert_eq!(row.figures(set(2)).map(|figures| figures.ready), Some(3));
    }
}
