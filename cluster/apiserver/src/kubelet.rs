//! What the kubelets are asked.

mod proxy;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use crate::options::KubeletDialer;
use crate::read::Reader;

/// Passes requests on to the kubelets of nodes. A cheap handle.
#[derive(Clone)]
pub(crate) struct Kubelets {
    dialer: Arc<dyn KubeletDialer>,
    /// How long one may take to answer.
    limit: Duration,
    reader: Reader,
}

impl Kubelets {
    /// Those that `dialer` reaches, of the pods that `reader` finds.
    pub(crate) fn new(dialer: Arc<dyn KubeletDialer>, limit: Duration, reader: Reader) -> Self {
        Self { dialer, limit, reader }
    }

    /// What reaches them, and their pods.
    pub(crate) fn dialer(&self) -> Arc<dyn KubeletDialer> {
        Arc::clone(&self.dialer)
    }
}
