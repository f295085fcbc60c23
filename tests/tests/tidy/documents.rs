//! What is written is true.

use std::collections::BTreeMap;
use std::path::Path;

use crate::tree::{files, root, sources};

#[test]
fn nothing_unfinished_is_left() {
    // Put together here, so that this file does not find itself.
    let words = [
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    for path in files(".rs").into_iter().chain(files(".md")) {
        let text = std::fs::read_to_string(&path).expect("readable file");
        for word in &words {
            assert!(!text.contains(word.as_str()), "{}: {word}", path.display());
        }
    }
}

/// docs/lifecycle.md says which test holds a rule of the lifecycle: `file#test`, in the places that it names itself.
#[test]
fn the_tests_that_the_documentation_names_exist() {
    let text = std::fs::read_to_string(root().join("docs/lifecycle.md")).expect("readable text");
    let named: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter_map(|code| code.split_once('#'))
        .collect();
    assert!(named.len() > 60, "the table is not read: {}", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|(file, test)| {
            let path = match file.split_once('/') {
                None => format!("tests/e2e/lifecycle/{file}.rs"),
                Some(("pod", _)) => format!("cluster/node/src/{file}"),
                Some(("e2e", _)) => format!("tests/{file}"),
                Some(("client", _)) => (*file).to_owned(),
                Some(_) => format!("cluster/{file}"),
            };
            let source = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            !source.contains(&format!("fn {test}("))
        })
        .map(|(file, test)| format!("{file}#{test}"))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/lifecycle.md names tests that do not exist: {missing:#?}"
    );
}

/// What is wrong with the marks of the invariants. `exists`: whether a folder holds a test of a name.
fn marks(text: &str, exists: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let section = text.split("\n## Invariants").nth(1).unwrap_or("");
    let section = section.split("\n## ").next().unwrap_or("");
    let mut items: Vec<String> = Vec::new();
    for line in section.lines() {
        match line.split_once(". ") {
            Some((number, rest)) if number.parse::<u8>().is_ok() => items.push(rest.to_owned()),
            _ if line.starts_with("   ") => {
                if let Some(item) = items.last_mut() {
                    item.push_str(line);
                }
            }
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    if items.is_empty() {
        wrong.push("no invariants are found".to_owned());
    }
    for item in &items {
        let named: Vec<(&str, &str)> = item
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.split_once('#'))
            .collect();
        let begin: String = item.chars().take(60).collect();
        match item.chars().next() {
            Some('✓') if named.is_empty() => wrong.push(format!("{begin}: which test checks it? (`folder#test`)")),
            Some('✓') => {}
            Some('☐') if named.is_empty() => {}
            Some('☐') => wrong.push(format!("{begin}: a wish that a test checks is none, mark it ✓")),
            _ => wrong.push(format!("{begin}: neither ✓ (checked) nor ☐ (a wish)")),
        }
        for (folder, test) in named.into_iter().filter(|(folder, test)| !exists(folder, test)) {
            wrong.push(format!("{begin}: {folder} has no test {test}"));
        }
    }
    wrong
}

#[test]
fn invariants_are_checked_or_called_wishes() {
    let sources: BTreeMap<String, String> = sources();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("readable text");
    let wrong = marks(&text, |folder, test| exists(&sources, folder, test));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether there is a function of this name in a file, or below a folder.
fn exists(sources: &BTreeMap<String, String>, place: &str, function: &str) -> bool {
    let place = if place == "tidy" { "tests/tests/tidy" } else { place };
    let is_there = |text: &str| {
        let mut starts = ["(", "<"].iter().map(|after| format!("fn {function}{after}"));
        starts.any(|start| text.contains(&start))
    };
    sources
        .iter()
        .any(|(path, text)| Path::new(path).starts_with(place) && is_there(text))
}

#[test]
fn a_function_is_found_in_its_place_only() {
    let text = "fn f() {} async fn g<T>(t: T) {} fn long() {}";
    let sources = [("a/src/b.rs".to_owned(), text.to_owned())].into();
    let found = |place: &str, function: &str| exists(&sources, place, function);
    assert!(found("a", "f") && found("a/src/b.rs", "g"));
    assert!(!found("b", "f") && !found("a/sr", "f") && !found("a", "lon") && !found("a", "h"));
}

#[test]
fn the_functions_that_the_architecture_names_exist() {
    let sources = sources();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("readable text");
    let named: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter_map(|code| code.split_once('#'))
        .collect();
    assert!(named.len() > 15, "the table is not read: {}", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|(place, function)| !exists(&sources, place, function))
        .map(|(place, function)| format!("{place}#{function}"))
        .collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names functions that do not exist: {missing:#?}"
    );
}

#[test]
fn an_invariant_without_its_mark_is_found() {
    let judge = |items: &str| {
        let text = format!("# A\n\n## Invariants\n\nSome words. 1.\n\n{items}\n\n## Next\n\n9. Not one.\n");
        marks(&text, |folder, test| (folder, test) == ("tidy", "good")).len()
    };
    assert_eq!(judge("1. ✓ Checked. `tidy#good`\n2. ☐ A wish\n   on two lines."), 0);
    assert_eq!(judge("1. ✓ On two\n   lines. `code` `tidy#good`"), 0);
    for wrong in [
        "1. Nothing.",
        "1. ✓ No test. `code`",
        "1. ✓ `tidy#gone`",
        "1. ✓ `tidy#good` `sim#good`",
        "1. ☐ Not true. `tidy#good`",
        "",
    ] {
        assert_eq!(judge(wrong), 1, "{wrong}");
    }
}
