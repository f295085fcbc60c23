//! Subresources of pods: binding.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::clock::now;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;
use crate::write::{Change, Writer};

/// Sets a condition of a pod; its transition time changes only with its status.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, status: &str) {
    let conditions = view::child(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Some(list) = conditions.as_array_mut() else { return };
    let fresh = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": now()});
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(same) if same["status"] == status => {}
        Some(other) => *other = fresh,
        None => list.push(fresh),
    }
}

impl Writer {
    /// `pods/binding`: the scheduler's word.
    pub(crate) async fn bind(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let binding = call.object_of("v1", "Binding", body)?;
        let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
        if node.is_empty() {
            let message = "Required value: name the node in target.name";
            return Err(Status::invalid_field(
                &call.resource,
                call.name(),
                "target.name",
                "FieldValueRequired",
                message,
            ));
        }
        let uid = view::meta(&binding, "uid").to_owned();
        let name = call.name();
        let refuse = |why: String| Err(Status::conflict(&call.resource, name, &why));
        let written = self
            .modify(&call.resource, call.namespace(), name, call.query.dry_run()?, |pod| {
                let actual = view::meta(pod, "uid");
                if !uid.is_empty() && uid != actual {
                    return refuse(format!(
                        "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
                    ));
                }
                if pod["metadata"]["deletionTimestamp"].is_string() {
                    return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
                }
                if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                    return refuse(format!("pod {name} is already assigned to node \"{bound}\""));
                }
                if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
                    return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
                }
                let mut new = pod.clone();
                view::child(&mut new, "spec").insert("nodeName".into(), node.as_str().into());
                set_condition(&mut new, "PodScheduled", "True");
                if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
                    view::child(&mut new["metadata"], "annotations").extend(annotations.clone());
                }
                Ok(Change::Put(new))
            })
            .await?;
        if written.changed {
            self.metrics
                .wrote(&call.user, "create", &call.resource, "binding", call.namespace());
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        reply::rendered(201, call.accept, status.to_string().into())
    }
}
