//! How much is in one place.

use std::collections::BTreeMap;

use crate::tree::sources;

/// A source file longer than this is split by meaning.
const LINES_MAX: usize = 600;

/// A folder with more source files than this has rooms of its own.
const SIBLINGS_MAX: usize = 20;

/// Folders that were fuller before the rule, and how full. This list only shrinks.
const FULLER: &[(&str, usize)] = &[("tests/e2e", 28)];

/// Folder → its Rust files; the tests of a module (`tests.rs`) are counted with it.
fn siblings<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let mut folders = BTreeMap::new();
    for (folder, name) in paths.filter_map(|path| path.rsplit_once('/')) {
        if name != "tests.rs" {
            *folders.entry(folder).or_default() += 1;
        }
    }
    folders
}

fn complaints(folders: &BTreeMap<&str, usize>, fuller: &[(&str, usize)]) -> Vec<String> {
    let listed: BTreeMap<&str, usize> = fuller.iter().copied().collect();
    let crowded = folders.iter().filter_map(|(folder, count)| {
        let may = listed.get(folder).copied().unwrap_or(SIBLINGS_MAX);
        (*count > may).then(|| format!("{folder} has {count} source files, more than {may}: give it rooms"))
    });
    let roomier = listed.iter().filter_map(|(folder, was)| {
        let count = folders.get(folder).copied().unwrap_or(0);
        match count {
            _ if count <= SIBLINGS_MAX => Some(format!("{folder} has {count}: remove it from FULLER")),
            _ if count < *was => Some(format!("{folder} has {count}: write so in FULLER")),
            _ => None,
        }
    });
    crowded.chain(roomier).collect()
}

#[test]
fn folders_fit_in_the_head() {
    let sources = sources();
    let complaints = complaints(&siblings(sources.keys()), FULLER);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_crowded_folder_and_a_line_too_many_are_found() {
    let paths: Vec<String> = (0..22).map(|n| format!("a/b/{n}.rs")).collect();
    let judge = |files: usize, fuller| complaints(&siblings(paths.iter().take(files)), fuller);
    assert!(judge(20, &[]).is_empty());
    assert!(judge(21, &[])[0].contains("a/b has 21"));
    assert!(judge(21, &[("a/b", 21)]).is_empty());
    assert!(judge(22, &[("a/b", 21)])[0].contains("a/b has 22"));
    assert!(judge(21, &[("a/b", 22)])[0].contains("write so"));
    assert!(judge(20, &[("a/b", 21)])[0].contains("remove it"));
}

#[test]
fn files_fit_in_the_head() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path} has {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "more than {LINES_MAX} lines, split by meaning:\n{}",
        long.join("\n")
    );
}
