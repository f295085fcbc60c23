//! What is released: one application behind a Service, a pod on each node.

use afloat_api::names;
use serde::Serialize;
use serde_json::{Value, json};

/// The label of its pods, as a selector.
pub(super) const SELECTOR: &str = "app=web";

/// A way to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    Recreate,
    InPlace,
    InPlacePrewarmed,
}

impl Way {
    /// What the others are measured by comes first.
    pub(super) const ALL: [Self; 3] = [Self::Recreate, Self::InPlace, Self::InPlacePrewarmed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recreate => "recreate",
            Self::InPlace => "in-place",
            Self::InPlacePrewarmed => "in-place-prewarmed",
        }
    }

    /// How much faster than by new pods it is to be, in percent.
    pub(super) fn aim(self) -> Option<f64> {
        match self {
            Self::Recreate => None,
            Self::InPlace => Some(80.0),
            Self::InPlacePrewarmed => Some(95.0),
        }
    }
}

/// The Service of the application.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// The application with an image, to be released in that way.
pub(super) fn cloneset(way: Way, image: &str, (pods, max_unavailable): (u32, &str)) -> Value {
    let policy = match way {
        Way::Recreate => "ReCreate",
        Way::InPlace | Way::InPlacePrewarmed => "InPlaceOnly",
    };
    let prewarm = match way {
        Way::InPlacePrewarmed => names::PREWARM_REQUIRED,
        Way::Recreate | Way::InPlace => names::PREWARM_OFF,
    };
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet",
        // No preStop hook and no quiet period: the nodes' reports alone end a drain.
        "metadata": {"name": "web", "annotations": {names::DRAIN: names::DRAIN_OBSERVED, names::PREWARM: prewarm}},
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "maxUnavailable": int_or_percent(max_unavailable), "podUpdatePolicy": policy,
                "inPlaceUpdateStrategy": {"imagePreDownloadParallelism": pods},
            }},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "web", "image": image, "imagePullPolicy": "IfNotPresent",
                        "ports": [{"containerPort": 8080}],
                        // A node has 4 cores: there is room for one pod.
                        "resources": {"requests": {"cpu": "3"}},
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 3},
                    }],
                },
            },
        },
    })
}

fn int_or_percent(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number))
}
