//! One operator after the other: what one began, the next one ends. These cases have the ground for themselves.

use serde_json::{Value, json};

use crate::budget::Budget;
use crate::case::{Case, cloneset, image, restarts, same_pods};
use crate::process::PATIENCE;

/// What the operator counts as written to the API server.
const WRITES: &str = "afloat_operator_writes_total";
const ROUNDS: &str = "afloat_operator_reconcile_seconds_count";

fn versions(objects: &[Value]) -> Vec<Value> {
    objects
        .iter()
        .map(|object| object["metadata"]["resourceVersion"].clone())
        .collect()
}

pub(super) async fn an_idle_operator_writes_nothing(case: &Case) {
    case.start(&cloneset(3)).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let operator = case.ground.take_operator();
    let everything = async || {
        let mut all = versions(&case.list("", "v1", "Pod").await);
        all.extend(versions(&case.list("apps", "v1", "ControllerRevision").await));
        all.extend(versions(&case.list("apps.kruise.io", "v1beta1", "CloneSet").await));
        all
    };
    // What follows the rollout may still be on its way.
    let quiet = tokio::time::Instant::now() + PATIENCE;
    let mut last = (everything().await, operator.figure(WRITES).await);
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let now = (everything().await, operator.figure(WRITES).await);
        if now == last {
            break;
        }
        assert!(tokio::time::Instant::now() < quiet, "no rest: {last:?}, then {now:?}");
        last = now;
    }
    // Something to look at, and nothing to do: a label of the CloneSet's own.
    for number in 0..5 {
        let rounds = operator.figure(ROUNDS).await;
        let label = json!({"metadata": {"labels": {"look": number.to_string()}}});
        case.patch(label).await;
        let (before, writes) = (everything().await, operator.figure(WRITES).await);
        // The round for this change has to be over.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while operator.figure(ROUNDS).await < rounds + 1.0 {
            assert!(tokio::time::Instant::now() < deadline, "nobody looks");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(everything().await, before);
        assert_eq!(operator.figure(WRITES).await - writes, 0.0);
    }
    case.ground.put_operator(operator);
}

pub(super) async fn killed_in_the_middle_of_a_rollout(case: &Case) {
    let mut set = cloneset(3);
    // However late it is killed, it is not done.
    set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the rollout under way", |pods| {
        pods.iter().any(|pod| image(pod, "app") == "app:2")
    })
    .await;
    case.ground.take_operator().stop("KILL");
    case.ground.start_operator().await;
    case.rolling(json!({"partition": 0})).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(after.iter().all(|pod| image(pod, "app") == "app:2"));
    assert!(
        after
            .iter()
            .all(|pod| restarts(pod, "app") == 1 && restarts(pod, "log") == 0)
    );
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max == 3, "{seen:?}");
}

pub(super) async fn hand_over(case: &Case) {
    let before = case.start(&cloneset(3)).await;
    let next = case.ground.another_operator();
    let first = case.ground.take_operator();
    let holder = async || {
        let lease = case.ground.lease().await;
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    };
    assert!(holder().await.ends_with(&format!("_{}", first.id())));
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the rollout under way", |pods| {
        pods.iter().any(|pod| image(pod, "app") == "app:2")
    })
    .await;
    // It finishes what it is at and lets go; the other one need not wait for the lease to run out.
    assert_eq!(first.stop("TERM").code(), Some(0));
    next.wait_leading().await;
    assert!(holder().await.ends_with(&format!("_{}", next.id())));
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(
        after
            .iter()
            .all(|pod| restarts(pod, "app") == 1 && restarts(pod, "log") == 0)
    );
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2, "{seen:?}");
    case.ground.put_operator(next);
}
