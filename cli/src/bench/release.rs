//! `afloat bench release`: what a release of a large image costs by new pods, in place, and in place with the image pulled beforehand.
//!
//! A cluster in this process with real containers, a pod on each node, and a registry on loopback whose lines are slow. Each node has
//! images of its own, as real ones do, and each release is of an image with a new layer, so that every node pulls it once per
//! release. No volume is attached: a node waits that long before it makes a pod's sandbox, which is where a kubelet waits. All
//! else is what it is; nothing is taken away from what was measured.

mod amounts;
mod layers;
mod manifest;
mod outage;
mod registry;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, Gates};
use afloat_cluster::layout::Inherited;
use afloat_cluster::{Cluster, ClusterOptions, Registries};
use afloat_runtime::registry::{HostNetwork, RegistryOptions};
use afloat_watching::feed::{Pauses, events};
use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource as _};
use serde::{Deserialize, Serialize};

use super::timed::{Ear, Timed};
use crate::embedded;
use crate::options::{parse_budget, parse_duration};
use crate::output;
use crate::process::inner::{Role, run_apart, whole};
use crate::process::signals::Stop;
use amounts::{Bytes, parse_bandwidth, parse_layer};
use layers::Shelf;
use manifest::Way;
use outage::{Call, Outage, Sight, outages};
use registry::Registry;
use report::{Conditions, Outcome, Release};

/// How long the boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether a release is over; its times are those of the watch.
const INTERVAL: Duration = Duration::from_millis(50);
/// A node agent waits so long for a sandbox, and some time has to be left for making it.
const ATTACH_MAX: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "default";

/// `afloat bench release`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReleaseOptions {
    /// Size of the layer that is new in each release; it is on the disk four times for each pod
    #[arg(long, default_value = "200MB", value_name = "BYTES", value_parser = parse_layer)]
    layer: Bytes,
    /// What each node gets from the registry, for example 50MB/s
    #[arg(long, default_value = "50MB/s", value_name = "BYTES/s", value_parser = parse_bandwidth)]
    bandwidth: Bytes,
    /// How long the volumes of a new pod take to attach, at most 60s
    #[arg(long, default_value = "3s", value_parser = parse_attach)]
    attach: Duration,
    /// Pods, each on a node of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pods: u32,
    /// Pods that may be out of service at once: a number or a percentage
    #[arg(long, default_value = "1", value_parser = parse_budget)]
    max_unavailable: String,
    /// Limit for each release
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_attach(text: &str) -> Result<Duration, String> {
    let attach = parse_duration(text)?;
    if attach > ATTACH_MAX {
        return Err(format!("more than {} s", ATTACH_MAX.as_secs()));
    }
    Ok(attach)
}

/// In the outer process, single-threaded.
pub(super) fn bench_release(options: &ReleaseOptions) -> anyhow::Result<i32> {
    run_apart(options)
}

impl Role for ReleaseOptions {
    const NAME: &'static str = "bench-release";

    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32> {
        whole(inherited.restarts, stop, measure(self, &inherited)).await
    }
}

/// The calls of one node's runtime.
#[derive(Default)]
struct Calls(Mutex<Vec<Call>>);

impl Ear for Calls {
    fn heard(&self, verb: &'static str, began: Instant, ended: Instant) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Call { verb, began, ended });
    }
}

/// What is there to release with.
struct World {
    options: ReleaseOptions,
    registry: Arc<Registry>,
    shelf: Arc<Shelf>,
    sets: Api<CloneSet>,
    /// In the order of the nodes.
    calls: Arc<Mutex<Vec<Arc<Calls>>>>,
    sights: Arc<Mutex<Vec<(Instant, Sight)>>>,
}

async fn measure(options: ReleaseOptions, inherited: &Inherited) -> anyhow::Result<i32> {
    room(&inherited.data_dir, &options).context("cannot keep the images")?;
    let registry = Arc::new(Registry::start().await.context("cannot start a registry")?);
    let (dir, shared) = (inherited.data_dir.join("registry"), registry.clone());
    let shelf = tokio::task::spawn_blocking(move || Shelf::stock(&dir, &shared)).await??;
    let calls = Arc::<Mutex<Vec<Arc<Calls>>>>::default();
    let cluster = start(&options, inherited, calls.clone()).await?;
    let client = cluster.client("afloat-bench");
    let world = World {
        registry,
        shelf: Arc::new(shelf),
        sets: Api::namespaced(client.clone(), NAMESPACE),
        calls,
        sights: watch(&client),
        options,
    };
    world
        .start_application(&client)
        .await
        .context("starting the application")?;
    world.registry.limit(world.options.bandwidth.0);
    let mut releases = Vec::new();
    for way in Way::ALL {
        eprintln!("afloat: release {}", way.name());
        releases.push(
            world
                .release(way)
                .await
                .with_context(|| format!("release {}", way.name()))?,
        );
    }
    let options = &world.options;
    let conditions = Conditions {
        pods: options.pods,
        max_unavailable: options.max_unavailable.clone(),
        layer_bytes: options.layer,
        bandwidth_bytes_per_second: options.bandwidth,
        attach_seconds: options.attach.as_secs_f64(),
        debug_build: cfg!(debug_assertions),
    };
    let outcome = Outcome::new(conditions, releases);
    let text = if options.json {
        serde_json::to_string_pretty(&outcome)? + "\n"
    } else {
        outcome.text()
    };
    output::print(&text)?;
    cluster.stop().await;
    Ok(0)
}

/// Whether the disk has room for the layers: one of each release in the registry and on each node, and what is under way.
fn room(dir: &Path, options: &ReleaseOptions) -> anyhow::Result<()> {
    let facts = rustix::fs::statvfs(dir)?;
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let releases = Way::ALL.len() as u64;
    let copies = releases + u64::from(options.pods) * (releases + 1);
    let wanted = options.layer.0.saturating_mul(copies);
    anyhow::ensure!(
        free > wanted,
        "{} has {} left, and --layer {} with --pods {} takes {}",
        dir.display(),
        Bytes(free),
        options.layer,
        options.pods,
        Bytes(wanted)
    );
    Ok(())
}

/// A cluster whose nodes pull for themselves, and are heard.
async fn start(
    options: &ReleaseOptions,
    inherited: &Inherited,
    calls: Arc<Mutex<Vec<Arc<Calls>>>>,
) -> anyhow::Result<Cluster> {
    let attach = options.attach;
    let cluster = embedded::start_with_operator(
        ClusterOptions {
            own_images: true,
            puller: Some(Registries {
                network: Arc::new(HostNetwork),
                options: RegistryOptions::default(),
            }),
            // Nodes are started one after another.
            wrap: Some(Arc::new(move |runtime| {
                let own = Arc::<Calls>::default();
                calls.lock().unwrap_or_else(PoisonError::into_inner).push(own.clone());
                Timed::with_volumes(runtime, own, attach)
            })),
            ..ClusterOptions::inside(options.pods, inherited)
        },
        Gates::default(),
    )
    .await?;
    cluster.wait_ready(BOOT_LIMIT).await?;
    Ok(cluster)
}

/// Notes from now on what is seen of the application's pods.
fn watch(client: &Client) -> Arc<Mutex<Vec<(Instant, Sight)>>> {
    let sights = Arc::<Mutex<Vec<(Instant, Sight)>>>::default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let note = sights.clone();
    tokio::spawn(async move {
        let mut events = events(pods, Config::default().labels(manifest::SELECTOR), Pauses::Quick).boxed();
        while let Some(event) = events.next().await {
            if let Event::Apply(pod) | Event::InitApply(pod) = event {
                let mut sights = note.lock().unwrap_or_else(PoisonError::into_inner);
                sights.push((Instant::now(), sight(&pod)));
            }
        }
    });
    sights
}

fn sight(pod: &Pod) -> Sight {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Sight {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        image: spec
            .and_then(|spec| spec.containers.first()?.image.clone())
            .unwrap_or_default(),
        serves: ready && pod.metadata.deletion_timestamp.is_none(),
    }
}

impl World {
    /// The version that all releases begin from, in service on every node. Nothing is measured of it.
    async fn start_application(&self, client: &Client) -> anyhow::Result<()> {
        let service: Service = serde_json::from_value(manifest::service())?;
        let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
        services.create(&PostParams::default(), &service).await?;
        let image = self.put("start", None).await?;
        let set = self.set(Way::Recreate, &image);
        let request = kube::core::Request::new(CloneSet::url_path(&(), Some(NAMESPACE)));
        let request = request.create(&PostParams::default(), serde_json::to_vec(&set)?)?;
        client.request::<CloneSet>(request).await?;
        self.until(|| self.settled()).await
    }

    fn set(&self, way: Way, image: &str) -> serde_json::Value {
        manifest::cloneset(way, image, (self.options.pods, &self.options.max_unavailable))
    }

    async fn put(&self, tag: &'static str, noise: Option<u64>) -> anyhow::Result<String> {
        let (shelf, registry) = (self.shelf.clone(), self.registry.clone());
        tokio::task::spawn_blocking(move || shelf.put(&registry, tag, noise)).await?
    }

    /// Releases a new image in that way.
    async fn release(&self, way: Way) -> anyhow::Result<Release> {
        let image = self.put(way.name(), Some(self.options.layer.0)).await?;
        let sent = self.registry.sent();
        let patch = Patch::Merge(self.set(way, &image));
        let patched = Instant::now();
        self.sets.patch("web", &PatchParams::default(), &patch).await?;
        self.until(|| async {
            Ok(self.settled().await? && self.outages(patched, &image).len() == self.options.pods as usize)
        })
        .await?;
        let pulls = self
            .calls(patched)
            .values()
            .flatten()
            .filter(|call| call.verb == "pull")
            .count();
        let bytes = self.registry.sent() - sent;
        Ok(Release::new(
            way,
            patched,
            &self.outages(patched, &image),
            (pulls, bytes),
        ))
    }

    fn outages(&self, patched: Instant, image: &str) -> BTreeMap<String, Outage> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = sights.partition_point(|(at, _)| *at < patched);
        // What was there before is where a release begins.
        let mut last = BTreeMap::new();
        for (at, sight) in &sights[..before] {
            last.insert(sight.uid.clone(), (*at, sight.clone()));
        }
        let whole: Vec<_> = last.into_values().chain(sights[before..].iter().cloned()).collect();
        outages(&whole, &self.calls(patched), image)
    }

    /// Calls since then, by node.
    fn calls(&self, since: Instant) -> BTreeMap<String, Vec<Call>> {
        let nodes = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |calls: &Calls| -> Vec<Call> {
            let calls = calls.0.lock().unwrap_or_else(PoisonError::into_inner);
            calls.iter().filter(|call| call.began >= since).copied().collect()
        };
        (1..)
            .zip(nodes.iter())
            .map(|(number, calls)| (format!("node-{number}"), of(calls)))
            .collect()
    }

    /// Whether all pods are updated and available, as the set tells it.
    async fn settled(&self) -> anyhow::Result<bool> {
        let set = self.sets.get("web").await?;
        let (status, pods) = (&set.status, i32::try_from(self.options.pods)?);
        let told = set
            .metadata
            .generation
            .is_some_and(|generation| status.observed_generation >= generation);
        Ok(told && status.replicas == pods && status.updated_available_replicas == pods)
    }

    async fn until<T>(&self, done: impl Fn() -> T) -> anyhow::Result<()>
    where
        T: Future<Output = anyhow::Result<bool>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        while !done().await? {
            anyhow::ensure!(
                Instant::now() < deadline,
                "not all pods are updated and available within {} s",
                self.options.timeout.as_secs_f64()
            );
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }
}
