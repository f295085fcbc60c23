//! The node's own objects: Node (registration, status, images) and its Lease.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_runtime::image::architecture;
use afloat_words::image::ImageName;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::Context;
use crate::options::{API_LIMIT, AgentOptions};

/// What `nodeInfo.kubeletVersion` says.
pub const KUBELET_VERSION: &str = "v1.33.0-afloat";
/// Seconds without a heartbeat after which others may take the node for dead.
const LEASE_SECONDS: i32 = 40;
/// The condition of a node that enforces no limits. Written where it does, too: only so does an old one go away.
const UNLIMITED: &str = "CgroupsUnavailable";
/// The condition of a node whose containers are kept from the machine's devices only by a filter.
const UNGUARDED: &str = "DeviceControlUnavailable";
/// Status is written at least this often.
const REPORT: Duration = Duration::from_secs(300);
/// Images are looked at this often.
const LOOK: Duration = Duration::from_secs(5);

/// Creates or updates the Node. Answers its uid.
pub(crate) async fn register(context: &Context) -> Result<String, kube::Error> {
    let api: Api<Node> = Api::all(context.client.clone());
    let status = status(context).await;
    let mut node = node(&context.options);
    node.status = Some(status.clone());
    let uid = match api.create(&PostParams::default(), &node).await {
        // Whether a create takes the status along is the API server's decision; the next lines do not rely on it.
        Ok(created) => created.metadata.uid,
        Err(kube::Error::Api(error)) if error.code == 409 => {
            let patch = json!({"metadata": {"labels": node.metadata.labels}});
            api.patch(
                &context.options.node_name,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await?
            .metadata
            .uid
        }
        Err(error) => return Err(error),
    };
    write_status(context, &status).await?;
    Ok(uid.unwrap_or_default())
}

async fn write_status(context: &Context, status: &NodeStatus) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(context.client.clone());
    let patch = Patch::Strategic(json!({ "status": status }));
    api.patch_status(&context.options.node_name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

/// Writes the status when it changes (images, pressure on the disk), and now and then.
pub(crate) async fn keep_status(context: &Context) {
    let mut written = tokio::time::Instant::now();
    let look = async || (images(context).await, context.runtime.disk_pressure());
    let mut images = look().await;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look().await;
        if now == images && written.elapsed() < REPORT {
            continue;
        }
        let status = status(context).await;
        match tokio::time::timeout(API_LIMIT, write_status(context, &status)).await {
            Ok(Ok(())) => {
                images = now;
                written = tokio::time::Instant::now();
            }
            Ok(Err(error)) => tracing::warn!(%error, "node status not written"),
            Err(_) => tracing::warn!("node status not written in time"),
        }
    }
}

/// Renews the lease for ever.
pub(crate) async fn keep_lease(context: &Context, node_uid: &str) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), "kube-node-lease");
    let name = context.options.node_name.as_str();
    loop {
        let renew = renew(&api, name, node_uid, context.clock.now());
        let wait = match tokio::time::timeout(API_LIMIT, renew).await {
            Ok(Ok(())) => context.options.lease_interval,
            Ok(Err(error)) => {
                tracing::warn!(%error, "lease not renewed");
                context.options.lease_interval.min(Duration::from_secs(2))
            }
            Err(_) => Duration::from_millis(200),
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(api: &Api<Lease>, name: &str, node_uid: &str, now: Timestamp) -> Result<(), kube::Error> {
    let patch =
        json!({"spec": {"renewTime": MicroTime(now), "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(error)) if error.code == 404 => {
            let owner = OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.to_owned(),
                uid: node_uid.to_owned(),
                ..OwnerReference::default()
            };
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    owner_references: Some(vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.to_owned()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    renew_time: Some(MicroTime(now)),
                    ..LeaseSpec::default()
                }),
            };
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

fn node(options: &AgentOptions) -> Node {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(options.labels.clone());
    let cidr = Some(options.pod_cidr.clone()).filter(|cidr| !cidr.is_empty());
    Node {
        metadata: ObjectMeta {
            name: Some(options.node_name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidrs: cidr.clone().map(|cidr| vec![cidr]),
            pod_cidr: cidr,
            provider_id: Some(format!("afloat://{}", options.node_name)),
            taints: (!options.taints.is_empty()).then(|| options.taints.clone()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

async fn status(context: &Context) -> NodeStatus {
    let options = &context.options;
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let quantities: BTreeMap<_, _> = options
        .capacity
        .quantities()
        .into_iter()
        .map(|(name, value)| (name, Quantity(value)))
        .collect();
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", options.node_ip.to_string()),
            address("Hostname", options.node_name.clone()),
        ]),
        capacity: Some(quantities.clone()),
        allocatable: Some(quantities),
        conditions: Some(conditions(context)),
        node_info: Some(system_info()),
        images: Some(images(context).await),
        ..NodeStatus::default()
    }
}

fn conditions(context: &Context) -> Vec<NodeCondition> {
    let now = context.clock.now();
    let condition = |type_: &str, ok: bool, reason: &str, message: &str| NodeCondition {
        type_: type_.to_owned(),
        status: if ok { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(context.started_at)),
    };
    let mut conditions = vec![
        condition(
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        if context.runtime.disk_pressure() {
            condition(
                "DiskPressure",
                true,
                "KubeletHasDiskPressure",
                "kubelet has disk pressure",
            )
        } else {
            condition(
                "DiskPressure",
                false,
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            )
        },
        condition(
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ];
    // Not one of Kubernetes': a node there does not start without cgroups.
    conditions.push(match context.runtime.unlimited() {
        Some(why) => {
            let message = format!("limits of containers are not enforced: {why}");
            condition(UNLIMITED, true, "LimitsNotEnforced", &message)
        }
        None => condition(UNLIMITED, false, "LimitsEnforced", "limits of containers are enforced"),
    });
    conditions.push(match context.runtime.unguarded() {
        Some(why) => {
            let message = format!("containers may make no device nodes, as their use cannot be controlled: {why}");
            condition(UNGUARDED, true, "DeviceNodesRefused", &message)
        }
        None => condition(
            UNGUARDED,
            false,
            "DevicesControlled",
            "containers can open the usual devices only",
        ),
    });
    conditions
}

/// What the node has; each image also by the name that carries its id, so that a reader can tell which names are one image.
async fn images(context: &Context) -> Vec<ContainerImage> {
    let images = match context.runtime.images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::debug!(%error, "images not listed");
            vec![]
        }
    };
    let entry = |image: afloat_runtime::Image| {
        let by_id = image
            .names
            .first()
            .map(|name| format!("{}@{}", ImageName::of(name).without_version(), image.id));
        ContainerImage {
            names: Some(by_id.into_iter().chain(image.names).collect()),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        }
    };
    let mut all: Vec<_> = images.into_iter().map(entry).collect();
    all.sort_by(|a, b| a.names.cmp(&b.names));
    all
}

fn system_info() -> NodeSystemInfo {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("afloat://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kubelet_version: KUBELET_VERSION.to_owned(),
        kube_proxy_version: KUBELET_VERSION.to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        ..NodeSystemInfo::default()
    }
}
