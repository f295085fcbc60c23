//! Load on a runtime of its own, so that neither takes the other's turn: the load and what is measured by it.

use std::net::SocketAddr;
use std::sync::Arc;

use afloat_probe::{Counts, Lane, Mode, Options, Probe, Report, TcpDial};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A probe that runs until it is finished or dropped.
pub(crate) struct Load {
    probe: Option<Probe>,
    runtime: Option<Runtime>,
}

/// So many requests a second of a mode, in turn to each of these addresses.
pub(crate) fn lane(mode: Mode, rate: u32, addresses: &[SocketAddr]) -> std::io::Result<Lane> {
    Ok(Lane {
        mode,
        rate,
        dial: Arc::new(TcpDial::new(addresses.to_vec())?),
        authority: "web".to_owned(),
    })
}

impl Load {
    /// Starts to send.
    pub(crate) fn start(options: Options, lanes: Vec<Lane>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("load")
            .enable_all()
            .build()?;
        let probe = {
            let _inside = runtime.enter();
            Probe::start(options, lanes, CancellationToken::new())?
        };
        Ok(Self {
            probe: Some(probe),
            runtime: Some(runtime),
        })
    }

    /// The counters of each lane now.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        self.probe.as_ref().map(Probe::counts).unwrap_or_default()
    }

    /// Requests of all lanes that were due, and those that were lost or could not even be sent.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        self.counts().iter().fold((0, 0), |(due, lost), c| {
            (due + c.sent + c.skipped, lost + c.lost.total() + c.skipped)
        })
    }

    /// Sends no more, waits for the answers under way, and tells what happened.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Report> {
        match self.probe.take() {
            Some(probe) => Ok(probe.finish().await),
            None => anyhow::bail!("the load was finished already"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops this may be on a runtime, where nothing may block.
            runtime.shutdown_background();
        }
    }
}
