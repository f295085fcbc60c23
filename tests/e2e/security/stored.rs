//! A store full of objects that are none of their kind, as an older version stored them: it starts, and its NodePorts answer.

use std::path::Path;

use afloat_machinery::kinds::Registry;
use afloat_store::{Expect, Store};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until};
use crate::load;
use crate::network::{build_images, container, ready, waiting};

/// Where the store says how closely its objects were read: without it they are mended at the next start.
const READ_AS: &str = "/afloat/read-as";

/// The parts of objects that clients of theirs read, each as a text or a number.
fn wrong() -> [Value; 5] {
    [
        json!({"metadata": {"ownerReferences": "x"}}),
        json!({"metadata": {"labels": {"a": 5}}, "spec": "x", "status": "x"}),
        json!({"spec": {"taints": "x", "ports": "x", "template": 5, "containers": [5]}, "status": {"conditions": "x"}}),
        json!({"endpoints": "x", "data": "x", "rules": "x", "webhooks": 5, "subsets": {}}),
        json!({"metadata": {"creationTimestamp": "soon", "finalizers": 5, "generation": "x"}, "spec": {"nodeName": 5}}),
    ]
}

/// Writes such objects of every built-in kind. `round`: tells those of one call from those of another.
fn plant(file: &Path, round: usize, forget: bool) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(file).expect("the cluster has ended");
        let mut planted = 0;
        let registry = Registry::builtin();
        for resource in registry.all().filter(|r| r.is_stored() && r.group != "events.k8s.io") {
            let group = if resource.group.is_empty() {
                "core"
            } else {
                &resource.group
            };
            let space = if resource.namespaced { "default/" } else { "" };
            for (n, mut object) in wrong().into_iter().enumerate() {
                let name = format!("bad-{round}-{n}");
                object["apiVersion"] = resource.api_version().into();
                object["kind"] = resource.kind.as_str().into();
                object["metadata"]["name"] = name.as_str().into();
                object["metadata"]["uid"] = format!("{}-{name}", resource.plural).into();
                if resource.namespaced {
                    object["metadata"]["namespace"] = "default".into();
                }
                let stamp = Box::new(move |revision: u64| {
                    object["metadata"]["resourceVersion"] = revision.to_string().into();
                    Bytes::from(object.to_string())
                });
                let key = format!("/{group}/{}/{space}{name}", resource.plural);
                store.put(&key, Expect::Absent, stamp).await.expect("a write");
                planted += 1;
            }
        }
        if let Some(read) = store.get(READ_AS).filter(|_| forget) {
            let anew = Box::new(|_| Bytes::from_static(b"0"));
            store
                .put(READ_AS, Expect::Revision(read.revision), anew)
                .await
                .expect("a write");
        }
        store.close().await;
        planted
    })
}

#[test]
fn a_store_full_of_malformed_objects_starts_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let Some(cluster) = Cluster::boot_in(&dir, 2, &[]) else {
        return;
    };
    if !build_images(&cluster) {
        return;
    }
    let pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "web", "image": "web:v1", "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": pod}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    cluster.apply(&deployment.to_string());
    cluster.apply(&service.to_string());
    let served = |cluster: &Cluster| {
        cluster.wait("its pods", &["deployment", "web"], |one| {
            one["status"]["readyReplicas"] == 2
        });
        let service = cluster.get(&["service", "web"]).expect("a service");
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
        let port = u16::try_from(port).expect("a port");
        wait_until("the NodePort", || load::request(port));
    };
    served(&cluster);
    let mut last = cluster;
    // Once as they are, and once so that the server mends them first.
    for (round, forget) in [(0, false), (1, true)] {
        last.stop("TERM");
        assert!(plant(&dir.join("store.redb"), round, forget) > 200);
        let cluster = Cluster::boot_in(&dir, 2, &[]).expect("it booted before");
        served(&cluster);
        // What is made now goes its way, too: every controller that it needs reads its lists.
        let name = format!("new-{round}");
        cluster.apply(&waiting(&name, &json!({"containers": [container("main")]})).to_string());
        cluster.wait("a new pod", &["pod", &name], ready);
        cluster.kubectl(&["scale", "deployment/web", "--replicas=1"]);
        cluster.wait("one pod", &["deployment", "web"], |one| one["status"]["replicas"] == 1);
        cluster.kubectl(&["scale", "deployment/web", "--replicas=2"]);
        served(&cluster);
        last = cluster;
    }
}
