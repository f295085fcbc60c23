//! Our own condition, `Rollout`: whether a rollout goes on, how far it is, and the one sentence that says what it waits for.

use afloat_api::Figures;

use super::conditions::Verdict;
use crate::pod::object::Pod;

/// How far a rollout is, in the reasons that OpenKruise's condition of a CloneSet has; those of other kinds are made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Pods move.
    Updating,
    /// The workload is paused.
    Paused,
    /// As many as the partition leaves are updated.
    PartitionAvailable,
    /// All are updated and available.
    Available,
    /// It takes longer than allowed.
    TimedOut,
}

impl Progress {
    /// For a workload of that kind.
    pub fn reason(self, kind: &str) -> String {
        match self {
            Self::Updating => format!("{kind}Updated"),
            Self::Paused => format!("{kind}Paused"),
            Self::PartitionAvailable => "ProgressPartitionAvailable".into(),
            Self::Available => format!("{kind}Available"),
            Self::TimedOut => "ProgressDeadlineExceeded".into(),
        }
    }

    /// What OpenKruise says of it; dashboards and scripts read it.
    pub fn text(self, kind: &str) -> String {
        match self {
            Self::Updating => format!("{kind} is progressing"),
            Self::Paused => format!("{kind} is paused"),
            Self::PartitionAvailable => format!("{kind} has been paused due to partition ready"),
            Self::Available => format!("{kind} is available"),
            Self::TimedOut => format!("{kind} {TIMED_OUT}"),
        }
    }
}

/// The end of OpenKruise's sentence about a deadline; the revision stands in front of it.
pub const TIMED_OUT: &str = "has timed out progressing";

/// Whether a rollout has come further since the old status; each by its update revision.
pub fn moved((old_revision, old): (&str, Figures), (new_revision, new): (&str, Figures)) -> bool {
    let outdated = |figures: Figures| figures.total - figures.updated;
    old_revision != new_revision
        || old.total != new.total
        || new.updated > old.updated
        || new.updated_ready > old.updated_ready
        || new.updated_available > old.updated_available
        || new.available > old.available
        || outdated(new) < outdated(old)
}

/// The verdict. `pods` are those that are not available, `waits` the sentences that the plan collected.
pub fn rollout(kind: &str, paused: bool, figures: Figures, pods: &[&Pod], waits: &[String]) -> Verdict {
    let Figures { wanted, expected, .. } = figures;
    let done = figures.updated >= expected && figures.total == wanted;
    let still = |progress: Progress| Verdict {
        status: false,
        reason: progress.reason(kind),
        message: progress.text(kind),
    };
    if paused && figures.updated < expected {
        return still(Progress::Paused);
    }
    if done && figures.available >= wanted && waits.is_empty() {
        let partly = expected < wanted && figures.updated < wanted;
        return still(if partly {
            Progress::PartitionAvailable
        } else {
            Progress::Available
        });
    }
    let updated = figures.updated.min(expected);
    let mut sentences = vec![format!("{updated} of {expected} pods updated")];
    sentences.extend(waits.iter().cloned());
    sentences.extend(not_ready(pods));
    Verdict {
        status: true,
        reason: Progress::Updating.reason(kind),
        message: sentences.join("; "),
    }
}

/// The sentence about pods that are not Ready: how many, and what the first of them says.
fn not_ready(pods: &[&Pod]) -> Option<String> {
    let unready: Vec<_> = pods.iter().filter(|pod| !pod.ready()).collect();
    let first = unready.first()?;
    let why = first.status.container_statuses.iter().find_map(|status| {
        let reason = status.state.waiting.as_ref()?.reason.as_deref()?;
        Some(format!(": container {} of {} {reason}", status.name, first.name()))
    });
    let noun = if unready.len() == 1 { "pod" } else { "pods" };
    Some(format!("{} {noun} not Ready{}", unready.len(), why.unwrap_or_default()))
}
