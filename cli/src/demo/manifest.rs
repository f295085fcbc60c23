//! The objects of the demo: one application, released in several ways.

use std::time::Duration;

use afloat_api::{CloneSet, names};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Resource as _;
use serde_json::{Value, json};

use super::options::Strategy;

/// What all rows have in common.
#[derive(Clone, Debug)]
pub(crate) struct Application {
    /// Pods.
    pub(crate) replicas: u32,
    /// Pods that may be unavailable at once, int or percent.
    pub(crate) max_unavailable: String,
    /// Time until it listens.
    pub(crate) start: Duration,
    /// Quiet period before a container is stopped, seconds; beyond the proxies' lag.
    pub(crate) quiet_seconds: u32,
    /// Longest wait for proxies, seconds; None: the operator's own.
    pub(crate) drain_limit: Option<u32>,
}

impl Application {
    /// The quiet period that outlasts proxies which learn of a change `lag` late.
    pub(crate) fn quiet_seconds(lag: Duration) -> u32 {
        // One second more than the lag: what it takes until the change of an endpoint reaches the proxies at all.
        u32::try_from(lag.as_millis().div_ceil(1000))
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }
}

/// Images of the application, by version.
pub(crate) const V1: &str = "web:v1";
/// See [`V1`].
pub(crate) const V2: &str = "web:v2";
/// The image of the second container.
pub(crate) const COLLECTOR: &str = "collector:v1";
/// All of them, with what the program does there.
pub(crate) static IMAGES: [(&str, &str, &str); 3] =
    [(V1, "web", "v1"), (V2, "web", "v2"), (COLLECTOR, "collect", "v1")];
/// Port that the application listens on.
const PORT: u16 = 8080;

impl Strategy {
    /// Its name in tables and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DeploymentNaive => "deployment-naive",
            Self::DeploymentCareful => "deployment-careful",
            Self::CloneSetInPlace => "cloneset-inplace",
            Self::CloneSetObserved => "cloneset-observed",
            Self::CloneSetRecreate => "cloneset-recreate",
        }
    }

    fn is_cloneset(self) -> bool {
        matches!(
            self,
            Self::CloneSetInPlace | Self::CloneSetObserved | Self::CloneSetRecreate
        )
    }

    /// Where the API has workloads of its kind.
    pub(crate) fn workloads(self, namespace: &str) -> String {
        if self.is_cloneset() {
            CloneSet::url_path(&(), Some(namespace))
        } else {
            Deployment::url_path(&(), Some(namespace))
        }
    }

    /// The workload, running version 1.
    pub(crate) fn manifest(self, app: &Application) -> Value {
        let labels = json!({"app": "web"});
        let budget = budget(&app.max_unavailable);
        let mut spec = json!({
            "replicas": app.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": self.pod_spec(app)},
        });
        let (strategy_key, strategy) = match self {
            Self::DeploymentNaive | Self::DeploymentCareful => (
                "strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": budget, "maxSurge": 0}}),
            ),
            Self::CloneSetInPlace => (
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {
                    "maxUnavailable": budget,
                    "podUpdatePolicy": "InPlaceOnly",
                    "inPlaceUpdateStrategy": {"gracePeriodSeconds": app.quiet_seconds},
                }}),
            ),
            // No quiet period: the nodes' reports end it.
            Self::CloneSetObserved => (
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {
                    "maxUnavailable": budget,
                    "podUpdatePolicy": "InPlaceOnly",
                    "inPlaceUpdateStrategy": {"gracePeriodSeconds": app.drain_limit.unwrap_or(0)},
                }}),
            ),
            Self::CloneSetRecreate => (
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": budget, "podUpdatePolicy": "ReCreate"}}),
            ),
        };
        spec[strategy_key] = strategy;
        let (api_version, kind) = if self.is_cloneset() {
            (CloneSet::api_version(&()), CloneSet::kind(&()))
        } else {
            (Deployment::api_version(&()), Deployment::kind(&()))
        };
        let mut metadata = json!({"name": "web"});
        if self.is_cloneset() {
            let observed = self == Self::CloneSetObserved;
            let drain = if observed {
                names::DRAIN_OBSERVED
            } else {
                names::DRAIN_TIMED
            };
            metadata["annotations"] = json!({names::DRAIN: drain});
        }
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
    }

    fn pod_spec(self, app: &Application) -> Value {
        let mut web = json!({
            "name": "web",
            "image": V1,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": PORT}],
            "env": [{"name": "APP_START_MS", "value": app.start.as_millis().to_string()}],
        });
        let mut grace = 30;
        if self != Self::DeploymentNaive {
            web["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
        }
        // In place, the quiet period does what the sleep is for.
        if matches!(self, Self::DeploymentCareful | Self::CloneSetRecreate) {
            web["lifecycle"] = json!({"preStop": {"sleep": {"seconds": app.quiet_seconds}}});
            grace = app.quiet_seconds.saturating_add(30);
        }
        json!({
            "terminationGracePeriodSeconds": grace,
            "containers": [web, {"name": "collector", "image": COLLECTOR, "imagePullPolicy": "IfNotPresent"}],
        })
    }
}

/// The change that releases version 2: a strategic merge would do for one, a JSON patch does for both kinds.
pub(crate) fn change() -> Value {
    json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": V2}])
}

/// The Service in front of the application.
pub(crate) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// `"2"` is a number in the API, `"50%"` a text.
fn budget(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| text.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quiet_period_is_longer_than_the_lag() {
        for ms in [0, 1, 500, 999, 1000, 1001, 3000] {
            let lag = Duration::from_millis(ms);
            let quiet = Duration::from_secs(Application::quiet_seconds(lag).into());
            assert!(quiet >= lag + Duration::from_secs(1), "{ms}");
            assert!(quiet < lag + Duration::from_secs(2) + Duration::from_millis(1), "{ms}");
        }
    }

    #[test]
    fn all_rows_get_the_same_budget_and_replicas() {
        let app = Application {
            replicas: 7,
            max_unavailable: "3".into(),
            start: Duration::ZERO,
            quiet_seconds: 2,
            drain_limit: None,
        };
        for strategy in [
            Strategy::DeploymentNaive,
            Strategy::DeploymentCareful,
            Strategy::CloneSetInPlace,
            Strategy::CloneSetObserved,
            Strategy::CloneSetRecreate,
        ] {
            let object = strategy.manifest(&app);
            assert_eq!(object["spec"]["replicas"], 7);
            let update = &object["spec"][if strategy.is_cloneset() {
                "updateStrategy"
            } else {
                "strategy"
            }];
            assert_eq!(update["rollingUpdate"]["maxUnavailable"], 3, "{}", strategy.name());
        }
    }
}
