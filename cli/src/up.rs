//! `afloat up`: the embedded cluster in the foreground.

mod options;
mod sample;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_api::Gates;
use afloat_apiserver::Pki;
use afloat_cluster::layout::{self, HostOptions, Inherited};
use afloat_cluster::{Cluster, ClusterOptions, HostDns, LEAVING_LIMIT, Registries};
use afloat_runtime::image::Thresholds;
use anyhow::Context as _;

use crate::embedded;
use crate::options::data_dir::{data_dir, make_private_dir};
use crate::options::registries::registry_options;
use crate::output;
use crate::process::inner::{Role, inner_arguments};
use crate::process::memory;
use crate::process::signals::Stop;

pub(crate) use options::UpOptions;
pub(crate) use sample::{SampleOptions, run_sample};

/// How long a boot may take before it counts as failed.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// What the operator's gates say; an error names the flag.
fn gates(options: &UpOptions) -> anyhow::Result<Gates> {
    let text = &options.feature_gates;
    let (gates, warnings) = Gates::parse(text).with_context(|| format!("--feature-gates {text}"))?;
    for warning in warnings {
        tracing::warn!("--feature-gates: {warning}");
    }
    Ok(gates)
}

/// In the outer process, single-threaded.
pub(crate) fn run_up(options: &UpOptions) -> anyhow::Result<i32> {
    anyhow::ensure!(
        options.images.image_gc_low_threshold <= options.images.image_gc_high_threshold,
        "--image-gc-low-threshold {} is above --image-gc-high-threshold {}",
        options.images.image_gc_low_threshold,
        options.images.image_gc_high_threshold
    );
    gates(options)?;
    let mut options = options.clone();
    for path in &mut options.images.registries.authorities {
        *path = std::path::absolute(&*path)?;
        // The nodes have their own of these.
        let hidden = ["/run", "/sys", "/proc"].iter().any(|dir| path.starts_with(dir));
        anyhow::ensure!(
            !hidden,
            "--registry-ca {}: the nodes cannot see it there; put it elsewhere",
            path.display()
        );
    }
    registry_options(&options.images.registries).check()?;
    let data_dir = data_dir(options.data_dir.as_deref())?;
    make_private_dir(&data_dir)?;
    let _lock = lock(&data_dir)?;
    let code = layout::outer(HostOptions {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, options.port))],
        data_dir: Some(data_dir),
        inner_args: inner_arguments(&options)?,
        ..HostOptions::default()
    })?;
    Ok(code)
}

impl Role for UpOptions {
    const NAME: &'static str = "up";
    const LOGGED: &'static str = "warn";

    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32> {
        serve_until_stopped(self, inherited, stop).await
    }
}

async fn serve_until_stopped(options: UpOptions, mut inherited: Inherited, mut stop: Stop) -> anyhow::Result<i32> {
    let data_dir = inherited.data_dir.clone();
    let pki = afloat_cluster::certificates(&data_dir).await?;
    let listener = inherited
        .listeners
        .pop()
        .context("the outer process gave no listening socket")?;
    let parts = parts(&options, &inherited, pki.clone()).await?;
    let mut cluster = if options.no_operator {
        embedded::start_without_operator(parts).await?
    } else {
        embedded::start_with_operator(parts, gates(&options)?).await?
    };
    let kubeconfig = data_dir.join("kubeconfig");
    let address = cluster.serve_on(listener, pki, &kubeconfig)?;
    tokio::select! {
        ready = cluster.wait_ready(BOOT_LIMIT) => ready?,
        code = stop.requested() => { cluster.stop().await; return Ok(code); }
    }
    if inherited.restarts == 0 {
        memory::give_back_now().await;
        announce(&options, &cluster, &address, &kubeconfig)?;
    } else {
        eprintln!("afloat: the inner process was started again; containers go on");
    }
    stop.requested().await;
    eprintln!("afloat: stopping");
    cluster.stop().await;
    Ok(0)
}

/// What the cluster is made of.
async fn parts(options: &UpOptions, inherited: &Inherited, pki: Arc<Pki>) -> anyhow::Result<ClusterOptions> {
    let broker = &inherited.broker;
    let dns = if options.nodes > 0 {
        let port = options.dns_port;
        let opened = HostDns::open(broker.clone(), port).await;
        Some(opened.with_context(|| format!("cannot serve DNS on 127.0.0.1:{port}: choose another --dns-port"))?)
    } else {
        None
    };
    let address = dns.as_ref().map(|dns| dns.sockets.tcp.local_addr()).transpose()?;
    crate::dns::note_address(&inherited.data_dir, address)?;
    Ok(ClusterOptions {
        proxy_lag: options.proxy_lag.into(),
        oci_runtime: options.oci_runtime.clone(),
        puller: (!options.images.offline).then(|| Registries {
            network: Arc::new(broker.clone()),
            options: registry_options(&options.images.registries),
        }),
        image_thresholds: Thresholds {
            high_percent: options.images.image_gc_high_threshold,
            low_percent: options.images.image_gc_low_threshold,
            minimum_age: options.images.minimum_image_ttl_duration,
        },
        webhooks: Some(Arc::new(broker.clone())),
        host_ports: Some(afloat_cluster::host_ports(broker.clone())),
        dns,
        pki: Some(pki),
        ..ClusterOptions::inside(options.nodes, inherited)
    })
}

fn announce(options: &UpOptions, cluster: &Cluster, address: &SocketAddr, kubeconfig: &Path) -> anyhow::Result<()> {
    let file = kubeconfig.display();
    let mut text = format!(
        "Kubernetes is up at https://{address}: {} nodes Ready in {:.2} s, {:.0} MiB.\n\n  export KUBECONFIG={file}\n  kubectl get nodes,pods,clonesets -A\n\n",
        cluster.nodes().len(),
        layout::since_start().as_secs_f64(),
        layout::rss_mib()
    );
    if options.no_operator {
        text.push_str(&format!(
            "The operator is not part of it: afloat operator --kubeconfig {file}\n"
        ));
    }
    if options.nodes > 0 {
        text.push_str("Something to play with: afloat sample\n");
    }
    let dir = kubeconfig.parent().unwrap_or(kubeconfig).display();
    text.push_str(&format!("Ctrl-C stops it; the state stays in {dir}.\n"));
    output::print(&text)
}

/// Two clusters in one folder would destroy each other. Of one that was killed, other processes may hold the lock until they
/// are gone, too: they are waited for.
fn lock(dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = dir.join("lock");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if started.elapsed() < LEAVING_LIMIT && !holder_lives(&path) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                anyhow::bail!(
                    "{} is in use by another afloat up: stop that one, or say --data-dir DIR",
                    dir.display()
                )
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    // For whoever finds it locked.
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Whether the process that took the lock is still there. A zombie is not.
fn holder_lives(lock: &Path) -> bool {
    let pid = std::fs::read_to_string(lock).unwrap_or_default();
    afloat_runtime::process::state(pid.trim()).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
