//! Writes that meet others' writes.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::case::{Case, cloneset, image, name, restarts, same_pods};

/// Writes that were sent again.
const AGAIN: &str = "afloat_operator_writes_again_total";

/// Writes of the operator, by reason and what became of them.
fn writes(outcome: &str) -> String {
    format!("afloat_operator_writes_total{{reason=\"update\",outcome=\"{outcome}\"}}")
}

/// Somebody who never stops writing the pods' statuses, as kubelets do not either while containers come and go: each pod
/// is changed all the same, and not one write of an image is given up.
pub(super) async fn a_chatty_kubelet_costs_no_update(case: &Case) {
    let mut set = cloneset(12);
    set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(6);
    let before = case.start(&set).await;
    let operator = case.ground.take_operator();
    let (done, met) = (writes("done"), writes("conflict"));
    let (done_before, met_before) = (operator.figure(&done).await, operator.figure(&met).await);
    let again_before = operator.figure(AGAIN).await;
    let api = case.api("", "v1", "Pod");
    let chatter = async {
        for word in 0_u64.. {
            for pod in &before {
                let condition =
                    json!({"type": "test.afloat.dev/Chatter", "status": "True", "message": word.to_string()});
                let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
                let answer = api.patch_status(name(pod), &PatchParams::default(), &patch).await;
                answer.expect("a status");
            }
        }
    };
    let update = async {
        case.images(&[("app", "app:2")]).await;
        case.settled().await
    };
    tokio::select! {
        () = chatter => {}
        _ = update => {}
    }
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        assert_eq!((image(pod, "app"), restarts(pod, "app")), ("app:2", 1));
    }
    let (done, met) = (operator.figure(&done).await, operator.figure(&met).await);
    let again = operator.figure(AGAIN).await;
    case.ground.put_operator(operator);
    assert!(again > again_before, "there were conflicts to be met");
    assert_eq!(
        (done - done_before, met - met_before),
        (12.0, 0.0),
        "done, and lost to conflicts"
    );
}
