//! What may be done and said only in its place: I/O, `unsafe`, URLs.

use crate::tree::{files, root};

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
fn unsafe_stays_where_namespaces_are_made() {
    for path in files(".rs") {
        let text = std::fs::read_to_string(&path).expect("readable source");
        let uses = text
            .lines()
            .any(|l| l.contains("unsafe {") || l.contains("allow(unsafe_code"));
        let allowed = path.starts_with(root().join("cluster/runtime")) || path.ends_with("tests/tests/tidy/places.rs");
        assert!(
            !uses || allowed,
            "{}: unsafe code outside cluster/runtime",
            path.display()
        );
    }
}
