use super::*;

#[test]
fn a_job_gets_the_selector_that_finds_its_pods_and_only_them() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}});
    let job = create("batch/v1", "Job", json!({"spec": {"template": template}})).unwrap();
    let uid = "batch.kubernetes.io/controller-uid";
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {uid: "u"}}));
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({uid: "u", "controller-uid": "u", "batch.kubernetes.io/job-name": "x", "job-name": "x"})
    );
    let mut wrong = json!({"template": template, "selector": {"matchLabels": {"app": "x"}}});
    wrong["template"]["metadata"] = json!({"labels": {"app": "x", "job-name": "y"}});
    let errors = create("batch/v1", "Job", json!({ "spec": wrong }))
        .unwrap_err()
        .join("\n");
    assert!(
        errors.contains("labels[job-name]: Invalid value") && errors.contains("`selector` not auto-generated"),
        "{errors}"
    );
    wrong["manualSelector"] = json!(true);
    let own = create("batch/v1", "Job", json!({ "spec": wrong })).unwrap();
    assert_eq!(own["spec"]["selector"], json!({"matchLabels": {"app": "x"}}));
    // One that was stored before selectors were made goes on.
    let mut old = job;
    old["spec"]["selector"].take();
    assert!(update("batch/v1", "Job", &old, |new| new["spec"]["parallelism"] = json!(2)).is_ok());
}
