//! An API server in this process, all loops, and nodes whose pods run as soon as they are bound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afloat_apiserver::ApiServer;
use afloat_store::Store;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The contents of volumes: only what was deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks(pub(crate) Arc<Mutex<Vec<String>>>);

impl afloat_controllers::LocalVolumes for Disks {
    fn path(&self, node: &str, volume: &str) -> PathBuf {
        Path::new("/disks").join(node).join(volume)
    }

    fn remove(&self, node: &str, volume: &str) -> std::io::Result<()> {
        self.0.lock().unwrap().push(format!("{node}/{volume}"));
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) loops: tokio::task::JoinHandle<()>,
    pub(crate) shutdown: CancellationToken,
    _guard: DropGuard,
}

impl World {
    pub(crate) async fn start(nodes: usize) -> Self {
        let options = afloat_controllers::Options {
            local_volumes: Some(Arc::new(Disks::default())),
            ..afloat_controllers::Options::default()
        };
        Self::start_with(nodes, options).await
    }

    pub(crate) async fn start_with(nodes: usize, options: afloat_controllers::Options) -> Self {
        let server = ApiServer::new(Store::memory(), crate::identity::server_options())
            .await
            .unwrap();
        let client = server.client("test");
        let shutdown = CancellationToken::new();
        for at in 0..nodes {
            let name = format!("node-{at}");
            let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
            let api: Api<Node> = Api::all(client.clone());
            api.create(&PostParams::default(), &serde_json::from_value(node).unwrap())
                .await
                .unwrap();
            let status = json!({"status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "2000"},
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
            api.patch_status(&format!("node-{at}"), &PatchParams::default(), &Patch::Merge(status))
                .await
                .unwrap();
        }
        let (clients, stop) = (server.clone(), shutdown.clone());
        let loops = tokio::spawn(async move {
            afloat_controllers::run(|name| clients.client_as(crate::identity::user(name)), options, stop)
                .await
                .unwrap();
        });
        tokio::spawn(kubelet(server.client("kubelet"), shutdown.clone()));
        Self {
            server,
            client,
            loops,
            _guard: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    pub(crate) fn api<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::erase::<K>(&()))
    }

    pub(crate) async fn create<K: Resource<DynamicType = ()>>(&self, mut object: Value) -> DynamicObject {
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        let object = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn patch<K: Resource<DynamicType = ()>>(&self, name: &str, patch: Value) {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub(crate) async fn get<K: Resource<DynamicType = ()>>(&self, name: &str) -> Option<Value> {
        let found = self.api::<K>().get_opt(name).await.unwrap();
        found.map(|found| serde_json::to_value(found).unwrap())
    }

    pub(crate) async fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        Api::<K>::namespaced(self.client.clone(), "default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    /// Waits until `done`, at most two minutes: the machine may have much else to do.
    pub(crate) async fn until<Fut: Future<Output = bool>>(&self, what: &str, done: impl Fn() -> Fut) {
        let started = Instant::now();
        while !done().await {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "waited too long until {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops all loops.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.loops)
            .await
            .expect("all loops end")
            .unwrap();
    }

    /// Accepted writes by user and verb and resource.
    pub(crate) fn writes(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for count in self.server.writes() {
            // Of a service account the name is enough.
            let user = count.user.rsplit(':').next().unwrap_or_default();
            let name = format!("{user} {} {}/{}", count.verb, count.resource, count.subresource);
            *sums.entry(name).or_default() += count.count;
        }
        sums
    }
}

/// A kubelet without containers: bound pods run and are ready; deleted pods end.
async fn kubelet(client: Client, shutdown: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let events = watcher(pods, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let work = events.for_each_concurrent(32, |pod| {
        let client = client.clone();
        async move {
            if let Ok(pod) = pod {
                play(client, pod).await;
            }
        }
    });
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn play(client: Client, pod: Pod) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let running = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| phase != "Pending");
    if pod.metadata.deletion_timestamp.is_some() {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        let _ = api.delete(&pod.name_any(), &params).await;
    } else if bound && !running {
        let ends = [("succeeds", "Succeeded", 0), ("fails", "Failed", 42)];
        let end = ends.into_iter().find(|(label, ..)| pod.labels().contains_key(*label));
        let mut status = json!({"phase": end.map_or("Running", |(_, phase, _)| phase), "podIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        if let Some((_, _, code)) = end {
            let state = json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}});
            status["containerStatuses"] =
                json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
        }
        let status = json!({ "status": status });
        let _ = api
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status))
            .await;
    }
}

pub(crate) fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}
