//! Faults of a cluster of this process, injected on purpose: parts that are killed and started anew, and an API server that
//! does not answer. Only a cluster that is given a [`Faults`] has them; no command that serves users gives it one.
//!
//! They sit where real ones do, between a part and the API server: every part of such a cluster has a client whose
//! [`mod@line`] can be cut. A part that is killed is dropped at whatever it waits for, and from the same moment no request of that life
//! reaches the API server, not even one of a task that still runs.

mod life;
mod line;
mod part;
mod reach;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use afloat_apiserver::{ApiServer, User};
use afloat_cluster::{Running, StartPart, Supervisor};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) use life::Blow;
pub(super) use part::Part;
pub(super) use reach::Reach;

/// The faults of one cluster.
pub(crate) struct Faults {
    reach: watch::Sender<Reach>,
    parts: Mutex<BTreeMap<String, Arc<Part>>>,
}

impl Faults {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            reach: watch::Sender::new(Reach::Up),
            parts: Mutex::default(),
        })
    }

    /// Takes the API server away from all parts, or gives it back.
    pub(crate) fn set_reach(&self, reach: Reach) {
        self.reach.send_replace(reach);
    }

    /// A part by the name that it was started with.
    pub(crate) fn part(&self, name: &str) -> Option<Arc<Part>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(name).cloned()
    }
}

impl Supervisor for Faults {
    /// Of a part that is never killed.
    fn client(&self, api: &ApiServer, user: User) -> kube::Client {
        line::client(api, user, self.reach.subscribe(), None)
    }

    /// Life after life, until `shutdown`.
    fn supervise(
        &self,
        name: &str,
        api: &ApiServer,
        user: User,
        start: StartPart,
        shutdown: CancellationToken,
    ) -> Running {
        let part = Arc::new(Part::new(api.clone(), user, self.reach.subscribe()));
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(name.to_owned(), part.clone());
        Box::pin(async move {
            shutdown.run_until_cancelled(part.live(start)).await;
        })
    }
}

#[cfg(test)]
mod tests;
