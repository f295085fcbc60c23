//! The benchmarks, small: what it counts are promises that hold at any size.

use std::process::Command;

use serde_json::Value;

use crate::cluster::AFLOAT;

#[test]
fn few_writes_no_conflicts_and_none_when_idle() {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(AFLOAT)
        .args(["bench", "operator", "--pods", "20", "--container-start", "50ms"])
        .args(["--idle", "2s", "--partial", "5", "--json"])
        .env("TMPDIR", scratch.path())
        .output()
        .expect("afloat starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let phase = |name: &str| {
        let phases = result["phases"].as_array().unwrap();
        phases
            .iter()
            .find(|phase| phase["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {result:#}"))
    };
    for (name, changed, most) in [("create", 20, 2.0), ("update", 20, 3.0), ("update 5", 5, 3.0)] {
        let phase = phase(name);
        assert_eq!(phase["changed"], changed, "{name}");
        assert_eq!(
            (&phase["conflicts"], &phase["failed"]),
            (&0.into(), &0.into()),
            "{phase:#}"
        );
        let per_pod = phase["writes_per_pod"].as_f64().unwrap();
        // Nothing can be created or updated without at least one write.
        assert!((1.0..=most).contains(&per_pod), "{phase:#}");
        assert!(phase["operator_cpu_seconds"].as_f64().unwrap() > 0.0, "{phase:#}");
        assert!(phase["server_cpu_seconds"].as_f64().unwrap() > 0.0, "{phase:#}");
    }
    assert_eq!(phase("idle")["writes"], serde_json::json!({}));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn pods_leave_nothing_behind() {
    if super::cluster::kubectl_program().is_none() || super::cluster::Cluster::boot(1).is_none() {
        return;
    }
    let output = Command::new(AFLOAT)
        .args(["bench", "node", "--pods", "12", "--nodes", "2", "--json"])
        .output()
        .expect("afloat starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{stderr}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<&Value> = result["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["create", "update", "delete"]);
    for (phase, verb) in [
        (0, "sandbox"),
        (0, "create"),
        (0, "start"),
        (1, "create"),
        (2, "remove-sandbox"),
    ] {
        assert_eq!(
            result["phases"][phase]["verbs"][verb]["calls"], 12,
            "{phase} {verb}: {result:#}"
        );
    }
    // In place: an update makes no sandbox.
    assert!(result["phases"][1]["verbs"]["sandbox"].is_null(), "{result:#}");
    for count in ["mounts", "devices", "processes", "zombies", "control_groups", "folders"] {
        assert_eq!(result["before"][count], result["after"][count], "{count}: {result:#}");
    }
}

#[test]
fn what_is_pulled_beforehand_is_not_pulled_while_pods_are_out() {
    if super::cluster::kubectl_program().is_none() || super::cluster::Cluster::boot(1).is_none() {
        return;
    }
    let output = Command::new(AFLOAT)
        .args(["bench", "release", "--layer", "300kB", "--bandwidth", "1MB/s"])
        .args(["--attach", "400ms", "--pods", "2", "--json"])
        .output()
        .expect("afloat starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let releases = result["releases"].as_array().expect("releases");
    let ways: Vec<&Value> = releases.iter().map(|release| &release["way"]).collect();
    assert_eq!(ways, ["recreate", "in-place", "in-place-prewarmed"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {result:#}"));
    for release in releases {
        // Each node has pulled the new layer, and it came no faster than it may.
        assert_eq!(release["pulls"], 2, "{release:#}");
        assert!(release["bytes"].as_u64() >= Some(600_000), "{release:#}");
        let parts = release["parts"].as_object().expect("parts");
        let sum: f64 = parts.values().map(number).sum();
        assert!((sum - number(&release["out_seconds"])).abs() < 1e-6, "{release:#}");
        assert!(
            number(&release["release_seconds"]) >= number(&release["out_seconds_max"]),
            "{release:#}"
        );
        let warmed = release["way"] == "in-place-prewarmed";
        assert_eq!(release["pulls_while_out"], if warmed { 0 } else { 2 }, "{release:#}");
        let pull = if warmed {
            &release["first_leaves_seconds"]
        } else {
            &parts["pull"]
        };
        assert!(number(pull) >= 0.3, "{release:#}");
        let (volume, address) = (number(&parts["volume"]), number(&parts["address"]));
        if release["way"] == "recreate" {
            assert!(volume >= 0.4 && address > 0.0, "{release:#}");
        } else {
            assert!(volume == 0.0 && address == 0.0, "{release:#}");
            let saved = 100.0 * (1.0 - number(&release["out_seconds"]) / number(&releases[0]["out_seconds"]));
            assert!(
                (number(&release["out_saved_percent"]) - saved).abs() < 1e-6,
                "{release:#}"
            );
        }
    }
}
