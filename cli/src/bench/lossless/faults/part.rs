//! A part of the cluster that can be killed.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use afloat_apiserver::{ApiServer, User};
use afloat_cluster::StartPart;
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::life::{Blow, Life, Shared};
use super::line;
use super::reach::Reach;

/// How long a part is gone when it dies by itself or at a [`Blow`], as its supervisor starts it again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// A part of the cluster.
pub(crate) struct Part {
    api: ApiServer,
    user: User,
    reach: watch::Receiver<Reach>,
    /// Whether it may live.
    wanted: watch::Sender<bool>,
    shared: Arc<Shared>,
}

impl Part {
    pub(super) fn new(api: ApiServer, user: User, reach: watch::Receiver<Reach>) -> Self {
        Self {
            api,
            user,
            reach,
            wanted: watch::Sender::new(true),
            shared: Arc::default(),
        }
    }

    /// Kills it, and leaves it dead until [`Part::revive`].
    pub(crate) fn kill(&self) {
        self.wanted.send_replace(false);
    }

    /// Lets it be started again.
    pub(crate) fn revive(&self) {
        self.wanted.send_replace(true);
    }

    /// From now on each life ends at that write of its; or none does any more.
    pub(crate) fn set_blow(&self, blow: Option<Blow>) {
        *self.shared.blow.lock().unwrap_or_else(PoisonError::into_inner) = blow;
    }

    /// Writes that were done so far, of all lives, Events left out.
    pub(crate) fn writes(&self) -> watch::Receiver<u64> {
        self.shared.writes.subscribe()
    }

    /// How often it was killed.
    pub(crate) fn kills(&self) -> u64 {
        self.shared.kills.load(SeqCst)
    }

    /// Life after life, for ever.
    pub(super) async fn live(&self, start: StartPart) {
        let mut wanted = self.wanted.subscribe();
        loop {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            let life = Life::new(&self.shared);
            let client = line::client(&self.api, self.user.clone(), self.reach.clone(), Some(life.clone()));
            // A task of its own, so that it is dropped as a whole at whatever it waits for.
            let mut running = AbortOnDropHandle::new(tokio::spawn(start(client).boxed()));
            let killed = tokio::select! {
                _ = &mut running => false,
                () = life.ended.cancelled() => true,
                _ = wanted.wait_for(|wanted| !*wanted) => true,
            };
            life.ended.cancel();
            running.abort();
            if killed {
                self.shared.kills.fetch_add(1, SeqCst);
                let _ = running.await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
