//! The control plane alone, as a stranger's test uses it.

#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do

use std::net::TcpStream;
use std::time::Duration;

use afloat_cluster::{ControlPlane, ControlPlaneOptions, Error, User};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::json;

/// Far beyond what any step needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn in_folder(dir: &std::path::Path) -> ControlPlaneOptions {
    ControlPlaneOptions {
        data_dir: Some(dir.to_owned()),
        ..ControlPlaneOptions::default()
    }
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, "default")
}

async fn create(maps: &Api<ConfigMap>, name: &str) {
    let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
}

async fn over_tls(kubeconfig: &std::path::Path) -> (Client, u16) {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    let port = config.cluster_url.port_u16().unwrap();
    (Client::try_from(config).unwrap(), port)
}

#[tokio::test]
async fn what_is_in_a_folder_is_there_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = ControlPlane::start(in_folder(dir.path())).await.unwrap();
    let kubeconfig = first.serve(dir.path()).await.unwrap();
    let (client, port) = over_tls(&kubeconfig).await;
    create(&maps(client), "kept").await;
    assert!(maps(first.client("test")).get_opt("kept").await.unwrap().is_some());

    let refused = ControlPlane::start(in_folder(dir.path())).await;
    assert!(matches!(refused, Err(Error::Store { .. })), "the folder is in use");

    first.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens");
    let second = ControlPlane::start(in_folder(dir.path())).await.unwrap();
    assert!(maps(second.client("test")).get_opt("kept").await.unwrap().is_some());
    second.stop().await;
}

/// Neither when the controllers have just begun, nor when they are at work.
#[tokio::test]
async fn nothing_is_left_after_the_end() {
    for waits in [false, true] {
        let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
        if waits {
            let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client("test"), "default");
            let made = await_condition(accounts, "default", |account: Option<&ServiceAccount>| {
                account.is_some()
            });
            tokio::time::timeout(PATIENCE, made).await.unwrap().unwrap();
        }
        assert!(tasks() > 0);
        cluster.stop().await;
        all_tasks_end().await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn all_tasks_end() {
    let gone = async {
        while tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, gone).await;
    assert!(ended.is_ok(), "{} tasks are left", tasks());
}

#[tokio::test]
async fn a_cluster_that_is_dropped_stops() {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let stopping = cluster.stopping();
    drop(cluster);
    assert!(stopping.is_cancelled());
    all_tasks_end().await;
}

/// Each sees its own objects only.
#[tokio::test]
async fn clusters_do_not_see_each_other() {
    let (one, other) = tokio::join!(
        ControlPlane::start(ControlPlaneOptions::default()),
        ControlPlane::start(ControlPlaneOptions::default()),
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    create(&maps(one.client("test")), "mine").await;
    assert!(maps(other.client("test")).get_opt("mine").await.unwrap().is_none());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn without_controllers_nobody_makes_anything() {
    let cluster = ControlPlane::start(ControlPlaneOptions {
        controllers: false,
        ..ControlPlaneOptions::default()
    })
    .await
    .unwrap();
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:v1"}]}}}});
    let sets: Api<k8s_openapi::api::apps::v1::ReplicaSet> = Api::namespaced(cluster.client("test"), "default");
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap())
        .await
        .unwrap();
    let makers: Vec<String> = cluster.writes().into_iter().map(|write| write.user).collect();
    assert_eq!(makers, ["test"]);
    cluster.stop().await;
}

/// A part of one's own has a client, is waited for, and its writes are known by its name.
#[tokio::test]
async fn a_part_of_ones_own_runs_until_the_end() {
    let mut cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let stop = cluster.stopping();
    let (told, mut ended) = tokio::sync::mpsc::channel(1);
    cluster.run_part("namer", User::master("namer"), move |client| {
        let (stop, told) = (stop.clone(), told.clone());
        async move {
            create(&maps(client), "named").await;
            stop.cancelled().await;
            told.send(()).await
        }
    });
    let named = await_condition(maps(cluster.client("test")), "named", |map: Option<&ConfigMap>| {
        map.is_some()
    });
    tokio::time::timeout(PATIENCE, named).await.unwrap().unwrap();
    assert!(cluster.writes().iter().any(|write| write.user == "namer"));
    assert!(ended.try_recv().is_err());
    cluster.stop().await;
    assert!(ended.try_recv().is_ok());
}

/// A node is an object like others: the scheduler takes it, though nothing will run there.
#[tokio::test]
async fn pods_are_scheduled_on_nodes_that_are_only_objects() {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let client = cluster.client("test");
    let node = json!({"metadata": {"name": "n"}, "status": {
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node.clone()).unwrap())
        .await
        .unwrap();
    let status = kube::api::Patch::Merge(json!({"status": node["status"]}));
    nodes
        .patch_status("n", &kube::api::PatchParams::default(), &status)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "web:v1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let bound = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()));
    tokio::time::timeout(PATIENCE, await_condition(pods.clone(), "web", bound))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
    cluster.stop().await;
}

/// The page shows the program that is compiled and run.
#[test]
fn the_page_has_the_example_word_for_word() {
    let page = include_str!("../../../docs/embedded.md");
    assert!(page.contains(include_str!("../examples/nodes.rs")));
}
