//! How a pod names its revision.

use afloat_api::{Gates, names};

/// Whether a revision label means a revision's name.
pub fn same_revision(label: &str, name: &str) -> bool {
    label == name || (!label.is_empty() && label.rsplit('-').next() == name.rsplit('-').next())
}

/// How the pods of a kind name their revision (spec/kruise-behaviour.md §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its name, or by its hash where a feature gate says so, and by the hash in a second label: CloneSet.
    Both,
    /// By its name: StatefulSet.
    Name,
    /// By its hash: DaemonSet.
    Hash,
}

impl Naming {
    /// What the label of a pod at this revision says.
    pub fn label(self, name: &str, gates: Gates) -> &str {
        match self {
            Self::Both if gates.short_hash => short(name),
            Self::Both | Self::Name => name,
            Self::Hash => short(name),
        }
    }

    /// How the record of an update names the revision.
    pub fn recorded(self, name: &str) -> &str {
        match self {
            Self::Both | Self::Name => name,
            Self::Hash => short(name),
        }
    }

    /// What the label `pod-template-hash` says, where there is one.
    pub fn hash_beside(self, name: &str) -> Option<&str> {
        (self == Self::Both).then(|| short(name))
    }

    /// The label of a revision that holds its hash.
    pub fn hash_label(self) -> &'static str {
        match self {
            Self::Both | Self::Name => names::REVISION_HASH,
            Self::Hash => names::REVISION,
        }
    }
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
