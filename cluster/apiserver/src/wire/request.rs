//! From an HTTP request to what it asks for. The only place that knows Kubernetes' paths, query parameters and media types.

use std::borrow::Cow;
use std::net::IpAddr;

use afloat_machinery::authorization::{Attributes, User};
use afloat_machinery::selector::FieldSelector;
use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;

use crate::wire::status::Status;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/`
    Root,
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3` (None) or the document of one group version (`apis/apps/v1`).
    OpenApiV3(Option<String>),
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/{group}`
    Group(String),
    /// `/api/v1`, `/apis/{group}/{version}`
    Resources(String, String),
    /// `/.well-known/openid-configuration`
    IssuerConfiguration,
    /// `/openid/v1/jwks`
    IssuerKeys,
    /// An object, a collection or a subresource.
    Object(ObjectPath),
    /// Nothing we know.
    Unknown,
}

/// Path of an object, a collection or a subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl ObjectPath {
    /// Whether it is somebody else who answers: what is below `proxy` of an object.
    pub(crate) fn is_proxied(&self) -> bool {
        self.subresource.as_deref() == Some("proxy")
    }
}

/// Where a request comes from, if it comes by a socket; an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A path as its reader takes it apart. As in the original an escaped slash is a slash.
fn decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Reads a path.
pub(crate) fn target(path: &str) -> Target {
    let path = decoded(path);
    let segments = segments(&path);
    match segments.as_slice() {
        [] => Target::Root,
        ["healthz" | "livez" | "readyz", ..] => Target::Health,
        ["version"] => Target::Version,
        ["metrics"] => Target::Metrics,
        ["openapi", "v2"] => Target::OpenApiV2,
        ["openapi", "v3"] => Target::OpenApiV3(None),
        ["openapi", "v3", rest @ ..] => Target::OpenApiV3(Some(rest.join("/"))),
        [".well-known", "openid-configuration"] => Target::IssuerConfiguration,
        ["openid", "v1", "jwks"] => Target::IssuerKeys,
        ["api"] => Target::CoreVersions,
        ["apis"] => Target::Groups,
        ["apis", group] => Target::Group((*group).to_owned()),
        ["api", version] => Target::Resources(String::new(), (*version).to_owned()),
        ["apis", group, version] => Target::Resources((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => object("", version, rest),
        ["apis", group, version, rest @ ..] => object(group, version, rest),
        _ => Target::Unknown,
    }
}

fn object(group: &str, version: &str, rest: &[&str]) -> Target {
    let base = ObjectPath {
        group: group.to_owned(),
        version: version.to_owned(),
        ..ObjectPath::default()
    };
    let own = |s: &&str| Some((*s).to_owned());
    // `namespaces/x/status` is the namespace's own subresource, `namespaces/x/pods` is a collection in it. `watch` and `proxy` are
    // verbs of old, which are not served.
    match rest {
        ["watch" | "proxy", ..] => Target::Unknown,
        ["namespaces", name, sub @ ("status" | "finalize")] => Target::Object(ObjectPath {
            plural: "namespaces".into(),
            name: own(name),
            subresource: own(sub),
            ..base
        }),
        ["namespaces", _, "status" | "finalize", ..] => Target::Unknown,
        ["namespaces", namespace, plural, tail @ ..] if tail.len() <= 2 => Target::Object(ObjectPath {
            namespace: own(namespace),
            plural: (*plural).to_owned(),
            name: tail.first().and_then(own),
            subresource: tail.get(1).and_then(own),
            ..base
        }),
        [plural, tail @ ..] if tail.len() <= 2 => Target::Object(ObjectPath {
            plural: (*plural).to_owned(),
            name: tail.first().and_then(own),
            subresource: tail.get(1).and_then(own),
            ..base
        }),
        // What is below `proxy` is not ours to read.
        ["namespaces", namespace, plural, name, "proxy", ..] => Target::Object(ObjectPath {
            namespace: own(namespace),
            plural: (*plural).to_owned(),
            name: own(name),
            subresource: Some("proxy".to_owned()),
            ..base
        }),
        ["namespaces", ..] => Target::Unknown,
        [plural, name, "proxy", ..] => Target::Object(ObjectPath {
            plural: (*plural).to_owned(),
            name: own(name),
            subresource: Some("proxy".to_owned()),
            ..base
        }),
        _ => Target::Unknown,
    }
}

/// What a request asks for, as those see it who decide whether it may (the original's `RequestInfo`).
///
/// It is read from the path alone, before anybody knows whether there is such a resource. What [`target`] calls an object has the same
/// names here: a request must not be allowed as one thing and answered as another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    verb: Cow<'static, str>,
    is_resource: bool,
    group: String,
    version: String,
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
    path: String,
    field_selector: String,
}

impl Asked {
    /// Reads a request's head.
    pub(crate) fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        let path = decoded(path);
        let (group, version, rest) = match *segments(&path).as_slice() {
            ["api", version, ref rest @ ..] if !rest.is_empty() => ("", version, rest.to_vec()),
            ["apis", group, version, ref rest @ ..] if !rest.is_empty() => (group, version, rest.to_vec()),
            _ => {
                return Self {
                    verb: method.as_str().to_ascii_lowercase().into(),
                    path: path.to_string(),
                    ..Self::default()
                };
            }
        };
        let by_path = matches!(rest.as_slice(), ["watch" | "proxy", _, ..]);
        let (special, rest) = rest.split_at(usize::from(by_path));
        let (namespace, parts) = match rest {
            ["namespaces", namespace, "status" | "finalize", ..] => (*namespace, rest),
            ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (*namespace, parts),
            ["namespaces", namespace] => (*namespace, rest),
            _ => ("", rest),
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        let query = Query::parse(query);
        let mut asked = Self {
            is_resource: true,
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: part(0),
            name: part(1),
            subresource: if special == ["proxy"] { String::new() } else { part(2) },
            ..Self::default()
        };
        let verb = verb_of(method, !asked.name.is_empty(), &query);
        if matches!(verb, "list" | "watch") && special.is_empty() {
            let selector = query.get("fieldSelector").unwrap_or_default();
            asked.name = FieldSelector::name_in(selector).unwrap_or_default();
            selector.clone_into(&mut asked.field_selector);
        }
        asked.verb = match (special.first(), verb) {
            (Some(&"watch"), _) => "watch".into(),
            (Some(_), _) => "proxy".into(),
            (None, "other") => "".into(),
            (None, verb) => verb.into(),
        };
        asked
    }

    /// In the name of somebody.
    pub(crate) fn attributes<'a>(&'a self, user: &'a User) -> Attributes<'a> {
        Attributes {
            user,
            verb: &self.verb,
            is_resource: self.is_resource,
            group: &self.group,
            version: &self.version,
            namespace: &self.namespace,
            resource: &self.resource,
            subresource: &self.subresource,
            name: &self.name,
            path: &self.path,
            field_selector: &self.field_selector,
        }
    }
}

/// Query parameters, decoded, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// Whether the parameter is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(k, _)| k == name)
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// `?watch`, `?watch=1`, `?watch=true`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(k, v)| k == name && matches!(v.as_str(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    /// Whether a list shall go on as a watch: as in the original anything but a no is a yes.
    fn watches(&self) -> bool {
        let first = self.0.iter().find(|(name, _)| name == "watch");
        first.is_some_and(|(_, value)| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A number, or the refusal that names the parameter.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        let parse = |v: &str| {
            v.parse().map_err(|_| {
                Status::bad_request(format!(
                    "{name}: Invalid value: \"{v}\": must be a non-negative integer"
                ))
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// `dryRun=All`.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
            ))),
        }
    }
}

/// The form in which a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole objects.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata(List).
    Metadata,
}

/// What the Accept header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

/// Picks the first acceptable media type that we can make. Protobuf is passed over.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    let mut any = false;
    for text in headers.get_all(header::ACCEPT).iter().filter_map(|h| h.to_str().ok()) {
        for range in text.split(',').map(str::trim).filter(|r| !r.is_empty()) {
            any = true;
            if let Some(accept) = media(range) {
                return Ok(accept);
            }
        }
    }
    if any {
        Err(Status::not_acceptable())
    } else {
        Ok(Accept {
            form: Form::Object,
            yaml: false,
        })
    }
}

fn media(range: &str) -> Option<Accept> {
    let mut parts = range.split(';').map(str::trim);
    let yaml = match parts.next()? {
        "application/json" | "*/*" | "application/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let (mut form, mut version) = (Form::Object, "v1");
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match (key, value) {
            ("as", "Table") => form = Form::Table,
            ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => form = Form::Metadata,
            ("as", _) => return None,
            ("v", v) => version = v,
            _ => {}
        }
    }
    (version == "v1" || form == Form::Object).then_some(Accept { form, yaml })
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The verb in Kubernetes' sense, for counting.
pub(crate) fn verb(method: &Method, path: &ObjectPath, query: &Query) -> &'static str {
    verb_of(method, path.name.is_some(), query)
}

fn verb_of(method: &Method, named: bool, query: &Query) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" if query.watches() => "watch",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<ObjectPath> {
        match target(text) {
            Target::Object(path) => Some(path),
            _ => None,
        }
    }

    #[test]
    fn paths_name_objects_collections_and_subresources() {
        let cases = [
            ("/api/v1/pods", ("", "v1", None, "pods", None, None)),
            ("/api/v1/namespaces/a/pods", ("", "v1", Some("a"), "pods", None, None)),
            (
                "/api/v1/namespaces/a/pods/p",
                ("", "v1", Some("a"), "pods", Some("p"), None),
            ),
            (
                "/api/v1/namespaces/a/pods/p/log",
                ("", "v1", Some("a"), "pods", Some("p"), Some("log")),
            ),
            ("/api/v1/namespaces/a", ("", "v1", None, "namespaces", Some("a"), None)),
            (
                "/api/v1/namespaces/a/finalize",
                ("", "v1", None, "namespaces", Some("a"), Some("finalize")),
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                ("apps", "v1", Some("a"), "deployments", Some("d"), Some("scale")),
            ),
            (
                "/api/v1/nodes/n%31/status",
                ("", "v1", None, "nodes", Some("n1"), Some("status")),
            ),
        ];
        for (text, (group, version, namespace, plural, name, sub)) in cases {
            let own = |s: Option<&str>| s.map(str::to_owned);
            let expected = ObjectPath {
                group: group.into(),
                version: version.into(),
                namespace: own(namespace),
                plural: plural.into(),
                name: own(name),
                subresource: own(sub),
            };
            assert_eq!(path(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_paths() {
        assert_eq!(target("/"), Target::Root);
        assert_eq!(target("/readyz"), Target::Health);
        assert_eq!(
            target("/openapi/v3/apis/apps/v1"),
            Target::OpenApiV3(Some("apis/apps/v1".into()))
        );
        assert_eq!(target("/apis/apps/v1"), Target::Resources("apps".into(), "v1".into()));
        assert_eq!(target("/nonsense"), Target::Unknown);
        assert_eq!(target("/api/v1/namespaces/a/pods/p/log/too/deep"), Target::Unknown);
        assert_eq!(target("/api/v1/namespaces/a/proxy/b/c/d"), Target::Unknown);
        let below = path("/api/v1/namespaces/a/pods/http:p:80/proxy/b/c/d");
        assert_eq!(below, path("/api/v1/namespaces/a/pods/http:p:80/proxy"));
        assert_eq!(path("/api/v1/nodes/n/proxy/b/c"), path("/api/v1/nodes/n/proxy"));
    }

    #[test]
    fn accept_prefers_the_first_that_can_be_made() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_str(text).unwrap());
            accept(&headers).map(|a| (a.form, a.yaml)).map_err(|s| s.code)
        };
        assert_eq!(
            parse("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Ok((Form::Table, false))
        );
        assert_eq!(
            parse("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
            Ok((Form::Object, false))
        );
        assert_eq!(
            parse("application/vnd.kubernetes.protobuf,application/json"),
            Ok((Form::Object, false))
        );
        assert_eq!(parse("application/vnd.kubernetes.protobuf"), Err(406));
        assert_eq!(parse("application/yaml"), Ok((Form::Object, true)));
    }

    #[test]
    fn query_decodes() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc+in+(d)&watch=1&limit=5&fieldSelector="));
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.get("fieldSelector"), None);
    }
}
