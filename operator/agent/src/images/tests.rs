//! The worker with a real API server and a runtime without processes.

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::PostParams;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fake::{FakeRuntime, Pulling};
use crate::runtime::{LocalImage, PullError};

const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    client: Client,
    runtime: Arc<FakeRuntime>,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    async fn new(tags: Value) -> Self {
        let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
        let client = server.client("test");
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in afloat_api::crds(&afloat_api::Serving::default()) {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        let stage = Self {
            client,
            runtime: Arc::default(),
            stop: CancellationToken::new(),
        };
        stage.create("n", json!({})).await;
        // Of another node, and none of our business.
        stage.create("other", json!({"web": {"tags": [{"tag": "9"}]}})).await;
        stage.want(json!({"web": {"tags": tags}})).await;
        stage
    }

    fn api(&self) -> Api<kube::api::DynamicObject> {
        let gvk = kube::api::GroupVersionKind::gvk("apps.kruise.io", "v1beta1", "NodeImage");
        Api::all_with(self.client.clone(), &kube::api::ApiResource::from_gvk(&gvk))
    }

    async fn create(&self, name: &str, images: Value) {
        let object = json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "NodeImage", "metadata": {"name": name},
            "spec": {"images": images}});
        let object = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap();
    }

    async fn want(&self, images: Value) {
        let spec = json!({"spec": {"images": images}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&spec));
        self.api().patch("n", &params, &patch).await.unwrap();
    }

    fn run(&self) -> CancellationToken {
        let stop = self.stop.child_token();
        let node = Node::new(self.client.clone(), "n", self.runtime.clone(), stop.clone());
        tokio::spawn(async move { run(&node).await });
        stop
    }

    async fn until(&self, what: &str, pass: impl Fn(&NodeImage) -> bool) -> NodeImage {
        let api: Api<NodeImage> = Api::all(self.client.clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object = api.get("n").await.unwrap();
            if pass(&object) {
                return object;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:#?}",
                object.status
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn image(tag: &str) -> LocalImage {
    LocalImage {
        id: format!("sha256:{}", "a".repeat(64)),
        names: vec![format!("docker.io/library/web:{tag}")],
        digests: vec![format!("docker.io/library/web@sha256:{}", "b".repeat(64))],
        size_bytes: 100,
    }
}

fn is(object: &NodeImage, tag: &str, phase: PullPhase) -> bool {
    object.status.of("web", tag).is_some_and(|status| status.phase == phase)
}

#[tokio::test]
async fn what_is_asked_for_is_pulled_and_told_with_its_digest() {
    let stage = Stage::new(json!([{"tag": "1"}, {"tag": "2"}])).await;
    let told = Arc::new(Notify::new());
    let waits = Pulling::Waits(told.clone(), Box::new(Pulling::Brings(image("1"))));
    stage.runtime.pulls("web:1", [waits]);
    stage
        .runtime
        .pulls("web:2", [Pulling::Fails(PullError::InvalidName("no such name".into()))]);
    stage.run();
    let object = stage
        .until("the failure", |object| {
            is(object, "2", PullPhase::Failed) && is(object, "1", PullPhase::Pulling)
        })
        .await;
    assert_eq!(
        [object.status.desired, object.status.pulling, object.status.failed],
        [2, 1, 1]
    );
    assert_eq!(object.status.of("web", "2").unwrap().message, "no such name");
    told.notify_one();
    let object = stage
        .until("the image", |object| is(object, "1", PullPhase::Succeeded))
        .await;
    let status = object.status.of("web", "1").unwrap();
    assert_eq!(status.image_id, format!("web@sha256:{}", "a".repeat(64)));
    assert_eq!(status.digest, format!("sha256:{}", "b".repeat(64)));
    assert_eq!(object.status.first_sync_status.unwrap().status, "Failed");
    assert_eq!(stage.runtime.journal(), ["pull web:1", "pull web:2"]);
}

#[tokio::test]
async fn a_registry_that_is_away_for_a_while_is_tried_again() {
    let stage = Stage::new(json!([{"tag": "1", "imagePullPolicy": "IfNotPresent"}])).await;
    // Twice: it is told no more often than every second, and the second wait is longer.
    let away = || Pulling::Fails(PullError::Unavailable("connection refused".into()));
    stage
        .runtime
        .pulls("web:1", [away(), away(), Pulling::Brings(image("1"))]);
    stage.run();
    stage
        .until("what it waits for", |object| {
            let status = object.status.of("web", "1");
            status.is_some_and(|status| status.message == "trying again: connection refused")
        })
        .await;
    stage
        .until("the image", |object| is(object, "1", PullPhase::Succeeded))
        .await;
    // It is there: whoever asks again is answered without the registry.
    stage
        .want(json!({"web": {"tags": [{"tag": "1", "imagePullPolicy": "IfNotPresent", "version": 1}]}}))
        .await;
    stage
        .until("the next answer", |object| {
            object
                .progress("web", "1", 1)
                .is_some_and(|status| status.phase.ended())
        })
        .await;
    assert_eq!(stage.runtime.journal(), ["pull web:1"; 3]);
}

#[tokio::test]
async fn an_agent_that_begins_anew_goes_on_with_what_has_no_end() {
    let stage = Stage::new(json!([{"tag": "1"}, {"tag": "2"}])).await;
    stage.runtime.pulls("web:1", [Pulling::Brings(image("1"))]);
    let never = Pulling::Waits(Arc::new(Notify::new()), Box::new(Pulling::Brings(image("2"))));
    stage.runtime.pulls("web:2", [never, Pulling::Brings(image("2"))]);
    let first = stage.run();
    stage
        .until("the first image", |object| {
            is(object, "1", PullPhase::Succeeded) && is(object, "2", PullPhase::Pulling)
        })
        .await;
    first.cancel();
    stage.run();
    stage
        .until("the second image", |object| is(object, "2", PullPhase::Succeeded))
        .await;
    assert_eq!(stage.runtime.journal(), ["pull web:1", "pull web:2", "pull web:2"]);
}
