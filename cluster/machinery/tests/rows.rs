//! What is known of a kind stands in its row: the sources of this crate and of the API server are read for names of kinds that are
//! compared elsewhere.
#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use afloat_machinery::kinds::Registry;

/// The sources of this crate and of the API server, without the rows and without tests: file and text.
fn sources() -> Vec<(std::path::PathBuf, String)> {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) = (vec![own.join("src"), own.join("../apiserver/src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let named = |name: &str| path.file_stem().is_some_and(|stem| stem == name);
            if path.is_dir() {
                folders.extend((!named("tests") && !named("rows")).then_some(path));
            } else if path.extension().is_some_and(|e| e == "rs") && !named("tests") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let code = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

/// What no row says, as it is not about one kind: what a node may read and write are two lists of Kubernetes' own, also of kinds that
/// nobody serves here ("Using Node Authorization"; "Admission Controllers", NodeRestriction).
const TABLES: [&str; 2] = [
    "authorization/nodes/authorizer.rs",
    "authorization/nodes/restriction.rs",
];

/// Whether code compares something with the text: `== "…"`, `"…" =>`, `"…" | `, `Some("…")`.
fn compares(line: &str, text: &str) -> bool {
    let quoted = format!("\"{text}\"");
    line.match_indices(&quoted).any(|(at, _)| {
        let (before, after) = (line[..at].trim_end(), line[at + quoted.len()..].trim_start());
        let decided = ["==", "!=", "|"]
            .iter()
            .any(|sign| before.ends_with(sign) || after.starts_with(sign));
        decided || after.trim_start_matches([',', ')', ' ', '_']).starts_with("=>")
    })
}

#[test]
fn no_kind_is_told_by_its_name_outside_its_row() {
    let registry = Registry::builtin();
    let names: BTreeSet<&str> = registry
        .all()
        .flat_map(|row| [row.kind.as_str(), &row.plural, &row.group])
        // The group of lists, and words that name other things as well.
        .filter(|name| !["", "policy"].contains(name))
        .collect();
    let sources = sources();
    assert!(sources.len() > 60, "the sources are not where they were");
    let mut told = Vec::new();
    for (path, code) in &sources {
        if TABLES.iter().any(|table| path.ends_with(table)) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            if names.iter().any(|name| compares(line, name)) {
                told.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    for line in [
        r#"kind == "Pod""#,
        r#"("", "Pod") => x"#,
        r#"Some("Pod" | "Job")"#,
        r#"a if k != "Pod" {"#,
    ] {
        assert!(compares(line, "Pod"), "{line}");
    }
    assert!(!compares(r#"registry.resolve("", "v1", "pods")"#, "pods"));
}
