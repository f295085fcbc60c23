//! Rules as ValidatingAdmissionPolicies, so that the API server itself says what `afloat check` would.
//!
//! A policy sees one object at a time. A rule that has to see what is beside it (its Services, the pods, what is in an
//! image) has none, and says so. What a policy finds in an object is what [`check`](crate::check()) finds in that object
//! alone. Source of the form: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

pub(crate) mod variables;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::cel::{Cel, Part};
use crate::rule::{IGNORE, Rule, Test};
use variables::shared;

/// What the API server does with what a policy finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Tells whoever sent the object, and takes it.
    Warn,
    /// Refuses the object.
    Deny,
    /// Writes it to the audit log.
    Audit,
}

impl Action {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "Warn",
            Self::Deny => "Deny",
            Self::Audit => "Audit",
        }
    }
}

/// How the policies are bound.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// What happens; Deny and Warn exclude each other (the API refuses them together).
    pub actions: Vec<Action>,
    /// Which namespaces, by their labels; None is all.
    pub namespaces: Option<LabelSelector>,
}

/// What else the rule has to look at, so that there is no policy for it; None if there is one.
pub fn needs(rule: &Rule) -> Option<&'static str> {
    match rule.cel {
        Cel::Finds { .. } => None,
        Cel::Needs(what) => Some(what),
    }
}

/// The ValidatingAdmissionPolicy of a rule and its ValidatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1);
/// None where one object does not decide.
pub fn objects(rule: &Rule, binding: &Binding) -> Option<[Value; 2]> {
    let Cel::Finds { on, part, found } = rule.cel else {
        return None;
    };
    let name = format!("afloat-{}", rule.id);
    let metadata = json!({
        "name": name,
        "labels": {"app.kubernetes.io/part-of": "afloat-check", "check.afloat.dev/rule": rule.id},
    });
    let mut policy_metadata = metadata.clone();
    policy_metadata["annotations"] = json!({"check.afloat.dev/why": rule.why, "check.afloat.dev/link": rule.link});
    let message = format!("{}: {}", rule.id, rule.title);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": policy_metadata,
        "spec": {
            // Advice must not take the cluster down with it.
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": on.resources()},
            "matchConditions": conditions(rule, part),
            "variables": variables(found),
            "validations": [{
                "expression": "size(variables.found) == 0",
                "message": format!("{message}. {}", rule.remedy),
                "messageExpression": format!(
                    "{} + variables.found.join(', ') + {}",
                    text(&format!("{message} (")),
                    text(&format!("). {}", rule.remedy)),
                ),
            }],
        },
    });
    let mut spec = json!({
        "policyName": name,
        "validationActions": binding.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>(),
    });
    if let Some(namespaces) = &binding.namespaces {
        spec["matchResources"] = json!({"namespaceSelector": namespaces});
    }
    let bound = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": spec,
    });
    Some([policy, bound])
}

/// When the policy looks at an object at all.
fn conditions(rule: &Rule, part: Part) -> Vec<Value> {
    let ignored = format!(
        "!has(object.metadata.annotations) || !('{IGNORE}' in object.metadata.annotations) || \
         !object.metadata.annotations['{IGNORE}'].split(',').exists(word, word.trim() in ['{}', '*'])",
        rule.id
    );
    let mut conditions = vec![
        json!({"name": "not-ignored", "expression": ignored}),
        json!({"name": "changed", "expression": part.changed()}),
    ];
    if matches!(rule.test, Test::Workload(_)) {
        // Its controller is the one to look at.
        let own = "!has(object.metadata.ownerReferences) || \
                   !object.metadata.ownerReferences.exists(owner, has(owner.controller) && owner.controller)";
        conditions.push(json!({"name": "not-controlled", "expression": own}));
    }
    conditions
}

/// The expression as the variable `found`, after those that it uses.
fn variables(found: &'static str) -> Vec<Value> {
    let mut used = vec![("found", Cow::Borrowed(found))];
    for (name, expression) in shared().into_iter().rev() {
        if used.iter().any(|(_, text)| mentions(text, name)) {
            used.push((name, expression));
        }
    }
    let entry = |(name, expression): &(&str, Cow<'static, str>)| json!({"name": name, "expression": expression});
    used.iter().rev().map(entry).collect()
}

/// Whether the expression uses the variable.
fn mentions(expression: &str, name: &str) -> bool {
    let word = |text: &str| {
        text.strip_prefix(name)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    expression.split("variables.").skip(1).any(word)
}

/// A text as a CEL literal.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_with_those_they_use() {
        let names: Vec<Value> = variables("variables.containers.map(c, c.name)")
            .into_iter()
            .map(|variable| variable["name"].clone())
            .collect();
        assert_eq!(names, ["spec", "pod", "containers", "found"]);
        assert!(mentions("size(variables.pod)", "pod"));
        assert!(!mentions("variables.podAnnotations", "pod"));
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(text(r"the process' own \ way"), r"'the process\' own \\ way'");
    }

    #[test]
    fn each_rule_has_a_policy_or_a_reason() {
        let binding = Binding {
            actions: vec![Action::Warn],
            namespaces: None,
        };
        for rule in crate::rules::RULES {
            let made = objects(rule, &binding);
            assert_eq!(made.is_none(), needs(rule).is_some(), "{}", rule.id);
            let Some([policy, bound]) = made else { continue };
            assert_eq!(policy["metadata"]["name"], bound["spec"]["policyName"]);
            let message = policy["spec"]["validations"][0]["message"].as_str().unwrap();
            // The API refuses line breaks.
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
