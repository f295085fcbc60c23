//! Kubernetes' own API server with its etcd, on free ports of 127.0.0.1.
//!
//! There is no controller manager and no scheduler: nothing collects garbage, nothing makes service accounts. What the
//! tests need of them they do themselves, or the simulated nodes do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::json;

use crate::ports::free_port;
use crate::process::{PATIENCE, Process};

/// Both processes and their folder.
pub(crate) struct KubeApiserver {
    // In this order: the server must not complain about a missing etcd.
    server: Process,
    _etcd: Process,
    dir: tempfile::TempDir,
    url: String,
    token: String,
}

impl KubeApiserver {
    /// Starts both; None (with a word why) where a program is missing.
    pub(crate) async fn start() -> Option<Self> {
        let program = programs()?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (etcd, etcd_url) = start_etcd(dir.path());
        let key = rcgen::KeyPair::generate().expect("a key");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        write("sa.key", &key.serialize_pem());
        write("sa.pub", &key.public_key_pem());
        write("audit-policy.json", crate::rights::AUDIT_POLICY);
        let token = random();
        write("tokens.csv", &format!("{token},admin,admin,\"system:masters\"\n"));
        let port = free_port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let arguments = [
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", path("certificates")),
            format!("--service-account-key-file={}", path("sa.pub")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--audit-policy-file={}", path("audit-policy.json")),
            format!("--audit-log-path={}", path("audit.log")),
            // Whoever blocks the deletion of an owner must be allowed to: the operator's rights have to include that.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
            // Endpoints of the Service `kubernetes` may not be loopback addresses.
            "--endpoint-reconciler-type=none".to_owned(),
            // `pods/resize` is behind this gate in 1.32.
            "--feature-gates=InPlacePodVerticalScaling=true".to_owned(),
        ];
        let server = Process::start(&program, arguments, dir.path().join("kube-apiserver.log"));
        let mut all = Self {
            server,
            _etcd: etcd,
            dir,
            url: format!("https://127.0.0.1:{port}"),
            token,
        };
        all.wait().await;
        Some(all)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> String {
        let authority = self.dir.path().join("certificates/apiserver.crt");
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": authority}}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        })
        .to_string()
    }

    /// What the operator asked for, one JSON object a line.
    pub(crate) fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("audit.log")).expect("the record")
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ready().await {
            assert!(
                self.server.ended().is_none() && Instant::now() < deadline,
                "kube-apiserver does not get ready: {}",
                self.server.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ready(&self) -> bool {
        if !self.dir.path().join("certificates/apiserver.crt").exists() {
            return false;
        }
        let Ok(client) = client(&self.kubeconfig()).await else {
            return false;
        };
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
        client.request_text(request).await.is_ok()
    }
}

/// A client of a kubeconfig.
pub(crate) async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    Ok(Client::try_from(config(kubeconfig).await?)?)
}

/// A client that asks once: who is told to come later is told so, where others come again by themselves.
pub(crate) async fn client_that_asks_once(kubeconfig: &str) -> anyhow::Result<Client> {
    let mut config = config(kubeconfig).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn config(kubeconfig: &str) -> anyhow::Result<kube::Config> {
    let file = kube::config::Kubeconfig::from_yaml(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?)
}

fn programs() -> Option<PathBuf> {
    let Some(server) = std::env::var_os("AFLOAT_KUBE_APISERVER").map(PathBuf::from) else {
        eprintln!(
            "skipped: AFLOAT_KUBE_APISERVER names no kube-apiserver (cd tests/kube-apiserver && go build; .ci/run does it)"
        );
        return None;
    };
    assert!(
        server.is_file(),
        "AFLOAT_KUBE_APISERVER: there is no {}",
        server.display()
    );
    if Command::new("etcd").arg("--version").output().is_err() {
        eprintln!("skipped: no etcd (Debian's package is etcd-server)");
        return None;
    }
    Some(server)
}

fn start_etcd(dir: &Path) -> (Process, String) {
    let (url, peers) = (
        format!("http://127.0.0.1:{}", free_port()),
        format!("http://127.0.0.1:{}", free_port()),
    );
    let arguments = [
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Nothing has to outlive the test.
        "--unsafe-no-fsync".to_owned(),
    ];
    let etcd = Process::start(Path::new("etcd"), arguments, dir.join("etcd.log"));
    (etcd, url)
}

fn random() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux");
    id.trim().to_owned()
}
