//! What we are built from: licences, duplicates and sources as `deny.toml` allows them. `cargo deny check` says the same and
//! knows advisories, too; this runs wherever the tests run.

#![allow(clippy::expect_used)] // helpers of tests may fail as tests do

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    clarify: Vec<Clarified>,
}

#[derive(Deserialize)]
struct Clarified {
    #[serde(rename = "crate")]
    name: String,
    expression: String,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skipped>,
}

#[derive(Deserialize)]
struct Skipped {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

/// A package that something of ours is built from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    license: String,
    /// A folder or a git repository; empty for the registry.
    place: String,
}

fn deny() -> Deny {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = std::fs::read_to_string(path).expect("deny.toml is readable");
    toml::from_str(&text).expect("deny.toml is as cargo-deny wants it")
}

/// What cargo builds for these targets, tests and build scripts included.
fn packages(targets: &[String]) -> BTreeSet<Package> {
    let mut found = BTreeSet::new();
    for target in targets {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--workspace", "--locked", "--edges", "normal,dev,build"])
            .args(["--prefix", "none", "--format", "{p}|{l}", "--target", target])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        found.extend(String::from_utf8_lossy(&output.stdout).lines().filter_map(package));
    }
    assert!(found.len() > 300, "cargo tree tells of {} packages only", found.len());
    found
}

/// `name v1.2.3 (proc-macro) (/a/folder)|MIT`, and ` (*)` at the end where it was told before.
fn package(line: &str) -> Option<Package> {
    let (id, license) = line.split_once('|')?;
    let mut words = id.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let place = words.filter(|word| !["(proc-macro)", "(*)"].contains(word));
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.trim_end_matches("(*)").trim().to_owned(),
        place: place.collect::<Vec<_>>().join(" "),
    })
}

#[test]
fn licences_are_allowed() {
    let deny = deny();
    let clarified: BTreeMap<_, _> = (deny.licenses.clarify.iter())
        .map(|c| (c.name.as_str(), c.expression.as_str()))
        .collect();
    for package in packages(&deny.graph.targets) {
        let license = match clarified.get(package.name.as_str()) {
            Some(told) => told,
            None => package.license.as_str(),
        };
        // Old manifests write a stroke for `OR`.
        let expression = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX);
        let expression = expression.unwrap_or_else(|error| panic!("{}: licence {license:?}: {error}", package.name));
        assert!(
            expression.evaluate(|requirement| deny.licenses.allow.contains(&requirement.to_string())),
            "{} {} has the licence {license}, which deny.toml does not allow",
            package.name,
            package.version
        );
    }
}

#[test]
fn second_versions_have_a_reason() {
    let deny = deny();
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages(&deny.graph.targets) {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let mut excused = BTreeSet::new();
    for Skipped { package, reason } in &deny.bans.skip {
        assert!(!reason.is_empty(), "{package}: why is it there twice?");
        let (name, version) = package.split_once('@').expect("name@version");
        let twice = versions
            .get(name)
            .is_some_and(|all| all.len() > 1 && all.contains(version));
        assert!(
            twice,
            "deny.toml excuses {package}, which is not there or is there only once"
        );
        excused.insert((name, version));
    }
    for (name, all) in &versions {
        let unexcused = all
            .iter()
            .filter(|version| !excused.contains(&(name.as_str(), version.as_str())));
        assert!(
            unexcused.count() <= 1,
            "{name} is built in versions {all:?}: agree on one, or say in deny.toml who keeps the other"
        );
    }
}

#[test]
fn everything_comes_from_here_or_the_registry() {
    for package in packages(&deny().graph.targets) {
        let ours = package.name == "afloat" || package.name.starts_with("afloat-");
        assert_eq!(ours, !package.place.is_empty(), "{package:?} comes from elsewhere");
    }
}
