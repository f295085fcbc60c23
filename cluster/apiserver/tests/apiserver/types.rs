//! Every field of every built-in kind with values of all types: what is refused is what Kubernetes' own server refuses, in its words.
//!
//! `types.txt` has what that does with each type of field; with `AFLOAT_KUBE_APISERVER` it is asked itself, about each field.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use afloat_machinery::fields::{self, Field, Kind, Message, Shape};
use afloat_machinery::kinds::{Registry, Resource};
use futures::StreamExt as _;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::raw;

/// What is put into each field, as it is sent.
const VALUES: [&str; 21] = [
    "null",
    r#""x""#,
    r#""""#,
    "5",
    "1.5",
    "3000000000",
    "10000000000000000000",
    "-1",
    "true",
    "[]",
    "{}",
    "[5]",
    r#"["x"]"#,
    "[null]",
    r#"{"k":5}"#,
    r#"{"k":"x"}"#,
    r#"{"k":null}"#,
    r#""2020-01-01T00:00:00Z""#,
    r#""2020-01-01T00:00:00.000000Z""#,
    r#""AQI=""#,
    r#""1Gi""#,
];

/// Fields that the table has, being of 1.33, and that Kubernetes' own server, being of 1.32, does not know yet.
const LATER: [&str; 13] = [
    "Deployment status.terminatingReplicas",
    "EndpointSlice endpoints.hints.forNodes",
    "EndpointSlice endpoints.hints.forNodes.name",
    "HorizontalPodAutoscaler spec.behavior.scaleUp.tolerance",
    "Node status.nodeInfo.swap",
    "Node status.nodeInfo.swap.capacity",
    "Pod spec.containers.lifecycle.stopSignal",
    "Pod status.conditions.observedGeneration",
    "Pod status.containerStatuses.stopSignal",
    "Pod status.observedGeneration",
    "ReplicaSet status.terminatingReplicas",
    "CSIDriver spec.nodeAllocatableUpdatePeriodSeconds",
    "VolumeAttachment status.attachError.errorCode",
];

/// A field, and where in an object of which kind it is.
struct Place {
    resource: Arc<Resource>,
    way: Vec<&'static Field>,
}

impl Place {
    fn field(&self) -> &'static Field {
        self.way[self.way.len() - 1]
    }

    fn name(&self) -> String {
        let names: Vec<&str> = self.way.iter().map(|field| field.name).collect();
        format!("{} {}", self.resource.kind, names.join("."))
    }

    /// An object that has nothing but a name and this field.
    fn body(&self, value: &str) -> String {
        let mut inner = value.to_owned();
        for (depth, field) in self.way.iter().enumerate().rev() {
            if depth + 1 < self.way.len() {
                inner = match field.shape {
                    Shape::One => inner,
                    Shape::Repeated => format!("[{inner}]"),
                    Shape::Map => format!(r#"{{"k":{inner}}}"#),
                };
            }
            inner = format!(r#"{{"{}":{inner}}}"#, field.name);
        }
        let (api_version, kind) = (self.resource.api_version(), &self.resource.kind);
        let metadata = if self.way[0].name == "metadata" {
            ""
        } else {
            r#""metadata":{"name":"x"},"#
        };
        format!(
            r#"{{"apiVersion":"{api_version}","kind":"{kind}",{metadata}{}"#,
            &inner[1..]
        )
    }

    fn uri(&self) -> String {
        let resource = &self.resource;
        let root = if resource.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", resource.group)
        };
        let space = if resource.namespaced { "/namespaces/default" } else { "" };
        format!("{root}/{}{space}/{}?dryRun=All", resource.version, resource.plural)
    }
}

/// Every field of every message once, where it is first met.
fn places() -> Vec<Place> {
    let registry = Registry::builtin();
    let mut waiting = VecDeque::new();
    for resource in registry.all().filter(|resource| resource.is_stored()) {
        if let Some(message) = fields::message_of(resource) {
            waiting.push_back((resource.clone(), Vec::new(), message));
        }
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some((resource, way, message)) = waiting.pop_front() {
        let Some(Message::Fields(all)) = fields::message(message) else {
            continue;
        };
        for field in all.values() {
            let Kind::Message(inner) = field.kind else {
                let way = [way.as_slice(), &[field]].concat();
                found.push(Place {
                    resource: resource.clone(),
                    way,
                });
                continue;
            };
            if field.name.is_empty() {
                waiting.push_back((resource.clone(), way.clone(), inner));
                continue;
            }
            let way = [way.as_slice(), &[field]].concat();
            found.push(Place {
                resource: resource.clone(),
                way: way.clone(),
            });
            if seen.insert(inner) {
                waiting.push_back((resource.clone(), way, inner));
            }
        }
    }
    found
}

/// What ours says of a body; empty if it takes it.
fn ours(place: &Place, value: &str) -> String {
    let mut object = serde_json::from_str(&place.body(value)).unwrap();
    fields::decode_as(&place.resource, &mut object)
        .err()
        .unwrap_or_default()
}

/// Kind and shape of a field, as the record has them.
fn sort(field: &Field) -> String {
    let kind = match field.kind {
        Kind::Message(name) if matches!(fields::message(name), Some(Message::List)) => "List".to_owned(),
        Kind::Message(_) => "Message".to_owned(),
        kind => format!("{kind:?}").replace(' ', ""),
    };
    format!("{kind}/{:?}", field.shape)
}

/// One letter for each value: `.` taken, `x` refused.
fn marks(said: &[String]) -> String {
    said.iter()
        .map(|said| if said.is_empty() { '.' } else { 'x' })
        .collect()
}

fn record() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("types.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

#[test]
fn each_type_is_refused_where_kubernetes_refuses_it() {
    let record = record();
    let all = places();
    assert!(all.len() > 1000, "{}", all.len());
    let mut wrong = Vec::new();
    for place in all {
        let said: Vec<String> = VALUES.iter().map(|value| ours(&place, value)).collect();
        let (sort, marks) = (sort(place.field()), marks(&said));
        if record.get(sort.as_str()) != Some(&marks.as_str()) {
            wrong.push(format!("{sort} {marks} ({})", place.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Kubernetes' own server, until it is dropped.
pub(super) struct Original(Child);

impl Drop for Original {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The first of three ports in a row that were free a moment ago, and that no other test was given.
fn ports() -> u16 {
    static NEXT: Mutex<u16> = Mutex::new(20_000);
    let free = |port: u16| (port..port + 3).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    let mut next = NEXT.lock().unwrap();
    let port = (*next..60_000).step_by(7).find(|port| free(*port)).unwrap();
    *next = port + 7;
    port
}

pub(super) async fn original() -> Option<(Original, Client)> {
    let Some(program) = std::env::var_os("AFLOAT_KUBE_APISERVER") else {
        eprintln!("skipped: AFLOAT_KUBE_APISERVER names no kube-apiserver");
        return None;
    };
    let port = ports();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/kube-apiserver/run");
    let mut command = Command::new("bash");
    command.arg(script).arg(program).arg(port.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut path = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut path)
        .unwrap();
    let file = Kubeconfig::read_from(path.trim()).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    // What it says is wanted, also if that is 503.
    config.default_retry = false;
    Some((Original(child), Client::try_from(config).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_server_says_the_same_of_each_field() {
    let Some((_server, client)) = original().await else {
        return;
    };
    let known = places()
        .into_iter()
        .filter(|place| !LATER.contains(&place.name().as_str()));
    let asked = futures::stream::iter(known).map(|place| {
        let client = client.clone();
        async move {
            let mut said = Vec::new();
            for value in VALUES {
                let (_, text) = raw(
                    &client,
                    "POST",
                    &place.uri(),
                    &[("content-type", "application/json")],
                    &place.body(value),
                )
                .await;
                let status: serde_json::Value = serde_json::from_str(&text).unwrap();
                let message = status["message"].as_str().unwrap_or_default();
                let kind = &place.resource.kind;
                said.push(
                    message
                        .split_once(&format!("cannot be handled as a {kind}: "))
                        .map_or("", |(_, why)| why)
                        .to_owned(),
                );
            }
            (place, said)
        }
    });
    let (record, mut wrong) = (record(), Vec::new());
    let mut asked = std::pin::pin!(asked.buffer_unordered(16));
    while let Some((place, said)) = asked.next().await {
        let (sort, marks) = (sort(place.field()), marks(&said));
        if record.get(sort.as_str()) != Some(&marks.as_str()) {
            wrong.push(format!("{sort} {marks} ({})", place.name()));
        }
        for (value, theirs) in VALUES.iter().zip(said) {
            let ours = ours(&place, value);
            // The table does not say what Go calls the keys of a map.
            if ours != theirs.replace("map[v1.ResourceName]", "map[string]") {
                wrong.push(format!(
                    "{} = {value}\n  ours:   {ours}\n  theirs: {theirs}",
                    place.name()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}
