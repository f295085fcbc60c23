//! `afloat crds` over the definitions of OpenKruise, and back, on Kubernetes' own API server with kubectl. OpenKruise 1.8 and 1.9 have
//! CloneSet in v1alpha1 alone, without a conversion webhook; its main line patches one in, as it does for the other kinds.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::ground::{create, kubeconfig_of};
use crate::kube_apiserver::{KubeApiserver, client};
use crate::operator::AFLOAT;
use crate::ports::free_port;
use crate::process::{PATIENCE, Process};

const NAME: &str = "clonesets.apps.kruise.io";
/// What docs/operator.md says to do before a server-side apply of one version.
const UNCONVERTED: &str = r#"[{"op": "add", "path": "/spec/conversion", "value": {"strategy": "None"}}]"#;
const RIGHTS: &str = include_str!("../../operator/manager/rbac.yaml");

/// What OpenKruise's chart has of CloneSet, as far as it matters here.
fn kruise(patched: bool) -> Value {
    let version = json!({"name": "v1alpha1", "served": true, "storage": true,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.labelSelector"}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "annotations": {"controller-gen.kubebuilder.io/version": "v0.16.5"}},
        "spec": {"group": "apps.kruise.io", "scope": "Namespaced", "versions": [version],
            "names": {"kind": "CloneSet", "listKind": "CloneSetList", "plural": "clonesets", "singular": "cloneset", "shortNames": ["clone"]}},
    });
    if patched {
        let service = json!({"namespace": "kruise-system", "name": "kruise-webhook-service", "path": "/convert"});
        definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"service": service}, "conversionReviewVersions": ["v1", "v1beta1"]}});
    }
    definition
}

fn set() -> Value {
    json!({
        "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "InPlaceIfPossible", "partition": 3, "maxUnavailable": 2, "maxSurge": 0},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}},
        },
    })
}

/// The API server, an administrator's kubeconfig and the operator's.
struct Stage {
    server: KubeApiserver,
    client: Client,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Option<Self> {
        let server = KubeApiserver::start().await?;
        let client = client(&server.kubeconfig()).await.expect("a client");
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("admin"), server.kubeconfig()).expect("a file");
        for document in RIGHTS.split("---\n") {
            let object: Value = serde_saphyr::from_str(document).expect("YAML");
            if object.is_object() {
                create(&client, object).await;
            }
        }
        let own = kubeconfig_of(&client, &server.kubeconfig(), "kruise-system", "afloat-operator").await;
        std::fs::write(dir.path().join("operator"), own).expect("a file");
        Some(Self { server, client, dir })
    }

    fn kubectl(&self, arguments: &[&str], input: &str) {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.dir.path().join("admin"))
            .args(arguments);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("kubectl starts");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(input.as_bytes())
            .expect("input");
        let output = child.wait_with_output().expect("kubectl ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    }

    fn operator(&self, arguments: &[&str]) -> Process {
        let kubeconfig = self.dir.path().join("operator").display().to_string();
        let arguments = [&["operator", "--kubeconfig", &kubeconfig], arguments].concat();
        Process::start(Path::new(AFLOAT), arguments, self.dir.path().join("log"))
    }

    async fn definition(&self) -> Value {
        let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&gvk));
        let found = api.get_opt(NAME).await.expect("an answer");
        found.map_or(Value::Null, |found| serde_json::to_value(found).expect("JSON"))
    }

    async fn set(&self, version: &str) -> kube::Result<Value> {
        let gvk = GroupVersionKind::gvk("apps.kruise.io", version, "CloneSet");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk(&gvk));
        api.get("web")
            .await
            .map(|found| serde_json::to_value(found).expect("JSON"))
    }

    async fn until(&self, what: &str, process: &mut Process, wish: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.definition().await;
            if wish(&now) {
                return now;
            }
            let ended = process.ended();
            assert!(
                Instant::now() < deadline && ended.is_none(),
                "no {what} in {}: {}",
                now["status"],
                process.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes the kind anew as OpenKruise has it.
    async fn begin(&self, patched: bool) {
        self.kubectl(&["delete", "crd", NAME, "--ignore-not-found"], "");
        self.kubectl(&["create", "-f", "-"], &kruise(patched).to_string());
        self.kubectl(
            &["wait", "--for=condition=Established", "crd", NAME, "--timeout=120s"],
            "",
        );
    }
}

fn crds(arguments: &[&str]) -> String {
    let output = Command::new(AFLOAT)
        .arg("crds")
        .args(arguments)
        .output()
        .expect("afloat starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("YAML is text")
}

pub(crate) async fn can_be_replaced() {
    let Some(stage) = Stage::new().await else { return };
    for patched in [false, true] {
        for way in [
            &["apply", "-f", "-"][..],
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        ] {
            for mode in [
                &[][..],
                &["--serve", "v1beta1"],
                &["--webhook-url", "https://192.0.2.1:9443/convert"],
            ] {
                stage.begin(patched).await;
                // The second time nothing is left of the first.
                for again in [mode, &[], mode] {
                    if again.contains(&"--webhook-url") != mode.contains(&"--webhook-url") {
                        continue;
                    }
                    // On the server's side a field that somebody set cannot be taken away by a null.
                    if way.contains(&"--server-side") && !mode.is_empty() {
                        stage.kubectl(&["patch", "crd", NAME, "--type=json", "-p", UNCONVERTED], "");
                    }
                    stage.kubectl(way, &crds(again));
                }
                let conversion = stage.definition().await["spec"]["conversion"].clone();
                let config = &conversion["webhook"]["clientConfig"];
                match mode {
                    [] => assert_eq!(config["service"]["name"], "afloat-webhook", "{conversion}"),
                    ["--serve", _] => assert_eq!(conversion, json!({"strategy": "None"})),
                    _ => assert_eq!(
                        (&config["service"], config["url"].is_string()),
                        (&Value::Null, true),
                        "{conversion}"
                    ),
                }
            }
        }
    }
    there_and_back(&stage).await;
    unread_objects_are_not_touched(&stage).await;
    drop(stage.server);
}

/// From what OpenKruise stored to what we store, to v1beta1 alone, and back.
async fn there_and_back(stage: &Stage) {
    stage.begin(false).await;
    create(&stage.client, set()).await;
    let before = stage.set("v1alpha1").await.expect("the set");
    let port = free_port().to_string();
    let url = format!("https://127.0.0.1:{port}/convert");
    let door = ["--webhook-url", &url];
    stage.kubectl(&["apply", "-f", "-"], &crds(&door));
    let mut operator = stage.operator(&[&door[..], &["--webhook-port", &port]].concat());
    let stored = |version: &'static str| move |now: &Value| now["status"]["storedVersions"] == json!([version]);
    stage.until("v1beta1", &mut operator, stored("v1beta1")).await;
    let beta = stage.set("v1beta1").await.expect("the set");
    let rolling = &beta["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(
        (&rolling["partition"], &rolling["podUpdatePolicy"]),
        (&json!(3), &json!("InPlaceIfPossible"))
    );
    assert_eq!(
        beta["spec"]["scaleStrategy"]["enablePVCReuse"], true,
        "the default of v1alpha1"
    );
    let alpha = stage.set("v1alpha1").await.expect("the set");
    let strategy = |set: &Value| {
        let mut strategy = set["spec"]["updateStrategy"].clone();
        strategy
            .as_object_mut()
            .expect("an object")
            .remove("inPlaceUpdateStrategy");
        strategy
    };
    assert_eq!(strategy(&alpha), strategy(&before));
    assert_eq!(alpha["metadata"]["generation"], before["metadata"]["generation"]);

    stage.kubectl(&["apply", "-f", "-"], &crds(&["--serve", "v1beta1"]));
    let patient = Instant::now() + PATIENCE;
    while stage.set("v1alpha1").await.is_ok() {
        assert!(Instant::now() < patient, "v1alpha1 is served");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stage.set("v1beta1").await.expect("the set")["spec"], beta["spec"]);

    stage.kubectl(
        &["apply", "-f", "-"],
        &crds(&[&door[..], &["--store", "v1alpha1"]].concat()),
    );
    let now = stage.until("v1alpha1", &mut operator, stored("v1alpha1")).await;
    let mut back = kruise(false);
    back["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
    operator.stop("TERM");
    stage.kubectl(&["replace", "-f", "-"], &back.to_string());
    let after = stage.set("v1alpha1").await.expect("the set");
    assert_eq!(strategy(&after), strategy(&before));
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
}

/// Where nobody converts what OpenKruise stored, the operator does nothing and says what to do.
async fn unread_objects_are_not_touched(stage: &Stage) {
    stage.begin(false).await;
    create(&stage.client, set()).await;
    stage.kubectl(&["apply", "-f", "-"], &crds(&["--serve", "v1beta1"]));
    let mut operator = stage.operator(&["--serve", "v1beta1"]);
    let deadline = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = operator.ended() {
            break status.code();
        }
        assert!(Instant::now() < deadline, "goes on: {}", operator.log());
        sleep(Duration::from_millis(50)).await;
    };
    assert_ne!(code, Some(0));
    assert!(
        operator.log().contains("may be stored as v1alpha1"),
        "{}",
        operator.log()
    );
    assert_eq!(
        stage.definition().await["status"]["storedVersions"],
        json!(["v1alpha1", "v1beta1"])
    );
}
