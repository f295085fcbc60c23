use serde_json::json;

use super::plan::{Observed, Steps, plan};
use super::*;
use crate::objects::Job;
use crate::workload::Plan;

const NEW: &str = "2026-03-29T00:00:00Z";

fn cron_job(spec: Value, status: Value) -> CronJob {
    let mut spec = spec;
    spec["jobTemplate"] = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"completions": 2}});
    serde_json::from_value(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": NEW},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

/// A Job of the CronJob; `end` is the condition it ended with, if it did.
fn job(name: &str, end: &str, started: &str) -> Arc<Job> {
    let conditions = if end.is_empty() {
        json!([])
    } else {
        json!([{"type": end, "status": "True"}])
    };
    let completion = (end == "Complete").then_some(started);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "7",
                "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": started}},
            "status": {"startTime": started, "completionTime": completion, "conditions": conditions},
        }))
        .unwrap(),
    )
}

fn active(names: &[&str]) -> Value {
    let active = names
        .iter()
        .map(|name| json!({"name": name, "namespace": "n", "uid": name}));
    json!({"active": active.collect::<Vec<_>>()})
}

fn decide(cron_job: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan<Steps, CronJobStatus> {
    let seen = Observed {
        cron_job,
        jobs,
        taken: &|_| false,
        rescheduled: None,
    };
    plan(&seen, now.parse().unwrap())
}

fn told(plan: &Plan<Steps, CronJobStatus>) -> Vec<&'static str> {
    plan.steps.told.iter().map(|(_, reason, _)| *reason).collect()
}

fn created(plan: &Plan<Steps, CronJobStatus>) -> Option<&str> {
    plan.steps
        .create
        .as_ref()
        .map(|job| job["metadata"]["name"].as_str().unwrap())
}

fn wakes(plan: &Plan<Steps, CronJobStatus>) -> String {
    plan.wake_at.map(|at| at.to_string()).unwrap_or_default()
}

#[test]
fn a_job_is_made_for_each_time_once() {
    let hourly = cron_job(json!({"schedule": "0 * * * *", "timeZone": "Europe/Berlin"}), json!({}));
    let early = decide(&hourly, &[], "2026-03-29T00:30:00Z");
    assert_eq!((created(&early), early.status.is_none()), (None, true));
    assert_eq!(wakes(&early), "2026-03-29T01:00:00.1Z");
    let due = decide(&hourly, &[], "2026-03-29T01:00:00.1Z");
    assert_eq!(created(&due), Some("c-29579100"));
    let job_made = due.steps.create.as_ref().unwrap();
    let annotation = &job_made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(annotation, "2026-03-29T03:00:00+02:00", "the clocks went forward");
    assert_eq!(
        (&job_made["metadata"]["labels"]["a"], &job_made["spec"]["completions"]),
        (&json!("b"), &json!(2))
    );
    assert_eq!(job_made["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    assert_eq!(wakes(&due), "2026-03-29T02:00:00.1Z");
    let status = due.status.unwrap();
    assert_eq!(
        status.last_schedule_time.as_ref().unwrap().0.to_string(),
        "2026-03-29T01:00:00Z"
    );
    // Then it runs, and is over.
    let mut hourly = hourly;
    hourly.status = status;
    let running = decide(&hourly, &[job("c-29579100", "", NEW)], "2026-03-29T01:00:01Z");
    assert_eq!((created(&running), told(&running)), (None, vec![]));
    hourly.status = running.status.unwrap();
    assert_eq!(hourly.status.active[0].resource_version, "7");
    let over = decide(
        &hourly,
        &[job("c-29579100", "Complete", "2026-03-29T01:00:10Z")],
        "2026-03-29T01:00:20Z",
    );
    assert_eq!(told(&over), ["SawCompletedJob"]);
    let status = over.status.unwrap();
    assert_eq!(
        status.last_successful_time.unwrap().0.to_string(),
        "2026-03-29T01:00:10Z"
    );
    assert!(status.active.is_empty());
}

#[test]
fn one_that_was_made_before_the_process_died_is_not_made_again() {
    let hourly = cron_job(json!({"schedule": "0 * * * *"}), json!({}));
    let decided = decide(&hourly, &[job("c-29579100", "", NEW)], "2026-03-29T01:00:05Z");
    assert_eq!(created(&decided), None);
    let status = decided.status.unwrap();
    assert_eq!((status.active.len(), status.last_schedule_time.is_some()), (1, true));
    let finished = decide(&hourly, &[job("c-29579100", "Complete", NEW)], "2026-03-29T01:00:05Z");
    assert_eq!(
        (
            created(&finished),
            finished.status.as_ref().unwrap().last_schedule_time.is_some()
        ),
        (None, true)
    );
}

#[test]
fn concurrency_is_as_asked() {
    for (policy, makes, deletes, reason) in [
        ("Allow", true, 0, None),
        ("Forbid", false, 0, Some("JobAlreadyActive")),
        ("Replace", true, 1, None),
    ] {
        let hourly = cron_job(
            json!({"schedule": "0 * * * *", "concurrencyPolicy": policy}),
            active(&["c-1"]),
        );
        let decided = decide(&hourly, &[job("c-1", "", NEW)], "2026-03-29T01:00:05Z");
        assert_eq!(
            (created(&decided).is_some(), decided.steps.delete.len()),
            (makes, deletes),
            "{policy}"
        );
        assert_eq!(told(&decided).first().copied(), reason, "{policy}");
        assert_eq!(wakes(&decided), "2026-03-29T02:00:00.1Z");
    }
}

#[test]
fn the_oldest_that_are_over_go() {
    let spec = json!({"schedule": "0 0 1 1 *", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("new", "Complete", "2026-03-03T00:00:00Z"),
        job("old", "Complete", "2026-03-01T00:00:00Z"),
        job("failed", "Failed", "2026-03-02T00:00:00Z"),
        job("runs", "", "2026-02-01T00:00:00Z"),
    ];
    let decided = decide(&cron_job(spec, json!({})), &jobs, "2026-03-29T01:00:00Z");
    let gone: Vec<&str> = decided
        .steps
        .delete
        .iter()
        .filter_map(|job| job.metadata.name.as_deref())
        .collect();
    assert_eq!(gone, ["old", "failed"]);
}

#[test]
fn what_was_missed_is_made_up_for_once_unless_it_is_too_late() {
    let last = |time: &str| json!({"lastScheduleTime": time});
    for (spec, now, makes, reasons) in [
        (
            json!({"schedule": "0 * * * *"}),
            "2026-03-29T05:30:00Z",
            Some("c-29579340"),
            vec![],
        ),
        (
            json!({"schedule": "0 * * * *", "startingDeadlineSeconds": 600}),
            "2026-03-29T05:30:00Z",
            None,
            vec![],
        ),
        (
            json!({"schedule": "0 * * * *", "startingDeadlineSeconds": 3000}),
            "2026-03-29T05:30:00Z",
            Some("c-29579340"),
            vec![],
        ),
        (
            json!({"schedule": "* * * * *"}),
            "2026-03-29T05:30:30Z",
            Some("c-29579370"),
            vec!["TooManyMissedTimes"],
        ),
        (
            json!({"schedule": "0 * * * *", "suspend": true}),
            "2026-03-29T05:30:00Z",
            None,
            vec![],
        ),
        (
            json!({"schedule": "0 0 30 2 *"}),
            "2026-03-29T05:30:00Z",
            None,
            vec!["InvalidSchedule"],
        ),
        (
            json!({"schedule": "0 * * *"}),
            "2026-03-29T05:30:00Z",
            None,
            vec!["UnparseableSchedule"],
        ),
        (
            json!({"schedule": "0 * * * *", "timeZone": "Mars/X"}),
            "2026-03-29T05:30:00Z",
            None,
            vec!["UnknownTimeZone"],
        ),
    ] {
        let decided = decide(&cron_job(spec.clone(), last("2026-03-29T01:00:00Z")), &[], now);
        assert_eq!((created(&decided), told(&decided)), (makes, reasons), "{spec}");
    }
}

#[test]
fn another_schedule_does_not_begin_in_the_past() {
    let daily = cron_job(json!({"schedule": "30 12 * * *"}), json!({}));
    let seen = Observed {
        cron_job: &daily,
        jobs: &[],
        taken: &|_| false,
        rescheduled: Some("2026-03-29T13:00:00Z".parse().unwrap()),
    };
    let decided = plan(&seen, "2026-03-29T13:00:01Z".parse().unwrap());
    assert_eq!(
        (created(&decided), wakes(&decided).as_str()),
        (None, "2026-03-30T12:30:00.1Z")
    );
}

#[test]
fn strangers_and_missing_ones_are_told_of() {
    let yearly = cron_job(json!({"schedule": "0 0 1 1 *"}), active(&["gone"]));
    let mut by_hand = Job::clone(&job("by-hand", "", NEW));
    by_hand.metadata.annotations = None;
    let decided = decide(&yearly, &[Arc::new(by_hand)], "2026-03-29T01:00:00Z");
    assert_eq!(told(&decided), ["UnexpectedJob", "MissingJob"]);
    assert!(decided.status.unwrap().active.is_empty());
}
