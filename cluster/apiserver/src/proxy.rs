//! Pods, Services and nodes as HTTP servers: `…/pods/NAME:PORT/proxy/…`, `…/services/NAME:PORT/proxy/…`, `…/nodes/NAME/proxy/…`.
//!
//! What answers there is a stranger. Connections lead to a pod's own address, by way of its node, or to a kubelet, and nowhere else;
//! so many of them are open at once; what comes back is passed on as it comes, and nothing of it is kept.

mod address;
mod html;
mod links;

use std::sync::Arc;
use std::time::Duration;

use address::Address;
use afloat_machinery::kinds::Resource;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use links::Links;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::options::{ByteStream, KubeletDialer};
use crate::read::Reader;
use crate::wire::body::{self, Body};
use crate::wire::exchange;
use crate::wire::request::{ObjectPath, Peer};
use crate::wire::status::Status;

/// Connections at once, at most; each takes a descriptor of ours and keeps one of a client.
const LIMIT: usize = 512;
/// Of the process's descriptors they take this part at most.
const SHARE: usize = 8;
/// How long it may take to be connected, as with Kubernetes.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take to begin. Kubernetes waits for ever; whoever polls for longer than this asks again.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// What a pod may not tell browsers about the API server (Kubernetes' `removeCORSHeaders`).
const CROSS_ORIGIN: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Passes requests on to pods, Services and nodes.
pub(crate) struct Proxies {
    dialer: Arc<dyn KubeletDialer>,
    reader: Reader,
    places: Arc<Semaphore>,
}

/// A request on its way: what is told to the other side, and what the answer needs.
struct Way {
    /// `host:port`, as the other side is known.
    authority: String,
    /// Path and query there, escaped.
    path_and_query: String,
    links: Links,
}

impl Proxies {
    /// Those that `dialer` reaches, of the objects that `reader` finds, in a process that may have so many descriptors.
    pub(crate) fn new(dialer: Arc<dyn KubeletDialer>, reader: Reader, descriptors: usize) -> Self {
        let places = (descriptors / SHARE).clamp(1, LIMIT);
        Self {
            dialer,
            reader,
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Answers a request below `proxy`.
    ///
    /// # Errors
    /// As upstream: 400 for an address that is none, 404 for an object that is not there, 503 where nobody answers.
    pub(crate) async fn pass_on<B>(
        &self,
        resource: &Resource,
        path: &ObjectPath,
        mut parts: Parts,
        body: B,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        if !resource.subresources.contains(&"proxy") {
            return Err(Status::no_such_resource());
        }
        if !is_passed_on(&parts.method) {
            return Err(Status::method_not_allowed());
        }
        let address = Address::find(&self.reader, resource, path)?;
        let (prefix, rest) = links::split(path.namespace.is_some(), parts.uri.path());
        let upgrading = parts.headers.contains_key(header::UPGRADE);
        if rest.is_empty() && !upgrading && matches!(parts.method, Method::GET | Method::HEAD) {
            return moved(&parts.uri);
        }
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let host = host(&parts);
        let way = Way {
            authority: address.authority(),
            path_and_query: format!("{}{query}", if rest.is_empty() { "/" } else { &rest }),
            links: Links::new(prefix, &address.authority(), &host),
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = "Too many requests are being passed on, please try again later.";
            Status::too_many_requests(message, json!({"retryAfterSeconds": 1}))
        })?;
        let stream = self.connect(&address, upgrading).await?;
        let client = parts.extensions.remove::<OnUpgrade>();
        let request = request(&parts, body, &way, &rest, &host, upgrading)?;
        let answered = timeout(ANSWER_LIMIT, exchange::send(stream, request)).await;
        let answered = answered.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let response = answered.map_err(|error| unreachable(&error, upgrading))?;
        finish(
            response,
            &parts.method,
            way.links,
            client.filter(|_| upgrading),
            upgrading,
            place,
        )
    }

    async fn connect(&self, address: &Address, upgrading: bool) -> Result<Box<dyn ByteStream>, Status> {
        let dialing = async {
            match address {
                Address::Kubelet { node, .. } => self.dialer.dial(node).await,
                Address::Pod {
                    node, uid, port, tls, ..
                } => self.dialer.dial_pod(node, uid, *port, *tls).await,
            }
        };
        let dialed = timeout(DIAL_LIMIT, dialing).await;
        let dialed = dialed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        dialed.map_err(|error| {
            let error = std::io::Error::other(format!("dial tcp {}: {error}", address.authority()));
            unreachable(&error, upgrading)
        })
    }
}

fn is_passed_on(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::HEAD | Method::OPTIONS
    )
}

/// In the words of the original, which has others for upgrades.
fn unreachable(error: &std::io::Error, upgrading: bool) -> Status {
    if upgrading {
        return Status::unknown(format!("error dialing backend: {error}"));
    }
    Status::unavailable(format!("error trying to reach service: {error}"))
}

/// Relative links of a page lead somewhere else without the slash at the end.
fn moved(uri: &Uri) -> Result<Response<Body>, Status> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&format!("{}/{query}", uri.path())).map_err(Status::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The name under which the API server itself was asked.
fn host(parts: &Parts) -> String {
    let header = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    header.or(authority).unwrap_or_default().to_owned()
}

fn request<B>(
    parts: &Parts,
    body: B,
    way: &Way,
    rest: &str,
    host: &str,
    upgrading: bool,
) -> Result<Request<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let mut request = Request::new(body.map_err(Into::into).boxed_unsync());
    *request.method_mut() = parts.method.clone();
    let uri = way.path_and_query.parse();
    *request.uri_mut() = uri.map_err(|error| Status::bad_request(format!("{}: {error}", way.path_and_query)))?;
    let headers = request.headers_mut();
    *headers = exchange::passed_on(&parts.headers, upgrading);
    let value = |text: &str| HeaderValue::from_str(text).map_err(Status::internal);
    headers.insert(
        header::HOST,
        value(if host.is_empty() { &way.authority } else { host })?,
    );
    // Pages are rewritten as they pass; nobody shall pack and unpack them for that.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(FORWARDED_URI, value(&way.links.forwarded(rest))?);
    if let Some(Peer(peer)) = parts.extensions.get::<Peer>() {
        let before = headers.get(&FORWARDED_FOR).and_then(|before| before.to_str().ok());
        let all = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
        headers.insert(FORWARDED_FOR, value(&all)?);
    }
    Ok(request)
}

fn finish(
    response: Response<Incoming>,
    method: &Method,
    links: Links,
    client: Option<OnUpgrade>,
    upgrading: bool,
    place: OwnedSemaphorePermit,
) -> Result<Response<Body>, Status> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS && !upgrading {
        return Err(Status::unavailable(
            "error trying to reach service: an upgrade that nobody asked for",
        ));
    }
    if upgrading && status != StatusCode::SWITCHING_PROTOCOLS && status.as_u16() < 400 {
        return Err(Status::unknown(format!(
            "invalid upgrade response: status code {}",
            status.as_u16()
        )));
    }
    let mut response = exchange::answer(response, client, place);
    let headers = response.headers_mut();
    for name in CROSS_ORIGIN {
        headers.remove(name);
    }
    if upgrading {
        return Ok(response);
    }
    if let Some(location) = headers.get(header::LOCATION) {
        let location = String::from_utf8_lossy(location.as_bytes());
        if let Some(rewritten) = links.rewrite(&location) {
            headers.insert(
                header::LOCATION,
                HeaderValue::from_str(&rewritten).map_err(Status::internal)?,
            );
        }
        return Ok(response);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let packed = headers.contains_key(header::CONTENT_ENCODING);
    if kind != "text/html" || packed || *method == Method::HEAD {
        return Ok(response);
    }
    headers.remove(header::CONTENT_LENGTH);
    Ok(response.map(|page| html::rewritten(page, move |link| links.rewrite(link))))
}
