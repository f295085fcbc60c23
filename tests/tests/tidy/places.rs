//! What may be done and said only in its place: I/O, `unsafe`, URLs.

use crate::modules::Crate;
use crate::tree::{crates, files, root, sources};

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
        "client/words",
        "operator/api",
        "operator/disruption",
        "operator/rollout",
        "operator/check",
        "operator/recreate",
        "operator/install",
        "cluster/machinery",
    ] {
        for path in files(".rs")
            .into_iter()
            .filter(|p| p.starts_with(root().join(package).join("src")))
        {
            let text = std::fs::read_to_string(&path).expect("readable source");
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

/// Where a path of the API may be written out: the server takes URLs apart. Clients get theirs from the types
/// (`kube::Resource::url_path`, `kube::Api`).
const KNOWS_URLS: &str = "cluster/apiserver/";

fn urls_out_of_place(read: &Crate) -> Vec<String> {
    read.texts()
        .filter(|(file, text)| {
            let text = text.trim_start_matches(['b', 'r', '#', '"']);
            !file.starts_with(KNOWS_URLS) && (text.starts_with("/api/") || text.starts_with("/apis/"))
        })
        .map(|(file, text)| format!("{file}: {text}"))
        .collect()
}

#[test]
fn only_the_api_server_knows_urls() {
    let sources = sources();
    let found: Vec<String> = crates(&sources)
        .iter()
        .flat_map(|root| urls_out_of_place(&Crate::read(root, &sources).expect("a crate that compiles")))
        .collect();
    assert!(
        found.is_empty(),
        "ask the type for its path (`kube::Resource::url_path`):\n{}",
        found.join("\n")
    );
}

#[test]
fn a_url_out_of_place_is_found() {
    let read = |code: &str, root: &str| {
        let sources = [(root.to_owned(), code.to_owned())].into();
        urls_out_of_place(&Crate::read(root, &sources).expect("Rust"))
    };
    for (code, found) in [
        (r#"fn f() { get("/api/v1/pods") }"#, 1),
        (r#"fn f() { format!("/apis/{group}/v1") }"#, 1),
        (r##"const A: &str = r#"/apis/apps/v1"#; fn f() { b"/api/v1" }"##, 2),
        (
            r#"// "/api/v1/pods"
            fn f() { "see /api/v1" }"#,
            0,
        ),
        (r#"#[cfg(test)] mod tests { fn f() { "/api/v1/pods" } }"#, 0),
    ] {
        assert_eq!(read(code, "sim/src/lib.rs").len(), found, "{code}");
        assert_eq!(read(code, "cluster/apiserver/src/lib.rs").len(), 0, "{code}");
    }
}
