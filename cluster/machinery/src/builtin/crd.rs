//! CustomResourceDefinitions: names, versions and a schema for each version.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::FieldError;
use crate::field::{child, duplicate, forbidden, index, invalid, not_supported, required};
use crate::json::{each, each_in, list, set, set_text, text};
use crate::names;

/// Sets the defaults of a definition.
pub(crate) fn default(crd: &mut Value) {
    each_in(Some(crd), "spec", |spec| {
        each(spec, "names", |names| {
            let kind = text(names.get("kind")).to_owned();
            if !kind.is_empty() {
                set_text(names, "singular", &kind.to_lowercase());
                set_text(names, "listKind", &format!("{kind}List"));
            }
        });
        set(Some(spec), "conversion", || json!({"strategy": "None"}));
        let service = spec
            .get_mut("conversion")
            .and_then(|conversion| conversion.pointer_mut("/webhook/clientConfig"));
        each_in(service, "service", |service| set(Some(service), "port", || json!(443)));
    });
}

/// Checks a definition.
pub(crate) fn validate(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(spec) = crd.get("spec").filter(|s| s.is_object()) else {
        return vec![required("spec", "")];
    };
    let group = text(spec.get("group"));
    if group.is_empty() {
        errors.push(required("spec.group", ""));
    } else {
        errors.extend(
            names::dns_subdomain(group)
                .iter()
                .map(|p| invalid("spec.group", group, p)),
        );
        if !group.contains('.') {
            errors.push(invalid("spec.group", group, "should be a domain with at least one dot"));
        }
    }
    let plural = text(crate::get(spec, &["names", "plural"]));
    let name = text(crate::get(crd, &["metadata", "name"]));
    if name != format!("{plural}.{group}") {
        errors.push(invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    match text(spec.get("scope")) {
        "" => errors.push(required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    check_names(spec, &mut errors);
    versions(spec, &mut errors);
    conversion(spec, &mut errors);
    errors
}

/// Kubernetes' names of the fields are older than the version that is served.
fn conversion(spec: &Value, errors: &mut Vec<FieldError>) {
    let given = spec.get("conversion").unwrap_or(&Value::Null);
    let strategy = text(given.get("strategy"));
    let is_set = |value: &Value| !value.is_null();
    let webhook = &given["webhook"];
    let config = Some(&webhook["clientConfig"]).filter(|config| is_set(config));
    let (field, versions) = (
        "spec.conversion.webhookClientConfig",
        "spec.conversion.conversionReviewVersions",
    );
    match strategy {
        "Webhook" => {}
        "None" => {
            let detail = "should not be set when strategy is not set to Webhook";
            if config.is_some() {
                errors.push(forbidden(field, detail));
            }
            if !list(Some(webhook), "conversionReviewVersions").is_empty() {
                errors.push(forbidden(versions, detail));
            }
            return;
        }
        "" => return errors.push(required("spec.conversion.strategy", "")),
        other => return errors.push(not_supported("spec.conversion.strategy", other, &["None", "Webhook"])),
    }
    match config {
        None => errors.push(required(field, "required when strategy is set to Webhook")),
        Some(config) if is_set(&config["url"]) == is_set(&config["service"]) => {
            errors.push(required(field, "exactly one of url or service is required"));
        }
        Some(config) if is_set(&config["url"]) => {
            let url = text(config.get("url"));
            if let Some((wrong, detail)) = webhook_url(url) {
                errors.push(invalid(child(field, "url"), wrong, detail));
            }
        }
        Some(config) => {
            for key in ["name", "namespace"] {
                if text(config["service"].get(key)).is_empty() {
                    let field = child(&child(field, "service"), key);
                    errors.push(required(field, &format!("service {key} is required")));
                }
            }
        }
    }
    let known = list(Some(webhook), "conversionReviewVersions");
    if known.is_empty() {
        errors.push(required(versions, ""));
    } else if !known
        .iter()
        .any(|version| matches!(text(Some(version)), "v1" | "v1beta1"))
    {
        errors.push(invalid(
            versions,
            Value::Array(known.to_vec()),
            "must include at least one of v1, v1beta1",
        ));
    }
}

/// What is wrong with the URL of a webhook: the part, and why.
fn webhook_url(url: &str) -> Option<(&str, &'static str)> {
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        return Some((
            scheme,
            "'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        return Some(("", "host must be specified; desired format: https://host[/path]"));
    }
    if let Some((user, _)) = authority.split_once('@') {
        return Some((user, "user information is not permitted in the URL"));
    }
    if let Some((_, fragment)) = path.split_once('#') {
        return Some((fragment, "fragments are not permitted in the URL"));
    }
    let (_, query) = path.split_once('?')?;
    Some((query, "query parameters are not permitted in the URL"))
}

fn check_names(spec: &Value, errors: &mut Vec<FieldError>) {
    let given = spec.get("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        let field = child("spec.names", key);
        match text(given.and_then(|n| n.get(key))) {
            "" => errors.push(required(field, "")),
            name => errors.extend(
                names::dns_1035_label(&name.to_lowercase())
                    .iter()
                    .map(|p| invalid(field.as_str(), name, p)),
            ),
        }
    }
    for (i, name) in list(given, "shortNames").iter().enumerate() {
        let (name, field) = (text(Some(name)), index("spec.names.shortNames", i));
        errors.extend(
            names::dns_1035_label(name)
                .iter()
                .map(|p| invalid(field.as_str(), name, p)),
        );
    }
    let kind = given.and_then(|n| n.get("kind"));
    if kind.is_some() && kind == given.and_then(|n| n.get("listKind")) {
        errors.push(invalid(
            "spec.names.listKind",
            text(kind),
            "kind and listKind may not be the same",
        ));
    }
}

fn versions(spec: &Value, errors: &mut Vec<FieldError>) {
    let versions = list(Some(spec), "versions");
    if versions.is_empty() {
        errors.push(required(
            "spec.versions",
            "must have exactly one version marked as storage version",
        ));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        let path = index("spec.versions", i);
        let name = text(version.get("name"));
        errors.extend(
            names::dns_1035_label(name)
                .iter()
                .map(|p| invalid(child(&path, "name"), name, p)),
        );
        if !seen.insert(name) {
            errors.push(duplicate(child(&path, "name"), name));
        }
        for flag in ["served", "storage"] {
            if !version.get(flag).is_some_and(Value::is_boolean) {
                errors.push(required(child(&path, flag), ""));
            }
        }
        let field = child(&child(&path, "schema"), "openAPIV3Schema");
        match crate::get(version, &["schema", "openAPIV3Schema"]).filter(|s| s.is_object()) {
            None => errors.push(required(field, "schemas are required")),
            Some(schema) => {
                if text(schema.get("type")) != "object" {
                    errors.push(invalid(
                        child(&field, "type"),
                        text(schema.get("type")),
                        "must be object at the root",
                    ));
                }
                structural(schema, &field, errors);
            }
        }
        scale_paths(version, &path, errors);
    }
    if versions
        .iter()
        .filter(|v| v.get("storage") == Some(&json!(true)))
        .count()
        != 1
    {
        let detail = "must have exactly one version marked as storage version";
        errors.push(invalid("spec.versions", Value::Array(versions.to_vec()), detail));
    }
}

fn scale_paths(version: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(scale) = crate::get(version, &["subresources", "scale"]).filter(|s| !s.is_null()) else {
        return;
    };
    let path = format!("{path}.subresources.scale");
    for (key, prefix) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        match text(scale.get(key)) {
            "" => errors.push(required(child(&path, key), "")),
            value if !value.starts_with(prefix) => {
                let detail = format!("should be a json path under {}", prefix.trim_end_matches('.'));
                errors.push(invalid(child(&path, key), value, &detail));
            }
            _ => {}
        }
    }
}

/// Checks that a schema is structural: every field has a type, a pattern compiles, a rule compiles.
fn structural(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let on = |key: &str| schema.get(key) == Some(&json!(true));
    let kind = text(schema.get("type"));
    if kind.is_empty() && !on("x-kubernetes-int-or-string") && !on("x-kubernetes-preserve-unknown-fields") {
        errors.push(required(
            child(path, "type"),
            "must not be empty for specified object fields",
        ));
    }
    let kinds = ["array", "boolean", "integer", "number", "object", "string"];
    if !kind.is_empty() && !kinds.contains(&kind) {
        errors.push(not_supported(child(path, "type"), kind, &kinds));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Err(problem) = crate::cel::pattern::compile(pattern)
    {
        errors.push(invalid(
            child(path, "pattern"),
            pattern,
            &format!("must be a valid regular expression, but isn't: {problem}"),
        ));
    }
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_some() {
        errors.push(forbidden(
            child(path, "additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if kind == "array" && !schema.get("items").is_some_and(Value::is_object) {
        errors.push(required(child(path, "items"), "must be specified"));
    }
    list_type(schema, path, errors);
    rules(schema, path, errors);
    for (name, inner) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let at = index(child(path, "properties").as_str(), name);
        // The root's own metadata is Kubernetes' business.
        if !(name == "metadata" && path.ends_with("openAPIV3Schema")) {
            structural(inner, &at, errors);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|s| s.is_object()) {
            structural(inner, &child(path, key), errors);
        }
    }
}

fn list_type(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let keys = list(Some(schema), "x-kubernetes-list-map-keys");
    match text(schema.get("x-kubernetes-list-type")) {
        "map" if keys.is_empty() => {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.push(required(child(path, "x-kubernetes-list-map-keys"), detail));
        }
        "" | "atomic" | "map" | "set" => {}
        other => errors.push(not_supported(
            child(path, "x-kubernetes-list-type"),
            other,
            &["atomic", "map", "set"],
        )),
    }
}

fn rules(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (i, rule) in list(Some(schema), "x-kubernetes-validations").iter().enumerate() {
        let field = child(&index(child(path, "x-kubernetes-validations").as_str(), i), "rule");
        match text(rule.get("rule")) {
            "" => errors.push(required(field, "rule is not specified")),
            expression => {
                compiles(expression, field, errors);
            }
        }
        if let Some(expression) = rule.get("messageExpression").and_then(Value::as_str) {
            let field = child(
                &index(child(path, "x-kubernetes-validations").as_str(), i),
                "messageExpression",
            );
            compiles(expression, field, errors);
        }
    }
}

fn compiles(expression: &str, field: String, errors: &mut Vec<FieldError>) {
    if let Err(problem) = crate::cel::Program::compile(expression) {
        errors.push(invalid(field, expression, &format!("compilation failed: {problem}")));
    }
}

/// Group, plural, kind and scope of a definition stay.
pub(crate) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let paths: [&[&str]; 4] = [
        &["spec", "group"],
        &["spec", "names", "plural"],
        &["spec", "names", "kind"],
        &["spec", "scope"],
    ];
    let changed = paths
        .into_iter()
        .filter(|path| crate::get(old, path) != crate::get(new, path));
    let mut errors: Vec<FieldError> = changed
        .map(|path| invalid(path.join("."), text(crate::get(new, path)), "field is immutable"))
        .collect();
    // Objects may be stored in it.
    let versions = list(new.get("spec"), "versions");
    for (i, stored) in list(new.get("status"), "storedVersions").iter().enumerate() {
        if !versions.iter().any(|version| version.get("name") == Some(stored)) {
            let field = index("status.storedVersions", i);
            errors.push(invalid(field, text(Some(stored)), "must appear in spec.versions"));
        }
    }
    errors
}
