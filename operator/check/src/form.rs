//! What an object with pods is to the rules: kinds are told by their names here and nowhere else.

use afloat_rollout::kinds::{self, KINDS, Names};

/// A kind that has pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Pod,
    Deployment,
    ReplicaSet,
    /// Kubernetes' own.
    StatefulSet,
    /// Kubernetes' own.
    DaemonSet,
    /// A kind that the operator looks after.
    Ours(&'static Names),
}

/// Kubernetes' own.
const BUILT_IN: [(&str, Form); 5] = [
    ("Pod", Form::Pod),
    ("Deployment", Form::Deployment),
    ("ReplicaSet", Form::ReplicaSet),
    ("StatefulSet", Form::StatefulSet),
    ("DaemonSet", Form::DaemonSet),
];

impl Form {
    pub(crate) fn of(api_version: &str, kind: &str) -> Option<Self> {
        let built_in = || BUILT_IN.iter().find(|(name, _)| *name == kind).map(|(_, form)| *form);
        kinds::of(api_version, kind).map(Self::Ours).or_else(built_in)
    }

    /// Where the pod's metadata and spec are.
    pub(crate) fn template(self) -> &'static str {
        if self == Self::Pod { "" } else { "/spec/template" }
    }

    /// Whether there are as many pods as nodes that suit.
    pub(crate) fn per_node(self) -> bool {
        match self {
            Self::DaemonSet => true,
            Self::Ours(names) => names.per_node,
            _ => false,
        }
    }
}

/// The kinds of which this is so, as a list in CEL.
pub(crate) fn listed(is: impl Fn(Form) -> bool) -> String {
    let ours = KINDS.iter().map(|names| (names.kind, Form::Ours(names)));
    let mut found: Vec<String> = Vec::new();
    for (kind, form) in BUILT_IN.into_iter().chain(ours) {
        let text = format!("'{kind}'");
        if is(form) && !found.contains(&text) {
            found.push(text);
        }
    }
    format!("[{}]", found.join(", "))
}

/// Where the pod template of an object of this kind is that rules read.
pub fn template_of(api_version: &str, kind: &str) -> Option<&'static str> {
    Form::of(api_version, kind).map(Form::template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_kinds_of_the_same_names() {
        assert_eq!(Form::of("apps/v1", "DaemonSet"), Some(Form::DaemonSet));
        assert!(matches!(
            Form::of("apps.kruise.io/v1alpha1", "DaemonSet"),
            Some(Form::Ours(_))
        ));
        assert_eq!(Form::of("apps/v1", "CloneSet"), None);
        assert_eq!(listed(Form::per_node), "['DaemonSet']");
        assert_eq!(template_of("v1", "Pod"), Some(""));
    }
}
