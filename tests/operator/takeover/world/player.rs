//! Plays what runs Deployments, one pod after the other, and Kruise's manager: it holds the Lease while a pod of it may. Each pod of
//! Afloat's operator is the operator itself, in a process whose host has the pod's name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::webhook::Webhook;
use super::{DEPLOYMENT, SYSTEM, WEBHOOKS, api};
use crate::ground::kubeconfig_of;
use crate::operator::AFLOAT;
use crate::ports::free_port;
use crate::process::Process;

/// Annotation of a pod: the template that it was made of.
const TEMPLATE: &str = "test/template";
/// How long Kruise's Lease counts here, so that nobody waits for 15 s.
const LEASE_SECONDS: u64 = 2;

/// See the module.
pub(super) struct Player {
    /// Where the API server reaches the operators' webhook.
    pub(super) url: String,
}

/// What the play goes on with.
struct Play {
    client: Client,
    dir: PathBuf,
    webhook: Webhook,
    url: String,
    /// What runs in which pod.
    running: BTreeMap<String, Running>,
    /// Kruise's own manager; None: it is played.
    kruise: Option<PathBuf>,
    /// Ports of the operators' webhooks that listen.
    doors: Arc<Mutex<Vec<u16>>>,
    /// The Lease's last change, and when it was seen.
    lease: (String, Instant),
    number: u32,
}

/// A process, the port where it says whether it is ready, and that of its conversion webhook.
struct Running {
    process: Process,
    health: u16,
    door: Option<u16>,
}

impl Player {
    /// Starts to play, and waits until Kruise's manager leads.
    pub(super) async fn start(client: Client, dir: PathBuf, webhook: Webhook, kruise: Option<PathBuf>) -> Self {
        let doors = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}/convert", listener.local_addr().expect("bound"));
        tokio::spawn(forward(listener, doors.clone()));
        let mut play = Play {
            client,
            dir,
            webhook,
            url: url.clone(),
            running: BTreeMap::new(),
            kruise,
            doors,
            lease: (String::new(), Instant::now()),
            number: 0,
        };
        while !play.round().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::spawn(async move {
            loop {
                play.round().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { url }
    }
}

/// What a Service does: connections go to one of those that listen.
async fn forward(listener: TcpListener, doors: Arc<Mutex<Vec<u16>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let door = doors.lock().expect("a lock").first().copied();
        tokio::spawn(async move {
            let Some(door) = door else { return };
            if let Ok(mut operator) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], door))).await {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut operator).await;
            }
        });
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

impl Play {
    /// One look at everything; gives whether Kruise's manager leads.
    async fn round(&mut self) -> bool {
        let deployments = api(&self.client, "apps/v1", "Deployment", None)
            .list(&ListParams::default())
            .await;
        for deployment in deployments.expect("a list") {
            self.run(serde_json::to_value(deployment).expect("JSON")).await;
        }
        self.call_webhooks().await;
        self.lead().await
    }

    /// Kruise's manager makes its configurations' webhooks of their annotation, whenever it runs.
    async fn call_webhooks(&self) {
        if self.kruise.is_some() || !self.webhook.alive.load(Ordering::Relaxed) {
            return;
        }
        for (kind, name) in WEBHOOKS {
            let configurations = api(&self.client, "admissionregistration.k8s.io/v1", kind, None);
            let Some(found) = configurations.get_opt(name).await.expect("an answer") else {
                continue;
            };
            let template = found
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get("template").cloned());
            let wanted: Value = serde_json::from_str(&template.expect("its annotation")).expect("JSON");
            let mut found = serde_json::to_value(found).expect("JSON");
            let names = |webhooks: &Value| webhooks.as_array().map_or(0, Vec::len);
            if names(&found["webhooks"]) != names(&wanted) {
                found["webhooks"] = wanted;
                let found = serde_json::from_value(found).expect("an object");
                // Somebody else may have been faster.
                let _ = configurations.replace(name, &PostParams::default(), &found).await;
            }
        }
    }

    fn pods(&self, namespace: &str) -> Api<DynamicObject> {
        api(&self.client, "v1", "Pod", Some(namespace))
    }

    async fn list(&self, namespace: &str, deployment: &str) -> Vec<Value> {
        let pods = self.pods(namespace).list(&ListParams::default()).await.expect("a list");
        let pods = pods.into_iter().map(|pod| serde_json::to_value(pod).expect("JSON"));
        pods.filter(|pod| name(pod).starts_with(&format!("{deployment}-")))
            .collect()
    }

    /// A step of a Deployment's way to what it asks for: one pod more at most, and none less than it wants.
    async fn run(&mut self, deployment: Value) {
        let namespace = deployment["metadata"]["namespace"]
            .as_str()
            .expect("a namespace")
            .to_owned();
        let (own, wanted) = (
            name(&deployment),
            deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize,
        );
        let template = deployment["spec"]["template"].to_string();
        let mut pods = self.list(&namespace, &own).await;
        for pod in &mut pods {
            if !ready(pod) && self.lives(&own, pod).await {
                let status =
                    json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
                let patch = Patch::Merge(&status);
                let done = self
                    .pods(&namespace)
                    .patch_status(&name(pod), &PatchParams::default(), &patch)
                    .await;
                *pod = serde_json::to_value(done.expect("a status")).expect("JSON");
            }
        }
        let (new, old): (Vec<_>, Vec<_>) = pods
            .iter()
            .partition(|pod| pod["metadata"]["annotations"][TEMPLATE] == template.as_str());
        let up = pods.iter().filter(|pod| ready(pod)).count();
        if wanted == 0 || !old.is_empty() && up > wanted || new.len() > wanted {
            if let Some(pod) = old.first().or(new.first()) {
                self.end(&namespace, &name(pod)).await;
            }
        } else if new.len() < wanted && pods.len() <= wanted {
            self.begin(&namespace, &own, &deployment, &template).await;
        }
        let status = json!({"status": {
            "observedGeneration": deployment["metadata"]["generation"], "replicas": pods.len(),
            "updatedReplicas": new.len(), "readyReplicas": up,
        }});
        let deployments = api(&self.client, "apps/v1", "Deployment", Some(&namespace));
        // It may just have been deleted.
        let _ = deployments
            .patch_status(&own, &PatchParams::default(), &Patch::Merge(&status))
            .await;
    }

    async fn begin(&mut self, namespace: &str, own: &str, deployment: &Value, template: &str) {
        self.number += 1;
        let pod = format!("{own}-{}", self.number);
        let mut spec = deployment["spec"]["template"]["spec"].clone();
        // Nobody signs tokens for pods here.
        spec["automountServiceAccountToken"] = false.into();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"namespace": namespace, "name": pod, "labels": labels, "annotations": {TEMPLATE: template}},
        });
        if own == DEPLOYMENT && self.kruise.is_none() {
            for (kind, name) in WEBHOOKS {
                let there = api(&self.client, "admissionregistration.k8s.io/v1", kind, None)
                    .get_opt(name)
                    .await;
                assert!(
                    there.expect("an answer").is_some(),
                    "Kruise's manager does not start without its {kind}"
                );
            }
        } else if own == DEPLOYMENT {
            self.running.insert(pod.clone(), self.manager(&pod, deployment));
        } else {
            let operator = self.operator(namespace, &pod, deployment).await;
            self.running.insert(pod.clone(), operator);
        }
        let object = serde_json::from_value(object).expect("a pod");
        self.pods(namespace)
            .create(&PostParams::default(), &object)
            .await
            .expect("a pod");
    }

    async fn end(&mut self, namespace: &str, pod: &str) {
        if let Some(mut operator) = self.running.remove(pod) {
            self.doors
                .lock()
                .expect("a lock")
                .retain(|door| Some(*door) != operator.door);
            let stopped = tokio::task::spawn_blocking(move || operator.process.stop("TERM"));
            stopped.await.expect("it ends");
        }
        let now = DeleteParams::default().grace_period(0);
        self.pods(namespace).delete(pod, &now).await.expect("it is deleted");
        if namespace == SYSTEM && self.list(SYSTEM, DEPLOYMENT).await.is_empty() {
            self.webhook.alive.store(false, Ordering::Relaxed);
        }
    }

    /// The operator of a pod, with the settings of its Deployment and the rights of its account.
    async fn operator(&self, namespace: &str, pod: &str, deployment: &Value) -> Running {
        let spec = &deployment["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().expect("an account");
        let kubeconfig = self.dir.join(format!("{pod}.kubeconfig"));
        let admin = std::fs::read_to_string(self.dir.join("kubeconfig")).expect("the administrator's");
        let own = kubeconfig_of(&self.client, &admin, namespace, account).await;
        std::fs::write(&kubeconfig, own).expect("a file");
        let (health, door) = (free_port(), free_port());
        let variables = spec["containers"][0]["env"].as_array().into_iter().flatten();
        let variables = variables.filter_map(|variable| {
            Some(format!(
                "{}={}",
                variable["name"].as_str()?,
                variable["value"].as_str()?
            ))
        });
        let mut words = host(pod);
        words.extend(variables);
        words.extend([
            format!("AFLOAT_METRICS_ADDRESS=127.0.0.1:{health}"),
            format!("AFLOAT_WEBHOOK_PORT={door}"),
            format!("AFLOAT_WEBHOOK_URL={}", self.url),
            AFLOAT.to_owned(),
            "operator".to_owned(),
            "--kubeconfig".to_owned(),
            kubeconfig.display().to_string(),
        ]);
        let process = Process::start("unshare".as_ref(), words, self.dir.join("operators.log"));
        Running {
            process,
            health,
            door: Some(door),
        }
    }

    /// Kruise's own manager of a pod, with the arguments of its Deployment.
    fn manager(&self, pod: &str, deployment: &Value) -> Running {
        let health = free_port();
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
        let arguments = arguments
            .into_iter()
            .flatten()
            .filter_map(|word| Some(word.as_str()?.to_owned()));
        let mut words = host(pod);
        words.extend([
            format!("KUBECONFIG={}", self.dir.join("kubeconfig").display()),
            format!("POD_NAMESPACE={SYSTEM}"),
            // Outside of a cluster it is called by its address.
            "WEBHOOK_HOST=localhost".to_owned(),
            format!("WEBHOOK_PORT={}", free_port()),
            format!("WEBHOOK_CERT_DIR={}", self.dir.join("kruise-certificates").display()),
        ]);
        words.extend(self.kruise.iter().map(|program| program.display().to_string()));
        words.extend(arguments);
        words.extend([
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--enable-pprof=false".to_owned(),
            format!("--health-probe-addr=127.0.0.1:{health}"),
        ]);
        Running {
            process: Process::start("unshare".as_ref(), words, self.dir.join("kruise.log")),
            health,
            door: None,
        }
    }

    /// Whether a pod answers its readiness probe.
    async fn lives(&mut self, own: &str, pod: &Value) -> bool {
        if own == DEPLOYMENT && self.kruise.is_none() {
            self.webhook.alive.store(true, Ordering::Relaxed);
            return true;
        }
        let Some(operator) = self.running.get(&name(pod)) else {
            return false;
        };
        let ready = readyz(operator.health).await;
        if ready {
            self.doors.lock().expect("a lock").extend(operator.door);
        }
        ready
    }

    /// Kruise's manager holds the Lease, or takes one that is free, while one of its pods stands for it.
    async fn lead(&mut self) -> bool {
        let leases = api(&self.client, "coordination.k8s.io/v1", "Lease", Some(SYSTEM));
        let lease = leases.get_opt("kruise-manager").await.expect("an answer");
        let lease = lease.map(|lease| serde_json::to_value(lease).expect("JSON"));
        let version = lease
            .as_ref()
            .map_or("", |lease| lease["metadata"]["resourceVersion"].as_str().unwrap_or(""))
            .to_owned();
        if version != self.lease.0 {
            self.lease = (version, Instant::now());
        }
        let pods = self.list(SYSTEM, DEPLOYMENT).await;
        if self.kruise.is_some() {
            let holder = lease
                .as_ref()
                .and_then(|lease| lease["spec"]["holderIdentity"].as_str())
                .unwrap_or_default();
            return holder.starts_with(DEPLOYMENT);
        }
        let may = |pod: &&Value| !pod.to_string().contains("--leader-election-id=afloat-takeover");
        let names: Vec<_> = pods.iter().filter(may).map(name).collect();
        let holder = lease
            .as_ref()
            .map_or("", |lease| lease["spec"]["holderIdentity"].as_str().unwrap_or(""));
        let own = names.iter().find(|name| holder == format!("{name}_played"));
        let seconds = lease
            .as_ref()
            .map_or(0, |lease| lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(0));
        let free = holder.is_empty() || self.lease.1.elapsed() > Duration::from_secs(seconds);
        let Some(next) = own.or(names.first().filter(|_| free)) else {
            return false;
        };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
        let mut wanted = lease.clone().unwrap_or_else(|| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": SYSTEM, "name": "kruise-manager"},
            })
        });
        wanted["spec"] = json!({
            "holderIdentity": format!("{next}_played"), "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
        });
        let wanted = serde_json::from_value(wanted).expect("a Lease");
        let done = match lease {
            Some(_) => leases.replace("kruise-manager", &PostParams::default(), &wanted).await,
            None => leases.create(&PostParams::default(), &wanted).await,
        };
        done.is_ok()
    }
}

/// The beginning of a command whose host has a name of its own, as a container has one; variables and the program follow.
fn host(name: &str) -> Vec<String> {
    let words = [
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        "hostname \"$0\"; exec env \"$@\"",
        name,
    ];
    words.map(str::to_owned).to_vec()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn readyz(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}
