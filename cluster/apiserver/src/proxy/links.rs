//! Links of a page below `proxy`: those that lead to the same server lead through the API server again. The rules are upstream's
//! (`apimachinery/pkg/util/proxy/transport.go`), as is the way in which the rest of a path is read and written.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stands for itself in a path that Go writes.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Where the pages of one request are, seen from both sides.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// `/api/v1/namespaces/x/pods/p/proxy`, escaped.
    prefix: String,
    /// `host:port` of the other server.
    server: String,
    /// The name under which the API server was asked.
    host: String,
}

/// The parts of a path, as [`crate::wire::request`] reads them: what is before the rest, and the rest, both escaped. The rest is without
/// `..`, begins with a slash and has one at its end if the path has; it is empty if the path ends with `proxy`.
pub(super) fn split(namespaced: bool, path: &str) -> (String, String) {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let segments: Vec<&[u8]> = decoded
        .split(|byte| *byte == b'/')
        .filter(|segment| !segment.is_empty())
        .collect();
    // api, v1, namespaces, NAMESPACE, pods, NAME, proxy
    let before = if namespaced { 7 } else { 5 };
    let (before, rest) = segments.split_at(before.min(segments.len()));
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in rest {
        match *segment {
            b"." => {}
            b".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let written = |all: &[&[u8]]| -> String {
        let each = all
            .iter()
            .map(|segment| format!("/{}", percent_encode(segment, IN_PATHS)));
        each.collect()
    };
    let slash = if decoded.ends_with(b"/") { "/" } else { "" };
    (written(before), format!("{}{slash}", written(&kept)))
}

/// A link, taken apart: `http`, `host:80`, `/path`, `?query#fragment`. Scheme and host are empty where there are none.
fn parts(link: &str) -> (&str, &str, &str, &str) {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let (scheme, rest) = match link.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("", link),
    };
    let (host, rest) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (path, more) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    (scheme, host, path, more)
}

impl Links {
    /// Of pages below `prefix`, of the server `host:port`, asked for under the name `host`.
    pub(super) fn new(prefix: String, server: &str, host: &str) -> Self {
        Self {
            prefix,
            server: server.to_owned(),
            host: host.to_owned(),
        }
    }

    /// What the other side is told of where its page is seen. `rest`: the path there.
    pub(super) fn forwarded(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Where a link is to lead; none if it stays as it is.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let (scheme, host, path, more) = parts(link);
        let elsewhere = !host.is_empty() && host != self.server && host != self.host;
        if elsewhere || !path.starts_with('/') || (!scheme.is_empty() && host.is_empty()) {
            return None;
        }
        let there = if !host.is_empty() && host == self.host {
            let colon = if scheme.is_empty() { "" } else { ":" };
            format!("{scheme}{colon}//{host}")
        } else {
            String::new()
        };
        if path.starts_with(&self.prefix) {
            return Some(format!("{there}{path}{more}"));
        }
        let slash = if path.ends_with('/') { "/" } else { "" };
        let mut kept: Vec<&str> = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
            match segment {
                // No further up than to the prefix: what is above is the API server's own.
                ".." => drop(kept.pop()),
                other => kept.push(other),
            }
        }
        let all: String = kept.iter().map(|segment| format!("/{segment}")).collect();
        Some(format!("{there}{}{all}{slash}{more}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written_as_go_does() {
        let pod = "/api/v1/namespaces/x/pods/http:p:80/proxy";
        for (path, rest) in [
            ("", ""),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a//b", "/a/b"),
            ("/a/../../../b", "/b"),
            ("/a%2Fb%20c", "/a/b%20c"),
            ("/%E4!", "/%E4%21"),
            ("/a=1;b,c@d", "/a=1;b,c@d"),
        ] {
            assert_eq!(
                split(true, &format!("{pod}{path}")),
                (pod.to_owned(), rest.to_owned()),
                "{path}"
            );
        }
        let node = ("/api/v1/nodes/n/proxy".to_owned(), "/pods".to_owned());
        assert_eq!(split(false, "/api/v1/nodes/n/proxy/pods"), node);
    }

    #[test]
    fn links_to_the_same_server_lead_through_the_prefix() {
        let links = Links::new(
            "/api/v1/namespaces/x/pods/p/proxy".into(),
            "10.0.0.1:80",
            "localhost:8001",
        );
        for (link, to) in [
            ("/a", Some("/api/v1/namespaces/x/pods/p/proxy/a")),
            ("/a/", Some("/api/v1/namespaces/x/pods/p/proxy/a/")),
            ("/", Some("/api/v1/namespaces/x/pods/p/proxy/")),
            ("/a?b=/c#d", Some("/api/v1/namespaces/x/pods/p/proxy/a?b=/c#d")),
            ("http://10.0.0.1:80/a", Some("/api/v1/namespaces/x/pods/p/proxy/a")),
            (
                "http://localhost:8001/a",
                Some("http://localhost:8001/api/v1/namespaces/x/pods/p/proxy/a"),
            ),
            (
                "/api/v1/namespaces/x/pods/p/proxy/a",
                Some("/api/v1/namespaces/x/pods/p/proxy/a"),
            ),
            ("/../../secrets", Some("/api/v1/namespaces/x/pods/p/proxy/secrets")),
            ("http://elsewhere/a", None),
            ("//elsewhere/a", None),
            ("a/b", None),
            ("?x", None),
            ("#x", None),
            ("", None),
            ("mailto:/a", None),
        ] {
            assert_eq!(links.rewrite(link).as_deref(), to, "{link}");
        }
    }
}
