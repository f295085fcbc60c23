//! What stands behind two versions: the webhook's keys, and in which version objects are stored. For cases that have the ground for
//! themselves.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::case::{Case, NAME, cloneset};
use crate::process::PATIENCE;

const DEFINITION: &str = "clonesets.apps.kruise.io";

pub(super) async fn keys_and_stored_versions_are_kept(case: &Case) {
    if !case.ground.converts() {
        return;
    }
    case.create(&cloneset(0)).await;
    let client = case.ground.client.clone();
    let resource = |group: &str, kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let definitions: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &resource("apiextensions.k8s.io", "CustomResourceDefinition"),
    );
    let secrets: Api<DynamicObject> = Api::namespaced_with(client, "kruise-system", &resource("", "Secret"));
    let change = async |patch: Value| {
        let changed = definitions
            .patch(DEFINITION, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        changed.expect("a definition");
    };
    let alpha = case.api("apps.kruise.io", "v1alpha1", "CloneSet");

    // Keys that somebody has spoilt are made anew, and the API server is told.
    let spoilt = json!({"data": {"tls.key": "eA==", "ca.key": "eA=="}});
    secrets
        .patch("afloat-webhook-certs", &PatchParams::default(), &Patch::Merge(&spoilt))
        .await
        .expect("a secret");
    change(json!({"metadata": {"labels": {"look": "again"}}})).await;
    until("new keys", async || {
        let secret = secrets.get("afloat-webhook-certs").await.expect("the secret");
        secret.data["data"]["tls.key"] != "eA==" && alpha.get(NAME).await.is_ok()
    })
    .await;

    // Objects follow the storage version, in both directions, and change nothing but their form.
    let before = case.set().await;
    for storage in ["v1alpha1", "v1beta1"] {
        let mut versions = definitions.get(DEFINITION).await.expect("the definition").data["spec"]["versions"].clone();
        for version in versions.as_array_mut().expect("versions") {
            version["storage"] = (version["name"] == storage).into();
        }
        change(json!({"spec": {"versions": versions}})).await;
        until(storage, async || {
            let now = definitions.get(DEFINITION).await.expect("the definition");
            now.data["status"]["storedVersions"] == json!([storage])
        })
        .await;
        let now = case.set().await;
        assert_eq!(
            (&now["spec"], &now["metadata"]["generation"]),
            (&before["spec"], &before["metadata"]["generation"])
        );
    }
}

async fn until(what: &str, mut wish: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wish().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
