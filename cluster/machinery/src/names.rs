//! What a name may look like: Kubernetes' rules for names, labels and annotations, with its texts.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_WHOLE: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// Longest DNS subdomain, and longest name of most objects.
pub(crate) const MAX_SUBDOMAIN: usize = 253;
/// Longest DNS label.
pub(crate) const MAX_LABEL: usize = 63;
/// Longest base that `generateName` keeps: 63 less the five random characters.
const MAX_GENERATED_BASE: usize = MAX_LABEL - 5;

/// The base of a generated name, cut as Kubernetes cuts it (58 bytes) so that five random characters still fit.
pub fn fits_generate_name(base: &str) -> &str {
    let mut end = base.len().min(MAX_GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    &base[..end]
}

/// What is wrong with a DNS-1123 label; empty if nothing.
pub(crate) fn dns_label(name: &str) -> Vec<String> {
    let mut problems = length(name, MAX_LABEL);
    if !is_label(name) {
        problems.push(LABEL.to_owned());
    }
    problems
}

/// What is wrong with a DNS-1035 label (Services); empty if nothing.
pub(crate) fn dns_1035_label(name: &str) -> Vec<String> {
    let mut problems = length(name, MAX_LABEL);
    if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(LABEL_1035.to_owned());
    }
    problems
}

/// What is wrong with a DNS-1123 subdomain; empty if nothing.
pub(crate) fn dns_subdomain(name: &str) -> Vec<String> {
    let mut problems = length(name, MAX_SUBDOMAIN);
    if name.is_empty() || !name.split('.').all(is_label) {
        problems.push(SUBDOMAIN.to_owned());
    }
    problems
}

/// What is wrong with a name that is only a path segment (RBAC); empty if nothing.
pub(crate) fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%']
        .iter()
        .filter(|c| name.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// What is wrong with a key of labels or annotations; empty if nothing.
pub(crate) fn qualified_name(key: &str) -> Vec<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        return vec![QUALIFIED_WHOLE.to_owned()];
    }
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => problems.extend(dns_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}"))),
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else {
        problems.extend(length(name, MAX_LABEL).into_iter().map(|p| format!("name part {p}")));
    }
    if !is_word(name) {
        problems.push(QUALIFIED.to_owned());
    }
    problems
}

/// What is wrong with the value of a label; empty if nothing.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut problems = length(value, MAX_LABEL);
    if !value.is_empty() && !is_word(value) {
        problems.push(LABEL_VALUE.to_owned());
    }
    problems
}

/// What is wrong with the name of an environment variable; empty if nothing.
pub(crate) fn env_name(name: &str) -> Vec<String> {
    let printable = name.chars().all(|c| matches!(c, ' '..='~') && c != '=');
    if printable && !name.is_empty() {
        Vec::new()
    } else {
        vec![ENV_NAME.to_owned()]
    }
}

/// What is wrong with the name of a port (IANA service name); empty if nothing.
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

fn length(text: &str, limit: usize) -> Vec<String> {
    if text.len() > limit {
        vec![format!("must be no more than {limit} bytes")]
    } else {
        Vec::new()
    }
}

fn is_label(text: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|&b| lower(b) || b == b'-') && ends(bytes, lower)
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends(bytes, |b| b.is_ascii_alphanumeric())
}

fn ends(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    bytes.first().is_some_and(|&b| good(b)) && bytes.last().is_some_and(|&b| good(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kubernetes_does() {
        type Rule = fn(&str) -> Vec<String>;
        let long = "a".repeat(64);
        let cases: &[(Rule, &str, &str, bool)] = &[
            (dns_label, "label", "web-0", true),
            (dns_label, "label", "Web", false),
            (dns_label, "label", "web.0", false),
            (dns_label, "label", "", false),
            (dns_label, "label", &long, false),
            (dns_subdomain, "subdomain", "web.0", true),
            (dns_subdomain, "subdomain", "web..0", false),
            (dns_subdomain, "subdomain", &long, true),
            (dns_1035_label, "1035", "0web", false),
            (qualified_name, "key", "app.kubernetes.io/name", true),
            (qualified_name, "key", "Name_x", true),
            (qualified_name, "key", "/x", false),
            (qualified_name, "key", "a/b/c", false),
            (qualified_name, "key", "a b", false),
            (label_value, "value", "", true),
            (label_value, "value", "-x", false),
            (label_value, "value", "a b", false),
            (env_name, "env", "A B", true),
            (env_name, "env", "A=B", false),
            (port_name, "port", "http", true),
            (port_name, "port", "8080", false),
            (port_name, "port", "a--b", false),
            (path_segment, "segment", "system:node", true),
            (path_segment, "segment", "a/b", false),
        ];
        for (rule, what, text, good) in cases {
            assert_eq!(rule(text).is_empty(), *good, "{what} {text:?}: {:?}", rule(text));
        }
    }

    #[test]
    fn generated_names_leave_room_for_five_characters() {
        assert_eq!(fits_generate_name("web-"), "web-");
        assert_eq!(fits_generate_name(&"x".repeat(80)).len(), 58);
    }
}
