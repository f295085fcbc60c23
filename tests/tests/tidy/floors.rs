//! Which package may rest on which.

use std::collections::BTreeMap;

use crate::tree::{files, root};

/// Package → its normal (not dev) dependencies among ours, from the manifests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for path in files("Cargo.toml") {
        let text = std::fs::read_to_string(&path).expect("readable manifest");
        let Some(name) = text
            .lines()
            .find_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"'))
        else {
            continue;
        };
        let normal = text
            .split("[dependencies]")
            .nth(1)
            .unwrap_or("")
            .split("\n[")
            .next()
            .unwrap_or("");
        let ours = normal
            .lines()
            .filter_map(|l| l.split(['.', ' ', '=']).next())
            .filter(|d| d.starts_with("afloat-"));
        all.entry(name.to_owned())
            .or_insert_with(|| ours.map(str::to_owned).collect());
    }
    all
}

/// What stands below both halves and knows neither.
const CLIENT: [&str; 3] = ["afloat-words", "afloat-watching", "afloat-certificates"];

fn above_client(depends: &[String]) -> impl Iterator<Item = &String> {
    depends
        .iter()
        .filter(|dependency| !CLIENT.contains(&dependency.as_str()))
}

#[test]
fn the_two_halves_do_not_know_each_other() {
    let operator = [
        "afloat-api",
        "afloat-disruption",
        "afloat-rollout",
        "afloat-images",
        "afloat-model",
        "afloat-check",
        "afloat-recreate",
        "afloat-manager",
        "afloat-agent",
        "afloat-install",
    ];
    for (package, depends) in dependencies() {
        if ["afloat", "afloat-tests", "afloat-sim"].contains(&package.as_str()) {
            continue;
        }
        for dependency in above_client(&depends) {
            assert_eq!(
                operator.contains(&package.as_str()),
                operator.contains(&dependency.as_str()),
                "{package} depends on {dependency}: the operator and the cluster meet only at the Kubernetes API"
            );
        }
    }
}

#[test]
fn dependencies_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("afloat-api", &[][..]),
        ("afloat-disruption", &["afloat-api"]),
        ("afloat-rollout", &["afloat-api", "afloat-disruption"]),
        ("afloat-images", &["afloat-api"]),
        ("afloat-model", &["afloat-api", "afloat-disruption"]),
        ("afloat-check", &["afloat-api", "afloat-rollout"]),
        ("afloat-recreate", &["afloat-api"]),
        (
            "afloat-manager",
            &[
                "afloat-api",
                "afloat-disruption",
                "afloat-images",
                "afloat-recreate",
                "afloat-rollout",
            ],
        ),
        ("afloat-agent", &["afloat-api", "afloat-images", "afloat-recreate"]),
        ("afloat-install", &["afloat-api"]),
        ("afloat-machinery", &[]),
        ("afloat-store", &[]),
        ("afloat-apiserver", &["afloat-machinery", "afloat-store"]),
        ("afloat-controllers", &[]),
        ("afloat-runtime", &[]),
        ("afloat-node", &["afloat-runtime"]),
        ("afloat-proxy", &[]),
        ("afloat-dns", &[]),
        (
            "afloat-cluster",
            &[
                "afloat-apiserver",
                "afloat-controllers",
                "afloat-dns",
                "afloat-node",
                "afloat-proxy",
                "afloat-runtime",
                "afloat-store",
            ],
        ),
        ("afloat-probe", &[]),
    ]);
    let all = dependencies();
    for package in CLIENT {
        let ours: Vec<_> = above_client(&all[package]).collect();
        assert!(ours.is_empty(), "{package} must not depend on {ours:?}");
    }
    for (package, may) in allowed {
        for dependency in above_client(&all[package]) {
            assert!(
                may.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

/// The simulated nodes may know everything; only the binary's benchmark and tests may know them.
#[test]
fn nothing_rests_on_the_simulation() {
    for (package, depends) in dependencies() {
        let uses = depends.iter().any(|dependency| dependency == "afloat-sim");
        assert!(!uses || package == "afloat", "{package} depends on afloat-sim");
    }
    let word = ["afloat", "_sim"].concat();
    for path in files(".rs")
        .iter()
        .filter(|path| path.starts_with(root().join("cli/src")))
    {
        let text = std::fs::read_to_string(path).expect("readable source");
        assert!(
            !text.contains(&word) || path.starts_with(root().join("cli/src/bench")),
            "{}: only the benchmark uses the simulation",
            path.display()
        );
    }
}

#[test]
fn only_the_store_knows_the_disk() {
    for path in files("Cargo.toml") {
        let text = std::fs::read_to_string(&path).expect("readable manifest");
        let uses = text.lines().any(|line| line.starts_with("redb."));
        let is_store = path == root().join("cluster/store/Cargo.toml");
        assert_eq!(uses, is_store, "{}: only the store depends on redb", path.display());
    }
}
