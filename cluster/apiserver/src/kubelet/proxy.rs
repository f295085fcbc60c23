//! Logs, exec, attach and port-forward: passed on to the kubelet of the pod's node, byte for byte.

use afloat_machinery::kinds::Resource;
use http::request::Parts;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::kubelet::Kubelets;
use crate::view;
use crate::wire::body::{self, Body};
use crate::wire::exchange;
use crate::wire::request::{ObjectPath, Query};
use crate::wire::status::Status;
use crate::wire::websocket::{self, Framing};

/// A document of a kubelet may be so long.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What stays as it is in a query's value (RFC 3986, "unreserved").
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The container meant: the one asked for, else the annotated one, else the first.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, Status> {
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    let all = ["containers", "initContainers", "ephemeralContainers"];
    let mut names = all
        .iter()
        .flat_map(|l| pod["spec"][*l].as_array().into_iter().flatten())
        .filter_map(|c| c["name"].as_str());
    let known = |name: &str| names.clone().any(|n| n == name);
    match asked {
        Some(name) if known(name) => Ok(name.to_owned()),
        Some(name) => Err(Status::bad_request(format!(
            "container {name} is not valid for pod {}",
            view::meta(pod, "name")
        ))),
        None => {
            let default = annotated.filter(|n| known(n)).or_else(|| names.next());
            default
                .map(str::to_owned)
                .ok_or_else(|| Status::bad_request("the pod has no containers"))
        }
    }
}

/// Path and query at the kubelet.
fn kubelet_uri(path: &ObjectPath, pod: &Value, query: &Query, raw: Option<&str>) -> Result<String, Status> {
    let (namespace, name) = (
        path.namespace.as_deref().unwrap_or_default(),
        path.name.as_deref().unwrap_or_default(),
    );
    let action = path.subresource.as_deref().unwrap_or_default();
    let raw = raw.map(|q| format!("?{q}")).unwrap_or_default();
    if action == "portforward" {
        return Ok(format!("/portForward/{namespace}/{name}{raw}"));
    }
    let container = container(pod, query.get("container"))?;
    if action == "log" {
        return Ok(format!("/containerLogs/{namespace}/{name}/{container}{raw}"));
    }
    // The original's names of the streams are those of the API; the kubelet has its own.
    let mut parts: Vec<String> = query
        .all("command")
        .map(|c| format!("command={}", utf8_percent_encode(c, UNRESERVED)))
        .collect();
    let streams = [
        ("stdin", "input", false),
        ("stdout", "output", true),
        ("stderr", "error", true),
        ("tty", "tty", false),
    ];
    for (api, kubelet, default) in streams {
        let on = query.get(api).map_or(default && !query.has(api), |_| query.flag(api));
        if on {
            parts.push(format!("{kubelet}=1"));
        }
    }
    Ok(format!("/{action}/{namespace}/{name}/{container}?{}", parts.join("&")))
}

impl Kubelets {
    /// A request about what runs in a pod.
    pub(crate) async fn pass_on(
        &self,
        resource: &Resource,
        path: &ObjectPath,
        query: &Query,
        mut parts: Parts,
    ) -> Result<Response<Body>, Status> {
        let name = path.name.as_deref().unwrap_or_default();
        let action = path.subresource.as_deref().unwrap_or_default();
        if !resource.subresources.contains(&action) {
            return Err(Status::no_such_resource());
        }
        let pod = self.reader.object(resource, path.namespace.as_deref(), name)?;
        let uri = kubelet_uri(path, &pod, query, parts.uri.query())?;
        let node = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty());
        let node = node.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
        if action == "log" {
            let wanted = websocket::wanted(&mut parts, Framing::Pieces)?;
            let response = self.ask_kubelet(node, &uri, &parts, false).await?;
            let answer = exchange::answer(response, None, ());
            return Ok(websocket::upgraded(answer, wanted, Framing::Pieces));
        }
        if !parts.headers.contains_key(header::UPGRADE) {
            return Err(Status::bad_request(format!(
                "{action} needs a connection that can be upgraded (WebSocket)"
            )));
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        let response = self.ask_kubelet(node, &uri, &parts, true).await?;
        Ok(exchange::answer(response, client, ()))
    }

    /// A document of a node's kubelet.
    pub(crate) async fn document(&self, node: &str, uri: &str) -> Result<Value, Status> {
        let (parts, ()) = Request::get(uri).body(()).map_err(Status::internal)?.into_parts();
        let response = self.ask_kubelet(node, uri, &parts, false).await?;
        let code = response.status();
        let body = http_body_util::Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
        let failed = |why: &dyn std::fmt::Display| Status::internal(format!("{uri} of node {node}: {why}"));
        let bytes = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        if code != StatusCode::OK {
            return Err(failed(&code));
        }
        serde_json::from_slice(&bytes).map_err(|error| failed(&error))
    }

    async fn ask_kubelet(
        &self,
        node: &str,
        uri: &str,
        parts: &Parts,
        upgrading: bool,
    ) -> Result<Response<hyper::body::Incoming>, Status> {
        let limit = self.limit;
        let unreachable =
            |why: &dyn std::fmt::Display| Status::internal(format!("error dialing the kubelet of node {node}: {why}"));
        let work = async {
            let stream = self.dialer.dial(node).await.map_err(|e| unreachable(&e))?;
            let mut request = Request::new(body::full(""));
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = uri.parse().map_err(|e| Status::bad_request(format!("{uri}: {e}")))?;
            *request.headers_mut() = exchange::passed_on(&parts.headers, upgrading);
            request.headers_mut().remove(header::CONTENT_LENGTH);
            if let Ok(host) = node.parse() {
                request.headers_mut().insert(header::HOST, host);
            }
            exchange::send(stream, request).await.map_err(|e| unreachable(&e))
        };
        let expired = |_| Err(unreachable(&format!("no answer within {} s", limit.as_secs())));
        tokio::time::timeout(limit, work).await.unwrap_or_else(expired)
    }
}
