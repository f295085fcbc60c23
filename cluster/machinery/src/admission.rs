//! What others have a say in of a request: ValidatingAdmissionPolicies, and in [`webhook`] webhooks.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>. Limits: no parameters
//! (`paramKind`) and no `authorizer`, which are refused when a policy is written; expressions are not type-checked; there is no audit log, so `auditAnnotations` are kept and not evaluated.

mod expression;
mod matching;
pub mod pod_security;
mod read;
mod request;
#[cfg(test)]
mod tests;
mod verdict;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use expression::Expression;
use expression::Scope;
use matching::Constraints;
use read::{items, text, texts};
pub use request::{Operation, Request};
pub use verdict::{Denial, Reason, Verdict};

use crate::cel::BUDGET_EXCEEDED;
use crate::resource::Resource;

/// All policies and bindings, compiled. A cheap copy: what is compiled is shared.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// By name.
    policies: BTreeMap<String, Arc<Policy>>,
    /// By name.
    bindings: BTreeMap<String, Arc<Binding>>,
}

#[derive(Debug)]
struct Policy {
    /// What it was compiled from.
    spec: Value,
    constraints: Constraints,
    /// What cannot be evaluated is let through.
    lenient: bool,
    conditions: Vec<Expression>,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
}

#[derive(Debug)]
struct Binding {
    /// The policy's name.
    policy: String,
    constraints: Option<Constraints>,
    actions: Vec<String>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: Reason,
}

/// A validation that does not hold.
#[derive(Clone, Debug)]
struct Failure {
    message: String,
    reason: Reason,
}

impl Policies {
    /// Heeds a policy (`admissionregistration.k8s.io/v1`) in place of the one of its name. It is compiled only if it says
    /// something else than before.
    pub fn put_policy(&mut self, policy: &Value) {
        let (name, spec) = (text(&policy["metadata"]["name"]), &policy["spec"]);
        if self.policies.get(name).is_none_or(|known| known.spec != *spec) {
            self.policies.insert(name.to_owned(), Arc::new(Policy::read(spec)));
        }
    }

    /// Forgets a policy.
    pub fn remove_policy(&mut self, name: &str) {
        self.policies.remove(name);
    }

    /// Heeds a binding in place of the one of its name.
    pub fn put_binding(&mut self, binding: &Value) {
        let name = text(&binding["metadata"]["name"]);
        self.bindings.insert(name.to_owned(), Arc::new(Binding::read(binding)));
    }

    /// Forgets a binding.
    pub fn remove_binding(&mut self, name: &str) {
        self.bindings.remove(name);
    }

    /// Whether the resource's objects are looked at: not those by which people would get rid of a bad policy. What is bound
    /// to no policy does nothing, and so does a policy without a binding.
    pub fn look_at(&self, resource: &Resource) -> bool {
        let bound = |binding: &Arc<Binding>| self.policies.contains_key(&binding.policy);
        !resource.builtin.is_some_and(|row| row.beyond_policies) && self.bindings.values().any(bound)
    }

    /// What the policies say of a request. Of those that deny it the first one is named, as Kubernetes does.
    pub fn review(&self, request: &Request<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut scope = None;
        for (name, policy) in &self.policies {
            if !policy.constraints.fit(request) {
                continue;
            }
            let fitting = |binding: &Binding| binding.policy == *name && binding.fits(request);
            let bindings: Vec<_> = self.bindings.iter().filter(|(_, b)| fitting(b)).collect();
            if bindings.is_empty() {
                continue;
            }
            let scope = scope.get_or_insert_with(|| Scope::new(request));
            for failure in policy.failures(scope) {
                for (own, binding) in &bindings {
                    binding.act(name, own, &failure, &mut verdict);
                }
            }
        }
        verdict
    }
}

impl Binding {
    fn read(binding: &Value) -> Self {
        let spec = &binding["spec"];
        Self {
            policy: text(&spec["policyName"]).to_owned(),
            constraints: spec.get("matchResources").map(Constraints::read),
            actions: texts(&spec["validationActions"]),
        }
    }

    /// Resource rules of a binding narrow the policy's down; without any all are meant.
    fn fits(&self, request: &Request<'_>) -> bool {
        self.constraints.as_ref().is_none_or(|c| c.fit(request))
    }

    fn act(&self, policy: &str, own: &str, failure: &Failure, verdict: &mut Verdict) {
        let whose = format!("ValidatingAdmissionPolicy '{policy}' with binding '{own}'");
        for action in &self.actions {
            match action.as_str() {
                "Deny" => {
                    verdict.denied.get_or_insert_with(|| Denial {
                        message: format!("{whose} denied request: {}", failure.message),
                        reason: failure.reason,
                    });
                }
                "Warn" => verdict
                    .warnings
                    .push(format!("Validation failed for {whose}: {}", failure.message)),
                _ => verdict.audit.push(format!("{whose}: {}", failure.message)),
            }
        }
    }
}

impl Policy {
    fn read(spec: &Value) -> Self {
        let expression = |value: &Value| Expression::new(text(value));
        let validation = |value: &Value| Validation {
            expression: expression(&value["expression"]),
            message: text(&value["message"]).trim().to_owned(),
            message_expression: value.get("messageExpression").map(expression),
            reason: Reason::named(text(&value["reason"])).unwrap_or_default(),
        };
        Self {
            spec: spec.clone(),
            constraints: Constraints::read(&spec["matchConstraints"]),
            lenient: spec["failurePolicy"] == "Ignore",
            conditions: items(&spec["matchConditions"])
                .map(|condition| expression(&condition["expression"]))
                .collect(),
            variables: items(&spec["variables"])
                .map(|variable| (text(&variable["name"]).to_owned(), expression(&variable["expression"])))
                .collect(),
            validations: items(&spec["validations"]).map(validation).collect(),
        }
    }

    /// What is wrong with the request.
    fn failures(&self, scope: &Scope) -> Vec<Failure> {
        let broken = |message: String| Failure {
            message,
            reason: Reason::Invalid,
        };
        scope.begin();
        let conditions: Vec<_> = self.conditions.iter().map(|c| (c, scope.holds(c))).collect();
        if conditions.iter().any(|(_, held)| *held == Ok(false)) {
            return Vec::new();
        }
        let errors: Vec<String> = conditions
            .iter()
            .filter_map(|(condition, held)| Some(resulted(condition, held.as_ref().err()?)))
            .collect();
        if !errors.is_empty() {
            return if self.lenient {
                Vec::new()
            } else {
                vec![broken(errors.join(", "))]
            };
        }
        let scope = scope.with_variables(&self.variables);
        let failure = |validation: &Validation| match scope.holds(&validation.expression) {
            Ok(true) => None,
            Ok(false) => Some(Failure {
                message: validation.told(&scope),
                reason: validation.reason,
            }),
            Err(_) if self.lenient => None,
            Err(error) => Some(broken(resulted(&validation.expression, &error))),
        };
        self.validations.iter().filter_map(failure).collect()
    }
}

impl Validation {
    /// What the client is told: the message that is made for it, the fixed one, or the expression.
    fn told(&self, scope: &expression::Variables<'_>) -> String {
        /// As in Kubernetes.
        const LIMIT_BYTES: usize = 5 * 1024;
        let made = self.message_expression.as_ref().and_then(|made| scope.text(made));
        let made = made.map(|text| text.trim().to_owned());
        match made.filter(|text| !text.is_empty() && text.len() <= LIMIT_BYTES && !text.contains('\n')) {
            Some(text) => text,
            None if self.message.is_empty() => format!("failed expression: {}", self.expression.text()),
            None => self.message.clone(),
        }
    }
}

fn resulted(expression: &Expression, error: &str) -> String {
    if error == BUDGET_EXCEEDED {
        return error.to_owned();
    }
    format!("expression '{}' resulted in error: {error}", expression.text())
}
