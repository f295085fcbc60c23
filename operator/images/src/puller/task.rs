//! One pull: its tries, its rests and its end.

use std::time::Duration;

use afloat_api::{IF_NOT_PRESENT, ImageKey, PullPhase, TagSpec, TagStatus};
use jiff::{SignedDuration, Timestamp};

use crate::time::{after, seconds};

/// Limits where nothing is said.
const TIMEOUT: i64 = 600;
const RETRIES: u32 = 3;
/// Rests after failures are doubled from one second up to this.
const REST_MAX: i64 = 30;

/// What came of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What the runtime identifies the image by.
    pub id: String,
    /// What the registry has it under (`sha256:…`), if that is known.
    pub digest: String,
}

/// Why a pull failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence.
    pub message: String,
    /// Another try would fail the same way.
    pub lasting: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) version: i64,
    pub(super) if_not_present: bool,
    /// When it was asked for.
    pub(super) asked: Timestamp,
    /// Who asked last: the UID of a job.
    pub(super) owner: String,
    pub(super) phase: Phase,
    /// Seconds of one try, tries after the first, seconds of all.
    timeout: i64,
    retries: u32,
    deadline: Option<i64>,
    started: Option<Timestamp>,
    failures: u32,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting,
    Pulling {
        percent: i32,
    },
    Resting {
        until: Timestamp,
        why: String,
    },
    Ended {
        at: Timestamp,
        outcome: Result<Pulled, String>,
    },
}

impl Phase {
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Pulling { .. })
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    pub(super) fn ready(&self, now: Timestamp) -> bool {
        match self {
            Self::Waiting => true,
            Self::Resting { until, .. } => *until <= now,
            Self::Pulling { .. } | Self::Ended { .. } => false,
        }
    }
}

impl Task {
    pub(super) fn new(tag: &TagSpec) -> Self {
        let mut task = Self {
            version: tag.version,
            if_not_present: false,
            asked: Timestamp::UNIX_EPOCH,
            owner: String::new(),
            phase: Phase::Waiting,
            timeout: TIMEOUT,
            retries: RETRIES,
            deadline: None,
            started: None,
            failures: 0,
        };
        task.follow(tag);
        task
    }

    /// Takes over what is said of the pull now.
    pub(super) fn follow(&mut self, tag: &TagSpec) {
        let policy = tag.pull_policy.clone().unwrap_or_default();
        self.if_not_present = tag.image_pull_policy == IF_NOT_PRESENT;
        self.asked = tag.created_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let owner = tag.owner_references.last().and_then(|owner| owner.uid.clone());
        self.owner = owner.unwrap_or_default();
        self.timeout = policy.timeout_seconds.map_or(TIMEOUT, |limit| i64::from(limit).max(1));
        // As in OpenKruise, less than none is what nobody has said.
        self.retries = policy
            .backoff_limit
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(RETRIES);
        self.deadline = policy.active_deadline_seconds;
    }

    fn end(&self) -> Option<Timestamp> {
        Some(after(self.started?, self.deadline?))
    }

    /// Whether its time is over.
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// Begins a try; gives its limit.
    pub(super) fn begin(&mut self, now: Timestamp) -> Duration {
        self.started.get_or_insert(now);
        self.phase = Phase::Pulling { percent: 0 };
        let limit = SignedDuration::from_secs(self.timeout);
        let left = self.end().map_or(limit, |end| end.duration_since(now));
        Duration::try_from(limit.min(left)).unwrap_or_default()
    }

    /// A try has failed: there is another one, after a rest, or none.
    pub(super) fn failed(&mut self, failure: &Failure, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        if failure.lasting || self.failures > self.retries {
            let tries = match self.failures {
                1 => String::new(),
                many => format!(" (after {many} tries)"),
            };
            self.give_up(&format!("{}{tries}", failure.message), now);
            return;
        }
        let rest = 1_i64 << (self.failures - 1).min(16);
        let until = after(now, rest.min(REST_MAX));
        self.phase = Phase::Resting {
            until: self.end().map_or(until, |end| end.min(until)),
            why: failure.message.clone(),
        };
    }

    pub(super) fn give_up(&mut self, why: &str, now: Timestamp) {
        let before = match &self.phase {
            Phase::Resting { why: before, .. } => format!("; the last try: {before}"),
            _ => String::new(),
        };
        self.phase = Phase::Ended {
            at: now,
            outcome: Err(format!("{why}{before}")),
        };
    }

    pub(super) fn status(&self, key: &ImageKey) -> TagStatus {
        let mut status = TagStatus {
            tag: key.tag.clone(),
            version: self.version,
            start_time: self.started.map(seconds),
            ..TagStatus::default()
        };
        match &self.phase {
            Phase::Waiting => {}
            Phase::Pulling { percent } => {
                status.phase = PullPhase::Pulling;
                status.progress = *percent;
            }
            Phase::Resting { why, .. } => {
                status.phase = PullPhase::Pulling;
                status.message = format!("trying again: {why}");
            }
            Phase::Ended {
                at,
                outcome: Ok(pulled),
            } => {
                status.phase = PullPhase::Succeeded;
                status.progress = 100;
                status.completion_time = Some(seconds(*at));
                status.image_id = format!("{}@{}", key.name, pulled.id);
                status.digest.clone_from(&pulled.digest);
            }
            Phase::Ended { at, outcome: Err(why) } => {
                status.phase = PullPhase::Failed;
                status.completion_time = Some(seconds(*at));
                status.message.clone_from(why);
            }
        }
        status
    }
}
