//! Feature gates of OpenKruise. The operator is started anew with them, so this case has the ground for itself.

use std::process::Command;

use serde_json::{Value, json};

use crate::case::{Case, cloneset, image, name, restarts, same_pods, uid};
use crate::operator::AFLOAT;

pub(super) async fn those_that_are_on_act(case: &Case) {
    let output = Command::new(AFLOAT)
        .args(["operator", "--feature-gates", "ClonesetShortHash=true"])
        .output()
        .expect("afloat starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("did you mean CloneSetShortHash?"),
        "{said}"
    );

    case.ground.take_operator().stop("TERM");
    let gates = "CloneSetShortHash=true,CloneSetPartitionRollback=true,PreparingUpdateAsUpdate=true,\
        RecreatePodWhenChangeVCTInCloneSetGate=true,SidecarTerminator=true";
    case.ground.start_operator_with(gates).await;
    let log = case.ground.operator_log();
    assert!(
        log.contains("--feature-gates: SidecarTerminator=true has no effect"),
        "{log}"
    );

    labels_and_partition(case).await;
    claims(case).await;
    case.ground.take_operator().stop("TERM");
    case.ground.start_operator().await;
}

fn revision(pod: &Value) -> &str {
    pod["metadata"]["labels"]["controller-revision-hash"]
        .as_str()
        .unwrap_or_default()
}

/// Labels are short, and a raised partition brings pods back in place.
async fn labels_and_partition(case: &Case) {
    let before = case.start(&cloneset(3)).await;
    let set = case.set().await;
    let whole = set["status"]["updateRevision"].as_str().expect("a revision");
    assert!(
        before.iter().all(|pod| whole == format!("web-{}", revision(pod))),
        "{whole}"
    );
    case.rolling(json!({"partition": 1})).await;
    case.images(&[("app", "app:2")]).await;
    for (partition, updated) in [(1, 2), (2, 1)] {
        case.rolling(json!({"partition": partition})).await;
        case.until("what the partition allows", |set| {
            let status = &set["status"];
            status["observedGeneration"] == set["metadata"]["generation"]
                && status["updatedReplicas"] == updated
                && status["availableReplicas"] == 3
        })
        .await;
    }
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    let mut all: Vec<_> = after.iter().map(|pod| restarts(pod, "app")).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2], "one there and back, one there");
    assert_eq!(after.iter().filter(|pod| image(pod, "app") == "app:2").count(), 1);
    case.rolling(json!({"partition": 0})).await;
    case.patch(json!({"spec": {"replicas": 0}})).await;
    case.until_pods("no pods", <[Value]>::is_empty).await;
}

/// Other claims alone change nothing; with the next image they recreate the pods.
async fn claims(case: &Case) {
    let sized = |size: &str| {
        json!([{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}])
    };
    case.patch(json!({"spec": {"replicas": 1, "volumeClaimTemplates": sized("1Mi")}}))
        .await;
    case.images(&[("app", "app:3")]).await;
    let new = |pods: &[Value]| pods.len() == 1 && image(&pods[0], "app") == "app:3";
    let before = case.until_pods("a pod", new).await;
    case.patch(json!({"spec": {"volumeClaimTemplates": sized("2Mi")}}))
        .await;
    case.looked_at().await;
    assert_eq!(uid(&case.pods().await[0]), uid(&before[0]));
    // A revision that was there before there were claims.
    case.images(&[("app", "app:1")]).await;
    let after = case
        .until_pods("another pod", |pods| {
            pods.len() == 1 && uid(&pods[0]) != uid(&before[0])
        })
        .await;
    assert_ne!(name(&after[0]), name(&before[0]));
    let size = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].clone();
    case.until_claims("one bigger claim", |claims| {
        claims.len() == 1 && size(&claims[0]) == "2Mi"
    })
    .await;
}
