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
    /// It has a pod on each node that suits, and no number of replicas.
    pub per_node: bool,
    /// Its v1alpha1 has the settings of an update beside the type, and the way in which pods change for a type.
    pub flat: bool,
    /// Its updates in place have a quiet period (`inPlaceUpdateStrategy.gracePeriodSeconds`).
    pub quiet: bool,
    /// A percentage of its pods that may be unavailable is rounded down.
    pub floors: bool,
}

/// What a row says of itself alone.
const PLAIN: Names = Names {
    kind: "",
    plural: "",
    short: &[],
    filled: false,
    per_node: false,
    flat: false,
    quiet: false,
    floors: false,
};

macro_rules! kinds {
    ($($kind:ty: $row:expr;)*) => {
        /// The names of all kinds.
        pub const KINDS: &[Names] = &[$(Names { kind: <$kind>::KIND, plural: <$kind>::URL_PATH_SEGMENT, ..$row }),*];

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
    CloneSet: Names { short: &["clone"], filled: true, flat: true, quiet: true, ..PLAIN };
    DaemonSet: Names { short: &["daemon", "ads"], per_node: true, ..PLAIN };
    StatefulSet: Names { short: &["sts", "asts"], filled: true, quiet: true, floors: true, ..PLAIN };
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

/// The kind of ours that an object is of: other groups have kinds of the same names.
pub fn of(api_version: &str, kind: &str) -> Option<&'static Names> {
    let ours = api_version.split('/').next() == Some(afloat_api::GROUP);
    KINDS.iter().find(|names| ours && names.kind == kind)
}

/// Whether an object is a workload of ours.
pub fn is_ours(api_version: &str, kind: &str) -> bool {
    of(api_version, kind).is_some()
}

#[cfg(test)]
mod tests;
