//! One way to lay out modules: `a.rs` with its children in `a/`, and its tests at its end (`mod tests { … }`) or, if they are long, in
//! `a/tests.rs` (`#[cfg(test)] mod tests;`).

use crate::tree::sources;

/// Whether a file of a crate's `src` is named against the convention.
fn is_odd(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/mod.rs") || path.ends_with("_test.rs") || path.ends_with("_tests.rs"))
}

fn complaints<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let odd = paths.filter(|path| is_odd(path)).map(|path| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match path.ends_with("/mod.rs") {
            true => format!("{path}: call it {folder}.rs"),
            false => format!("{path}: tests go to the end of their module or to tests.rs in its folder"),
        }
    });
    odd.collect()
}

#[test]
fn modules_and_their_tests_are_laid_out_in_one_way() {
    let sources = sources();
    let complaints = complaints(sources.keys().map(String::as_str));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn another_way_is_found() {
    let files = [
        "a/src/lib.rs",
        "a/src/b/mod.rs",
        "a/src/b_test.rs",
        "a/tests/b/mod.rs",
        "a/src/b/tests.rs",
    ];
    let found = complaints(files.into_iter());
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("a/src/b/mod.rs") && found[1].starts_with("a/src/b_test.rs"));
}
