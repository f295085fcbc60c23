//! A part of the cluster that can be killed, and its lives.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_apiserver::ApiServer;
use afloat_cluster::StartPart;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Reach, line};

/// How long a part is gone when it dies by itself or at a [`Blow`], as its supervisor starts it again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// At which of its own writes each life of a part ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Before its write of that number reaches the API server.
    Before(u64),
    /// After the write of that number is done, and before its answer arrives.
    After(u64),
}

/// Which side of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

impl Blow {
    /// Whether it falls now, that `write` is the number of the write in its life.
    fn falls(self, moment: Moment, write: u64) -> bool {
        match self {
            Self::Before(number) => moment == Moment::Before && write >= number,
            Self::After(number) => moment == Moment::After && write >= number,
        }
    }
}

/// A part of the cluster.
pub(crate) struct Part {
    api: ApiServer,
    user: String,
    reach: watch::Receiver<Reach>,
    /// Whether it may live.
    wanted: watch::Sender<bool>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    blow: Mutex<Option<Blow>>,
    /// Of all lives.
    writes: watch::Sender<u64>,
    kills: AtomicU64,
}

/// From one start to the next kill.
pub(super) struct Life {
    /// Cancelled: dead.
    pub(super) ended: CancellationToken,
    writes: AtomicU64,
    part: Arc<Shared>,
}

impl Life {
    /// Counts a write that is about to leave or that was done, and dies of it if that is its lot.
    pub(super) async fn strike(&self, moment: Moment) {
        let write = match moment {
            Moment::Before => self.writes.fetch_add(1, SeqCst) + 1,
            Moment::After => {
                self.part.writes.send_modify(|writes| *writes += 1);
                self.writes.load(SeqCst)
            }
        };
        let blow = *self.part.blow.lock().unwrap_or_else(PoisonError::into_inner);
        if blow.is_some_and(|blow| blow.falls(moment, write)) {
            self.ended.cancel();
            std::future::pending::<()>().await;
        }
    }
}

impl Part {
    pub(super) fn new(api: ApiServer, user: &str, reach: watch::Receiver<Reach>) -> Self {
        Self {
            api,
            user: user.to_owned(),
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
            let life = Arc::new(Life {
                ended: CancellationToken::new(),
                writes: AtomicU64::new(0),
                part: self.shared.clone(),
            });
            let client = line::client(&self.api, &self.user, self.reach.clone(), Some(life.clone()));
            // A task of its own, so that it is dropped as a whole at whatever it waits for.
            let mut running = AbortOnDropHandle::new(tokio::spawn(start(client)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blow_falls_on_its_side_of_its_write() {
        for (blow, moment, write, falls) in [
            (Blow::Before(2), Moment::Before, 1, false),
            (Blow::Before(2), Moment::After, 2, false),
            (Blow::Before(2), Moment::Before, 2, true),
            (Blow::After(1), Moment::Before, 1, false),
            (Blow::After(1), Moment::After, 1, true),
        ] {
            assert_eq!(blow.falls(moment, write), falls, "{blow:?} {moment:?} {write}");
        }
    }
}
