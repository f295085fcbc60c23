//! Turns of work that takes long: never on a thread that others wait for, and only so much at once that processors are left for them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::available_parallelism;
use std::time::Duration;

use afloat_machinery::until_given_up;
use futures::FutureExt;
use futures::future::poll_fn;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Who may compute.
pub(crate) struct Turns {
    /// Work on long bodies: its time is bounded by their length.
    long: Semaphore,
    /// Expressions of strangers, which may take seconds.
    evaluations: Semaphore,
}

/// What kind of work it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It takes as long as a body is.
    Long,
    /// It takes as long as expressions do.
    Evaluation,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            long: Semaphore::new(processors),
            evaluations: Semaphore::new(processors.div_ceil(2)),
        }
    }
}

/// Nobody waits any more for what is being done: it shall end.
pub(crate) struct GivenUp {
    flag: Arc<AtomicBool>,
    alarm: AbortHandle,
}

impl GivenUp {
    /// From then on.
    pub(crate) fn after(limit: Duration) -> Self {
        let flag = Arc::<AtomicBool>::default();
        let told = Arc::clone(&flag);
        // A task of its own: the one that works does not look at the clock.
        let alarm = tokio::spawn(FutureExt::boxed(async move {
            tokio::time::sleep(limit).await;
            told.store(true, Ordering::Relaxed);
        }));
        let alarm = alarm.abort_handle();
        Self { flag, alarm }
    }

    /// Whether it is so now.
    pub(crate) fn is_so(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.alarm.abort();
    }
}

impl Turns {
    /// Runs `work` as what it is. It has a turn while it computes, and none while it waits for something.
    pub(crate) async fn run<T>(&self, kind: Work, given_up: &GivenUp, work: impl Future<Output = T>) -> T {
        let turns = match kind {
            Work::Long => &self.long,
            Work::Evaluation => &self.evaluations,
        };
        // A runtime with one thread has no other.
        let many = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        let mut work = pin!(work);
        loop {
            // Never closed.
            let turn = turns.acquire().await;
            let done = poll_fn(|context| {
                let mut computed = || until_given_up(&given_up.flag, || work.as_mut().poll(context));
                Poll::Ready(if many {
                    tokio::task::block_in_place(computed)
                } else {
                    computed()
                })
            });
            if let Poll::Ready(outcome) = done.await {
                return outcome;
            }
            drop(turn);
            // What it waits for wakes this task.
            let mut waited = false;
            poll_fn(|_| {
                if std::mem::replace(&mut waited, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_leaves_the_turn_to_others() {
        let turns = Turns {
            long: Semaphore::new(1),
            evaluations: Semaphore::new(1),
        };
        let given_up = GivenUp::after(Duration::from_secs(60));
        let (told, heard) = tokio::sync::oneshot::channel();
        let waits = turns.run(Work::Long, &given_up, heard);
        let other = turns.run(Work::Long, &given_up, async { told.send(5).is_ok() });
        assert_eq!(tokio::join!(waits, other), (Ok(5), true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_learns_that_nobody_waits_any_more() {
        let turns = Turns::default();
        let given_up = GivenUp::after(Duration::from_millis(20));
        let work = async {
            while !given_up.is_so() {
                std::hint::spin_loop();
            }
        };
        turns.run(Work::Evaluation, &given_up, work).await;
        assert!(given_up.is_so());
    }
}
