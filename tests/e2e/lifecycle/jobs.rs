//! Jobs and CronJobs, with containers that really end.

use serde_json::{Value, json};

use super::{BOX, Ground};
use crate::cluster::{condition, wait_until};

fn template(command: &str) -> Value {
    let container = json!({"name": "c", "image": BOX, "command": ["sh", "-c", command]});
    json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}})
}

fn job(name: &str, command: &str, mut spec: Value) -> String {
    spec["template"] = template(command);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}).to_string()
}

#[test]
fn jobs_end_as_their_containers_do() {
    let Some(ground) = Ground::new() else { return };
    let cluster = &ground.cluster;
    // Each pod knows its index, by which it is also called.
    let knows = r#"test "$(hostname)" = "ix-$JOB_COMPLETION_INDEX""#;
    cluster.apply(&job(
        "ix",
        knows,
        json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2}),
    ));
    cluster.apply(&job("fails", "exit 3", json!({"backoffLimit": 0})));
    let rules = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]);
    cluster.apply(&job("policy", "exit 42", json!({"podFailurePolicy": {"rules": rules}})));
    let odd = "exit $((JOB_COMPLETION_INDEX % 2))";
    let each = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4, "backoffLimitPerIndex": 0});
    cluster.apply(&job("odd", odd, each));

    let done = cluster.wait("all indexes", &["job", "ix"], |job| {
        condition(job, "Complete") == Some("True")
    });
    assert_eq!(done["status"]["completedIndexes"], "0-3");
    let table = cluster.kubectl(&["get", "job", "ix", "--no-headers"]);
    assert!(table.contains("Complete") && table.contains("4/4"), "{table}");
    for (name, reason) in [
        ("fails", "BackoffLimitExceeded"),
        ("policy", "PodFailurePolicy"),
        ("odd", "FailedIndexes"),
    ] {
        let failed = cluster.wait(reason, &["job", name], |job| condition(job, "Failed") == Some("True"));
        let conditions = failed["status"]["conditions"].as_array().unwrap();
        assert!(
            conditions.iter().all(|one| one["reason"] == reason),
            "{name}: {conditions:?}"
        );
        ground.wait_event(name, reason, "");
    }
    let odd = cluster.get(&["job", "odd"]).unwrap();
    assert_eq!(
        (&odd["status"]["completedIndexes"], &odd["status"]["failedIndexes"]),
        (&json!("0,2"), &json!("1,3"))
    );
    cluster.kubectl(&["delete", "job", "--all", "--timeout=120s"]);
    wait_until("the end of all pods", || {
        cluster
            .get(&["pods"])
            .is_some_and(|pods| pods["items"].as_array().is_some_and(Vec::is_empty))
    });
}

#[test]
fn a_cron_job_runs_by_its_schedule_and_by_hand() {
    let Some(ground) = Ground::new() else { return };
    let cluster = &ground.cluster;
    let spec = json!({"schedule": "@every 1s", "timeZone": "Asia/Tokyo", "jobTemplate": {"spec": {"template": template("true")}}});
    let often = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "often"}, "spec": spec});
    cluster.apply(&often.to_string());
    let ran = cluster.wait("a success", &["cronjob", "often"], |cron| {
        cron["status"]["lastSuccessfulTime"].is_string()
    });
    assert!(ran["status"]["lastScheduleTime"].is_string());
    ground.wait_event("often", "SawCompletedJob", "condition: Complete");
    cluster.kubectl(&["patch", "cronjob", "often", "-p", r#"{"spec": {"suspend": true}}"#]);
    let table = cluster.kubectl(&["get", "cronjob", "often", "--no-headers"]);
    assert!(
        table.contains("@every 1s") && table.contains("Asia/Tokyo") && table.contains("True"),
        "{table}"
    );
    cluster.kubectl(&["create", "job", "by-hand", "--from=cronjob/often"]);
    cluster.wait("the Job by hand", &["job", "by-hand"], |job| {
        condition(job, "Complete") == Some("True")
    });
    cluster.kubectl(&["delete", "cronjob", "often"]);
    wait_until("the end of its Jobs", || {
        cluster
            .get(&["jobs"])
            .is_some_and(|jobs| jobs["items"].as_array().is_some_and(Vec::is_empty))
    });
}
