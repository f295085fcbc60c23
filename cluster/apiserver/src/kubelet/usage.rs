//! `metrics.k8s.io`: what nodes and pods use, for `kubectl top`. Nothing is stored: the kubelets are asked. In Kubernetes
//! metrics-server is behind this group; fields and units are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_machinery::kinds::Resource;
use futures::FutureExt;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock;
use crate::kubelet::Kubelets;
use crate::read::filter::Filter;
use crate::read::table;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::request::Form;
use crate::wire::status::Status;

/// Kubelets that are asked at once.
const ASKED_AT_ONCE: usize = 32;

impl Kubelets {
    /// Get or list of NodeMetrics or PodMetrics.
    pub(crate) async fn measured(&self, call: &Call) -> Result<Response<Body>, Status> {
        let single = match (call.verb, call.path.name.is_some()) {
            ("get", true) => true,
            ("list", false) => false,
            _ => return Err(Status::method_not_allowed()),
        };
        let objects = self.measured_objects(call)?;
        let nodes: BTreeSet<String> = objects
            .iter()
            .filter_map(|object| node(&call.resource, object))
            .map(str::to_owned)
            .collect();
        let summaries = self.clone().summaries(nodes).await;
        let measured = |object: &Value| {
            metrics(
                &call.resource,
                object,
                summaries.get(node(&call.resource, object)?)?,
                &clock::now(),
            )
        };
        let items: Vec<Value> = objects.iter().filter_map(measured).collect();
        self.answer_measured(call, items, single)
    }

    /// What each of the nodes tells. One that does not answer must not hide the others.
    async fn summaries(self, nodes: BTreeSet<String>) -> BTreeMap<String, Value> {
        let places = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        let mut asking = JoinSet::new();
        for node in nodes {
            let (kubelets, places) = (self.clone(), Arc::clone(&places));
            asking.spawn(FutureExt::boxed(async move {
                let _place = places.acquire_owned().await;
                let summary = kubelets.document(&node, "/stats/summary").await;
                (node, summary)
            }));
        }
        let mut summaries = BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((node, Ok(summary))) => drop(summaries.insert(node, summary)),
                Ok((node, Err(status))) => tracing::debug!(node, ?status, "a node tells nothing about its usage"),
                Err(error) => tracing::warn!(%error, "asking a node broke off"),
            }
        }
        summaries
    }

    fn answer_measured(&self, call: &Call, items: Vec<Value>, single: bool) -> Result<Response<Body>, Status> {
        let resource = &call.resource;
        if call.accept.form != Form::Object {
            let bytes = table::many(resource, call.accept.form, &call.query, &items, json!({}))?;
            return reply::rendered(200, call.accept, bytes);
        }
        let document = if single {
            let first = items.into_iter().next();
            first.ok_or_else(|| Status::not_found(resource, call.name()))?
        } else {
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": {}, "items": items})
        };
        reply::rendered(200, call.accept, document.to_string().into())
    }

    /// The nodes or pods that are asked about.
    fn measured_objects(&self, call: &Call) -> Result<Vec<Value>, Status> {
        let core = self.reader.registry().resolve("", "v1", &call.resource.plural);
        let core = core.ok_or_else(Status::no_such_resource)?;
        let filter = Filter::parse(&core, &call.query, &call.path)?;
        let entries = match &call.path.name {
            Some(name) => {
                let entry = self.reader.find(&core, call.namespace(), name);
                vec![entry.ok_or_else(|| Status::not_found(&call.resource, name))?]
            }
            None => self.reader.all(&core, call.namespace()).entries,
        };
        let entries = entries.iter().filter(|entry| filter.admits_key(&entry.key));
        let mut objects = entries
            .map(|entry| view::parse(&core, &entry.value))
            .collect::<Result<Vec<_>, _>>()?;
        objects.retain(|object| filter.matches(object));
        Ok(objects)
    }
}

/// The node that knows about a node or pod.
fn node<'a>(resource: &Resource, object: &'a Value) -> Option<&'a str> {
    let name = if resource.namespaced {
        &object["spec"]["nodeName"]
    } else {
        &object["metadata"]["name"]
    };
    name.as_str().filter(|name| !name.is_empty())
}

/// One item, from the summary of its node. None: nothing is known of it. Pure.
fn metrics(resource: &Resource, object: &Value, summary: &Value, now: &str) -> Option<Value> {
    let mut metadata = json!({"name": object["metadata"]["name"], "creationTimestamp": now});
    for field in ["namespace", "labels"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let measured = if resource.namespaced {
        let uid = &object["metadata"]["uid"];
        summary["pods"]
            .as_array()?
            .iter()
            .find(|pod| pod["podRef"]["uid"] == *uid)?
    } else {
        &summary["node"]
    };
    let mut item = json!({
        "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata,
        "timestamp": seconds(measured["cpu"]["time"].as_str()?), "window": window(summary["windowSeconds"].as_f64()?),
    });
    if resource.namespaced {
        let containers = measured["containers"].as_array().filter(|all| !all.is_empty())?;
        let container = |c: &Value| Some(json!({"name": c["name"], "usage": usage(c)?}));
        item["containers"] = containers.iter().filter_map(container).collect();
    } else {
        item["usage"] = usage(measured)?;
    }
    Some(item)
}

fn usage(figures: &Value) -> Option<Value> {
    let nano_cores = figures["cpu"]["usageNanoCores"].as_u64()?;
    let bytes = figures["memory"]["workingSetBytes"].as_u64()?;
    Some(json!({"cpu": format!("{nano_cores}n"), "memory": format!("{}Ki", bytes / 1024)}))
}

/// A time without fractions, as API objects have it.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

/// `15.021s`, as Go writes a duration.
fn window(seconds: f64) -> String {
    let text = format!("{seconds:.3}");
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use afloat_machinery::kinds::Registry;

    use super::*;

    fn summary() -> Value {
        let figures = |nano_cores: u64, bytes: u64| {
            json!({
                "cpu": {"time": "2026-01-01T00:00:00.123Z", "usageNanoCores": nano_cores},
                "memory": {"workingSetBytes": bytes},
            })
        };
        let mut container = figures(250_000_000, 3_000_000);
        container["name"] = json!("web");
        let mut pod = figures(250_000_000, 3_000_000);
        pod["podRef"] = json!({"uid": "u"});
        pod["containers"] = json!([container]);
        json!({"node": figures(1_500_000_000, 2048), "pods": [pod], "windowSeconds": 10.5})
    }

    #[test]
    fn items_are_those_of_metrics_server() {
        let registry = Registry::builtin();
        let find = |plural| registry.resolve("metrics.k8s.io", "v1beta1", plural).unwrap();
        let now = "2026-01-01T00:00:01Z";
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "b"}}});
        assert_eq!(
            metrics(&find("pods"), &pod, &summary(), now),
            Some(json!({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "p", "namespace": "d", "labels": {"a": "b"}, "creationTimestamp": now},
                "timestamp": "2026-01-01T00:00:00Z", "window": "10.5s",
                "containers": [{"name": "web", "usage": {"cpu": "250000000n", "memory": "2929Ki"}}],
            }))
        );
        let other = json!({"metadata": {"name": "q", "uid": "other"}});
        assert_eq!(metrics(&find("pods"), &other, &summary(), now), None);
        let node = json!({"metadata": {"name": "n"}});
        let item = metrics(&find("nodes"), &node, &summary(), now).unwrap();
        assert_eq!(item["kind"], "NodeMetrics");
        assert_eq!(item["usage"], json!({"cpu": "1500000000n", "memory": "2Ki"}));
    }
}
