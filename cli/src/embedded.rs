//! The embedded cluster as the commands run it: joined with the operator, and with the operator's eyes on its nodes.

mod node_runtime;
mod node_traffic;
mod rights;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use afloat_agent::node::Node;
use afloat_agent::runtime::NodeRuntime;
use afloat_api::{Door, Gates, Serving, definitions, names};
use afloat_cluster::{Cluster, ClusterOptions, User};
use afloat_manager::webhook;
use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};

use node_runtime::EmbeddedRuntime;
use node_traffic::EmbeddedNode;

/// An image of this program that runs `afloat app`: its name, the part that it plays, and its version.
pub(crate) type AppImage = (&'static str, &'static str, &'static str);

/// Starts a cluster whose proxies are reported on, and the operator in it.
pub(crate) async fn start_with_operator(options: ClusterOptions, gates: Gates) -> anyhow::Result<Cluster> {
    let mut cluster = start_without_operator(options).await?;
    // In this process, so that nobody else has the port; parts that are started again go on with the same.
    let socket = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    let door = Door::Url(format!("https://{}{}", socket.local_addr()?, names::WEBHOOK_PATH));
    install_crds(cluster.client("afloat-installer"), door.clone()).await?;
    let mut rights = afloat_install::rights();
    rights.extend(afloat_install::user_roles());
    rights.extend(afloat_install::policies());
    rights::install(&cluster.client("afloat-installer"), &rights).await?;
    let stop = cluster.stopping();
    let account = User::service_account(names::MANAGER_NAMESPACE, afloat_install::OPERATOR);
    cluster.run_part("operator", account, move |client| {
        let webhook = webhook::Options {
            door: door.clone(),
            listen: webhook::Listen::Socket(socket.clone()),
            namespace: names::MANAGER_NAMESPACE.into(),
        };
        let options = afloat_manager::Options {
            webhook: Some(webhook),
            gates,
            ..afloat_manager::Options::default()
        };
        afloat_manager::run(client, options, stop.clone())
    });
    Ok(cluster)
}

/// Starts a cluster whose proxies are reported on, for an operator elsewhere or for none.
pub(crate) async fn start_without_operator(options: ClusterOptions) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::start(options).await?;
    let nodes: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| {
            let runtime: Arc<dyn NodeRuntime> = Arc::new(EmbeddedRuntime::of(node));
            (node.name.clone(), Arc::new(EmbeddedNode::of(node)), runtime)
        })
        .collect();
    rights::install(&cluster.client("afloat-installer"), &rights::of_reporters()).await?;
    for (node, view, runtime) in nodes {
        let stop = cluster.stopping();
        cluster.run_part(&format!("reporter of {node}"), rights::reporter(), move |client| {
            let (view, name, stop) = (view.clone(), node.clone(), stop.clone());
            let node = Node::new(client.clone(), &name, runtime.clone(), stop.clone());
            async move {
                let report = afloat_agent::run(client, &name, view, node.containers.clone(), stop);
                tokio::join!(report, afloat_agent::workers::run(node));
                Ok::<_, std::convert::Infallible>(())
            }
        });
    }
    Ok(cluster)
}

/// Builds images of this program, whose versions share their layer.
pub(crate) async fn build_app_images(cluster: &Cluster, images: &[AppImage]) -> anyhow::Result<()> {
    for (name, role, version) in images {
        cluster
            .build_own_image(name, &["app", role], &[("APP_VERSION", version)])
            .await?;
    }
    Ok(())
}

/// Makes the operator's CRDs known to a cluster, or brings them up to date.
async fn install_crds(client: Client, door: Door) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let serving = Serving {
        webhook: Some(door),
        ..Serving::default()
    };
    for definition in definitions(&serving) {
        let crd: CustomResourceDefinition = serde_json::from_str(&definition.to_string())?;
        let name = crd.name_any();
        match api.create(&PostParams::default(), &crd).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let spec = serde_json::json!({"spec": definition["spec"]});
                api.patch(&name, &PatchParams::default(), &Patch::Merge(&spec))
                    .await
                    .with_context(|| format!("cannot update {name}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create {name}")),
        }
    }
    Ok(())
}
