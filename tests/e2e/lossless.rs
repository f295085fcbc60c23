//! The proof that rollouts lose nothing while parts fail, small; and that it can fail.

use std::process::Command;

use serde_json::Value;

use crate::cluster::{AFLOAT, Cluster, kubectl_program};

/// Exit code and result; None where the machine cannot run containers.
fn prove(arguments: &[&str]) -> Option<(i32, Value)> {
    if kubectl_program().is_none() || Cluster::boot(1).is_none() {
        return None;
    }
    let output = Command::new(AFLOAT)
        .args(["bench", "lossless", "--json", "--rate=30"])
        .args(arguments)
        .output()
        .expect("afloat starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let result = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    Some((output.status.code().expect("it ends by itself"), result))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn nothing_is_lost_whatever_fails() {
    let arguments = ["--requests=4000", "--proxy-lag-max=500ms", "--outage=2s"];
    let Some((code, result)) = prove(&arguments) else {
        return;
    };
    assert_eq!(result["lost"], 0, "{result:#}");
    assert_eq!((code, &result["valid"]), (0, &true.into()), "{result:#}");
    assert!(number(&result["requests"]) >= 4000);
    let protocols = result["protocols"].as_array().expect("a list");
    assert_eq!(protocols.len(), 7);
    for protocol in protocols {
        assert!(number(&protocol["ok"]) > 0, "{protocol}");
        assert_eq!(protocol["ok"], protocol["sent"], "{protocol}");
    }
    let faults = result["faults"].as_object().expect("a map");
    assert_eq!(faults.len(), 7);
    assert!(
        faults
            .values()
            .all(|fault| number(&fault["rollouts"]) > 0 && number(&fault["requests"]) > 0)
    );
    for rollout in result["rollouts"].as_array().expect("a list") {
        // Whatever failed: each container once, each pod once.
        let expected = match rollout["motion"].as_str().expect("a name") {
            "in-place" => (6, 0),
            "recreate" => (0, 6),
            _ => (0, 3),
        };
        let seen = (number(&rollout["restarted"]), number(&rollout["replaced"]));
        assert_eq!(seen, expected, "{rollout}");
        let killed = number(&rollout["operator_kills"]);
        match rollout["fault"].as_str().expect("a name") {
            // At every write, and each pod takes some.
            "operator-after-write" => assert!(killed >= 6, "{rollout}"),
            "operator-before-write" => assert!(killed >= 3, "{rollout}"),
            _ => assert_eq!(killed, 0, "{rollout}"),
        }
    }
}

/// Where each request has a connection of its own, the proxies' meter and the client must say the same.
#[test]
fn the_proxies_count_the_losses_that_the_client_counts() {
    let arguments = [
        "--requests=1",
        "--proxy-lag-max=1s",
        "--fault=none",
        "--drain=timed",
        "--protocol=http-new",
        "--protocol=tcp-new",
    ];
    let Some((code, result)) = prove(&arguments) else {
        return;
    };
    assert_eq!(code, 1);
    assert!(number(&result["lost"]) > 0, "{result:#}");
    assert_eq!(result["proxies"]["lost"], result["lost"], "{result:#}");
}

/// What the first test would not notice if nothing could be lost, or nothing were told of it.
#[test]
fn without_the_observed_drain_much_is_lost() {
    let arguments = ["--requests=1", "--proxy-lag-max=1s", "--fault=none", "--drain=timed"];
    let Some((code, result)) = prove(&arguments) else {
        return;
    };
    assert_eq!(code, 1);
    let lost = number(&result["lost"]);
    assert!(lost > 0, "{result:#}");
    let protocols = result["protocols"].as_array().expect("a list");
    let missing: u64 = protocols.iter().map(|p| number(&p["sent"]) - number(&p["ok"])).sum();
    let losses = result["losses"].as_array().expect("a list");
    assert_eq!((missing, losses.len() as u64), (lost, lost));
    let told = |loss: &Value| loss["around"].as_array().is_some_and(|around| !around.is_empty());
    assert!(losses.iter().any(told), "{losses:?}");
}
