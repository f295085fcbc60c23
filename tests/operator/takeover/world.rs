//! A cluster as OpenKruise leaves it.

mod player;
mod webhook;

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::ground::create;
use crate::kube_apiserver::{KubeApiserver, client};
use crate::operator::AFLOAT;
use crate::process::Process;
use player::Player;
use webhook::Webhook;

/// Namespace of Kruise's manager.
pub(super) const SYSTEM: &str = "kruise-system";
/// Its Deployment.
pub(super) const DEPLOYMENT: &str = "kruise-controller-manager";
/// A CloneSet at rest, stored through v1alpha1.
const REST: &str = include_str!("../../../operator/manager/tests/takeover/fixtures/alpha.json");
/// Kruise's webhook configurations.
const WEBHOOKS: [(&str, &str); 2] = [
    ("MutatingWebhookConfiguration", "kruise-mutating-webhook-configuration"),
    (
        "ValidatingWebhookConfiguration",
        "kruise-validating-webhook-configuration",
    ),
];

/// See the module.
pub(super) struct World {
    pub(super) client: Client,
    dir: tempfile::TempDir,
    player: Player,
}

/// An API of any kind.
pub(super) fn api(client: &Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn get(api: Api<DynamicObject>, name: &str) -> Option<Value> {
    let object = api.get_opt(name).await.expect("an answer")?;
    Some(serde_json::to_value(object).expect("JSON"))
}

impl World {
    /// Everything that Kruise leaves, with its manager played.
    pub(super) async fn start(server: &KubeApiserver) -> Self {
        let (client, dir, webhook) = Self::ground(server).await;
        create(&client, kruise_crd()).await;
        for (kind, name) in WEBHOOKS {
            create(&client, configuration(kind, name, &webhook)).await;
        }
        create(&client, deployment(2)).await;
        let player = Player::start(client.clone(), dir.path().to_owned(), webhook, None).await;
        let world = Self { client, dir, player };
        world.leave_a_set().await;
        world
    }

    /// Kruise itself: what it installs, and its manager, with one replica.
    pub(super) async fn start_kruise(server: &KubeApiserver, program: PathBuf, install: &str) -> Self {
        let (client, dir, webhook) = Self::ground(server).await;
        for mut object in serde_saphyr::from_multiple::<Value>(install).expect("YAML") {
            // As its chart has it: its own pods could not be created before it runs.
            for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
                if webhook["rules"].to_string().contains("\"pods") {
                    webhook["failurePolicy"] = "Ignore".into();
                }
            }
            // What is there already: the namespace, and its account.
            let there = ["Namespace", "ServiceAccount"]
                .iter()
                .any(|kind| object["kind"] == *kind);
            if object.is_object() && !there {
                create(&client, object).await;
            }
        }
        create(&client, deployment(1)).await;
        let player = Player::start(client.clone(), dir.path().to_owned(), webhook, Some(program)).await;
        Self { client, dir, player }
    }

    async fn ground(server: &KubeApiserver) -> (Client, tempfile::TempDir, Webhook) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let admin = server.kubeconfig();
        std::fs::write(dir.path().join("kubeconfig"), &admin).expect("a file");
        let client = client(&admin).await.expect("a client");
        create(
            &client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}),
        )
        .await;
        for (namespace, name) in [("default", "default"), (SYSTEM, "kruise-manager")] {
            let metadata = json!({"namespace": namespace, "name": name});
            create(
                &client,
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            )
            .await;
        }
        (client, dir, Webhook::start().await)
    }

    async fn leave_a_set(&self) {
        // The API server takes a moment to serve a new kind.
        let sets = self.sets("v1alpha1");
        while sets.list(&ListParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let fixture: Value = serde_json::from_str(REST).expect("JSON");
        let owner = self.store("CloneSet", &fixture["cloneset"], None).await;
        for (kind, list) in [("ControllerRevision", "revisions"), ("Pod", "pods")] {
            for object in fixture[list].as_array().expect("a list") {
                self.store(kind, object, Some(&owner)).await;
            }
        }
    }

    /// Stores an object with its status; gives its uid.
    async fn store(&self, kind: &str, object: &Value, owner: Option<&str>) -> String {
        let version = object["apiVersion"].as_str().expect("an apiVersion");
        let api = api(&self.client, version, kind, Some("default"));
        let mut body = object.clone();
        for key in ["uid", "creationTimestamp", "generation"] {
            body["metadata"].as_object_mut().expect("metadata").remove(key);
        }
        if let Some(owner) = owner {
            body["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
        }
        let body = serde_json::from_value(body).expect("an object");
        let created = api.create(&PostParams::default(), &body).await.expect("it is created");
        if object["status"].is_object() {
            let (name, patch) = (
                created.metadata.name.expect("a name"),
                json!({"status": object["status"]}),
            );
            let patch = Patch::Merge(&patch);
            api.patch_status(&name, &PatchParams::default(), &patch)
                .await
                .expect("a status");
        }
        created.metadata.uid.expect("a uid")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// `afloat takeover` to its end.
    pub(super) async fn afloat(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = Command::new(AFLOAT);
        command.args(["takeover", "--webhook-url", &self.player.url, "--kubeconfig"]);
        command.arg(self.kubeconfig()).args(arguments);
        // The play goes on meanwhile.
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("no panic");
        let output = output.expect("afloat starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8(said).expect("text"))
    }

    /// `afloat takeover`, under way.
    pub(super) fn takeover(&self, arguments: &[&str]) -> Process {
        let kubeconfig = self.kubeconfig().display().to_string();
        let all = [
            "takeover",
            "--webhook-url",
            &self.player.url,
            "--kubeconfig",
            &kubeconfig,
        ];
        let all = all.iter().chain(arguments);
        Process::start(AFLOAT.as_ref(), all, self.dir.path().join("takeover.log"))
    }

    /// What all operators have said.
    pub(super) fn operators_said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("operators.log")).unwrap_or_default()
    }

    fn sets(&self, version: &str) -> Api<DynamicObject> {
        api(
            &self.client,
            &format!("apps.kruise.io/{version}"),
            "CloneSet",
            Some("default"),
        )
    }

    /// The CloneSet in a version.
    pub(super) async fn set(&self, version: &str) -> Value {
        get(self.sets(version), "web").await.expect("the CloneSet")
    }

    /// Changes it in a version.
    pub(super) async fn patch_set(&self, version: &str, patch: Value) {
        let patch = Patch::Merge(&patch);
        let done = self.sets(version).patch("web", &PatchParams::default(), &patch).await;
        done.expect("the CloneSet is changed");
    }

    pub(super) async fn crd(&self) -> Value {
        let api = api(
            &self.client,
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
        );
        get(api, "clonesets.apps.kruise.io").await.expect("the CRD")
    }

    pub(super) async fn deployment(&self, namespace: &str, name: &str) -> Value {
        get(api(&self.client, "apps/v1", "Deployment", Some(namespace)), name)
            .await
            .expect("the Deployment")
    }

    /// Who holds the Lease.
    pub(super) async fn holder(&self) -> String {
        let lease = get(
            api(&self.client, "coordination.k8s.io/v1", "Lease", Some(SYSTEM)),
            "kruise-manager",
        )
        .await;
        lease
            .and_then(|lease| Some(lease["spec"]["holderIdentity"].as_str()?.to_owned()))
            .unwrap_or_default()
    }

    /// Whether Kruise's manager was told to lead nothing.
    pub(super) async fn on_hold(&self) -> bool {
        let deployment = self.deployment(SYSTEM, DEPLOYMENT).await;
        deployment.to_string().contains("--leader-election-id=afloat-takeover")
    }

    /// All that a takeover may not change, or has to put back; without what the API server counts.
    pub(super) async fn picture(&self) -> Value {
        let list = async |version, kind| {
            let objects = api(&self.client, version, kind, Some("default"))
                .list(&ListParams::default())
                .await;
            serde_json::to_value(objects.expect("a list").items).expect("JSON")
        };
        let mut webhooks = Vec::new();
        for (kind, name) in WEBHOOKS {
            let found = get(api(&self.client, "admissionregistration.k8s.io/v1", kind, None), name).await;
            webhooks.push(found.map(|found| json!([found["webhooks"], found["metadata"]["annotations"]])));
        }
        let (crd, kruise) = (self.crd().await, self.deployment(SYSTEM, DEPLOYMENT).await);
        let others = api(&self.client, "v1", "ConfigMap", Some(SYSTEM))
            .list(&ListParams::default())
            .await;
        json!({
            "pods": list("v1", "Pod").await,
            "revisions": list("apps/v1", "ControllerRevision").await,
            "webhooks": webhooks,
            "crd": crd["spec"], "stored": crd["status"]["storedVersions"],
            "kruise": [kruise["spec"], kruise["metadata"]["annotations"]],
            "kept": others.expect("a list").items.len(),
            "set": self.set("v1alpha1").await["spec"],
        })
    }

    /// A kind that only Kruise does, and an object of it.
    pub(super) async fn add_sidecar_set(&self) {
        let mut crd = kruise_crd();
        crd["metadata"]["name"] = "sidecarsets.apps.kruise.io".into();
        crd["spec"]["names"] = json!({"kind": "SidecarSet", "plural": "sidecarsets", "singular": "sidecarset"});
        let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        crd["spec"]["versions"] = json!([{"name": "v1alpha1", "served": true, "storage": true, "schema": anything}]);
        create(&self.client, crd).await;
        let sets = api(&self.client, "apps.kruise.io/v1alpha1", "SidecarSet", Some("default"));
        while sets.list(&ListParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let set = json!({
            "apiVersion": "apps.kruise.io/v1alpha1", "kind": "SidecarSet",
            "metadata": {"namespace": "default", "name": "log"}, "spec": {},
        });
        create(&self.client, set).await;
    }

    pub(super) async fn remove_sidecar_set(&self) {
        let sets = api(&self.client, "apps.kruise.io/v1alpha1", "SidecarSet", Some("default"));
        sets.delete("log", &Default::default()).await.expect("it is deleted");
    }

    /// Somebody who writes CloneSets all the time, in every version that was ever served.
    pub(super) fn client_at_work(&self) -> AtWork {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(work(self.sets("v1alpha1"), self.sets("v1beta1"), stop.clone()));
        AtWork { stop, task }
    }
}

/// See [`World::client_at_work`].
pub(super) struct AtWork {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl AtWork {
    /// Ends it; gives what it was refused.
    pub(super) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends")
    }
}

async fn work(old: Api<DynamicObject>, new: Api<DynamicObject>, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut refused = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let patch = json!({"metadata": {"labels": {"number": number.to_string()}}});
        for (version, api) in [("v1alpha1", &old), ("v1beta1", &new)] {
            match api.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {}
                // Kruise's releases do not serve it.
                Err(kube::Error::Api(status)) if version == "v1beta1" && status.code == 404 => {}
                // While Afloat is gone and Kruise's own CRD is not back yet: Kruise would not have answered either.
                Err(error) if version == "v1beta1" && error.to_string().contains("conversion webhook") => {}
                Err(error) => refused.push(format!("{version}, write {number}: {error}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(number > 50, "it was at work");
    refused
}

/// As Kruise 1.8 and 1.9 have it: one version, nothing to convert.
fn kruise_crd() -> Value {
    let serving = afloat_api::Serving::default();
    let crd = afloat_api::crds(&serving)
        .into_iter()
        .next()
        .expect("the CRD of CloneSets");
    let mut crd = serde_json::to_value(crd).expect("JSON");
    let versions = crd["spec"]["versions"].as_array_mut().expect("versions");
    versions.retain(|version| version["name"] == "v1alpha1");
    versions[0]["storage"] = true.into();
    crd["spec"]["conversion"] = json!({"strategy": "None"});
    crd
}

fn deployment(replicas: u32) -> Value {
    let arguments = [
        "--enable-leader-election",
        "--metrics-addr=:8080",
        "--leader-election-namespace=kruise-system",
    ];
    let manager = json!({
        "name": "manager", "image": "openkruise/kruise-manager:v1.9.1", "command": ["/manager"], "args": arguments,
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": SYSTEM, "name": DEPLOYMENT},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"control-plane": "controller-manager"}},
            "template": {
                "metadata": {"labels": {"control-plane": "controller-manager"}},
                "spec": {"serviceAccountName": "kruise-manager", "containers": [manager]},
            },
        },
    })
}

fn configuration(kind: &str, name: &str, webhook: &Webhook) -> Value {
    let webhooks = json!([{
        "name": if kind.starts_with("Mutating") { "mcloneset.kb.io" } else { "vcloneset.kb.io" },
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 10,
        "clientConfig": {"url": webhook.url, "caBundle": webhook.authority},
        "rules": [{
            "apiGroups": ["apps.kruise.io"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["clonesets"],
        }],
    }]);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "annotations": {"template": webhooks.to_string()}}, "webhooks": webhooks,
    })
}
