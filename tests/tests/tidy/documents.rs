//! What is written is true.

use crate::tree::{files, root};

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
