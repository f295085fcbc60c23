//! What a case stands on: a cluster with its nodes, and an operator that has the rights of `rbac.yaml`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use afloat_sim::Fleet;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use crate::embedded::Embedded;
use crate::kube_apiserver::{KubeApiserver, client, client_that_asks_once};
use crate::operator::{AFLOAT, Operator};
use crate::process::PATIENCE;

/// What people apply before they start the operator.
const RIGHTS: &str = include_str!("../../operator/manager/rbac.yaml");
const POLICIES: &str = include_str!("../../operator/install/objects/policies.yaml");

/// Images that every ground has: name, what they run, version. The same role and version are the same image.
const IMAGES: [(&str, &str, &str); 6] = [
    ("app:1", "web", "1"),
    ("app:one", "web", "1"),
    ("app:2", "web", "2"),
    ("app:3", "web", "3"),
    ("log:1", "collect", "1"),
    ("log:2", "collect", "2"),
];

/// See the module.
pub(crate) struct Ground {
    /// The administrator.
    pub(crate) client: Client,
    /// The same, who takes the first answer.
    pub(crate) once: Client,
    cluster: Cluster,
    kubeconfig: PathBuf,
    operator: RefCell<Option<Operator>>,
    dir: tempfile::TempDir,
}

enum Cluster {
    Embedded(Embedded),
    // The nodes go before the server that they talk to.
    Simulated(Fleet, Box<KubeApiserver>),
}

/// What only jobs about images need: they are tried where nodes pull (`operator/manager/tests/images`, `tests/e2e/images/jobs.rs`).
const OF_IMAGES: &[&str] = &[
    "create imagepulljobs.apps.kruise.io",
    "patch imagepulljobs.apps.kruise.io",
    "delete imagepulljobs.apps.kruise.io",
    "patch imagepulljobs/status.apps.kruise.io",
    "delete imagelistpulljobs.apps.kruise.io",
    "patch imagelistpulljobs/status.apps.kruise.io",
    "patch nodeimages/status.apps.kruise.io",
    "delete nodeimages.apps.kruise.io",
    "patch secrets.",
    "delete secrets.",
];

/// Creates an object of whatever kind.
pub(crate) async fn create(client: &Client, object: Value) {
    let group = object["apiVersion"].as_str().expect("an apiVersion");
    let (group, version) = group.rsplit_once('/').unwrap_or(("", group));
    let kind = object["kind"].as_str().expect("a kind").to_owned();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let text = object.to_string();
    let object = serde_json::from_value(object).expect("an object");
    match api.create(&PostParams::default(), &object).await {
        // The operator's manifest and the agent's both have it.
        Err(kube::Error::Api(status)) if kind == "Namespace" && status.reason == "AlreadyExists" => {}
        result => {
            result.unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
}

/// The administrator's kubeconfig with a service account in it.
pub(crate) async fn kubeconfig_of(client: &Client, admin: &str, namespace: &str, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(7200),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await;
    let token = answer.expect("a token").status.expect("a status").token;
    let mut own: Value = serde_saphyr::from_str(admin).expect("YAML");
    own["users"][0]["user"] = json!({"token": token});
    own.to_string()
}

impl Ground {
    /// The embedded cluster, real containers.
    pub(crate) async fn embedded() -> Option<Self> {
        let cluster = Embedded::start().await?;
        let admin = cluster.kubeconfig();
        Some(Self::new(Cluster::Embedded(cluster), &admin).await)
    }

    /// Kubernetes' own API server, simulated nodes.
    pub(crate) async fn kube_apiserver() -> Option<Self> {
        let server = KubeApiserver::start().await?;
        let admin = server.kubeconfig();
        let options = afloat_sim::Options {
            nodes: 2,
            start: Duration::from_millis(200),
            stop: Duration::from_millis(50),
            scheduler_name: Some("default-scheduler".into()),
            ..afloat_sim::Options::default()
        };
        let fleet = Fleet::start(client(&admin).await.expect("a client"), options).await;
        Some(Self::new(Cluster::Simulated(fleet.expect("nodes"), Box::new(server)), &admin).await)
    }

    async fn new(cluster: Cluster, admin: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let once = client_that_asks_once(admin).await.expect("a client");
        let client = client(admin).await.expect("a client");
        let ground = Self {
            client,
            once,
            cluster,
            kubeconfig: dir.path().join("operator.kubeconfig"),
            operator: RefCell::default(),
            dir,
        };
        ground.install(admin).await;
        for (name, role, version) in IMAGES {
            ground.add_image(name, role, version);
        }
        ground.start_operator().await;
        ground
    }

    /// Applies CRDs, rights and policies, and gets the operator's token.
    async fn install(&self, admin: &str) {
        let crds = Command::new(AFLOAT).arg("crds").output().expect("afloat starts");
        let crds = String::from_utf8(crds.stdout).expect("YAML is text");
        let beside = RIGHTS.split("---\n").chain(POLICIES.split("---\n"));
        for document in crds.split("---\n").chain(beside) {
            let object: Value = serde_saphyr::from_str(document).expect("YAML");
            if object.is_object() {
                create(&self.client, object).await;
            }
        }
        let own = kubeconfig_of(&self.client, admin, "kruise-system", "afloat-operator").await;
        std::fs::write(&self.kubeconfig, own).expect("a file");
    }

    /// Makes an image known to the nodes; gives its digest.
    pub(crate) fn add_image(&self, name: &str, role: &str, version: &str) -> String {
        match &self.cluster {
            Cluster::Embedded(cluster) => cluster.build(name, role, version),
            Cluster::Simulated(fleet, _) => {
                fleet.images().alias(name, &format!("{role}:{version}"));
                fleet.images().digest(name)
            }
        }
    }

    /// Sees to it that an image cannot be had.
    pub(crate) fn no_image(&self, name: &str) {
        match &self.cluster {
            // What was not built is not there.
            Cluster::Embedded(_) => {}
            Cluster::Simulated(fleet, _) => fleet.images().missing(name),
        }
    }

    /// Kills a container's process; if there is none at the moment, the next one.
    pub(crate) async fn crash(&self, namespace: &str, pod: &str, container: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let crashed = match &self.cluster {
                Cluster::Embedded(cluster) => cluster.crash(pod, container),
                Cluster::Simulated(fleet, _) => fleet.crash(namespace, pod, container).await.is_ok(),
            };
            if crashed {
                return;
            }
            assert!(Instant::now() < deadline, "no process of {container} in {pod}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a kubelet can be kept from seeing changes, while the API server goes on. In the embedded cluster both are one
    /// process.
    pub(crate) fn can_pause_nodes(&self) -> bool {
        matches!(self.cluster, Cluster::Simulated(..))
    }

    /// Whether the API server can reach the operator's webhook. The embedded one is in a network of its own.
    pub(crate) fn converts(&self) -> bool {
        matches!(self.cluster, Cluster::Simulated(..))
    }

    /// Keeps a node's kubelet from seeing changes, or lets it see them again.
    pub(crate) async fn pause_node(&self, node: &str, pause: bool) {
        if let Cluster::Simulated(fleet, _) = &self.cluster {
            let done = if pause {
                fleet.pause(node).await
            } else {
                fleet.resume(node).await
            };
            done.expect("the node");
        }
    }

    /// Starts the operator and waits until it acts.
    pub(crate) async fn start_operator(&self) {
        self.start_operator_with("").await;
    }

    /// The same with feature gates.
    pub(crate) async fn start_operator_with(&self, gates: &str) {
        let operator = Operator::start(&self.kubeconfig, self.operator_log_file(), gates);
        operator.wait_leading().await;
        self.operator.replace(Some(operator));
    }

    /// One more operator, which has to wait for the lease.
    pub(crate) fn another_operator(&self) -> Operator {
        Operator::start(&self.kubeconfig, self.operator_log_file(), "")
    }

    fn operator_log_file(&self) -> PathBuf {
        self.dir.path().join("operator.log")
    }

    /// Takes the operator out, to do with it what the case is about.
    pub(crate) fn take_operator(&self) -> Operator {
        self.operator.take().expect("the operator runs")
    }

    /// Gives the ground an operator.
    pub(crate) fn put_operator(&self, operator: Operator) {
        self.operator.replace(Some(operator));
    }

    /// Checks the operator's rights where the API server keeps a record. `complete`: all cases have run.
    pub(crate) fn check_rights(&self, complete: bool) {
        if let Cluster::Simulated(_, server) = &self.cluster {
            crate::rights::check(RIGHTS, &server.audit(), complete, OF_IMAGES);
        }
    }

    /// The lease that operators hold in turn.
    pub(crate) async fn lease(&self) -> Value {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "kruise-system", &resource);
        serde_json::to_value(api.get("kruise-manager").await.expect("a lease")).expect("JSON")
    }

    /// What all operators have said.
    pub(crate) fn operator_log(&self) -> String {
        let text = std::fs::read(self.dir.path().join("operator.log"));
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }
}
