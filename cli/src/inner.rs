//! The inner process: what runs inside the namespaces that the outer process made.

use std::ffi::OsString;

use afloat_cluster::layout::{self, HostOptions};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{BenchNodeOptions, DemoOptions, UpOptions};
use crate::bench::lossless::LosslessOptions;

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
    Ok(vec![layout::INNER.into(), serde_json::to_string(role)?.into()])
}

pub(crate) fn main(arguments: &[OsString]) -> anyhow::Result<i32> {
    let role = arguments.first().and_then(|a| a.to_str());
    layout::inner(|inherited| async move {
        let role: Role = serde_json::from_str(role.context("no role given")?).context("cannot read the role")?;
        start_logging(match role {
            Role::Up(_) => "warn",
            Role::Demo(_) | Role::BenchNode(_) | Role::BenchLossless(_) => "error",
        });
        let stop = Stop::new()?;
        match role {
            Role::Up(options) => crate::up::inner(options, inherited, stop).await,
            Role::Demo(options) => crate::demo::inner(options, inherited, stop).await,
            Role::BenchNode(options) => crate::bench::node::inner(options, inherited, stop).await,
            Role::BenchLossless(options) => crate::bench::lossless::inner(options, inherited, stop).await,
        }
    })
    .context("`inner` is started by afloat itself")?
}

/// In the outer process: runs a role in a cluster that keeps nothing and that the host does not reach.
pub(crate) fn run_apart(role: &Role) -> anyhow::Result<i32> {
    Ok(layout::outer(HostOptions {
        inner_args: arguments(role)?,
        ..HostOptions::default()
    })?)
}

/// In the inner process: runs what cannot be taken up half-way until its end, or until the user wants it to stop.
pub(crate) async fn whole(
    restarts: u32,
    mut stop: Stop,
    run: impl Future<Output = anyhow::Result<i32>>,
) -> anyhow::Result<i32> {
    anyhow::ensure!(
        restarts == 0,
        "the cluster died half-way; its figures would mean nothing"
    );
    tokio::select! {
        result = run => result,
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
