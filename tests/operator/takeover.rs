//! `afloat takeover` and its `--undo` on Kubernetes' own API server, with objects as OpenKruise leaves them: its CRD, Deployment, Lease,
//! webhook configurations, a CloneSet with its pods. Deployments, and Kruise's manager, are played ([`world`]); the operator is the
//! real one, in a process for each of its pods.
//!
//! All the while somebody writes CloneSets in both versions, and is never refused.

pub(crate) mod itself;
mod world;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kube_apiserver::KubeApiserver;
use crate::process::PATIENCE;
use world::{DEPLOYMENT, SYSTEM, World};

pub(crate) async fn there_and_back() {
    let Some(server) = KubeApiserver::start().await else {
        return;
    };
    let world = World::start(&server).await;
    let before = world.picture().await;
    let plan = world.afloat(&[]).await;
    assert!(plan.0.success(), "{}", plan.1);
    assert_eq!(plan.1.matches("by hand: ").count(), 14, "{}", plan.1);
    assert_eq!(world.picture().await, before, "a dry run changes nothing");
    in_use(&world).await;

    let client = world.client_at_work();
    killed_in_the_middle(&world).await;
    let (status, said) = world.afloat(&["--yes"]).await;
    assert!(status.success(), "{said}\n{}", world.operators_said());
    assert!(said.contains("no pod was replaced, no container restarted"), "{said}");
    taken_over(&world, &before).await;
    let (status, said) = world.afloat(&["--yes"]).await;
    assert!(status.success() && said.contains("nothing to do"), "{said}");

    // What is written under Afloat is there under Kruise as well.
    world
        .patch_set(
            "v1beta1",
            json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}),
        )
        .await;
    let (status, said) = world.afloat(&["--undo", "--yes"]).await;
    assert!(status.success(), "{said}\n{}", world.operators_said());
    let refused = client.stop().await;
    assert_eq!(refused, [""; 0]);
    let set = world.set("v1alpha1").await;
    assert_eq!(set["spec"]["updateStrategy"]["partition"], 1, "{set:#}");
    let conditions = set["status"]["conditions"].as_array();
    let ours = |condition: &Value| condition["type"] == "afloat.dev/Rollout";
    assert!(!conditions.into_iter().flatten().any(ours), "{set:#}");
    world
        .patch_set("v1alpha1", json!({"spec": {"updateStrategy": {"partition": 0}}}))
        .await;
    assert_eq!(world.picture().await, before, "everything is as it was");
    let (status, said) = world.afloat(&["--undo", "--yes"]).await;
    assert!(status.success() && said.contains("Nothing to undo"), "{said}");
}

/// A kind that only Kruise does is in the way, unless it is named.
async fn in_use(world: &World) {
    world.add_sidecar_set().await;
    let (status, said) = world.afloat(&["--yes"]).await;
    assert!(!status.success() && said.contains("--despite SidecarSet"), "{said}");
    let (status, said) = world.afloat(&["--despite", "SidecarSet"]).await;
    assert!(status.success(), "{said}");
    world.remove_sidecar_set().await;
}

/// A takeover that is killed once Kruise's manager is on hold.
async fn killed_in_the_middle(world: &World) {
    let mut running = world.takeover(&["--yes"]);
    let deadline = Instant::now() + PATIENCE;
    while !world.on_hold().await {
        assert!(
            Instant::now() < deadline && running.ended().is_none(),
            "{}",
            running.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop("KILL");
}

async fn taken_over(world: &World, before: &Value) {
    let now = world.picture().await;
    for unchanged in ["pods", "revisions"] {
        assert_eq!(now[unchanged], before[unchanged]);
    }
    let crd = world.crd().await;
    assert_eq!(crd["status"]["storedVersions"], json!(["v1beta1"]));
    assert_eq!(now["webhooks"], json!([null, null]));
    assert_eq!(world.deployment(SYSTEM, DEPLOYMENT).await["spec"]["replicas"], 0);
    assert!(
        world.holder().await.starts_with("afloat-operator-"),
        "{}",
        world.holder().await
    );
    let (old, new) = (world.set("v1alpha1").await, world.set("v1beta1").await);
    assert_eq!(old["spec"]["updateStrategy"]["maxUnavailable"], 1);
    assert_eq!(new["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
}
