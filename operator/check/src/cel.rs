//! How rules are said in CEL, for policies.

use afloat_rollout::kinds::KINDS;
use serde_json::{Value, json};

/// How a rule is said in CEL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cel {
    /// By an expression that makes a list of texts: what is at fault, by name. It may use the variables of [`crate::policy`].
    Finds { on: On, part: Part, found: &'static str },
    /// Not at all: it has to look at this as well.
    Needs(&'static str),
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// Deployments, StatefulSets, DaemonSets and the kinds that the operator looks after.
    Workloads,
    /// Those that the operator looks after.
    Ours,
    /// PodDisruptionBudgets.
    Budgets,
}

impl On {
    pub(crate) fn resources(self) -> Vec<Value> {
        let rule = |group: &str, versions: &[&str], resources: &[&str]| {
            json!({
                "apiGroups": [group], "apiVersions": versions, "resources": resources,
                "operations": ["CREATE", "UPDATE"],
            })
        };
        let apps = rule("apps", &["v1"], &["deployments", "statefulsets", "daemonsets"]);
        let plurals: Vec<&str> = KINDS.iter().map(|names| names.plural).collect();
        let sets = rule(afloat_api::GROUP, &["v1alpha1", "v1beta1"], &plurals);
        match self {
            Self::Workloads => vec![apps, sets],
            Self::Ours => vec![sets],
            Self::Budgets => vec![rule("policy", &["v1"], &["poddisruptionbudgets"])],
        }
    }
}

/// What of an object a rule looks at. A change of anything else is let through: a policy that denies must not hold up
/// whoever removes a finalizer from an object that was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Spec,
    Annotations,
    Both,
}

impl Part {
    /// CEL: whether it changes.
    pub(crate) fn changed(self) -> String {
        let spec = "object.spec != oldObject.spec";
        let annotations = "(has(object.metadata.annotations) ? object.metadata.annotations : {}) \
                           != (has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {})";
        let changes = match self {
            Self::Spec => spec.to_owned(),
            Self::Annotations => annotations.to_owned(),
            Self::Both => format!("{spec} || {annotations}"),
        };
        format!("request.operation == 'CREATE' || {changes}")
    }
}
