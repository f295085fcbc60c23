//! What to do next about a CronJob: which of its Jobs are over, which are to be deleted, and whether one is to start.

use std::sync::Arc;

use afloat_words::schedule::{Schedule, zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::loops::events::Tone;
use crate::objects::time::{wake, whole_seconds};
use crate::objects::{CronJob, CronJobStatus, Job, JobReference, annotation, controlled_by, controller_of, uid_of};
use crate::workload::Plan;

use super::missed::{Never, Times};

/// Annotation of a Job: for which time it was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What a plan is made from.
pub(super) struct Observed<'a> {
    pub(super) cron_job: &'a CronJob,
    /// Jobs that it controls.
    pub(super) jobs: &'a [Arc<Job>],
    /// Whether there is a Job of this name in its namespace, whoever made it.
    pub(super) taken: &'a dyn Fn(&str) -> bool,
    /// Times before this are not served: its schedule became another then.
    pub(super) rescheduled: Option<Timestamp>,
}

/// What to do, in this order.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) delete: Vec<Arc<Job>>,
    pub(crate) create: Option<Value>,
    pub(crate) told: Vec<(Tone, &'static str, String)>,
}

/// Decides.
pub(super) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan<Steps, CronJobStatus> {
    let stored = &seen.cron_job.status;
    let mut making = Making {
        seen,
        now,
        steps: Steps::default(),
        status: stored.clone(),
        wake_at: None,
    };
    making.look_at_jobs();
    making.tidy();
    making.schedule();
    Plan {
        steps: making.steps,
        status: Some(making.status).filter(|status| status != stored),
        wake_at: making.wake_at,
    }
}

/// A plan in the making.
struct Making<'a> {
    seen: &'a Observed<'a>,
    now: Timestamp,
    steps: Steps,
    status: CronJobStatus,
    wake_at: Option<Timestamp>,
}

fn name_of(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

fn reference(job: &Job) -> JobReference {
    JobReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        name: name_of(job).to_owned(),
        uid: uid_of(&job.metadata).to_owned(),
        resource_version: job.metadata.resource_version.clone().unwrap_or_default(),
    }
}

impl Making<'_> {
    fn tell(&mut self, tone: Tone, reason: &'static str, message: String) {
        self.steps.told.push((tone, reason, message));
    }

    /// Which of its Jobs run, and when the last one succeeded.
    fn look_at_jobs(&mut self) {
        for job in self.seen.jobs {
            let (name, uid) = (name_of(job), uid_of(&job.metadata));
            let known = self.status.active.iter().any(|active| active.uid == uid);
            let Some(end) = job.status.finished() else {
                if !known && annotation(&job.metadata, SCHEDULED).is_some() {
                    self.status.active.push(reference(job));
                } else if !known {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.tell(Tone::Warning, "UnexpectedJob", message);
                }
                continue;
            };
            if known {
                self.status.active.retain(|active| active.uid != uid);
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                self.tell(Tone::Normal, "SawCompletedJob", message);
            }
            if end.type_ == "Complete" {
                let at = |time: &Option<Time>| time.as_ref().map(|time| time.0);
                if at(&job.status.completion_time) > at(&self.status.last_successful_time) {
                    self.status.last_successful_time.clone_from(&job.status.completion_time);
                }
            }
        }
        let there = |active: &JobReference| self.seen.jobs.iter().any(|job| uid_of(&job.metadata) == active.uid);
        let (active, missing) = std::mem::take(&mut self.status.active).into_iter().partition(there);
        self.status.active = active;
        for job in missing {
            self.tell(
                Tone::Normal,
                "MissingJob",
                format!("Active job went missing: {}", job.name),
            );
        }
    }

    /// Of the Jobs that are over only so many stay.
    fn tidy(&mut self) {
        let spec = &self.seen.cron_job.spec;
        let limits = [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ];
        for (end, limit) in limits {
            let ended = |job: &&Arc<Job>| {
                let over = job.status.finished().is_some_and(|condition| condition.type_ == end);
                over && job.metadata.deletion_timestamp.is_none()
            };
            let mut over: Vec<Arc<Job>> = self.seen.jobs.iter().filter(ended).cloned().collect();
            over.sort_by_key(|job| {
                let start = job.status.start_time.as_ref().map(|time| time.0);
                (start.is_none(), start, name_of(job).to_owned())
            });
            let surplus = limit.map_or(0, |limit| over.len().saturating_sub(limit));
            self.steps.delete.extend(over.into_iter().take(surplus));
        }
    }

    /// Starts the Job that is due, if any.
    fn schedule(&mut self) {
        let (cron_job, now) = (self.seen.cron_job, self.now);
        let spec = &cron_job.spec;
        if cron_job.metadata.deletion_timestamp.is_some() {
            return;
        }
        let name = spec.time_zone.as_deref().unwrap_or_default();
        let Some(zone) = zone(name) else {
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            return self.tell(Tone::Warning, "UnknownTimeZone", message);
        };
        if spec.suspend {
            return;
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                return self.tell(Tone::Warning, "UnparseableSchedule", message);
            }
        };
        let created = cron_job.metadata.creation_timestamp.as_ref();
        let since = self
            .status
            .last_schedule_time
            .as_ref()
            .or(created)
            .map_or(now, |time| time.0);
        let since = self.seen.rescheduled.map_or(since, |changed| changed.max(since));
        let times = Times {
            schedule: &schedule,
            zone: &zone,
            since,
        };
        match self.due(&times) {
            Err(Never) => {
                let why = "time difference between two schedules is less than 1 second";
                let message = format!("invalid schedule: {} : {why}", spec.schedule);
                return self.tell(Tone::Warning, "InvalidSchedule", message);
            }
            Ok(Some(time)) => self.start(time, &zone),
            Ok(None) => {}
        }
        if let Some(at) = times.wake_at(now) {
            wake(&mut self.wake_at, at);
        }
    }

    /// The time to serve, if there is one and it is not too late.
    fn due(&mut self, times: &Times<'_>) -> Result<Option<Timestamp>, Never> {
        let now = self.now;
        let limit = self
            .seen
            .cron_job
            .spec
            .starting_deadline_seconds
            .map(SignedDuration::from_secs);
        let oldest = limit.and_then(|limit| now.checked_sub(limit).ok());
        let missed = times.missed(oldest.map_or(times.since, |oldest| oldest.max(times.since)), now)?;
        let Some(time) = missed.time else {
            return Ok(None);
        };
        if missed.many {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(Tone::Warning, "TooManyMissedTimes", message.to_owned());
        }
        if oldest.is_some_and(|oldest| time < oldest) {
            let shown = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            self.tell(
                Tone::Warning,
                "MissSchedule",
                format!("Missed scheduled time to start a job: {shown}"),
            );
            return Ok(None);
        }
        Ok(Some(time))
    }

    fn start(&mut self, time: Timestamp, zone: &TimeZone) {
        let cron_job = self.seen.cron_job;
        let name = format!(
            "{}-{}",
            cron_job.metadata.name.as_deref().unwrap_or_default(),
            time.as_second() / 60
        );
        if self
            .status
            .last_schedule_time
            .as_ref()
            .is_some_and(|last| last.0 == time)
        {
            return;
        }
        // It was made before, and the process ended before it could say so.
        if self.seen.jobs.iter().any(|job| name_of(job) == name) {
            self.status.last_schedule_time = Some(whole_seconds(time));
            return;
        }
        if (self.seen.taken)(&name) {
            return;
        }
        match cron_job.spec.concurrency_policy.as_str() {
            "Forbid" if !self.status.active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                return self.tell(Tone::Normal, "JobAlreadyActive", message.to_owned());
            }
            "Replace" => {
                let active = std::mem::take(&mut self.status.active);
                let is_active = |job: &&Arc<Job>| active.iter().any(|active| active.uid == uid_of(&job.metadata));
                self.steps
                    .delete
                    .extend(self.seen.jobs.iter().filter(is_active).cloned());
            }
            _ => {}
        }
        self.status.last_schedule_time = Some(whole_seconds(time));
        self.steps.create = Some(job(cron_job, &name, time, zone));
    }
}

/// The Job for a time of the schedule.
fn job(cron_job: &CronJob, name: &str, time: Timestamp, zone: &TimeZone) -> Value {
    let template = &cron_job.spec.job_template;
    let mut job = json!({
        "metadata": {
            "namespace": cron_job.metadata.namespace, "name": name,
            "labels": template.pointer("/metadata/labels"), "annotations": template.pointer("/metadata/annotations"),
            "ownerReferences": [controlled_by::<CronJob>(&cron_job.metadata)],
        },
        "spec": template.get("spec"),
    });
    job["metadata"]["annotations"][SCHEDULED] = json!(shown(time, zone));
    job
}

/// A time by the clocks of a zone, as Go writes it (RFC 3339).
fn shown(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    let format = if local.offset().is_zero() {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%:z"
    };
    local.strftime(format).to_string()
}

/// The CronJob that controls a Job, by name.
pub(super) fn owner_of(job: &Job) -> Option<&str> {
    let owner = controller_of(&job.metadata)?;
    (owner.kind == "CronJob").then_some(owner.name.as_str())
}
