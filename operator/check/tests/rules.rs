//! Each rule with a manifest that it speaks of and one that it does not, and each fix tried.

#![allow(clippy::panic)] // helpers of tests may fail as tests do

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use afloat_check::{Finding, Image, Images, RULES, check};
use afloat_rollout::kinds::{KINDS, Names};
use serde_json::{Value, json};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn objects(rule: &str, name: &str) -> Vec<Value> {
    let path = cases().join(rule).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What is known of the images that the objects name.
fn images(objects: &[Value]) -> Images {
    let named = afloat_check::references(objects);
    let image = |id: &str, paths: &[&str]| Image {
        id: id.to_owned(),
        paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
    };
    let known = [
        ("scratch:v1".to_owned(), image("1", &["/app"])),
        ("debian:v1".to_owned(), image("2", &["/usr/bin/sh"])),
        ("web:v1".to_owned(), image("3", &[])),
        ("web:stable".to_owned(), image("3", &[])),
    ];
    known.into_iter().filter(|(name, _)| named.contains(name)).collect()
}

fn found(objects: &[Value], rule: &str) -> Vec<Finding> {
    let all = check(objects, &images(objects), &BTreeSet::new());
    all.into_iter().filter(|finding| finding.rule == rule).collect()
}

#[test]
fn every_rule_has_its_cases() {
    for rule in RULES {
        let hits = found(&objects(rule.id, "bad.yaml"), rule.id);
        assert!(!hits.is_empty(), "{}: not found in bad.yaml", rule.id);
        assert!(
            hits.iter()
                .all(|hit| hit.severity == rule.severity && !hit.path.is_empty())
        );
        let hits = found(&objects(rule.id, "good.yaml"), rule.id);
        assert!(hits.is_empty(), "{}: found in good.yaml: {hits:#?}", rule.id);
    }
    let folders = std::fs::read_dir(cases()).unwrap().count();
    assert_eq!(folders, RULES.len(), "a folder of cases for each rule and no other");
}

#[test]
fn fixes_fix() {
    let mut fixed = BTreeSet::new();
    for rule in RULES {
        let mut objects = objects(rule.id, "bad.yaml");
        for _ in 0..5 {
            let Some((index, fix)) = found(&objects, rule.id)
                .into_iter()
                .find_map(|hit| Some((hit.index, hit.fix?)))
            else {
                break;
            };
            let patch: json_patch::Patch = serde_json::from_value(fix.clone()).unwrap();
            json_patch::patch(&mut objects[index], &patch).unwrap_or_else(|e| panic!("{}: {fix}: {e}", rule.id));
            fixed.insert(rule.id);
        }
        if fixed.contains(rule.id) {
            let left = found(&objects, rule.id);
            assert!(left.is_empty(), "{}: still there after its fix: {left:#?}", rule.id);
        }
    }
    assert!(fixed.len() > RULES.len() / 2, "{fixed:?}");
}

/// Whoever does as told must not be told the opposite.
#[test]
fn fixes_cause_no_other_finding() {
    for rule in RULES {
        let mut objects = objects(rule.id, "bad.yaml");
        let before: BTreeSet<&str> = check(&objects, &images(&objects), &BTreeSet::new())
            .iter()
            .map(|finding| finding.rule)
            .collect();
        for hit in found(&objects.clone(), rule.id) {
            if let Some(fix) = hit.fix {
                let patch: json_patch::Patch = serde_json::from_value(fix).unwrap();
                // Two findings of one rule may patch the same parent.
                let _ = json_patch::patch(&mut objects[hit.index], &patch);
            }
        }
        for finding in check(&objects, &images(&objects), &BTreeSet::new()) {
            assert!(
                before.contains(finding.rule),
                "the fix of {} causes {finding:#?}",
                rule.id
            );
        }
    }
}

/// A workload of a kind that the operator looks after, behind a Service, which has most of what is to be found.
fn of_kind(names: &Names) -> Vec<Value> {
    let rolling = match names.per_node {
        true => json!({"rollingUpdateType": "InPlaceIfPossible", "maxUnavailable": "100%"}),
        false => json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "100%"}),
    };
    let mut workload = json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": names.kind,
        "metadata": {"name": "web", "annotations": {"afloat.dev/max-loss": "few"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "updateStrategy": {"rollingUpdate": rolling},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"afloat.dev/drain": "Observed"}},
                "spec": {
                    "initContainers": [{"name": "init", "image": "web"}],
                    "containers": [{"name": "app", "image": "web", "ports": [{"containerPort": 80, "hostPort": 80}],
                        "readinessProbe": {"httpGet": {"port": 80}}}],
                },
            },
        },
    });
    if !names.per_node {
        workload["spec"]["replicas"] = json!(3);
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    vec![service, workload]
}

fn rules_of(objects: &[Value]) -> BTreeSet<&'static str> {
    let found = check(objects, &Images::new(), &BTreeSet::new());
    found.iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_kind_of_ours_is_looked_at() {
    for names in KINDS {
        let mut objects = of_kind(names);
        let expected = BTreeSet::from([
            "annotation-place",
            "annotation-value",
            "in-place-without-grace",
            "init-shares-image",
            "latest-tag",
            "max-unavailable-all",
            "slow-return",
        ]);
        assert_eq!(rules_of(&objects), expected, "{}", names.kind);

        // Fixes are for the kind's own fields.
        for finding in check(&objects.clone(), &Images::new(), &BTreeSet::new()) {
            let Some(fix) = finding.fix else { continue };
            let fix: json_patch::Patch = serde_json::from_value(fix).unwrap();
            json_patch::patch(&mut objects[finding.index], &fix).unwrap();
            afloat_check::readable(&objects[finding.index]).unwrap();
        }
        let left = rules_of(&objects);
        assert_eq!(
            left,
            BTreeSet::from(["init-shares-image", "latest-tag"]),
            "{}",
            names.kind
        );
        let waits = &objects[1]["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"];
        assert_eq!(waits.is_object(), names.quiet, "{}", names.kind);

        // Made anew, it is something else that is missing.
        objects[1]["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        objects[1]["metadata"]["annotations"] = json!({});
        let mut expected = BTreeSet::from(["recreate-without-drain"]);
        if !names.per_node {
            // Which is what a daemon may be there for.
            expected.insert("host-port");
            objects[1]["spec"]["replicas"] = json!(1);
            expected.insert("last-endpoint");
        }
        assert_eq!(rules_of(&objects), expected, "{}", names.kind);
    }
}

/// What is rounded down is not all there are.
#[test]
fn percentages_are_rounded_as_the_kind_does() {
    for names in KINDS.iter().filter(|names| !names.per_node) {
        let mut objects = of_kind(names);
        objects[1]["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!("67%");
        let found = rules_of(&objects).contains("max-unavailable-all");
        assert_eq!(found, !names.floors, "{}", names.kind);
    }
}

#[test]
fn what_is_no_object_of_its_kind_is_said() {
    for names in KINDS {
        let mut object = of_kind(names).remove(1);
        assert_eq!(afloat_check::readable(&object), Ok(()), "{}", names.kind);
        object["spec"]["minReadySeconds"] = json!("soon");
        object["spec"]["updateStrategy"]["rollingUpdate"]["minReadySeconds"] = json!("soon");
        let said = afloat_check::readable(&object).unwrap_err();
        assert!(said.starts_with(&format!("is no {}: ", names.kind)), "{said}");
    }
}

#[test]
fn objects_may_ignore_rules() {
    let mut objects = objects("no-readiness-probe", "bad.yaml");
    assert!(!found(&objects, "no-readiness-probe").is_empty());
    for text in ["no-readiness-probe", "other, no-readiness-probe", "*"] {
        objects[1]["metadata"]["annotations"] = serde_json::json!({afloat_check::IGNORE: text});
        assert!(found(&objects, "no-readiness-probe").is_empty(), "{text}");
    }
    objects[1]["metadata"]["annotations"] = serde_json::json!({afloat_check::IGNORE: "readiness"});
    assert!(!found(&objects, "no-readiness-probe").is_empty());
}

/// docs/check.md lists the rules as they are.
#[test]
fn the_documentation_lists_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/check.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 4)
        .collect();
    let listed: Vec<String> = rows
        .iter()
        .map(|row| {
            row.split('|')
                .skip(1)
                .take(3)
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let wanted: Vec<String> = RULES
        .iter()
        .map(|rule| format!("`{}` {} {}", rule.id, rule.severity.as_str(), rule.title))
        .collect();
    assert_eq!(listed, wanted);
}
