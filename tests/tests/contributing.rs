//! The places that CONTRIBUTING.md sends people to exist.

#![allow(clippy::expect_used)] // helpers of tests may fail as tests do

use std::path::Path;

#[test]
fn every_place_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("CONTRIBUTING.md")).expect("readable text");
    // Paths are the words in backquotes that have a stroke and no blank.
    let places: Vec<&str> = (text.lines().filter(|line| line.starts_with("| ")))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| word.contains('/') && !word.contains(' '))
        .collect();
    assert!(places.len() > 15, "the table is not read: {places:?}");
    for place in places {
        assert!(
            root.join(place).exists(),
            "CONTRIBUTING.md names {place}, which is not there"
        );
    }
}
