//! What is rolled out: one application that speaks every protocol, behind a Service.

use std::time::Duration;

use afloat_api::names;
use afloat_probe::Mode;
use serde_json::{Value, json};

use super::plan::Motion;

/// Images of the application; releases go to and fro between them.
pub(super) static IMAGES: [(&str, &str, &str); 2] = [("web:v1", "web", "v1"), ("web:v2", "web", "v2")];
const WEB_PORT: u16 = 8080;
const LINE_PORT: u16 = 9000;

/// Name of the Service's port that a protocol uses.
pub(super) fn port_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Tcp | Mode::TcpNew => "line",
        Mode::Http | Mode::HttpNew | Mode::Http2 | Mode::Grpc | Mode::GrpcStream => "web",
    }
}

/// The Service of the application.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [
            {"name": "web", "port": 80, "targetPort": "web"},
            {"name": "line", "port": 90, "targetPort": "line"},
        ]},
    })
}

/// The application, half of whose pods may be away at once. It gives idle connections `linger` to be used once more.
pub(super) fn cloneset(replicas: u32, drain: &str, linger: Duration) -> Value {
    let env = json!([
        {"name": "APP_TCP_PORT", "value": LINE_PORT.to_string()},
        {"name": "APP_STREAM_MS", "value": "500"},
        // Lingering is for idle connections: a proxy that still sends new ones must be seen.
        {"name": "APP_STOP_LISTENING", "value": "1"},
        {"name": "APP_LINGER_MS", "value": linger.as_millis().to_string()},
    ]);
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet",
        // No preStop hook and no quiet period: the nodes' reports alone end a drain.
        "metadata": {"name": "web", "annotations": {names::DRAIN: drain}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%", "podUpdatePolicy": "InPlaceOnly"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": linger.as_secs() + 30,
                    "containers": [{
                        "name": "web", "image": IMAGES[0].0, "imagePullPolicy": "IfNotPresent", "env": env,
                        "ports": [{"name": "web", "containerPort": WEB_PORT}, {"name": "line", "containerPort": LINE_PORT}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1, "failureThreshold": 3},
                    }],
                },
            },
        },
    })
}

/// The steps of a motion: a JSON patch, and how many pods there are after it.
pub(super) fn steps(motion: Motion, replicas: u32, image: &str) -> Vec<(Value, u32)> {
    let release = |policy: &str| {
        json!([
            {"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/podUpdatePolicy", "value": policy},
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
        ])
    };
    let scale = |replicas: u32| json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]);
    match motion {
        Motion::InPlace => vec![(release("InPlaceOnly"), replicas)],
        Motion::Recreate => vec![(release("ReCreate"), replicas)],
        Motion::Scale => vec![(scale(replicas / 2), replicas / 2), (scale(replicas), replicas)],
    }
}

/// A connection that is used in turn with others is used again within its share of the rate; twice that, and never less than what a
/// busy machine may take.
pub(super) fn linger(connections: u16, rate: u32) -> Duration {
    let turn = Duration::from_secs(connections.into()) / rate.max(1);
    (turn * 2).max(Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_go_was_used_twice() {
        assert_eq!(linger(8, 100), Duration::from_secs(2));
        assert_eq!(linger(100, 10), Duration::from_secs(20));
    }

    #[test]
    fn scaling_goes_in_and_out() {
        let pods: Vec<u32> = steps(Motion::Scale, 6, "x").into_iter().map(|(_, pods)| pods).collect();
        assert_eq!(pods, [3, 6]);
        assert_eq!(steps(Motion::Recreate, 6, "x")[0].0[1]["value"], "x");
    }
}
