//! Jobs and CronJobs to their end.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::events;
use crate::world::World;

/// A Job whose pods end as the label says: at once, well or badly.
fn job(name: &str, ends: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["template"] = json!({"metadata": {"labels": {"app": name, ends: ""}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:v1"}]}});
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn ended(world: &World, name: &str, type_: &str) -> Value {
    let ended = |job: &Value| {
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|one| one["type"] == type_ && one["status"] == "True")
    };
    let what = format!("{name} is {type_}");
    world
        .until(&what, || async {
            world.get::<Job>(name).await.is_some_and(|job| ended(&job))
        })
        .await;
    world.get::<Job>(name).await.unwrap()
}

fn types(job: &Value) -> Vec<&str> {
    let conditions = job["status"]["conditions"].as_array().unwrap();
    conditions.iter().map(|one| one["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_completes_each_index_once() {
    let world = World::start(2).await;
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 2});
    world.create::<Job>(job("ix", "succeeds", spec)).await;
    let done = ended(&world, "ix", "Complete").await;
    let status = &done["status"];
    assert_eq!(types(&done), ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(
        (&status["completedIndexes"], &status["succeeded"]),
        (&json!("0-4"), &json!(5))
    );
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert!(status["completionTime"].is_string() && status.get("active").is_none());
    let pods = world.list::<Pod>().await;
    assert_eq!(pods.len(), 5);
    for pod in &pods {
        let index = &pod.labels()["batch.kubernetes.io/job-completion-index"];
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.hostname, Some(format!("ix-{index}")));
        assert!(pod.name_any().starts_with(&format!("ix-{index}-")));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
        assert_eq!(pod.metadata.finalizers, None, "all are counted");
    }
    world
        .until("it is told", || async {
            let told = events(&world, "Job", "ix").await;
            told.iter()
                .any(|event| event.starts_with("job-controller Normal Completed: Job completed"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_must_fail_fail() {
    let world = World::start(1).await;
    world
        .create::<Job>(job("limit", "fails", json!({"backoffLimit": 0})))
        .await;
    let rules = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]);
    world
        .create::<Job>(job("policy", "fails", json!({"podFailurePolicy": {"rules": rules}})))
        .await;
    let each = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 0});
    world.create::<Job>(job("each", "fails", each)).await;
    for (name, reason) in [
        ("limit", "BackoffLimitExceeded"),
        ("policy", "PodFailurePolicy"),
        ("each", "FailedIndexes"),
    ] {
        let failed = ended(&world, name, "Failed").await;
        assert_eq!(types(&failed), ["FailureTarget", "Failed"], "{name}");
        assert_eq!(failed["status"]["conditions"][1]["reason"], reason);
        assert!(failed["status"]["failed"].as_i64() >= Some(1), "{name}");
    }
    let each = world.get::<Job>("each").await.unwrap();
    assert_eq!(each["status"]["failedIndexes"], "0,1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_suspended_and_goes_with_its_pods() {
    let world = World::start(1).await;
    world
        .create::<Job>(job("stops", "runs", json!({"parallelism": 2})))
        .await;
    let active = |wanted: i64| {
        let world = &world;
        async move {
            let status = world.get::<Job>("stops").await.unwrap()["status"].take();
            status["active"].as_i64().unwrap_or(0) == wanted && status["terminating"].as_i64().unwrap_or(0) == 0
        }
    };
    world.until("it runs", || active(2)).await;
    world.patch::<Job>("stops", json!({"spec": {"suspend": true}})).await;
    world.until("it has stopped", || active(0)).await;
    let stopped = world.get::<Job>("stops").await.unwrap();
    assert_eq!(
        (types(&stopped), stopped["status"].get("failed")),
        (vec!["Suspended"], None)
    );
    world.patch::<Job>("stops", json!({"spec": {"suspend": false}})).await;
    world.until("it goes on", || active(2)).await;
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    world.api::<Job>().delete("stops", &params).await.unwrap();
    world
        .until("nothing is left", || async { world.list::<Pod>().await.is_empty() })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_its_labels_becomes_a_jobs_own() {
    let world = World::start(1).await;
    let there = json!({"metadata": {"name": "there", "labels": {"app": "own", "runs": ""}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:v1"}]}});
    world.create::<Pod>(there).await;
    let selector = json!({"matchLabels": {"app": "own"}});
    let spec = json!({"manualSelector": true, "selector": selector});
    world.create::<Job>(job("own", "runs", spec)).await;
    world
        .until("it is adopted", || async {
            let pod = world.get::<Pod>("there").await.unwrap();
            pod["metadata"]["ownerReferences"][0]["name"] == "own"
                && pod["metadata"]["finalizers"] == json!(["batch.kubernetes.io/job-tracking"])
                && world.get::<Job>("own").await.unwrap()["status"]["active"] == 1
        })
        .await;
    assert_eq!(world.list::<Pod>().await.len(), 1, "no other is made");
    world
        .patch::<Pod>("there", json!({"metadata": {"labels": {"app": "other"}}}))
        .await;
    world
        .until("it is released", || async {
            let pod = world.get::<Pod>("there").await.unwrap();
            pod["metadata"].get("ownerReferences").is_none() && pod["metadata"].get("finalizers").is_none()
        })
        .await;
    world
        .until("another takes its place", || async {
            world.list::<Pod>().await.len() == 2
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_jobs_and_old_ones_go() {
    let world = World::start(1).await;
    let template = job("", "succeeds", json!({"ttlSecondsAfterFinished": 0}));
    let spec = json!({"schedule": "@every 1s", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": template["spec"]}});
    world
        .create::<CronJob>(json!({"metadata": {"name": "often"}, "spec": spec}))
        .await;
    let told = async || events(&world, "CronJob", "often").await;
    world
        .until("it is told", || async {
            let told = told().await;
            let starts = |text: &str| told.iter().any(|event| event.starts_with(text));
            starts("cronjob-controller Normal SuccessfulCreate: Created job often-")
                && starts("cronjob-controller Normal SawCompletedJob: Saw completed job: often-")
        })
        .await;
    // The next ones are under way already: one that is over is looked at.
    let told = told().await;
    let mut over = told
        .iter()
        .filter_map(|event| event.split_once("Saw completed job: ")?.1.split(',').next());
    let over = over.next().unwrap();
    world
        .until("a Job has succeeded and is gone", || async {
            let status = world.get::<CronJob>("often").await.unwrap()["status"].take();
            let pods = world.list::<Pod>().await;
            status["lastSuccessfulTime"].is_string()
                && status["lastScheduleTime"].is_string()
                && world.get::<Job>(over).await.is_none()
                && !pods.iter().any(|pod| pod.name_any().starts_with(over))
        })
        .await;
    world
        .api::<CronJob>()
        .delete("often", &DeleteParams::default())
        .await
        .unwrap();
}
