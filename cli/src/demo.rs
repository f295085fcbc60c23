//! `afloat demo`: the same application released in several ways under load, and what each way costs.

mod manifest;
mod observe;
mod options;
mod progress;
mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use afloat_api::Gates;
use afloat_cluster::layout::{self, Inherited};
use afloat_cluster::{Cluster, ClusterOptions};
use afloat_probe::Mode;
use afloat_watching::feed::{Pauses, events};
use anyhow::Context as _;
use futures::FutureExt;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::runtime::{reflector, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::embedded;
use crate::load::{self, Load};
use crate::output;
use crate::process::inner::{Role, run_apart, whole};
use crate::process::memory;
use crate::process::signals::Stop;
use manifest::Application;
use observe::Snapshot;
use options::Strategy;
use progress::Progress;
use report::{ClusterFigures, Conditions, Lost, Report, Row};

pub(crate) use options::DemoOptions;

/// How long a boot, a start of all pods, or a release may take before the demo gives up.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// Load before the change, so that the figures have a quiet part too.
const WARM_UP: Duration = Duration::from_millis(1000);
/// How long an observed drain waits for a stuck proxy, beyond any lag that the demo is run with.
const STUCK_LIMIT_SECONDS: u32 = 10;
/// Connections that are kept alive.
const CONNECTIONS: u16 = 48;

/// In the order of the table.
const ALL: [Strategy; 5] = [
    Strategy::DeploymentNaive,
    Strategy::DeploymentCareful,
    Strategy::CloneSetInPlace,
    Strategy::CloneSetObserved,
    Strategy::CloneSetRecreate,
];

/// In the outer process, single-threaded.
pub(crate) fn run_demo(options: &DemoOptions) -> anyhow::Result<i32> {
    run_apart(options)
}

impl Role for DemoOptions {
    const NAME: &'static str = "demo";

    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32> {
        whole(inherited.restarts, stop, compare_strategies(self, &inherited)).await
    }
}

async fn compare_strategies(options: DemoOptions, inherited: &Inherited) -> anyhow::Result<i32> {
    let strategies: Vec<Strategy> = ALL
        .into_iter()
        .filter(|s| options.strategies.is_empty() || options.strategies.contains(s))
        .collect();
    let progress = Progress::new(strategies.len() as u64 * u64::from(options.replicas));
    progress.say("booting the cluster");
    let cluster = embedded::start_with_operator(
        ClusterOptions {
            proxy_lag: options.proxy_lag.into(),
            oci_runtime: options.oci_runtime.clone(),
            ..ClusterOptions::inside(options.nodes, inherited)
        },
        Gates::default(),
    )
    .await?;
    cluster.wait_ready(STEP_LIMIT).await?;
    let boot = layout::since_start();
    progress.say(&format!(
        "{} nodes Ready in {:.2} s; building the images",
        options.nodes,
        boot.as_secs_f64()
    ));
    embedded::build_app_images(&cluster, &manifest::IMAGES).await?;
    memory::give_back_now().await;
    let figures = ClusterFigures {
        nodes: options.nodes,
        boot_seconds: round(boot.as_secs_f64(), 3),
        rss_mib: round(layout::rss_mib(), 1),
    };
    let app = Application {
        replicas: options.replicas,
        max_unavailable: options.max_unavailable.clone(),
        start: options.app_start,
        quiet_seconds: Application::quiet_seconds(options.proxy_lag),
        drain_limit: options.stuck_proxy.then_some(STUCK_LIMIT_SECONDS),
    };
    let mut rows = Vec::new();
    for strategy in strategies {
        let trial = Trial::new(&cluster, strategy, &app, &options, &progress);
        rows.push(trial.release().await.with_context(|| strategy.name())?);
        progress.finish_row(u64::from(options.replicas));
    }
    progress.finish();
    let report = Report { rows, cluster: figures };
    if options.json {
        output::print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        let conditions = Conditions {
            rate: options.rate,
            max_unavailable: options.max_unavailable,
            proxy_lag: options.proxy_lag,
            app_start: options.app_start,
            quiet_seconds: app.quiet_seconds,
            stuck: options.stuck_proxy,
        };
        output::print(&report.table(&conditions))?;
    }
    cluster.stop().await;
    Ok(0)
}

/// One strategy's run.
struct Trial<'a> {
    cluster: &'a Cluster,
    strategy: Strategy,
    app: &'a Application,
    options: &'a DemoOptions,
    progress: &'a Progress,
    client: Client,
    namespace: String,
}

impl<'a> Trial<'a> {
    fn new(
        cluster: &'a Cluster,
        strategy: Strategy,
        app: &'a Application,
        options: &'a DemoOptions,
        progress: &'a Progress,
    ) -> Self {
        let namespace = strategy.name().to_owned();
        Self {
            cluster,
            strategy,
            app,
            options,
            progress,
            client: cluster.client("afloat-demo"),
            namespace,
        }
    }

    async fn release(self) -> anyhow::Result<Row> {
        let name = self.strategy.name();
        self.progress
            .say(&format!("{name}: starting {} pods", self.app.replicas));
        self.create().await?;
        let pods = PodWatch::start(Api::namespaced(self.client.clone(), &self.namespace));
        pods.wait("version 1 to be Ready", |pods| {
            observe::updated(pods, manifest::V1, self.app.replicas)
        })
        .await?;
        let targets = self.targets().await?;
        self.wait_for_proxies(&targets).await?;
        let before = Snapshot::of(&pods.list(), "collector");
        let load = load(&targets, self.options.rate)?;
        tokio::time::sleep(WARM_UP).await;
        anyhow::ensure!(load.so_far().1 == 0, "requests were lost before anything was changed");

        self.progress.say(&format!("{name}: releasing version 2"));
        self.hold_proxy(self.options.stuck_proxy);
        let writes_before = self.writes();
        let changed = Instant::now();
        self.patch_workload(&manifest::change()).await?;
        let updated = pods
            .wait("version 2 to be Ready", |pods| {
                let (done, all) = observe::updated(pods, manifest::V2, self.app.replicas);
                let (sent, lost) = load.so_far();
                self.progress.updated(done as u64);
                self.progress.say(&format!(
                    "{name}: {done} of {} updated, {sent} sent, {lost} lost",
                    self.app.replicas
                ));
                (done, all)
            })
            .await;
        let update_seconds = changed.elapsed().as_secs_f64();
        let after = Snapshot::of(&pods.list(), "collector");
        updated?;
        self.settle(&pods).await?;
        self.hold_proxy(false);
        let warnings = self.warnings().await?;
        let writes = self.writes() - writes_before;
        let outcome = load.finish().await?;
        let lost = Lost::of(&outcome);
        self.remove().await?;
        let kept = before.kept(&after);
        #[allow(clippy::cast_precision_loss)] // small counts
        let writes_per_pod = writes as f64 / f64::from(self.app.replicas);
        Ok(Row {
            strategy: name,
            replicas: self.app.replicas,
            update_seconds: round(update_seconds, 2),
            requests: outcome.sent + outcome.skipped,
            lost: lost.total(),
            lost_by_kind: lost,
            p50_ms: outcome.latency.map_or(0.0, |latency| latency.p50_ms),
            p99_ms: outcome.latency.map_or(0.0, |latency| latency.p99_ms),
            pods_kept: kept.pods,
            ips_kept: kept.ips,
            nodes_kept: kept.nodes,
            untouched_kept: kept.untouched,
            writes_per_pod: round(writes_per_pod, 2),
            warnings,
        })
    }

    /// Lets the last node's proxy learn of nothing, or of everything again.
    fn hold_proxy(&self, held: bool) {
        if let Some(node) = self.cluster.nodes().last() {
            node.proxy.hold(held);
        }
    }

    /// What the operator warned of, each sentence once.
    async fn warnings(&self) -> anyhow::Result<Vec<String>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = events.list(&ListParams::default()).await?.items.into_iter();
        let of_set = all.filter(|event| {
            event.type_.as_deref() == Some("Warning")
                && event
                    .regarding
                    .as_ref()
                    .is_some_and(|on| on.kind.as_deref() == Some("CloneSet"))
        });
        let sentences: BTreeSet<String> = of_set
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                )
            })
            .collect();
        Ok(sentences.into_iter().collect())
    }

    async fn create(&self) -> anyhow::Result<()> {
        let namespace: Namespace = serde_json::from_str(&json!({"metadata": {"name": self.namespace}}).to_string())?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let service: Service = serde_json::from_str(&manifest::service().to_string())?;
        Api::namespaced(self.client.clone(), &self.namespace)
            .create(&PostParams::default(), &service)
            .await?;
        let path = self.workloads();
        let request = http::Request::post(path).header("content-type", "application/json");
        let _: Value = self
            .client
            .request(request.body(serde_json::to_vec(&self.strategy.manifest(self.app))?)?)
            .await?;
        Ok(())
    }

    fn workloads(&self) -> String {
        self.strategy.workloads(&self.namespace)
    }

    async fn patch_workload(&self, patch: &Value) -> anyhow::Result<()> {
        let request = http::Request::patch(format!("{}/web", self.workloads()))
            .header("content-type", "application/json-patch+json");
        let _: Value = self.client.request(request.body(serde_json::to_vec(patch)?)?).await?;
        Ok(())
    }

    /// The Service's port on every node.
    async fn targets(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let service: Service = Api::namespaced(self.client.clone(), &self.namespace).get("web").await?;
        let port = service
            .spec
            .and_then(|s| s.ports)
            .and_then(|p| p.into_iter().next())
            .and_then(|p| p.node_port);
        let port = u16::try_from(port.context("the Service has no node port")?)?;
        Ok(self
            .cluster
            .nodes()
            .iter()
            .map(|node| SocketAddr::from((node.ip, port)))
            .collect())
    }

    /// Until every node's proxy answers, and then as long again as they may lag, so that all of them know all pods.
    async fn wait_for_proxies(&self, targets: &[SocketAddr]) -> anyhow::Result<()> {
        let deadline = Instant::now() + STEP_LIMIT;
        for target in targets {
            while tokio::net::TcpStream::connect(target).await.is_err() {
                anyhow::ensure!(Instant::now() < deadline, "the proxy at {target} does not answer");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::time::sleep(self.options.proxy_lag + self.app.start + Duration::from_millis(200)).await;
        Ok(())
    }

    /// After a release, losses may still come: from pods that are being stopped, from proxies that do not know yet, from
    /// an application that does not listen yet.
    async fn settle(&self, pods: &PodWatch) -> anyhow::Result<()> {
        let replicas = self.app.replicas as usize;
        pods.wait("the old pods to be gone", |pods| (pods.len(), pods.len() == replicas))
            .await?;
        tokio::time::sleep(self.options.proxy_lag + self.app.start + Duration::from_millis(500)).await;
        Ok(())
    }

    /// Writes to this namespace's objects so far, whoever made them; Events and Leases are not part of a release.
    fn writes(&self) -> u64 {
        let all = self.cluster.writes();
        let ours = all
            .iter()
            .filter(|w| w.namespace.as_deref() == Some(self.namespace.as_str()));
        ours.filter(|w| w.resource != "events" && w.resource != "leases")
            .map(|w| w.count)
            .sum()
    }

    /// The next row starts on an empty cluster. Nobody waits for a grace period here: no load runs.
    async fn remove(&self) -> anyhow::Result<()> {
        self.progress.say(&format!("{}: removing", self.strategy.name()));
        let request = http::Request::delete(format!("{}/web", self.workloads()));
        let _: Value = self.client.request(request.body(Vec::new())?).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let left = pods.list(&ListParams::default()).await?.items;
            if left.is_empty() {
                break;
            }
            for pod in left {
                match pods
                    .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                    .await
                {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error.into()),
                }
            }
            anyhow::ensure!(Instant::now() < deadline, "pods of {} do not go away", self.namespace);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Requests in turn on new connections and on kept-alive ones, as careful clients send them: one on a kept-alive connection that the
/// server closed before it answered with a single byte is sent once more, as RFC 9110 §9.2.2 lets every client do for GET.
fn load(targets: &[SocketAddr], rate: u32) -> anyhow::Result<Load> {
    let mut lanes = Vec::new();
    for (mode, rate) in [(Mode::HttpNew, rate.div_ceil(2)), (Mode::Http, rate / 2)] {
        if rate > 0 {
            lanes.push(load::lane(mode, rate, targets)?);
        }
    }
    let options = afloat_probe::Options {
        connections: CONNECTIONS,
        retry_idle_close: true,
        ..afloat_probe::Options::default()
    };
    Load::start(options, lanes)
}

/// The pods of a namespace as a watch shows them.
struct PodWatch {
    store: reflector::Store<Pod>,
    changed: tokio::sync::watch::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl PodWatch {
    fn start(api: Api<Pod>) -> Self {
        let (store, writer) = reflector::store();
        let (tell, changed) = tokio::sync::watch::channel(());
        let task = tokio::spawn(FutureExt::boxed(async move {
            let mut stream =
                reflector(writer, events(api, watcher::Config::default(), Pauses::Patient).map(Ok)).boxed();
            while stream.next().await.is_some() {
                tell.send_replace(());
            }
        }));
        Self { store, changed, task }
    }

    fn list(&self) -> Vec<Pod> {
        self.store.state().iter().map(|pod| Pod::clone(pod)).collect()
    }

    /// Looks at every change until `done` says true (and how many it counted, for the message).
    async fn wait(&self, what: &str, done: impl Fn(&[Pod]) -> (usize, bool)) -> anyhow::Result<()> {
        let mut changed = self.changed.clone();
        let deadline = tokio::time::Instant::now() + STEP_LIMIT;
        let mut count = 0;
        loop {
            changed.mark_unchanged();
            let (now, all) = done(&self.list());
            if all {
                return Ok(());
            }
            count = count.max(now);
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => anyhow::bail!("the watch of pods ended"),
                Err(_) => anyhow::bail!("waited {} s for {what} ({count} so far)", STEP_LIMIT.as_secs()),
            }
        }
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
