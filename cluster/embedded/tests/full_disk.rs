//! A control plane whose disk is full, on a small file system of memory in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use afloat_cluster::{ControlPlane, ControlPlaneOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

const DIR: &str = "AFLOAT_TEST_SMALL_DISK";

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=12m small \"$AFLOAT_TEST_SMALL_DISK\" && exec \"$0\" --exact on_a_small_disk --ignored --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

async fn start(dir: &Path) -> ControlPlane {
    let options = ControlPlaneOptions {
        data_dir: Some(dir.to_owned()),
        controllers: false,
    };
    ControlPlane::start(options).await.unwrap()
}

async fn readiness(client: &Client) -> Result<String, String> {
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    client.request_text(request).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_full_disk_refuses_writes_until_there_is_room"]
async fn on_a_small_disk() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 6 << 20]).unwrap();
    let cluster = start(dir).await;
    let client = cluster.client("test");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = |number: usize| -> ConfigMap {
        let object = json!({"metadata": {"name": format!("m{number}")}, "data": {"text": "x".repeat(200_000)}});
        serde_json::from_value(object).unwrap()
    };
    let mut written = 0;
    let told = loop {
        match maps.create(&PostParams::default(), &map(written)).await {
            Ok(_) => written += 1,
            Err(error) => break error.to_string(),
        }
        assert!(written < 200, "the disk is never full");
    };
    assert!(told.contains("the disk of the store is full"), "{told}");
    let why = readiness(&client).await.unwrap_err();
    assert!(why.contains("the disk of the store is full"), "{why}");
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        written,
        "reading goes on"
    );
    std::fs::remove_file(&ballast).unwrap();
    let limit = Instant::now() + Duration::from_secs(120);
    while let Err(why) = readiness(&client).await {
        assert!(Instant::now() < limit, "never ready again: {why}");
        tokio::task::yield_now().await;
    }
    maps.create(&PostParams::default(), &map(1000)).await.unwrap();
    let before = maps.list(&ListParams::default()).await.unwrap();
    cluster.stop().await;
    let cluster = start(dir).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client("test"));
    let after = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(after.items, before.items);
    cluster.stop().await;
}
