//! One way to lay out modules: `a.rs` with its children in `a/`, and its tests at its end (`mod tests { … }`) or, if they are long, in
//! `a/tests.rs` (`#[cfg(test)] mod tests;`).

use crate::tree::sources;

/// Files that were named otherwise before the rule. This list only shrinks.
const KNOWN: &[&str] = &[
    "cli/src/bench/lossless/mod.rs",
    "cli/src/bench/mod.rs",
    "cli/src/demo/mod.rs",
    "cli/src/probe/mod.rs",
    "cli/src/watch/mod.rs",
    "cluster/controllers/src/deployment/mod.rs",
    "cluster/controllers/src/endpointslice/plan_test.rs",
    "cluster/controllers/src/endpointslice/state_test.rs",
    "cluster/controllers/src/events_test.rs",
    "cluster/controllers/src/garbage/mod.rs",
    "cluster/controllers/src/scheduler/mod.rs",
    "cluster/controllers/src/volume/claim_test.rs",
    "cluster/controllers/src/volume/mod.rs",
    "cluster/node/src/pod/handler_test.rs",
    "cluster/node/src/pod/mod.rs",
    "cluster/node/src/pod/plan_test.rs",
    "cluster/node/src/pod/sidecar_test.rs",
    "cluster/node/src/spdy/mod.rs",
    "cluster/node/src/volume/mod.rs",
    "cluster/runtime/src/registry/mod.rs",
];

/// Whether a file of a crate's `src` is named against the convention.
fn is_odd(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/mod.rs") || path.ends_with("_test.rs") || path.ends_with("_tests.rs"))
}

fn complaints<'a>(paths: impl Iterator<Item = &'a str> + Clone, known: &[&str]) -> Vec<String> {
    let new = paths.clone().filter(|path| is_odd(path) && !known.contains(path));
    let new = new.map(|path| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match path.ends_with("/mod.rs") {
            true => format!("{path}: call it {folder}.rs"),
            false => format!("{path}: tests go to the end of their module or to tests.rs in its folder"),
        }
    });
    let stale = known
        .iter()
        .filter(|listed| !paths.clone().any(|path| path == **listed));
    new.chain(stale.map(|listed| format!("{listed} is gone: remove it from KNOWN")))
        .collect()
}

#[test]
fn modules_and_their_tests_are_laid_out_in_one_way() {
    let sources = sources();
    let complaints = complaints(sources.keys().map(String::as_str), KNOWN);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn another_way_and_a_line_too_many_are_found() {
    let files = [
        "a/src/lib.rs",
        "a/src/b/mod.rs",
        "a/src/b_test.rs",
        "a/tests/b/mod.rs",
        "a/src/b/tests.rs",
    ];
    let judge = |known: &[&str]| complaints(files.into_iter(), known).len();
    assert_eq!(judge(&[]), 2);
    assert_eq!(judge(&["a/src/b/mod.rs", "a/src/b_test.rs"]), 0);
    assert_eq!(judge(&["a/src/b/mod.rs", "a/src/b_test.rs", "a/src/c/mod.rs"]), 1);
}
