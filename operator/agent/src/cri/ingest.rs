//! How far a pull is. CRI does not tell; containerd does, by the transfers of its content store, on the same socket. Other runtimes say that
//! they know no such service, and then nothing is told.
//!
//! A transfer does not name the image that it is for. So it is told only while one pull of the agent's goes on: of two at once nobody
//! could say which is how far.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use afloat_words::progress::Progress;
use tokio::time::sleep;
use tonic::Code;

use super::channel::{Call, Channel};
use super::proto::{Ingest, ListStatusesRequest, ListStatusesResponse};

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LIST: Call = Call {
    path: "/containerd.services.content.v1.Content/ListStatuses",
    limit: Some(Duration::from_secs(5)),
};

/// The pulls that go on.
#[derive(Default)]
pub(super) struct Pulls(AtomicUsize);

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pulls {
    /// Tells how far a pull is until it is dropped.
    pub(super) async fn follow(&self, channel: &Channel, progress: &Progress) -> Infallible {
        self.0.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.0);
        let mut seen = Transfers::default();
        loop {
            sleep(LOOK_INTERVAL).await;
            let answer: Result<ListStatusesResponse, _> = channel.ask(LIST, ListStatusesRequest {}).await;
            match answer {
                Ok(answer) if self.0.load(Ordering::Relaxed) == 1 => seen.look(answer.statuses),
                Err(status) if status.code() == Code::Unimplemented => return pending().await,
                _ => continue,
            }
            let (done, total) = seen.sum();
            progress.total.store(total, Ordering::Relaxed);
            progress.done.store(done, Ordering::Relaxed);
        }
    }
}

/// All that were seen: bytes that have come, and bytes in all. Those that are gone are complete.
#[derive(Default)]
struct Transfers(BTreeMap<String, (u64, u64)>);

impl Transfers {
    fn look(&mut self, now: Vec<Ingest>) {
        for (done, total) in self.0.values_mut() {
            *done = *total;
        }
        for transfer in now {
            let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
            let (done, total) = (bytes(transfer.offset), bytes(transfer.total));
            self.0.insert(transfer.reference, (done, total.max(done)));
        }
    }

    fn sum(&self) -> (u64, u64) {
        let add =
            |(done, total): (u64, u64), each: &(u64, u64)| (done.saturating_add(each.0), total.saturating_add(each.1));
        self.0.values().fold((0, 0), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_complete() {
        let transfer = |reference: &str, offset, total| Ingest {
            reference: reference.to_owned(),
            offset,
            total,
        };
        let mut seen = Transfers::default();
        assert_eq!(seen.sum(), (0, 0));
        seen.look(vec![transfer("layer-a", 10, 100), transfer("layer-b", 5, 0)]);
        assert_eq!(seen.sum(), (15, 105));
        seen.look(vec![transfer("layer-a", 60, 100)]);
        assert_eq!(seen.sum(), (65, 105));
        seen.look(vec![]);
        assert_eq!(seen.sum(), (105, 105));
    }
}
