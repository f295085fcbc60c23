//! Where an HTTP handler's path leads, and with which headers: as Go's `net/url` and `net/http` make a request of it, by
//! way of the kubelet's `pkg/probe/http`. Pure.

use k8s_openapi::api::core::v1::HTTPGetAction;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What Go escapes in a path: all but letters, digits and `-_.~$&+,/:;=@`.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'!')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// A query is passed on as it is, but for what would end it or the request's line.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');
/// Beside what needs no escape, these may stand in a path that somebody has escaped already.
const KEPT: &[u8] = b"!'()*[]%";

/// The target of a request for that path: `/a b?c` → `/a%20b?c`. A text that is no URL is a path as a whole.
pub fn target(path: &str) -> String {
    let parsed = if path.bytes().any(|byte| byte.is_ascii_control()) {
        None
    } else {
        parse(path)
    };
    let target = parsed.unwrap_or_else(|| utf8_percent_encode(path, PATH).to_string());
    if target.starts_with('/') {
        target
    } else {
        format!("/{target}")
    }
}

fn parse(path: &str) -> Option<String> {
    let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
    if !well_escaped(fragment) {
        return None;
    }
    let (scheme, rest) = scheme(path)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    // A colon in the first part would have been a scheme.
    if scheme.is_empty() && rest.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    // Another host's name is dropped: the handler has its own.
    let rest = match rest.strip_prefix("//") {
        Some(place) if !scheme.is_empty() || !rest.starts_with("///") => place.find('/').map_or("", |at| &place[at..]),
        _ => rest,
    };
    if !well_escaped(rest) {
        return None;
    }
    let query = query.map(|query| format!("?{}", utf8_percent_encode(query, QUERY)));
    Some(escaped(rest) + &query.unwrap_or_default())
}

/// `http:` and its like, and what follows it. None: there is a colon and nothing before it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at > 0 => return Some((&text[..at], &text[at + 1..])),
            b':' => return None,
            _ => break,
        }
    }
    Some(("", text))
}

/// Each `%` is followed by two hexadecimal digits.
fn well_escaped(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.as_bytes().iter().take(2).all(u8::is_ascii_hexdigit))
}

/// A path that was escaped rightly stays as it is; another one is escaped anew.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) || KEPT.contains(&byte);
    if path.bytes().all(plain) {
        return path.to_owned();
    }
    let bytes: Vec<u8> = percent_decode_str(path).collect();
    percent_encoding::percent_encode(&bytes, PATH).to_string()
}

/// Where a redirect to a path leads from a target; without `.` and `..` (RFC 3986, 5.2).
pub fn joined(base: &str, location: &str) -> String {
    if location.is_empty() || location.starts_with('#') {
        return base.to_owned();
    }
    let base = base.split('?').next().unwrap_or_default();
    let whole = if location.starts_with('/') {
        target(location)
    } else if location.starts_with('?') {
        target(&format!("{base}{location}"))
    } else {
        let folder = base.rfind('/').map_or("", |at| &base[..at]);
        target(&format!("{folder}/{location}"))
    };
    let (path, query) = whole.split_at(whole.find('?').unwrap_or(whole.len()));
    let mut parts: Vec<&str> = vec![];
    let mut given = path.split('/').skip(1).peekable();
    while let Some(part) = given.next() {
        match part {
            "." | ".." => {
                if part == ".." {
                    parts.pop();
                }
                if given.peek().is_none() {
                    parts.push("");
                }
            }
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// Names and values of a request's headers. `host`: with the port, where the handler has no `Host` of its own.
pub fn headers(action: &HTTPGetAction, host: &str, agent: &str) -> Vec<(String, String)> {
    let own = |name: &str| {
        let mut all = action.http_headers.iter().flatten();
        let found = all.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.trim())
    };
    let host = own("host").filter(|own| !own.is_empty()).unwrap_or(host);
    let mut all = vec![
        ("host".to_owned(), host.to_owned()),
        ("user-agent".to_owned(), own("user-agent").unwrap_or(agent).to_owned()),
        ("accept".to_owned(), own("accept").unwrap_or("*/*").to_owned()),
    ];
    // An empty one of these is a wish to have none.
    all.retain(|(_, value)| !value.is_empty());
    if own("connection").is_none() {
        all.push(("connection".to_owned(), "close".to_owned()));
    }
    for header in action.http_headers.iter().flatten() {
        let name = header.name.to_ascii_lowercase();
        // The length and form of the body are the client's to say; the others are there already.
        let known = [
            "host",
            "user-agent",
            "accept",
            "content-length",
            "transfer-encoding",
            "trailer",
        ];
        if !known.contains(&name.as_str()) {
            all.push((name, header.value.trim().to_owned()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The second of each pair is what Go's client put into the request's line.
    #[test]
    fn paths_become_what_go_makes_of_them() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%zz?x", "/a%25zz%3Fx"),
            ("/größe", "/gr%C3%B6%C3%9Fe"),
            ("/a!b(c)*'[d]", "/a!b(c)*'[d]"),
            ("/a!b c", "/a%21b%20c"),
            ("/{id}|x", "/%7Bid%7D%7Cx"),
            ("/a?b=c&d=%20", "/a?b=c&d=%20"),
            ("/a?", "/a?"),
            ("/a#part", "/a"),
            ("/a?b#part", "/a?b"),
            ("?x=1", "/?x=1"),
            ("http://else.where/path?q", "/path?q"),
            ("//else.where/path", "/path"),
            ("///path", "///path"),
            ("/a:b", "/a:b"),
            ("1a:b/c", "/1a:b/c"),
            (":a", "/:a"),
            ("/a\tb", "/a%09b"),
        ] {
            assert_eq!(target(path), expected, "{path:?}");
        }
    }

    #[test]
    fn redirects_are_joined() {
        for (location, expected) in [
            ("/x", "/x"),
            ("x?y", "/a/x?y"),
            ("../x", "/x"),
            ("../../../x", "/x"),
            ("./x/./y/..", "/a/x/"),
            ("?y", "/a/b?y"),
            ("", "/a/b?z"),
            ("/c/../d", "/d"),
        ] {
            assert_eq!(joined("/a/b?z", location), expected, "{location:?}");
        }
    }

    #[test]
    fn a_handlers_headers_count_before_ours() {
        let told = |headers: serde_json::Value| {
            let action: HTTPGetAction = serde_json::from_value(json!({"port": 1, "httpHeaders": headers})).unwrap();
            let all = headers_of(&action);
            all.join("; ")
        };
        fn headers_of(action: &HTTPGetAction) -> Vec<String> {
            let all = headers(action, "1.1.1.1:1", "agent");
            all.into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect()
        }
        let none = "host: 1.1.1.1:1; user-agent: agent; accept: */*; connection: close";
        assert_eq!(told(json!([])), none);
        assert_eq!(
            told(
                json!([{"name": "Host", "value": "a"}, {"name": "host", "value": "b"}, {"name": "Accept", "value": ""}])
            ),
            "host: a; user-agent: agent; connection: close"
        );
        assert_eq!(
            told(
                json!([{"name": "User-Agent", "value": "me"}, {"name": "X-A", "value": " 1 "}, {"name": "X-A", "value": "2"},
                {"name": "Content-Length", "value": "9"}])
            ),
            "host: 1.1.1.1:1; user-agent: me; accept: */*; connection: close; x-a: 1; x-a: 2"
        );
    }
}
