//! `afloat bench lossless`: the proof that rollouts lose nothing, whatever fails meanwhile.
//!
//! One application behind a Service is rolled out again and again, in place, by new pods, in and out, under a load of all protocols that
//! never pauses. The proxies learn late, each change of another lag, and in most rollouts something fails: see [`plan`]. What
//! was lost is told request by request, with what happened to the pods around it.

mod faults;
mod manifest;
mod plan;
mod report;
mod round;

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, Gates, names};
use afloat_cluster::layout::Inherited;
use afloat_cluster::{Cluster, ClusterOptions};
use afloat_probe::watch::ServiceWatch;
use afloat_probe::{Mode, timeline};
use afloat_proxy::Lag;
use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::embedded;
use crate::load::{self, Load};
use crate::options::parse_duration;
use crate::output;
use crate::process::inner::{Role, run_apart, whole};
use crate::process::signals::Stop;
use faults::Faults;
use plan::{FaultChoice, Plan};
use report::{Conditions, Metered, Outcome};
use round::World;

/// How long a boot may take.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// Load before the first rollout: if anything is lost then, it is not the rollout that loses it.
const WARM_UP: Duration = Duration::from_secs(1);
/// Where the application is.
const NAMESPACE: &str = "default";

/// `afloat bench lossless`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LosslessOptions {
    /// Roll out until so many requests were sent, and every fault was there once
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Decides the order of rollouts and faults, when and where faults strike, and the proxies' lags
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    nodes: u32,
    /// Pods of the application, half of which may be away at once
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=100))]
    replicas: u32,
    /// Each change reaches each node's proxy after a time of its own, by chance between nothing and this
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    proxy_lag_max: Duration,
    /// What fails during rollouts, in turn (may be given several times) [default: all]
    #[arg(long = "fault", value_enum)]
    faults: Vec<FaultChoice>,
    /// How long the API server, a node agent or a reporter is away
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    outage: Duration,
    /// Protocols, named as the modes of `afloat probe` (may be given several times) [default: all]
    #[arg(long = "protocol", value_name = "MODE", value_parser = parse_mode)]
    protocols: Vec<String>,
    /// Requests a second in each protocol; a third of it for streams, which stay open for 5 s
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    rate: u32,
    /// Connections that each protocol keeps open, if it keeps any
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// When a pod may be changed or deleted; `timed` means at once here, as there is no quiet period, and loses requests
    #[arg(long, value_enum, default_value = "observed")]
    drain: Drain,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// See [`names::DRAIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
enum Drain {
    /// Once all proxies have let go of it
    Observed,
    /// After its quiet period
    Timed,
}

fn parse_mode(text: &str) -> Result<String, String> {
    let mode: Result<Mode, _> = text.parse();
    mode.map(|mode| mode.name().to_owned())
        .map_err(|error| error.to_string())
}

/// In the outer process, single-threaded.
pub(super) fn bench_lossless(options: &LosslessOptions) -> anyhow::Result<i32> {
    run_apart(options)
}

impl Role for LosslessOptions {
    const NAME: &'static str = "bench-lossless";

    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32> {
        whole(inherited.restarts, stop, prove(self, &inherited)).await
    }
}

impl LosslessOptions {
    fn modes(&self) -> anyhow::Result<Vec<Mode>> {
        if self.protocols.is_empty() {
            return Ok(Mode::ALL.to_vec());
        }
        let mut modes = Vec::new();
        for name in &self.protocols {
            let mode: Mode = name.parse()?;
            if !modes.contains(&mode) {
                modes.push(mode);
            }
        }
        Ok(modes)
    }

    fn faults(&self) -> Vec<FaultChoice> {
        if self.faults.is_empty() {
            return <FaultChoice as clap::ValueEnum>::value_variants().to_vec();
        }
        self.faults.clone()
    }

    fn lag(&self) -> Lag {
        let (dice, most) = (Mutex::new(StdRng::seed_from_u64(self.seed)), self.proxy_lag_max);
        Lag::drawn(move || {
            let part: f64 = dice.lock().unwrap_or_else(PoisonError::into_inner).random();
            most.mul_f64(part)
        })
    }
}

async fn prove(options: LosslessOptions, inherited: &Inherited) -> anyhow::Result<i32> {
    let modes = options.modes()?;
    let faults = Faults::new();
    let cluster = embedded::start_with_operator(
        ClusterOptions {
            proxy_lag: options.lag(),
            supervisor: faults.clone(),
            ..ClusterOptions::inside(options.nodes, inherited)
        },
        Gates::default(),
    )
    .await?;
    cluster.wait_ready(STEP_LIMIT).await?;
    embedded::build_app_images(&cluster, &manifest::IMAGES).await?;
    let client = cluster.client("afloat-bench");
    let world = World {
        faults,
        sets: Api::namespaced(client.clone(), NAMESPACE),
        pods: Api::namespaced(client.clone(), NAMESPACE),
        replicas: options.replicas,
        outage: options.outage,
    };
    let service = start_application(&options, &client).await?;
    world.done(options.replicas).await.context("starting the application")?;
    let lanes = lanes(&options, &modes, &cluster, &service).await?;
    let watch = ServiceWatch::start(&client, &service);
    let probe = afloat_probe::Options {
        connections: options.connections,
        ..afloat_probe::Options::default()
    };
    let started = Instant::now();
    let load = Load::start(probe, lanes)?;
    tokio::time::sleep(WARM_UP).await;
    anyhow::ensure!(load.so_far().1 == 0, "requests were lost before anything was changed");
    let rollouts = roll_out(&options, &world, &load).await?;
    let mut report = load.finish().await?;
    let seconds = started.elapsed().as_secs_f64();
    timeline::explain(&mut report.losses, &watch.happenings());
    let conditions = Conditions {
        seed: options.seed,
        nodes: options.nodes,
        replicas: options.replicas,
        proxy_lag_max_seconds: options.proxy_lag_max.as_secs_f64(),
        outage_seconds: options.outage.as_secs_f64(),
    };
    let snapshots: Vec<_> = cluster.nodes().iter().map(|node| node.proxy.snapshot()).collect();
    let proxies = Metered::of("web", &snapshots);
    let outcome = Outcome::new(conditions, seconds, report, proxies, rollouts);
    let text = if options.json {
        serde_json::to_string(&outcome)? + "\n"
    } else {
        outcome.text()
    };
    output::print(&text)?;
    cluster.stop().await;
    Ok(i32::from(!outcome.holds()))
}

/// Makes the Service and the CloneSet behind it.
async fn start_application(options: &LosslessOptions, client: &Client) -> anyhow::Result<Service> {
    let service: Service = serde_json::from_str(&manifest::service().to_string())?;
    let service = Api::namespaced(client.clone(), NAMESPACE)
        .create(&PostParams::default(), &service)
        .await?;
    let drain = match options.drain {
        Drain::Observed => names::DRAIN_OBSERVED,
        Drain::Timed => names::DRAIN_TIMED,
    };
    let set = manifest::cloneset(
        options.replicas,
        drain,
        manifest::linger(options.connections, options.rate),
    );
    let path = CloneSet::url_path(&(), Some(NAMESPACE));
    let request = kube::core::Request::new(path).create(&PostParams::default(), serde_json::to_vec(&set)?)?;
    client.request::<CloneSet>(request).await?;
    Ok(service)
}

/// Rolls out until enough was sent and every fault was there.
async fn roll_out(options: &LosslessOptions, world: &World, load: &Load) -> anyhow::Result<Vec<report::RoundReport>> {
    let mut plan = Plan::new(
        options.seed,
        &options.faults(),
        options.nodes as usize,
        u64::from(options.replicas),
    );
    let (mut rollouts, mut image) = (Vec::new(), 0);
    while rollouts.len() < plan.pass_length() || load.so_far().0 < options.requests {
        let round = plan.next();
        if round.motion != plan::Motion::Scale {
            image = 1 - image;
        }
        let (sent, lost) = load.so_far();
        eprintln!(
            "afloat: {sent} requests sent, {lost} lost; rollout {}: {}, fault: {}",
            rollouts.len() + 1,
            round.motion.name(),
            round.fault.name()
        );
        let context = || format!("{}, fault: {}", round.motion.name(), round.fault.name());
        let image = manifest::IMAGES[image].0;
        rollouts.push(world.play(round, image, load).await.with_context(context)?);
    }
    Ok(rollouts)
}

/// The load of each protocol, once all proxies serve it.
async fn lanes(
    options: &LosslessOptions,
    modes: &[Mode],
    cluster: &Cluster,
    service: &Service,
) -> anyhow::Result<Vec<afloat_probe::Lane>> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let mut lanes = Vec::new();
    for mode in modes {
        let name = manifest::port_name(*mode);
        let port = ports.iter().find(|port| port.name.as_deref() == Some(name));
        let port = port.and_then(|port| u16::try_from(port.node_port?).ok());
        let port = port.with_context(|| format!("the Service's port {name} has no node port"))?;
        let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| (node.ip, port).into()).collect();
        for address in &addresses {
            serves(*address).await?;
        }
        let rate = if *mode == Mode::GrpcStream {
            options.rate / 3
        } else {
            options.rate
        };
        lanes.push(load::lane(*mode, rate, &addresses)?);
    }
    Ok(lanes)
}

/// Waits until a proxy listens: it does once the Service has an endpoint.
async fn serves(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the proxy at {address} does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
