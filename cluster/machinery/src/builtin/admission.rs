//! ValidatingAdmissionPolicies and their bindings.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::admission::{Expression, Reason};
use crate::field::{child, duplicate, forbidden, index, invalid, not_supported, required};
use crate::json::{each, each_in, list, set, set_number, set_text, text};
use crate::names;
use crate::selector::LabelSelector;

const OPERATIONS: &[&str] = &["*", "CREATE", "UPDATE", "DELETE", "CONNECT"];
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

/// Sets the defaults of a policy.
pub(crate) fn default_policy(policy: &mut Value) {
    each_in(Some(policy), "spec", |spec| {
        set_text(spec, "failurePolicy", "Fail");
        each(spec, "matchConstraints", default_match);
    });
}

/// Sets the defaults of a binding.
pub(crate) fn default_binding(binding: &mut Value) {
    each_in(Some(binding), "spec", |spec| {
        each(spec, "matchResources", default_match);
    });
}

/// Sets the defaults of webhooks that only look.
pub(crate) fn default_validating_webhooks(configuration: &mut Value) {
    each_in(Some(configuration), "webhooks", default_webhook);
}

/// Sets the defaults of webhooks that change what they are asked about.
pub(crate) fn default_mutating_webhooks(configuration: &mut Value) {
    each_in(Some(configuration), "webhooks", |webhook| {
        default_webhook(webhook);
        set_text(webhook, "reinvocationPolicy", "Never");
    });
}

fn default_webhook(webhook: &mut Map<String, Value>) {
    set_text(webhook, "failurePolicy", "Fail");
    set_text(webhook, "matchPolicy", "Equivalent");
    set_number(webhook, "timeoutSeconds", 10);
    for selector in ["namespaceSelector", "objectSelector"] {
        set(Some(webhook), selector, || json!({}));
    }
    each(webhook, "rules", |rule| set_text(rule, "scope", "*"));
    each(webhook, "clientConfig", |client| {
        each(client, "service", |service| set_number(service, "port", 443));
    });
}

fn default_match(constraints: &mut Map<String, Value>) {
    set_text(constraints, "matchPolicy", "Equivalent");
    set(Some(constraints), "namespaceSelector", || json!({}));
    set(Some(constraints), "objectSelector", || json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(constraints, rules, |rule| set_text(rule, "scope", "*"));
    }
}

/// Checks a policy, and that this server can do what it asks for.
pub(crate) fn validate_policy(policy: &Value) -> Vec<FieldError> {
    let Some(spec) = policy.get("spec").filter(|spec| spec.is_object()) else {
        return vec![required("spec", "")];
    };
    let mut errors = Vec::new();
    if spec.get("paramKind").is_some_and(|kind| !kind.is_null()) {
        errors.push(forbidden(
            "spec.paramKind",
            "this server has no policies with parameters",
        ));
    }
    one_of(spec, "spec", "failurePolicy", &["Fail", "Ignore"], &mut errors);
    match spec.get("matchConstraints").filter(|value| !value.is_null()) {
        None => errors.push(required("spec.matchConstraints", "")),
        Some(constraints) => {
            if list(Some(constraints), "resourceRules").is_empty() {
                errors.push(required("spec.matchConstraints.resourceRules", ""));
            }
            matching(constraints, "spec.matchConstraints", &mut errors);
        }
    }
    let (validations, annotations) = (list(Some(spec), "validations"), list(Some(spec), "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(required("spec.validations", detail));
        errors.push(required("spec.auditAnnotations", detail));
    }
    named(spec, "matchConditions", "name", "expression", &mut errors);
    named(spec, "variables", "name", "expression", &mut errors);
    named(spec, "auditAnnotations", "key", "valueExpression", &mut errors);
    for (i, validation) in validations.iter().enumerate() {
        check_validation(validation, &index("spec.validations", i), &mut errors);
    }
    errors
}

fn check_validation(validation: &Value, path: &str, errors: &mut Vec<FieldError>) {
    expression(validation, path, "expression", errors);
    if validation.get("messageExpression").is_some() {
        expression(validation, path, "messageExpression", errors);
    }
    let message = text(validation.get("message"));
    if message.contains('\n') {
        errors.push(invalid(
            child(path, "message"),
            message,
            "message must not contain line breaks",
        ));
    }
    one_of(validation, path, "reason", &Reason::NAMES, errors);
}

/// Checks a list of named expressions.
fn named(spec: &Value, field: &str, key: &str, value: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, item) in list(Some(spec), field).iter().enumerate() {
        let path = index(&child("spec", field), i);
        let name = text(item.get(key));
        let identifier = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            errors.push(required(child(&path, key), ""));
        } else if field == "variables" && !identifier {
            errors.push(invalid(child(&path, key), name, "name is not a valid CEL identifier"));
        } else if field != "variables" {
            let problems = names::qualified_name(name);
            errors.extend(problems.iter().map(|p| invalid(child(&path, key), name, p)));
        }
        if !name.is_empty() && !seen.insert(name) {
            errors.push(duplicate(child(&path, key), name));
        }
        expression(item, &path, value, errors);
    }
}

fn expression(item: &Value, path: &str, field: &str, errors: &mut Vec<FieldError>) {
    let expression = text(item.get(field));
    if expression.trim().is_empty() {
        errors.push(required(child(path, field), "expression is not specified"));
    } else if let Some(problem) = Expression::new(expression).problem() {
        errors.push(invalid(child(path, field), expression, &problem));
    }
}

fn matching(constraints: &Value, path: &str, errors: &mut Vec<FieldError>) {
    one_of(constraints, path, "matchPolicy", &["Equivalent", "Exact"], errors);
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = constraints.get(field)
            && let Err(problem) = LabelSelector::from_value(selector)
        {
            errors.push(invalid(child(path, field), selector.clone(), &problem));
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in list(Some(constraints), field).iter().enumerate() {
            check_rule(rule, &index(&child(path, field), i), errors);
        }
    }
}

fn check_rule(rule: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["apiGroups", "apiVersions", "resources", "operations"] {
        if list(Some(rule), field).is_empty() {
            errors.push(required(child(path, field), ""));
        }
    }
    for (i, operation) in list(Some(rule), "operations").iter().enumerate() {
        let word = text(Some(operation));
        if !OPERATIONS.contains(&word) {
            errors.push(not_supported(index(&child(path, "operations"), i), word, OPERATIONS));
        }
    }
    one_of(rule, path, "scope", &["*", "Cluster", "Namespaced"], errors);
}

/// A word that may be left out.
fn one_of(parent: &Value, path: &str, field: &str, words: &[&str], errors: &mut Vec<FieldError>) {
    let word = text(parent.get(field));
    if !word.is_empty() && !words.contains(&word) {
        errors.push(not_supported(child(path, field), word, words));
    }
}

/// Checks a binding.
pub(crate) fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let Some(spec) = binding.get("spec").filter(|spec| spec.is_object()) else {
        return vec![required("spec", "")];
    };
    let mut errors = Vec::new();
    if text(spec.get("policyName")).is_empty() {
        errors.push(required("spec.policyName", ""));
    }
    if spec.get("paramRef").is_some_and(|value| !value.is_null()) {
        errors.push(forbidden(
            "spec.paramRef",
            "this server has no policies with parameters",
        ));
    }
    if let Some(constraints) = spec.get("matchResources") {
        matching(constraints, "spec.matchResources", &mut errors);
    }
    let actions = list(Some(spec), "validationActions");
    if actions.is_empty() {
        errors.push(required("spec.validationActions", ""));
    }
    let mut seen = BTreeSet::new();
    for (i, action) in actions.iter().enumerate() {
        let (word, path) = (text(Some(action)), index("spec.validationActions", i));
        if !ACTIONS.contains(&word) {
            errors.push(not_supported(path, word, ACTIONS));
        } else if !seen.insert(word) {
            errors.push(duplicate(path, word));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        errors.push(invalid("spec.validationActions", actions.to_vec(), detail));
    }
    errors
}
