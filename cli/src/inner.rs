//! The inner process: what runs inside the namespaces that the outer process made.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use afloat_runtime::host::{self, Broker, HostOptions};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{BenchNodeOptions, DemoOptions, UpOptions};
use crate::bench::lossless::LosslessOptions;

/// When the outer process was started, nanoseconds of the monotonic clock; boot times count from there.
const STARTED: &str = "AFLOAT_STARTED";

/// Resident pages of the outer process, which cannot be seen from the inner one's namespace and does not grow.
const OUTER_PAGES: &str = "AFLOAT_OUTER_PAGES";

/// The host's `/etc/resolv.conf`, which often leads to a folder that the inner process does not see.
pub(crate) const HOST_RESOLV_CONF: &str = "AFLOAT_HOST_RESOLV_CONF";

/// What the inner process is there for.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Up(UpOptions),
    Demo(DemoOptions),
    BenchNode(BenchNodeOptions),
    BenchLossless(LosslessOptions),
}

/// The inner process' command line.
pub(crate) fn arguments(role: &Role) -> anyhow::Result<Vec<OsString>> {
    Ok(vec!["inner".into(), serde_json::to_string(role)?.into()])
}

/// Variables that the outer process adds for the inner one.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    vec![
        (STARTED.into(), monotonic().as_nanos().to_string().into()),
        (HOST_RESOLV_CONF.into(), host_resolv_conf().into()),
        (OUTER_PAGES.into(), resident_pages("self").to_string().into()),
    ]
}

fn host_resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

pub(crate) fn main(arguments: &[OsString]) -> anyhow::Result<i32> {
    let inherited = host::inherited().context("`inner` is started by afloat itself")?;
    let role = arguments.first().and_then(|a| a.to_str()).context("no role given")?;
    let role: Role = serde_json::from_str(role).context("cannot read the role")?;
    start_logging(match role {
        Role::Up(_) => "warn",
        Role::Demo(_) | Role::BenchNode(_) | Role::BenchLossless(_) => "error",
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async move {
        let stop = Stop::new()?;
        match role {
            Role::Up(options) => crate::up::inner(options, inherited, stop).await,
            Role::Demo(options) => crate::demo::inner(options, inherited, stop).await,
            Role::BenchNode(options) => crate::bench::node::inner(options, inherited, stop).await,
            Role::BenchLossless(options) => crate::bench::lossless::inner(options, inherited, stop).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// In the outer process: runs a role in a cluster that keeps nothing and that the host does not reach.
pub(crate) fn run_apart(role: &Role) -> anyhow::Result<i32> {
    Ok(host::run(HostOptions {
        listen: Vec::new(),
        data_dir: None,
        inner_args: arguments(role)?,
        environment: environment(),
    })?)
}

/// In the inner process: runs what cannot be taken up half-way until its end, or until the user wants it to stop.
pub(crate) async fn whole<F>(
    restarts: u32,
    mut stop: Stop,
    run: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<i32>
where
    F: Future<Output = anyhow::Result<i32>>,
{
    anyhow::ensure!(
        restarts == 0,
        "the cluster died half-way; its figures would mean nothing"
    );
    let token = stop.token();
    tokio::select! {
        result = run(token) => result,
        code = stop.requested() => Ok(code),
    }
}

/// Log lines go to standard error; `AFLOAT_LOG` chooses which, as `RUST_LOG` does elsewhere.
pub(crate) fn start_logging(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("AFLOAT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}

/// The user's wish to stop, as signals tell it.
pub(crate) struct Stop {
    token: CancellationToken,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            token: CancellationToken::new(),
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancelled when the process is to stop.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Returns once the user wants it to stop, with the exit code that says so.
    pub(crate) async fn requested(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        }
    }
}

/// Opens NodePorts on the host by way of the outer process.
struct HostPorts(Arc<Broker>);

#[async_trait::async_trait]
impl afloat_proxy::HostPorts for HostPorts {
    async fn listen(&self, address: std::net::SocketAddr) -> std::io::Result<std::net::TcpListener> {
        let broker = self.0.clone();
        tokio::task::spawn_blocking(move || broker.listen(address))
            .await
            .map_err(std::io::Error::other)?
    }
}

pub(crate) fn host_ports(broker: Broker) -> Arc<dyn afloat_proxy::HostPorts> {
    Arc::new(HostPorts(Arc::new(broker)))
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// How long ago the outer process was started.
pub(crate) fn since_start() -> Duration {
    let started = std::env::var(STARTED)
        .ok()
        .and_then(|v| v.parse::<u64>().ok())
        .map(Duration::from_nanos);
    started.map_or(Duration::ZERO, |s| monotonic().saturating_sub(s))
}

/// Resident memory of all of afloat's own processes (outer, pid 1 and inner; not of containers), MiB. Pages that they share
/// count once for each.
pub(crate) fn rss_mib() -> f64 {
    let outer = std::env::var(OUTER_PAGES)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0_u64);
    let pages = resident_pages("self") + resident_pages("1") + outer;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let bytes = (pages * rustix::param::page_size() as u64) as f64;
    bytes / (1024.0 * 1024.0)
}

fn resident_pages(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
