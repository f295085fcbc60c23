//! The same with Kruise itself, where `AFLOAT_KRUISE` names a folder with its manager (`bin/kruise-manager`) and with what it installs
//! (`kruise/install.yaml`): pods that Kruise made are Afloat's and then Kruise's again, through applies of unchanged manifests in
//! both versions, new images and other scales, and nothing restarts that was not asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use afloat_sim::Fleet;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::world::{World, api};
use crate::kube_apiserver::KubeApiserver;
use crate::process::PATIENCE;

pub(crate) async fn there_and_back() {
    let Some(folder) = std::env::var_os("AFLOAT_KRUISE").map(PathBuf::from) else {
        eprintln!("skipped: AFLOAT_KRUISE names no folder with Kruise's manager");
        return;
    };
    let Some(server) = KubeApiserver::start().await else {
        return;
    };
    let install = std::fs::read_to_string(folder.join("kruise/install.yaml")).expect("what Kruise installs");
    let world = World::start_kruise(&server, folder.join("bin/kruise-manager"), &install).await;
    let options = afloat_sim::Options {
        nodes: 2,
        start: Duration::from_millis(200),
        stop: Duration::from_millis(50),
        namespace: Some("default".to_owned()),
        ..afloat_sim::Options::default()
    };
    let fleet = Fleet::start(world.client.clone(), options).await.expect("nodes");
    for image in ["app:1", "app:2", "app:3"] {
        fleet.images().alias(image, image);
    }
    let story = Story { world, fleet };

    story.apply(&manifest("v1alpha1", 3, "app:1")).await;
    let made = story.settled("app:1", 3, &[0, 0, 0]).await;
    story.switch(&["--yes"]).await;
    story.same("after the takeover", &made).await;
    for version in ["v1alpha1", "v1beta1", "v1alpha1"] {
        story.apply(&manifest(version, 3, "app:1")).await;
        story.same(&format!("applied again as {version}"), &made).await;
    }
    story.apply(&manifest("v1beta1", 3, "app:2")).await;
    let updated = story.settled("app:2", 3, &[1, 1, 1]).await;
    assert!(updated.keys().eq(made.keys()), "in place: {made:?} {updated:?}");
    story.apply(&manifest("v1alpha1", 4, "app:2")).await;
    let scaled = story.settled("app:2", 4, &[0, 1, 1, 1]).await;

    story.switch(&["--undo", "--yes"]).await;
    story.same("given back", &scaled).await;
    story.apply(&manifest("v1alpha1", 4, "app:2")).await;
    story.same("applied again under Kruise", &scaled).await;
    story.apply(&manifest("v1alpha1", 4, "app:3")).await;
    let last = story.settled("app:3", 4, &[1, 2, 2, 2]).await;
    assert!(last.keys().eq(scaled.keys()), "in place: {scaled:?} {last:?}");
}

/// As people write it: nothing that has a default.
fn manifest(version: &str, replicas: u32, image: &str) -> Value {
    let in_place = "InPlaceIfPossible";
    let strategy = if version == "v1alpha1" {
        json!({"type": in_place, "maxUnavailable": 2})
    } else {
        json!({"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": in_place, "maxUnavailable": 2}})
    };
    json!({
        "apiVersion": format!("apps.kruise.io/{version}"), "kind": "CloneSet",
        "metadata": {"namespace": "default", "name": "shop", "labels": {"app": "shop"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "shop"}}, "updateStrategy": strategy,
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "app", "image": image, "ports": [{"containerPort": 8080}]}]},
            },
        },
    })
}

/// Restarts by uid.
type Pods = BTreeMap<String, i64>;

struct Story {
    world: World,
    fleet: Fleet,
}

impl Story {
    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let version = match kind {
            "Pod" => "v1",
            "ControllerRevision" => "apps/v1",
            _ => "apps.kruise.io/v1alpha1",
        };
        api(&self.world.client, version, kind, Some("default"))
    }

    async fn apply(&self, manifest: &Value) {
        let version = manifest["apiVersion"].as_str().expect("an apiVersion");
        let sets = api(&self.world.client, version, "CloneSet", Some("default"));
        let object = serde_json::from_value(manifest.clone()).expect("an object");
        let deadline = Instant::now() + PATIENCE;
        // kubectl apply of a manifest changes what it says and leaves the rest: so does a merge, lists included.
        loop {
            let done = match sets.get_opt("shop").await.expect("an answer") {
                None => sets.create(&PostParams::default(), &object).await,
                Some(_) => {
                    sets.patch("shop", &PatchParams::default(), &Patch::Merge(manifest))
                        .await
                }
            };
            match done {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn pods(&self) -> Vec<Value> {
        let pods = self
            .api("Pod")
            .list(&ListParams::default().labels("app=shop"))
            .await
            .expect("a list");
        pods.into_iter()
            .map(|pod| serde_json::to_value(pod).expect("JSON"))
            .collect()
    }

    async fn counted(&self) -> Pods {
        let count = |pod: &Value| {
            let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
            (
                uid,
                pod["status"]["containerStatuses"][0]["restartCount"]
                    .as_i64()
                    .unwrap_or(0),
            )
        };
        self.pods().await.iter().map(count).collect()
    }

    /// Waits until whoever leads has seen the CloneSet and is done with it; its pods run the image and have restarted so often.
    async fn settled(&self, image: &str, replicas: usize, restarts: &[i64]) -> Pods {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (set, pods) = (self.set().await, self.pods().await);
            let ready = |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array();
                let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
                pod["spec"]["containers"][0]["image"] == image && conditions.into_iter().flatten().any(ready)
            };
            let status = |field: &str| set["status"][field].as_u64() == Some(replicas as u64);
            let seen = set["status"]["observedGeneration"] == set["metadata"]["generation"];
            if seen
                && status("updatedReadyReplicas")
                && status("replicas")
                && pods.len() == replicas
                && pods.iter().all(ready)
            {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{set:#}\n{pods:#?}\n{}",
                self.world.operators_said()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let pods = self.counted().await;
        let mut counts: Vec<_> = pods.values().copied().collect();
        counts.sort_unstable();
        assert_eq!(counts, restarts, "restarts with {image}");
        pods
    }

    async fn set(&self) -> Value {
        serde_json::to_value(self.api("CloneSet").get("shop").await.expect("the CloneSet")).expect("JSON")
    }

    /// Waits until whoever leads has seen the CloneSet, and looks at what it has done.
    async fn same(&self, when: &str, pods: &Pods) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let set = self.set().await;
            if set["status"]["observedGeneration"] == set["metadata"]["generation"] {
                break;
            }
            assert!(Instant::now() < deadline, "{when}: {set:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(&self.counted().await, pods, "{when}");
        let revisions = self
            .api("ControllerRevision")
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        eprintln!(
            "{when}: {} pods as they were, {} revisions",
            pods.len(),
            revisions.len()
        );
    }

    async fn switch(&self, arguments: &[&str]) {
        let started = Instant::now();
        let (status, said) = self.world.afloat(arguments).await;
        eprintln!(
            "{said}{:.1} s, {} nodes",
            started.elapsed().as_secs_f64(),
            self.fleet.nodes().len()
        );
        assert!(status.success(), "{said}\n{}", self.world.operators_said());
    }
}
