//! Defaults, validation and update rules of roles and bindings (Kubernetes' `pkg/apis/rbac/validation`).

use serde_json::Value;

use super::workload_checks::label_selector;
use crate::FieldError;
use crate::authorization::kind::{CLUSTER_ROLE, ROLE, SERVICE_ACCOUNT};
use crate::authorization::{GROUP, PolicyRule, RoleRef, quoted, quoted_list};
use crate::field::{child, error, index, invalid, not_supported, required, type_invalid};
use crate::json::{each_in, list, set_text, text};
use crate::names;

/// Sets the group of a binding's role, and those of its subjects.
pub(crate) fn default_binding(binding: &mut Value) {
    each_in(Some(binding), "roleRef", |role| set_text(role, "apiGroup", GROUP));
    each_in(Some(binding), "subjects", |subject| {
        if matches!(text(subject.get("kind")), "User" | "Group") {
            set_text(subject, "apiGroup", GROUP);
        }
    });
}

/// A field that must be a list, if it is there: of objects or of texts.
fn wrong_list(parent: &Value, path: &str, key: &str, item: fn(&Value) -> bool) -> Option<FieldError> {
    let value = parent.get(key).filter(|value| !value.is_null())?;
    let good = value.as_array().is_some_and(|items| items.iter().all(item));
    (!good).then(|| type_invalid(child(path, key), value.clone(), "must be a list of the right type"))
}

fn check_rule(rule: &Value, namespaced: bool, path: &str) -> Vec<FieldError> {
    let lists = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];
    let mut errors: Vec<FieldError> = lists
        .iter()
        .filter_map(|key| wrong_list(rule, path, key, Value::is_string))
        .collect();
    let rule = PolicyRule::read(rule);
    if rule.verbs.is_empty() {
        errors.push(required(child(path, "verbs"), "verbs must contain at least one value"));
    }
    if !rule.non_resource_urls.is_empty() {
        // As Go prints the list.
        let urls = quoted_list(&rule.non_resource_urls).replace("\" \"", "\", \"");
        let urls = format!("[]string{{{}}}", urls.trim_start_matches('[').trim_end_matches(']'));
        let mut refuse = |why: &str| {
            let message = format!("Invalid value: {urls}: {why}");
            errors.push(error(child(path, "nonResourceURLs"), "FieldValueInvalid", message));
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if !(rule.api_groups.is_empty() && rule.resources.is_empty() && rule.resource_names.is_empty()) {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return errors;
    }
    if rule.api_groups.is_empty() {
        let why = "resource rules must supply at least one api group";
        errors.push(required(child(path, "apiGroups"), why));
    }
    if rule.resources.is_empty() {
        let why = "resource rules must supply at least one resource";
        errors.push(required(child(path, "resources"), why));
    }
    errors
}

fn check_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = wrong_list(role, "", "rules", Value::is_object).into_iter().collect();
    for (at, rule) in list(Some(role), "rules").iter().enumerate() {
        errors.extend(check_rule(rule, namespaced, &index("rules", at)));
    }
    errors
}

/// What is wrong with a Role.
pub(crate) fn validate_role(role: &Value) -> Vec<FieldError> {
    check_rules(role, true)
}

/// What is wrong with a ClusterRole.
pub(crate) fn validate_cluster_role(role: &Value) -> Vec<FieldError> {
    let mut errors = check_rules(role, false);
    let Some(rule) = role.get("aggregationRule").filter(|rule| !rule.is_null()) else {
        return errors;
    };
    let path = "aggregationRule.clusterRoleSelectors";
    errors.extend(wrong_list(
        rule,
        "aggregationRule",
        "clusterRoleSelectors",
        Value::is_object,
    ));
    let selectors = list(Some(rule), "clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(required(path, why));
    }
    for (at, selector) in selectors.iter().enumerate() {
        label_selector(selector, &index(path, at), &mut errors);
    }
    errors
}

fn check_subject(subject: &Value, namespaced: bool, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, kind, group) = (
        text(subject.get("name")),
        text(subject.get("kind")),
        text(subject.get("apiGroup")),
    );
    if name.is_empty() {
        errors.push(required(child(path, "name"), ""));
    }
    match kind {
        SERVICE_ACCOUNT => {
            if !name.is_empty() {
                let wrong = names::dns_subdomain(name);
                errors.extend(wrong.iter().map(|why| invalid(child(path, "name"), name, why)));
            }
            if !group.is_empty() {
                errors.push(not_supported(child(path, "apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject.get("namespace")).is_empty() {
                errors.push(required(child(path, "namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(not_supported(child(path, "apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let kinds = [SERVICE_ACCOUNT, "User", "Group"];
            errors.push(not_supported(child(path, "kind"), other, &kinds));
        }
    }
    errors
}

fn check_binding(binding: &Value, namespaced: bool, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = wrong_list(binding, "", "subjects", Value::is_object)
        .into_iter()
        .collect();
    let role = RoleRef::of(binding);
    if role.group != GROUP {
        errors.push(not_supported("roleRef.apiGroup", role.group, &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(not_supported("roleRef.kind", role.kind, kinds));
    }
    if role.name.is_empty() {
        errors.push(required("roleRef.name", ""));
    }
    let wrong = names::path_segment(&role.name);
    errors.extend(wrong.iter().map(|why| invalid("roleRef.name", role.name.clone(), why)));
    for (at, subject) in list(Some(binding), "subjects").iter().enumerate() {
        errors.extend(check_subject(subject, namespaced, &index("subjects", at)));
    }
    errors
}

/// What is wrong with a RoleBinding.
pub(crate) fn validate_binding(binding: &Value) -> Vec<FieldError> {
    check_binding(binding, true, &[ROLE, CLUSTER_ROLE])
}

/// What is wrong with a ClusterRoleBinding.
pub(crate) fn validate_cluster_binding(binding: &Value) -> Vec<FieldError> {
    check_binding(binding, false, &[CLUSTER_ROLE])
}

/// A binding gives one role as long as it lives: who may change its subjects must not be able to give them another one.
pub(crate) fn validate_binding_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let (old, new) = (RoleRef::of(old), RoleRef::of(new));
    if old == new {
        return Vec::new();
    }
    let (group, kind, name) = (quoted(&new.group), quoted(&new.kind), quoted(&new.name));
    // As Go prints the value.
    let value = format!("rbac.RoleRef{{APIGroup:{group}, Kind:{kind}, Name:{name}}}");
    let message = format!("Invalid value: {value}: cannot change roleRef");
    vec![error("roleRef", "FieldValueInvalid", message)]
}
