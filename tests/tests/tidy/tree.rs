//! The files of the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_path_buf()
}

fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// All files whose names end so, in order.
pub(crate) fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {}", root().display());
    found
}

/// All Rust files, by their path from the root, and what is in them.
pub(crate) fn sources() -> BTreeMap<String, String> {
    files(".rs")
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable source");
            let name = path.strip_prefix(root()).expect("below the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// The root files of our crates.
pub(crate) fn crates(sources: &BTreeMap<String, String>) -> Vec<String> {
    let found: Vec<String> = sources
        .keys()
        .filter(|path| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"))
        .cloned()
        .collect();
    assert!(found.len() > 15, "{found:?}");
    found
}
