//! The shell: sends what is due, and waits for what is under way.

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::counts::{Counts, Latency};
use crate::grpc;
use crate::h1::Pool;
use crate::h2c::Connections;
use crate::loss::Loss;
use crate::meter::{self, Meter};
use crate::options::{Lane, Mode, Options};
use crate::outcome::Failure;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::tcp::Lines;

/// Why a probe cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep latencies: {0}")]
pub struct StartError(#[from] hdrhistogram::CreationError);

/// A run of some modes, which goes on by itself.
pub struct Probe {
    lanes: Vec<(u32, Arc<Meter>)>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    /// Answered and lost when the last window ended.
    told: (u64, u64),
}

/// What came of the requests between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Good answers.
    pub ok: u64,
    /// Losses.
    pub lost: u64,
    /// Of the good answers, over all modes; None where there are none.
    pub latency: Option<Latency>,
}

impl Probe {
    /// Starts to send on the runtime of the caller, until all is sent or `stop` is cancelled.
    pub fn start(options: Options, lanes: Vec<Lane>, stop: CancellationToken) -> Result<Self, StartError> {
        let options = Arc::new(options);
        let room = Arc::new(Semaphore::new(options.max_in_flight as usize));
        let start = Start {
            monotonic: Instant::now(),
            wall: Timestamp::now(),
        };
        let (mut meters, mut tasks) = (Vec::new(), Vec::new());
        for lane in lanes {
            let meter = Arc::new(Meter::new(lane.mode)?);
            meters.push((lane.rate, meter.clone()));
            let run = LaneRun {
                start,
                schedule: Schedule::new(lane.rate, options.duration, options.requests),
                user: Arc::new(User::new(&lane, &options, stop.child_token())),
                meter,
                options: options.clone(),
                room: room.clone(),
                stop: stop.clone(),
            };
            tasks.push(tokio::spawn(run.send_all()));
        }
        Ok(Self {
            lanes: meters,
            tasks,
            stop,
            told: (0, 0),
        })
    }

    /// What came since the last call, or since the start.
    pub fn window(&mut self) -> Window {
        let now = self.counts().iter().fold((0, 0), |(ok, lost), counts| {
            (ok + counts.ok, lost + counts.lost.total())
        });
        let before = std::mem::replace(&mut self.told, now);
        Window {
            ok: now.0 - before.0,
            lost: now.1 - before.1,
            latency: meter::window(self.lanes.iter().map(|(_, meter)| &**meter)),
        }
    }

    /// The counters of each mode now, in the order of the lanes.
    #[must_use]
    pub fn counts(&self) -> Vec<Counts> {
        self.lanes.iter().map(|(_, meter)| meter.counts()).collect()
    }

    /// The losses so far.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        self.lanes.iter().flat_map(|(_, meter)| meter.losses()).collect()
    }

    /// Waits until all is sent (or the token that `start` got is cancelled) and answered or lost.
    pub async fn wait(&mut self) {
        // Removed only after its end, so that a wait that is given up can be taken up again.
        while let Some(task) = self.tasks.last_mut() {
            // A task that panicked shows in counts that do not add up: sent, but neither answered nor lost.
            let _ = task.await;
            self.tasks.pop();
        }
    }

    /// Sends no more, waits for the answers under way, and tells what happened.
    pub async fn finish(mut self) -> Report {
        self.stop.cancel();
        self.wait().await;
        let modes = self.lanes.iter().map(|(rate, meter)| meter.report(*rate)).collect();
        let mut report = Report::new(modes, self.losses());
        report.latency = meter::latency(self.lanes.iter().map(|(_, meter)| &**meter));
        report
    }

    /// Starts, waits and reports.
    pub async fn run(options: Options, lanes: Vec<Lane>, stop: CancellationToken) -> Result<Report, StartError> {
        let mut probe = Self::start(options, lanes, stop)?;
        probe.wait().await;
        Ok(probe.finish().await)
    }
}

/// One moment on two clocks.
#[derive(Clone, Copy)]
struct Start {
    monotonic: Instant,
    wall: Timestamp,
}

impl Start {
    fn wall(self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.monotonic);
        jiff::SignedDuration::try_from(since)
            .ok()
            .and_then(|since| self.wall.checked_add(since).ok())
            .unwrap_or(self.wall)
    }
}

/// What uses the target in the way of a mode.
enum User {
    Http(Pool),
    Http2(Connections, String),
    Grpc(Connections),
    GrpcStream(Connections, CancellationToken),
    Tcp(Lines),
}

impl User {
    fn new(lane: &Lane, options: &Options, ended: CancellationToken) -> Self {
        let connections = usize::from(options.connections.max(1));
        let h2 = || Connections::new(lane.dial.clone(), connections, lane.authority.clone());
        let pool = |kept| Pool::new(lane, options, kept);
        match lane.mode {
            Mode::Http => Self::Http(pool(Some(connections))),
            Mode::HttpNew => Self::Http(pool(None)),
            Mode::Http2 => Self::Http2(h2(), options.path.clone()),
            Mode::Grpc => Self::Grpc(h2()),
            Mode::GrpcStream => Self::GrpcStream(h2(), ended),
            Mode::Tcp => Self::Tcp(Lines::new(
                lane.dial.clone(),
                Some(connections),
                options.retry_idle_close,
            )),
            Mode::TcpNew => Self::Tcp(Lines::new(lane.dial.clone(), None, options.retry_idle_close)),
        }
    }

    /// Carries out one request; the moment of its answer.
    async fn request(&self, number: u64, options: &Options, meter: &Meter) -> Result<Instant, Failure> {
        let limited = async {
            match self {
                Self::Http(pool) => pool.request(meter).await,
                Self::Http2(connections, path) => connections.get(path, meter).await,
                Self::Grpc(connections) => grpc::check(connections, meter).await,
                Self::Tcp(lines) => lines.exchange(number, meter).await,
                // Limits itself: it may well be open for longer.
                Self::GrpcStream(..) => Ok(()),
            }
        };
        if let Self::GrpcStream(connections, ended) = self {
            return grpc::watch(connections, options, ended, meter).await;
        }
        match timeout(options.timeout, limited).await {
            Ok(result) => result.map(|()| Instant::now()),
            Err(_) => Err(Failure::too_late(options.timeout)),
        }
    }
}

struct LaneRun {
    start: Start,
    schedule: Schedule,
    user: Arc<User>,
    meter: Arc<Meter>,
    options: Arc<Options>,
    room: Arc<Semaphore>,
    stop: CancellationToken,
}

impl LaneRun {
    async fn send_all(self) {
        let mut under_way = tokio::task::JoinSet::new();
        let mut number = 0;
        while let Some(due) = self.schedule.due(number) {
            let due = self.start.monotonic + due;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = sleep_until(due) => {}
            }
            // Those that ended are forgotten, so that the set stays as small as what is under way.
            while under_way.try_join_next().is_some() {}
            if let Ok(place) = self.room.clone().try_acquire_owned() {
                self.meter.sent();
                let (start, user, meter, options) =
                    (self.start, self.user.clone(), self.meter.clone(), self.options.clone());
                under_way.spawn(FutureExt::boxed(async move {
                    match user.request(number, &options, &meter).await {
                        Ok(answered) => meter.ok(answered.saturating_duration_since(due)),
                        Err(failure) => meter.lost(start.wall(due), start.wall(Instant::now()), failure),
                    }
                    drop(place);
                }));
            } else {
                self.meter.skipped();
            }
            number += 1;
        }
        // Each ends within its limit; streams are ended by the token or their own time.
        while under_way.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_go_together() {
        let start = Start {
            monotonic: Instant::now(),
            wall: Timestamp::UNIX_EPOCH,
        };
        let later = start.monotonic + std::time::Duration::from_millis(1500);
        assert_eq!(start.wall(later).as_millisecond(), 1500);
    }
}
