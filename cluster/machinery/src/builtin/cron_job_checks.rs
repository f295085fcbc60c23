//! Checks of CronJobs.
//!
//! Source: Kubernetes' `pkg/apis/batch/validation`.

use afloat_words::schedule::{Schedule, zone};
use serde_json::{Value, json};

use super::batch_checks::{job_spec, spec_warnings};
use super::workload_checks::{at_least_zero, spec_of};
use crate::FieldError;
use crate::field::{invalid, not_supported, required};
use crate::json::text;

/// Longest name of a CronJob, in bytes: its Jobs have eleven more.
const CRON_JOB_NAME_MOST: usize = 52;

/// Checks a CronJob.
pub(crate) fn cron_job(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    let schedule = text(spec.get("schedule"));
    if schedule.is_empty() {
        errors.push(required("spec.schedule", ""));
    } else if let Err(error) = Schedule::parse(schedule) {
        errors.push(invalid("spec.schedule", schedule, &error.to_string()));
    }
    at_least_zero(spec, "startingDeadlineSeconds", "spec", &mut errors);
    let policy = text(spec.get("concurrencyPolicy"));
    let policies = ["Allow", "Forbid", "Replace"];
    if !policies.contains(&policy) {
        errors.push(not_supported("spec.concurrencyPolicy", policy, &policies));
    }
    let job = crate::get(spec, &["jobTemplate", "spec"]).unwrap_or(&Value::Null);
    job_spec(job, "spec.jobTemplate.spec", &mut errors);
    if let Some(selector) = job.get("selector").filter(|selector| !selector.is_null()) {
        errors.push(invalid(
            "spec.jobTemplate.spec.selector",
            selector.clone(),
            "`selector` will be auto-generated",
        ));
    }
    if job.get("manualSelector") == Some(&json!(true)) {
        errors.push(not_supported(
            "spec.jobTemplate.spec.manualSelector",
            true,
            &["nil", "false"],
        ));
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        at_least_zero(spec, key, "spec", &mut errors);
    }
    errors
}

/// What may not be in a new CronJob.
pub(crate) fn cron_job_create(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    zone_in_schedule(spec_of(object), false, &mut errors);
    time_zone(spec_of(object), &mut errors);
    let name = text(crate::get(object, &["metadata", "name"]));
    if name.len() > CRON_JOB_NAME_MOST {
        errors.push(invalid("metadata.name", name, "must be no more than 52 characters"));
    }
    errors
}

/// Checks the step from one CronJob to the next: what was taken before the rules came stays.
pub(crate) fn cron_job_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let (old, new, mut errors) = (spec_of(old), spec_of(new), Vec::new());
    zone_in_schedule(new, text(old.get("schedule")).contains("TZ"), &mut errors);
    if old.get("timeZone") != new.get("timeZone") {
        time_zone(new, &mut errors);
    }
    errors
}

fn zone_in_schedule(spec: &Value, allowed: bool, errors: &mut Vec<FieldError>) {
    let schedule = text(spec.get("schedule"));
    let has_zone = spec.get("timeZone").is_some_and(|zone| !zone.is_null());
    let detail = match (schedule.contains("TZ"), allowed) {
        (true, true) if has_zone => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        _ => return,
    };
    errors.push(invalid("spec.schedule", schedule, detail));
}

fn time_zone(spec: &Value, errors: &mut Vec<FieldError>) {
    let Some(name) = spec.get("timeZone").and_then(Value::as_str) else {
        return;
    };
    let path = "spec.timeZone";
    if name.is_empty() {
        errors.push(invalid(path, name, "timeZone must be nil or non-empty string"));
    } else if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(invalid(path, name, detail));
        if name != "Local" {
            errors.push(invalid(path, name, &format!("unknown time zone {name}")));
        }
    } else if zone(name).is_none() {
        errors.push(invalid(path, name, &format!("unknown time zone {name}")));
    }
}

/// What one should know about a CronJob.
pub(crate) fn cron_job_warnings(object: &Value) -> Vec<String> {
    let mut warnings = spec_warnings(
        crate::get(object, &["spec", "jobTemplate", "spec"]),
        "spec.jobTemplate.spec",
    );
    if text(crate::get(object, &["spec", "schedule"])).contains("TZ") {
        let page = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";
        let path = "spec.spec.schedule";
        warnings.push(format!(
            "cannot use TZ or CRON_TZ in {path}, use timeZone instead, see {page} for more details"
        ));
    }
    warnings
}
