//! The kinds of workload, a row each. Who does something for all of them writes it once, as a [`Visit`], and names none.

use afloat_api::{CloneSet, DaemonSet, StatefulSet};
use k8s_openapi::Resource as _;

use crate::workload::foresight::Foreseen;

/// Something that is done for one kind, whichever it is.
pub trait Visit {
    /// What comes of it.
    type Out;
    /// Does it.
    fn visit<W: Foreseen>(self) -> Self::Out;
}

/// How a kind is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// In an object.
    pub kind: &'static str,
    /// In a URL.
    pub plural: &'static str,
    /// By people who type, as OpenKruise's definitions have it; none is another kind's.
    pub short: &'static [&'static str],
    /// OpenKruise's webhook writes into a template of it what the API server would fill in of a pod.
    pub filled: bool,
}

macro_rules! kinds {
    ($($kind:ty: $short:expr, filled: $filled:expr;)*) => {
        /// The names of all kinds.
        pub const KINDS: &[Names] = &[$(Names { kind: <$kind>::KIND, plural: <$kind>::URL_PATH_SEGMENT, short: &$short, filled: $filled }),*];

        /// For the kind that an object calls itself; None where it is none of ours.
        pub fn with<V: Visit>(kind: &str, visitor: V) -> Option<V::Out> {
            $(if kind == <$kind>::KIND {
                return Some(visitor.visit::<$kind>());
            })*
            None
        }
    };
}

kinds! {
    CloneSet: ["clone"], filled: true;
    DaemonSet: ["daemon", "ads"], filled: false;
    StatefulSet: ["sts", "asts"], filled: true;
}

/// The kind that somebody means, by any of its names, with the group behind it or without.
pub fn called(text: &str) -> Option<Names> {
    let text = text.strip_suffix(".apps.kruise.io").unwrap_or(text).to_lowercase();
    let means = |names: &&Names| {
        let whole = names.kind.to_lowercase() == text || names.plural == text;
        whole || names.short.contains(&text.as_str())
    };
    KINDS.iter().find(means).copied()
}

/// Whether an object is a workload of ours: other groups have kinds of the same names.
pub fn is_ours(api_version: &str, kind: &str) -> bool {
    api_version.split('/').next() == Some(afloat_api::GROUP) && KINDS.iter().any(|names| names.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_each_of_its_names_and_no_name_is_two_kinds() {
        for names in KINDS {
            let all = [names.kind, names.plural]
                .into_iter()
                .chain(names.short.iter().copied());
            for name in all {
                assert_eq!(called(name), Some(*names), "{name}");
                assert_eq!(called(&format!("{name}.apps.kruise.io")), Some(*names), "{name}");
            }
        }
        assert_eq!(called("deployment"), None);
        assert!(!is_ours("apps/v1", CloneSet::KIND));
        assert!(is_ours("apps.kruise.io/v1alpha1", CloneSet::KIND));
    }
}
