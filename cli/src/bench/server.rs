//! `afloat bench server`: the embedded API server alone, as a process of its own.

use std::path::Path;

use afloat_cluster::{ControlPlane, ControlPlaneOptions};

use crate::output;
use crate::process::logging::start_logging;
use crate::process::signals::Stop;

/// Serves until told to stop. Prints the path of its kubeconfig once it does.
pub(super) fn serve_alone(dir: &Path) -> anyhow::Result<i32> {
    start_logging("warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let mut server = ControlPlane::start(ControlPlaneOptions {
            data_dir: Some(dir.to_owned()),
            controllers: false,
        })
        .await?;
        let kubeconfig = server.serve(dir).await?;
        output::print(&format!("{}\n", kubeconfig.display()))?;
        stop.requested().await;
        server.stop().await;
        Ok(0)
    })
}
