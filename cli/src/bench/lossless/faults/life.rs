//! The lives of a part: each begins with a client of its own, and may end at a write.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

/// What all lives of a part have in common.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) blow: Mutex<Option<Blow>>,
    /// Of all lives.
    pub(super) writes: watch::Sender<u64>,
    pub(super) kills: AtomicU64,
}

/// From one start to the next kill.
pub(super) struct Life {
    /// Cancelled: dead.
    pub(super) ended: CancellationToken,
    writes: AtomicU64,
    part: Arc<Shared>,
}

impl Life {
    pub(super) fn new(part: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            ended: CancellationToken::new(),
            writes: AtomicU64::new(0),
            part: part.clone(),
        })
    }

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
