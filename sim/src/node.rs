//! The Node objects: made, kept alive, and taken away.

use std::time::Duration;

use afloat_words::time::whole_seconds;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Error as KubeError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::images::NodeImages;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) images: NodeImages,
    pub(crate) images_changed: bool,
    /// Its list of images is being written.
    pub(crate) writing: bool,
    /// Its kubelet sees no changes.
    pub(crate) paused: bool,
}

/// Where nodes' leases are.
const LEASES: &str = "kube-node-lease";
/// As kubelets do; a node counts as lost after 40 s.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Label of all nodes that a fleet made.
pub const LABEL: &str = "afloat.dev/simulated";

/// Makes a node known and Ready; one that is there already is taken over.
pub(crate) async fn register(client: &Client, name: &str, index: usize, room: (u32, u32)) -> Result<Node, Error> {
    let wrong = |source: KubeError| Error::Node {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let api: Api<NodeObject> = Api::all(client.clone());
    let ip = format!("172.20.{}.{}", index / 250 % 250, index % 250 + 1);
    let mut object = NodeObject::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.labels = Some(
        [
            (LABEL.to_owned(), "true".to_owned()),
            ("kubernetes.io/hostname".to_owned(), name.to_owned()),
        ]
        .into(),
    );
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(KubeError::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(wrong(error)),
    }
    let patch = json!({"status": status(&ip, room)});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(wrong)?;
    // A new node is tainted as not ready, and where there is no controller that takes that away, nobody would.
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    api.patch(name, &PatchParams::default(), &untainted)
        .await
        .map_err(wrong)?;
    Ok(Node {
        name: name.to_owned(),
        ip,
        images: NodeImages::default(),
        images_changed: false,
        writing: false,
        paused: false,
    })
}

fn status(ip: &str, (cpus, gib): (u32, u32)) -> Value {
    let now = whole_seconds(Timestamp::now());
    let room =
        json!({"cpu": cpus.to_string(), "memory": format!("{gib}Gi"), "ephemeral-storage": "10Ti", "pods": "100000"});
    json!({
        "capacity": room, "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": ip}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a simulated node",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
        "images": [],
    })
}

/// The patch for a node's list of images.
pub(crate) fn images_patch(images: &NodeImages) -> Value {
    let list: Vec<Value> = images
        .names()
        .into_iter()
        .map(|names| json!({"names": names, "sizeBytes": 1_000_000}))
        .collect();
    json!({"status": {"images": list}})
}

/// Renews the nodes' leases, so that nobody thinks that they are gone.
pub(crate) async fn heartbeats(client: Client, names: Vec<String>, shutdown: CancellationToken) {
    let beat = async {
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let renewals = names.iter().cloned().map(|name| renew(client.clone(), name));
            futures::stream::iter(renewals)
                .for_each_concurrent(8, |renewal| renewal)
                .await;
        }
    };
    tokio::select! {
        () = beat => {}
        () = shutdown.cancelled() => {}
    }
}

async fn renew(client: Client, name: String) {
    let api: Api<Lease> = Api::namespaced(client, LEASES);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now});
    let patch = Patch::Merge(json!({"spec": spec}));
    let result = match api.patch(&name, &PatchParams::default(), &patch).await {
        Err(KubeError::Api(status)) if status.code == 404 => {
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASES}, "spec": spec});
            match serde_json::from_value(lease) {
                Ok(lease) => api.create(&PostParams::default(), &lease).await.map(drop),
                Err(error) => Err(KubeError::SerdeError(error)),
            }
        }
        other => other.map(drop),
    };
    if let Err(error) = result {
        tracing::debug!(%error, name, "cannot renew a node's lease");
    }
}

/// Takes the nodes and their leases away.
pub(crate) async fn remove(client: &Client, names: &[String]) {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    for name in names {
        if let Err(error) = nodes.delete(name, &DeleteParams::default()).await {
            tracing::warn!(%error, name, "cannot remove a node");
        }
        let _ = leases.delete(name, &DeleteParams::default()).await;
    }
}
