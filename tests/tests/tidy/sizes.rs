//! How much is in one place.

use crate::tree::sources;

/// A source file longer than this is split by meaning.
const LINES_MAX: usize = 600;

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
