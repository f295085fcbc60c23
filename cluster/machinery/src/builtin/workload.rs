//! Defaults of Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and CronJobs.

use serde_json::{Map, Value, json};

use super::{pod, volume};
use crate::json::{each, each_in, set, set_text, text};

/// Sets the defaults of a Deployment.
pub(crate) fn default_deployment(object: &mut Value) {
    each_in(Some(object), "spec", deployment);
}

/// Sets the defaults of a ReplicaSet.
pub(crate) fn default_replica_set(object: &mut Value) {
    each_in(Some(object), "spec", replicas_and_template);
}

/// Sets the defaults of a ReplicationController: its labels and its selector are those of its template.
pub(crate) fn default_replication_controller(object: &mut Value) {
    let labels = crate::get(object, &["spec", "template", "metadata", "labels"]).cloned();
    each_in(Some(object), "spec", |spec| {
        set(Some(spec), "selector", || labels.clone().unwrap_or_else(|| json!({})));
        replicas_and_template(spec);
    });
    if let Some(meta) = crate::metadata::of(object)
        && let Some(labels) = labels
    {
        set(Some(meta), "labels", || labels);
    }
}

/// Sets the defaults of a StatefulSet.
pub(crate) fn default_stateful_set(object: &mut Value) {
    each_in(Some(object), "spec", stateful_set);
}

/// Sets the defaults of a DaemonSet.
pub(crate) fn default_daemon_set(object: &mut Value) {
    each_in(Some(object), "spec", daemon_set);
}

/// Sets the defaults of a Job: without labels of its own it has those of its pods.
pub(crate) fn default_job(object: &mut Value) {
    each_in(Some(object), "spec", job);
    label_as_pods(object);
}

fn label_as_pods(object: &mut Value) {
    let labels = crate::get(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels
        && let Some(meta) = crate::metadata::of(object)
        && meta.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty)
    {
        meta.insert("labels".to_owned(), labels);
    }
}

/// Sets the defaults of a CronJob.
pub(crate) fn default_cron_job(object: &mut Value) {
    each_in(Some(object), "spec", cron_job);
}

fn replicas_and_template(spec: &mut Map<String, Value>) {
    set(Some(spec), "replicas", || json!(1));
    template(spec);
}

fn template(spec: &mut Map<String, Value>) {
    each(spec, "template", |template| each(template, "spec", pod::default_spec));
}

fn deployment(spec: &mut Map<String, Value>) {
    replicas_and_template(spec);
    set(Some(spec), "strategy", || json!({}));
    each(spec, "strategy", |strategy| {
        set_text(strategy, "type", "RollingUpdate");
        if text(strategy.get("type")) == "RollingUpdate" {
            set(Some(strategy), "rollingUpdate", || json!({}));
            each(strategy, "rollingUpdate", |rolling| {
                set(Some(rolling), "maxUnavailable", || json!("25%"));
                set(Some(rolling), "maxSurge", || json!("25%"));
            });
        }
    });
    set(Some(spec), "revisionHistoryLimit", || json!(10));
    set(Some(spec), "progressDeadlineSeconds", || json!(600));
}

fn stateful_set(spec: &mut Map<String, Value>) {
    replicas_and_template(spec);
    set_text(spec, "podManagementPolicy", "OrderedReady");
    set(Some(spec), "serviceName", || json!(""));
    set(Some(spec), "updateStrategy", || json!({}));
    each(spec, "updateStrategy", |strategy| {
        set_text(strategy, "type", "RollingUpdate");
        if text(strategy.get("type")) == "RollingUpdate" {
            set(Some(strategy), "rollingUpdate", || json!({}));
            each(strategy, "rollingUpdate", |rolling| {
                set(Some(rolling), "partition", || json!(0));
            });
        }
    });
    set(Some(spec), "persistentVolumeClaimRetentionPolicy", || json!({}));
    each(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
        set_text(policy, "whenDeleted", "Retain");
        set_text(policy, "whenScaled", "Retain");
    });
    set(Some(spec), "revisionHistoryLimit", || json!(10));
    each(spec, "volumeClaimTemplates", |claim| {
        set_text(claim, "apiVersion", "v1");
        set_text(claim, "kind", "PersistentVolumeClaim");
        each(claim, "spec", volume::claim_spec);
        set(Some(claim), "status", || json!({"phase": "Pending"}));
    });
}

fn daemon_set(spec: &mut Map<String, Value>) {
    template(spec);
    set(Some(spec), "updateStrategy", || json!({}));
    each(spec, "updateStrategy", |strategy| {
        set_text(strategy, "type", "RollingUpdate");
        if text(strategy.get("type")) == "RollingUpdate" {
            set(Some(strategy), "rollingUpdate", || json!({}));
            each(strategy, "rollingUpdate", |rolling| {
                set(Some(rolling), "maxUnavailable", || json!(1));
                set(Some(rolling), "maxSurge", || json!(0));
            });
        }
    });
    set(Some(spec), "revisionHistoryLimit", || json!(10));
}

fn job(spec: &mut Map<String, Value>) {
    template(spec);
    // Without both figures a Job runs one pod to completion.
    if spec.get("completions").is_none_or(Value::is_null) && spec.get("parallelism").is_none_or(Value::is_null) {
        spec.insert("completions".into(), json!(1));
    }
    set(Some(spec), "parallelism", || json!(1));
    let each = spec.get("backoffLimitPerIndex").is_some_and(|limit| !limit.is_null());
    set(Some(spec), "backoffLimit", || json!(if each { i32::MAX } else { 6 }));
    set_text(spec, "completionMode", "NonIndexed");
    let has_policy = spec.get("podFailurePolicy").is_some_and(|policy| !policy.is_null());
    set_text(
        spec,
        "podReplacementPolicy",
        if has_policy { "Failed" } else { "TerminatingOrFailed" },
    );
    set(Some(spec), "suspend", || json!(false));
    set(Some(spec), "manualSelector", || json!(false));
    failure_policy(spec);
}

fn failure_policy(spec: &mut Map<String, Value>) {
    each(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| set_text(pattern, "status", "True"));
        });
    });
}

/// The labels that tell a Job's pods from all others; each is there under its old name, too.
pub(crate) const JOB_UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// The labels that tell a Job's name.
pub(crate) const JOB_NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Gives a new Job the labels of its pods and the selector that finds them, unless its author wants to choose them. What
/// the author has set stays, for validation to judge.
pub(crate) fn generate_selector(job: &mut Value) {
    let of_meta = |key: &str| crate::get(job, &["metadata", key]).cloned().unwrap_or(Value::Null);
    let (name, uid) = (of_meta("name"), of_meta("uid"));
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("manualSelector") == Some(&json!(true)) {
        return;
    }
    set(Some(spec), "selector", || json!({}));
    each(spec, "selector", |selector| {
        set(Some(selector), "matchLabels", || json!({}));
        let uid_label = JOB_UID_LABELS[0];
        each(selector, "matchLabels", |labels| {
            set(Some(labels), uid_label, || uid.clone());
        });
    });
    each(spec, "template", |template| {
        set(Some(template), "metadata", || json!({}));
        each(template, "metadata", |meta| {
            set(Some(meta), "labels", || json!({}));
            each(meta, "labels", |labels| {
                for (keys, value) in [(JOB_UID_LABELS, &uid), (JOB_NAME_LABELS, &name)] {
                    for key in keys {
                        set(Some(labels), key, || value.clone());
                    }
                }
            });
        });
    });
    label_as_pods(job);
}

fn cron_job(spec: &mut Map<String, Value>) {
    set_text(spec, "concurrencyPolicy", "Allow");
    set(Some(spec), "suspend", || json!(false));
    set(Some(spec), "successfulJobsHistoryLimit", || json!(3));
    set(Some(spec), "failedJobsHistoryLimit", || json!(1));
    each(spec, "jobTemplate", |template| {
        each(template, "spec", |spec| {
            each(spec, "template", |t| each(t, "spec", pod::default_spec));
        });
    });
}
