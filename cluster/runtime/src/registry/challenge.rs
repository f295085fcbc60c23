//! What a server says with its 401: `WWW-Authenticate` (RFC 9110 §11.6.1, distribution specification "Token"). Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// How to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token, to be fetched first.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The best challenge of a header's value that we know.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = false;
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (scheme, parameters) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parameters, next) = parameters_of(parameters);
        rest = next.trim_start_matches([',', ' ']);
        if scheme.eq_ignore_ascii_case("basic") {
            basic = true;
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            if let Some(realm) = get("realm") {
                return Some(Challenge::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
        }
    }
    basic.then_some(Challenge::Basic)
}

/// `key="value"` or `key=value`, separated by commas, up to the next scheme.
fn parameters_of(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut parameters = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        let Some((key, rest)) = text.split_once('=') else {
            return (parameters, text);
        };
        // A blank before the `=` means that a new scheme begins here.
        if key.contains(' ') {
            return (parameters, text);
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        parameters.push((key.to_owned(), value));
        text = rest;
    }
}

fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What is not left as it is in the address of a token: `:`, `/` and `,` are, as registries write scopes with them.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b',');

/// Where to fetch a token.
pub(super) fn token_uri(realm: &str, service: Option<&str>, scope: &str) -> String {
    let mut uri = realm.to_owned();
    let parameters = service.map(|service| ("service", service));
    for (name, value) in parameters.into_iter().chain([("scope", scope)]) {
        uri.push(if uri.contains('?') { '&' } else { '?' });
        uri.push_str(name);
        uri.push('=');
        uri.extend(utf8_percent_encode(value, ENCODED));
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/web:pull,push""#,
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/web:pull,push"),
                ),
            ),
            (
                r#"bearer realm=https://x/t, service=s"#,
                bearer("https://x/t", Some("s"), None),
            ),
            (r#"Basic realm="a \"b\"""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (
                r#"Basic realm="x", Bearer realm="https://y""#,
                bearer("https://y", None, None),
            ),
            (
                r#"Bearer realm="https://y", Basic realm="x""#,
                bearer("https://y", None, None),
            ),
            (r#"Bearer service="no realm""#, None),
            (r#"Negotiate"#, None),
            (r#"Bearer realm="open"#, bearer("open", None, None)),
            ("", None),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn token_uris_are_escaped() {
        assert_eq!(
            token_uri("https://x/t", Some("a b"), "repository:l/w:pull"),
            "https://x/t?service=a%20b&scope=repository:l/w:pull"
        );
        assert_eq!(token_uri("https://x/t?a=b", None, "s&t"), "https://x/t?a=b&scope=s%26t");
    }
}
