//! Logs, exec, attach and port-forward: passed on to the kubelet of the pod's node, byte for byte.

use afloat_machinery::kinds::Resource;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::kubelet::Kubelets;
use crate::view;
use crate::wire::body::Body;
use crate::wire::request::{ObjectPath, Query};
use crate::wire::status::Status;

/// Headers that concern one connection only.
const HOP_BY_HOP: [header::HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::HOST,
];

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

fn passed_on(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut passed = headers.clone();
    for name in HOP_BY_HOP {
        passed.remove(name);
    }
    passed.remove(header::AUTHORIZATION);
    if upgrading {
        for name in [header::CONNECTION, header::UPGRADE] {
            if let Some(value) = headers.get(&name) {
                passed.insert(name, value.clone());
            }
        }
    }
    passed
}

impl Kubelets {
    /// A request about what runs in a pod.
    pub(crate) async fn pass_on(
        &self,
        resource: &Resource,
        path: &ObjectPath,
        query: &Query,
        parts: &Parts,
        client: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Status> {
        let name = path.name.as_deref().unwrap_or_default();
        let action = path.subresource.as_deref().unwrap_or_default();
        if !resource.subresources.contains(&action) || action == "proxy" {
            return Err(Status::no_such_resource());
        }
        let pod = self.reader.object(resource, path.namespace.as_deref(), name)?;
        let uri = kubelet_uri(path, &pod, query, parts.uri.query())?;
        let node = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty());
        let node = node.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
        let upgrading = parts.headers.contains_key(header::UPGRADE);
        if action != "log" && !upgrading {
            return Err(Status::bad_request(format!(
                "{action} needs a connection that can be upgraded (WebSocket)"
            )));
        }
        let response = self.ask_kubelet(node, &uri, parts, upgrading).await?;
        Ok(answer(response, client))
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
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| unreachable(&e))?;
            // Ends when the response has been read or the upgraded stream is closed.
            tokio::spawn(connection.with_upgrades());
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = uri.parse().map_err(|e| Status::bad_request(format!("{uri}: {e}")))?;
            *request.headers_mut() = passed_on(&parts.headers, upgrading);
            request.headers_mut().remove(header::CONTENT_LENGTH);
            if let Ok(host) = node.parse() {
                request.headers_mut().insert(header::HOST, host);
            }
            sender.send_request(request).await.map_err(|e| unreachable(&e))
        };
        let expired = |_| Err(unreachable(&format!("no answer within {} s", limit.as_secs())));
        tokio::time::timeout(limit, work).await.unwrap_or_else(expired)
    }
}

/// Turns the kubelet's answer into ours. Where both sides switch protocols their streams are joined; a client in this
/// process has no connection to switch and is handed the kubelet's stream itself.
fn answer(mut response: Response<hyper::body::Incoming>, client: Option<OnUpgrade>) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(client) = client {
            let kubelet = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                match tokio::try_join!(client, kubelet) {
                    Ok((client, kubelet)) => {
                        let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
                        // Either side may hang up at any time; there is nobody to tell.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut kubelet).await;
                    }
                    Err(error) => tracing::debug!(%error, "stream to the kubelet was not established"),
                }
            });
        }
    } else {
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(name);
        }
    }
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
