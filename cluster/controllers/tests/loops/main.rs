//! All loops against the API server in one process.

// In a test's own tools, too, the first surprise shall end it; and the measure of a burst is for people to read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod identity;
mod jobs;
mod replication;
mod volumes;
mod world;

use std::time::Duration;

use afloat_controllers::Options;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::json;
use world::{World, deployment};

async fn available(world: &World, name: &str, replicas: i64) {
    world
        .until("the deployment is available", || async {
            let found = world.get::<Deployment>(name).await.unwrap();
            let status = &found["status"];
            status["observedGeneration"] == found["metadata"]["generation"]
                && status["availableReplicas"].as_i64().unwrap_or(0) == replicas
                && status["updatedReplicas"].as_i64().unwrap_or(0) == replicas
                && status["replicas"].as_i64().unwrap_or(0) == replicas
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_back_and_goes() {
    let world = World::start(3).await;
    world.create::<Deployment>(deployment("web", 4, "app:v1")).await;
    available(&world, "web", 4).await;
    let nodes: std::collections::BTreeSet<_> = world
        .list::<Pod>()
        .await
        .into_iter()
        .filter_map(|pod| pod.spec.and_then(|spec| spec.node_name))
        .collect();
    assert_eq!(nodes.len(), 3, "spread over the nodes");

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    world.patch::<Deployment>("web", image("app:v2")).await;
    available(&world, "web", 4).await;
    let pods = world.list::<Pod>().await;
    let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    assert!(
        live.into_iter()
            .all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("app:v2"))
    );

    world.patch::<Deployment>("web", image("app:v1")).await;
    available(&world, "web", 4).await;
    assert_eq!(world.list::<ReplicaSet>().await.len(), 2);
    let found = world.get::<Deployment>("web").await.unwrap();
    assert_eq!(
        found["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "3"
    );
    let conditions = found["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|condition| condition["reason"] == "NewReplicaSetAvailable")
    );

    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    world.api::<Deployment>().delete("web", &params).await.unwrap();
    world
        .until("everything is gone", || async {
            world.list::<Deployment>().await.is_empty()
                && world.list::<ReplicaSet>().await.is_empty()
                && world.list::<Pod>().await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_when_nothing_changes() {
    let world = World::start(2).await;
    world.create::<Deployment>(deployment("web", 3, "app:v1")).await;
    available(&world, "web", 3).await;
    // What is still on its way, as an event, may come; then nothing more does.
    let mut before = world.writes();
    for round in 0.. {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = world.writes();
        if after == before {
            break;
        }
        assert!(round < 30, "no rest: {before:?}, then {after:?}");
        before = after;
    }
    // The pods themselves: created, bound; the rest is the kubelet's.
    assert_eq!(before.get("replicaset-controller create pods/"), Some(&3));
    assert_eq!(before.get("kube-scheduler create pods/binding"), Some(&3));
    assert_eq!(before.get("deployment-controller create replicasets/"), Some(&1));
    assert!(
        !before
            .keys()
            .any(|name| name.starts_with("replicaset-controller patch pods")),
        "{before:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_and_orphan_deletion() {
    let world = World::start(1).await;
    for name in ["kept", "lost"] {
        world.create::<Deployment>(deployment(name, 2, "app:v1")).await;
        available(&world, name, 2).await;
    }
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    world.api::<Deployment>().delete("kept", &orphan).await.unwrap();
    world
        .api::<Deployment>()
        .delete("lost", &DeleteParams::background())
        .await
        .unwrap();
    world
        .until("two pods and an orphaned replica set are left", || async {
            let sets = world.list::<ReplicaSet>().await;
            let pods = world.list::<Pod>().await;
            sets.len() == 1 && pods.len() == 2 && sets[0].owner_references().is_empty()
        })
        .await;
    assert!(world.get::<Deployment>("kept").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_get_their_accounts_and_go_with_all_they_hold() {
    let options = Options {
        cluster_ca: Some("pem".into()),
        api_server: Some("127.0.0.1:6443".parse().unwrap()),
        ..Options::default()
    };
    let world = World::start_with(1, options).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "team");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "team");
    world
        .until("the namespace has its account and authority", || async {
            accounts.get_opt("default").await.unwrap().is_some()
                && maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
        })
        .await;
    world
        .until("the kubernetes service exists", || async {
            world.get::<Service>("kubernetes").await.is_some()
        })
        .await;
    let service = world.get::<Service>("kubernetes").await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "team");
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    world
        .until("the namespace is gone", || async {
            namespaces.get_opt("team").await.unwrap().is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_a_fitting_node_says_so_and_runs_when_there_is_one() {
    let world = World::start(1).await;
    let pod = json!({"metadata": {"name": "picky"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]}});
    world.create::<Pod>(pod).await;
    world
        .until("the pod says why it waits", || async {
            let found = world.get::<Pod>("picky").await.unwrap();
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|condition| condition["reason"] == "Unschedulable")
        })
        .await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let label = kube::api::Patch::Merge(json!({"metadata": {"labels": {"disk": "ssd"}}}));
    nodes
        .patch("node-0", &kube::api::PatchParams::default(), &label)
        .await
        .unwrap();
    world
        .until("the pod is bound", || async {
            world.get::<Pod>("picky").await.unwrap()["spec"]["nodeName"] == "node-0"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_tell_what_may_go() {
    let world = World::start(1).await;
    world.create::<Deployment>(deployment("web", 3, "app:v1")).await;
    let budget = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    world.create::<PodDisruptionBudget>(budget).await;
    world
        .until("one disruption is allowed", || async {
            let found = world.get::<PodDisruptionBudget>("web").await.unwrap();
            found["status"]["disruptionsAllowed"] == 1 && found["status"]["expectedPods"] == 3
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_left() {
    let options = Options {
        node_monitor_grace: Duration::from_millis(600),
        node_monitor_period: Duration::from_millis(100),
        ..Options::default()
    };
    let world = World::start_with(1, options).await;
    // It has its place already: nobody is placed on a node that is silent.
    let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "node-0", "containers": [{"name": "c", "image": "i"}], "tolerations": [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]}});
    world.create::<Pod>(pod).await;
    world
        .until("the pod is not ready any more", || async {
            let Some(found) = world.get::<Pod>("a").await else {
                return true;
            };
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["reason"] == "NodeNotReady")
        })
        .await;
    world
        .until("the pod is gone", || async { world.get::<Pod>("a").await.is_none() })
        .await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    world
        .until("the node has both taints", || async {
            let node = nodes.get("node-0").await.unwrap();
            node.spec.unwrap().taints.is_some_and(|taints| taints.len() == 2)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pods() {
    let world = World::start(3).await;
    let started = std::time::Instant::now();
    let mut large = deployment("web", 1000, "app:v1");
    large["spec"]["progressDeadlineSeconds"] = json!(600);
    world.create::<Deployment>(large).await;
    available(&world, "web", 1000).await;
    let writes = world.writes();
    assert_eq!(writes.get("replicaset-controller create pods/"), Some(&1000));
    assert_eq!(writes.get("kube-scheduler create pods/binding"), Some(&1000));
    println!("1000 pods available after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_daemon_sets_and_jobs() {
    let world = World::start(2).await;
    let template = |name: &str, image: &str| json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let mut set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 3, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "i:v1"),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}});
    world.create::<StatefulSet>(set.take()).await;
    let daemon = json!({"metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "i:v1")}});
    world.create::<DaemonSet>(daemon).await;
    let mut job =
        json!({"metadata": {"name": "once"}, "spec": {"completions": 1, "template": template("once", "i:v1")}});
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    job["spec"]["template"]["metadata"]["labels"]["succeeds"] = json!("");
    world.create::<Job>(job).await;
    world
        .until("the first revision serves", || async {
            world.get::<StatefulSet>("db").await.unwrap()["status"]["readyReplicas"] == 3
                && world.get::<DaemonSet>("agent").await.unwrap()["status"]["numberAvailable"] == 2
                && world.get::<Job>("once").await.unwrap()["status"]["succeeded"] == 1
        })
        .await;
    assert!(world.get::<PersistentVolumeClaim>("data-db-2").await.is_some());
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:v2"}]}}}});
    world.patch::<StatefulSet>("db", image.clone()).await;
    world.patch::<DaemonSet>("agent", image).await;
    world
        .until("the second revision serves", || async {
            let set = world.get::<StatefulSet>("db").await.unwrap();
            let daemon = world.get::<DaemonSet>("agent").await.unwrap();
            set["status"]["observedGeneration"] == 2
                && set["status"]["currentRevision"] == set["status"]["updateRevision"]
                && set["status"]["readyReplicas"] == 3
                && daemon["status"]["observedGeneration"] == 2
                && daemon["status"]["updatedNumberScheduled"] == 2
                && daemon["status"]["numberAvailable"] == 2
        })
        .await;
    assert_eq!(world.list::<ControllerRevision>().await.len(), 4);
}

/// Type, reason, message, source and count of the events about the object.
async fn events(world: &World, kind: &str, name: &str) -> Vec<String> {
    let about = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
    let all: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let mut found = all.list(&about).await.unwrap().items;
    found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let line = |event: &Event| {
        let source = event.source.as_ref().and_then(|source| source.component.clone());
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        assert_eq!(event.reporting_component, source);
        assert!(event.first_timestamp.is_some() && event.last_timestamp >= event.first_timestamp);
        assert!(event.involved_object.uid.is_some());
        format!(
            "{} {} {}: {} ({})",
            text(&source),
            text(&event.type_),
            text(&event.reason),
            text(&event.message),
            event.count.unwrap_or(0)
        )
    };
    found.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_told_what_happens() {
    let world = World::start(1).await;
    world.create::<Deployment>(deployment("web", 2, "app:v1")).await;
    available(&world, "web", 2).await;
    let set = world.list::<ReplicaSet>().await.remove(0).name_any();
    let mut pods: Vec<String> = world.list::<Pod>().await.iter().map(ResourceExt::name_any).collect();
    pods.sort();
    world
        .until("everything is told", || async {
            events(&world, "Deployment", "web").await.len() == 1
                && events(&world, "ReplicaSet", &set).await.len() == 2
                && events(&world, "Pod", &pods[1]).await.len() == 1
                && events(&world, "Pod", &pods[0]).await.len() == 1
        })
        .await;
    assert_eq!(
        events(&world, "Deployment", "web").await,
        [format!(
            "deployment-controller Normal ScalingReplicaSet: Scaled up replica set {set} from 0 to 2 (1)"
        )]
    );
    let mut of_set = events(&world, "ReplicaSet", &set).await;
    of_set.sort();
    let created = |pod| format!("replicaset-controller Normal SuccessfulCreate: Created pod: {pod} (1)");
    assert_eq!(of_set, pods.iter().map(created).collect::<Vec<_>>());
    let node = world.list::<Pod>().await.remove(0).spec.unwrap().node_name.unwrap();
    let first = &pods[0];
    assert_eq!(
        events(&world, "Pod", first).await,
        [format!(
            "default-scheduler Normal Scheduled: Successfully assigned default/{first} to {node} (1)"
        )]
    );

    let bad = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 1,
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "app:v1"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}}}}]}});
    world.create::<StatefulSet>(bad).await;
    world
        .until("the pod and its claim are told of", || async {
            events(&world, "StatefulSet", "db").await
                == [
                    "statefulset-controller Normal SuccessfulCreate: create Claim data-db-0 Pod db-0 in StatefulSet db success (1)",
                    "statefulset-controller Normal SuccessfulCreate: create Pod db-0 in StatefulSet db successful (1)",
                ]
        })
        .await;
    world.stop().await;
}
