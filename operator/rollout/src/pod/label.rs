//! How a pod names its revision.

use afloat_api::Gates;

/// Whether a revision label means a revision's name.
pub fn same_revision(label: &str, name: &str) -> bool {
    label == name || (!label.is_empty() && label.rsplit('-').next() == name.rsplit('-').next())
}

/// What the label of a pod at this revision says.
pub fn revision_label(name: &str, gates: Gates) -> &str {
    if gates.short_hash { short(name) } else { name }
}

/// The short hash of a revision's name.
pub fn short(name: &str) -> &str {
    name.rsplit('-').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::{same_revision, short};

    #[test]
    fn revision_labels_match_in_both_forms() {
        assert!(same_revision("web-abc", "web-abc"));
        assert!(same_revision("abc", "web-abc"));
        assert!(!same_revision("abd", "web-abc"));
        assert!(!same_revision("", "web-abc"));
        assert_eq!(short("web-abc"), "abc");
    }
}
