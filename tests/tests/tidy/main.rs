//! Our own rules, checked (ARCHITECTURE.md names them).

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests may fail as tests do

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A source file longer than this is split by meaning.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
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

fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {}", root().display());
    found
}

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

#[test]
fn the_two_halves_do_not_know_each_other() {
    let operator = [
        "afloat-api",
        "afloat-rollout",
        "afloat-check",
        "afloat-manager",
        "afloat-agent",
    ];
    for (package, depends) in dependencies() {
        if ["afloat", "afloat-tests", "afloat-sim"].contains(&package.as_str()) {
            continue;
        }
        for dependency in depends {
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
        ("afloat-rollout", &["afloat-api"]),
        ("afloat-check", &["afloat-api", "afloat-rollout"]),
        ("afloat-manager", &["afloat-api", "afloat-rollout"]),
        ("afloat-agent", &["afloat-api"]),
        ("afloat-machinery", &[]),
        ("afloat-store", &[]),
        ("afloat-apiserver", &["afloat-machinery", "afloat-store"]),
        ("afloat-controllers", &[]),
        ("afloat-runtime", &[]),
        ("afloat-node", &["afloat-runtime"]),
        ("afloat-proxy", &[]),
        ("afloat-dns", &[]),
        ("afloat-probe", &[]),
    ]);
    let all = dependencies();
    for (package, may) in allowed {
        for dependency in &all[package] {
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
fn pure_packages_have_no_clock_no_io_and_no_hash_order() {
    let banned = [
        "tokio",
        "std::fs",
        "std::net::Tcp",
        "Timestamp::now",
        "SystemTime",
        "Instant::now",
        "rand::",
        "HashMap",
        "HashSet",
        "kube::Client",
        "tracing::",
    ];
    for package in [
        "operator/api",
        "operator/rollout",
        "operator/check",
        "cluster/machinery",
    ] {
        for path in files(".rs")
            .into_iter()
            .filter(|p| p.starts_with(root().join(package).join("src")))
        {
            let text = std::fs::read_to_string(&path).expect("readable source");
            // The model checker is a test, of many files.
            if path.components().any(|part| part.as_os_str() == "model") {
                continue;
            }
            // Tests may read golden files.
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or("");
                for word in banned {
                    assert!(
                        !line.contains(word),
                        "{}:{}: {word} in a pure package",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn files_fit_in_the_head() {
    let long: Vec<String> = files(".rs")
        .iter()
        .map(|p| (p, std::fs::read_to_string(p).expect("readable source").lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(
        long.is_empty(),
        "more than {LINES_MAX} lines, split by meaning:\n{}",
        long.join("\n")
    );
}

#[test]
fn unsafe_stays_where_namespaces_are_made() {
    for path in files(".rs") {
        let text = std::fs::read_to_string(&path).expect("readable source");
        let uses = text
            .lines()
            .any(|l| l.contains("unsafe {") || l.contains("allow(unsafe_code"));
        let allowed = path.starts_with(root().join("cluster/runtime")) || path.ends_with("tests/tests/tidy.rs");
        assert!(
            !uses || allowed,
            "{}: unsafe code outside cluster/runtime",
            path.display()
        );
    }
}

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
