//! One ImagePullJob: how far it is, when it has ended, and when it goes.

use std::collections::BTreeMap;

use afloat_api::{ImageKey, ImagePullJob, ImagePullJobStatus, SecretReference};
use jiff::Timestamp;

use crate::select::State;
use crate::time::{after, seconds};

/// Nodes that a message names.
const EXAMPLES: usize = 3;
/// Of each node's reason.
const REASON_CHARS: usize = 300;

/// A job that goes on.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) job: &'a ImagePullJob,
    pub(crate) key: ImageKey,
    pub(crate) states: BTreeMap<&'a str, State>,
    /// Where its logins are.
    pub(crate) secrets: Vec<SecretReference>,
    /// Whether nodes may be asked: not before its logins are in place.
    pub(crate) may_ask: bool,
    /// What else there is to say of it.
    pub(crate) remarks: Vec<String>,
}

impl Standing<'_> {
    /// What there is to report, and when to look again.
    pub(crate) fn report(&self, now: Timestamp) -> (ImagePullJobStatus, Option<Timestamp>) {
        let mut status = begun(self.job, now);
        let of = |wanted: fn(&State) -> bool| -> Vec<&str> {
            let nodes = self.states.iter().filter(|(_, state)| wanted(state));
            nodes.map(|(node, _)| *node).collect()
        };
        let succeeded = of(|state| *state == State::Succeeded);
        let mut failed = of(|state| matches!(state, State::Failed(_)));
        let active = of(|state| *state == State::Active);
        let unasked = of(|state| matches!(state, State::Unasked | State::Absent));
        status.desired = small(self.states.len());
        status.succeeded = small(succeeded.len());
        let left = active.len() + unasked.len();
        let completion = &self.job.spec.template.completion_policy;
        let ends = !self.job.spec.template.never_ends();
        let start = status.start_time.as_ref().map_or(now, |time| time.0);
        let deadline = completion.active_deadline_seconds.filter(|_| ends);
        let deadline = deadline.map(|seconds| after(start, seconds));
        let late = left > 0 && deadline.is_some_and(|deadline| deadline <= now);
        let words = if late {
            failed.extend(active.iter().chain(&unasked));
            status.completion_time = Some(seconds(now));
            "job exceeds activeDeadlineSeconds".to_owned()
        } else {
            status.active = small(active.len());
            if ends && left == 0 {
                status.completion_time = Some(seconds(now));
            }
            progress(&status, failed.len())
        };
        failed.sort_unstable();
        status.failed = small(failed.len());
        status.message = [vec![words], self.remarks.clone(), self.failures(&failed)]
            .concat()
            .join("; ");
        status.failed_nodes = failed.into_iter().map(str::to_owned).collect();
        let wake = deadline.filter(|_| status.completion_time.is_none());
        (status, wake)
    }

    /// Which nodes have failed, and why, of some of them.
    fn failures(&self, failed: &[&str]) -> Vec<String> {
        let Some(first) = failed.first() else {
            return match self.states.is_empty() {
                true => vec!["no node is chosen".to_owned()],
                false => Vec::new(),
            };
        };
        let why = |node: &&str| {
            let reason = match self.states.get(*node) {
                Some(State::Failed(why)) => why.as_str(),
                Some(State::Active) => "not done in time",
                _ => "its turn did not come in time",
            };
            format!("{node}: {}", cut(reason))
        };
        let told: Vec<_> = failed.iter().take(EXAMPLES).map(why).collect();
        let more = failed.len().saturating_sub(EXAMPLES);
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        debug_assert!(!first.is_empty(), "nodes have names");
        vec![format!("failed on {}{more}", told.join(", "))]
    }
}

/// The status of a job whose image is none.
pub(crate) fn invalid(job: &ImagePullJob, why: &str, now: Timestamp) -> ImagePullJobStatus {
    ImagePullJobStatus {
        message: format!("invalid image {}: {why}", job.spec.image),
        completion_time: Some(seconds(now)),
        ..begun(job, now)
    }
}

fn begun(job: &ImagePullJob, now: Timestamp) -> ImagePullJobStatus {
    ImagePullJobStatus {
        start_time: Some(job.status.start_time.clone().unwrap_or_else(|| seconds(now))),
        ..ImagePullJobStatus::default()
    }
}

/// What OpenKruise says.
fn progress(status: &ImagePullJobStatus, failed: usize) -> String {
    if status.completion_time.is_some() {
        return "job has completed".into();
    }
    if status.desired == 0 {
        return "job is running, no progress".into();
    }
    let ended = f64::from(status.succeeded) + f64::from(small(failed));
    format!(
        "job is running, progress {:.1}%",
        100.0 * ended / f64::from(status.desired)
    )
}

/// When an ended job is to be deleted; None: never, or it has not ended.
pub(crate) fn goes(ended: Option<Timestamp>, ttl: Option<i32>) -> Option<Timestamp> {
    Some(after(ended?, i64::from(ttl?)))
}

pub(crate) fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
