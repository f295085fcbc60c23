//! A registry on loopback, for tests: it has what it is given, misbehaves where it is told to, and remembers what it was
//! asked. Also used by the end-to-end tests.

#![allow(dead_code)] // each of the two uses a part of it

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

type Body = BoxBody<Bytes, std::io::Error>;

/// How it misbehaves where a path holds a text.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection breaks after so many bytes, so many times.
    Break { after: usize, times: u32 },
    /// The bytes are other ones.
    Corrupt,
    /// Ranges are not understood.
    NoRange,
    /// Answers with this, so many times.
    Status(u16, u32),
    /// Sends the client elsewhere (the base of a URL).
    Redirect(String),
    /// Does not answer before [`Registry::release`].
    Hold,
}

/// Who may read.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    Basic(&'static str, &'static str),
    /// By a token, which this server gives out itself.
    Bearer(&'static str, &'static str),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /v2/…`
    pub(crate) what: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    documents: HashMap<String, (String, Bytes)>,
    blobs: HashMap<String, Bytes>,
    faults: BTreeMap<String, Fault>,
    login: Option<Login>,
    asked: Vec<Asked>,
    /// Requests that [`Fault::Hold`] holds.
    held: Arc<()>,
}

/// A running registry; gone when dropped.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    released: watch::Sender<bool>,
    /// Its end is the server's.
    _stop: tokio::sync::oneshot::Sender<()>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// A layer of files: path, content, executable or not.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        builder.append_data(&mut header, path, *content).expect("into memory");
    }
    builder.into_inner().expect("into memory")
}

/// The architecture of this machine, as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The configuration of an image of these layers (plain tars).
pub(crate) fn config(layers: &[Vec<u8>], entrypoint: &[&str]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "architecture": architecture(), "os": "linux", "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// With TLS, if a configuration is given.
    pub(crate) fn start_with(tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>) -> Self {
        Self::start_on(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"), tls)
    }

    pub(crate) fn start_on(
        listener: std::net::TcpListener,
        tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
    ) -> Self {
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let state = Arc::<Mutex<State>>::default();
        let (released, gate) = watch::channel(false);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, tls, shared, gate) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            state,
            released,
            _stop: stop,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Full name of an image in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.lock().faults.insert(part.to_owned(), fault);
    }

    pub(crate) fn mend(&self) {
        self.lock().faults.clear();
    }

    pub(crate) fn login(&self, login: Login) {
        self.lock().login = Some(login);
    }

    /// Lets go what [`Fault::Hold`] holds.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// How many clients wait for [`Registry::release`].
    pub(crate) fn holds(&self) -> usize {
        Arc::strong_count(&self.lock().held) - 1
    }

    /// Requests whose method and path hold a text.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.lock()
            .asked
            .iter()
            .filter(|asked| asked.what.contains(part))
            .cloned()
            .collect()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.lock().blobs.insert(digest.clone(), Bytes::copy_from_slice(bytes));
        json!({"digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest or index under a tag; answers its digest.
    pub(crate) fn document(&self, repository: &str, tag: &str, media_type: &str, document: &Value) -> String {
        let bytes = Bytes::from(document.to_string());
        let digest = digest(&bytes);
        for version in [tag, &digest] {
            let key = format!("{repository}/manifests/{version}");
            self.lock()
                .documents
                .insert(key, (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    /// Puts an image of layers (plain tars, each as it is to be sent) under a tag; answers its manifest's digest.
    pub(crate) fn image(
        &self,
        repository: &str,
        tag: &str,
        layers: &[(Vec<u8>, Vec<u8>)],
        entrypoint: &[&str],
    ) -> String {
        let plain: Vec<Vec<u8>> = layers.iter().map(|(plain, _)| plain.clone()).collect();
        let config = self.blob(&config(&plain, entrypoint));
        let sent: Vec<Value> = layers.iter().map(|(_, sent)| self.blob(sent)).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": sent});
        self.document(repository, tag, "application/vnd.oci.image.manifest.v1+json", &manifest)
    }
}

async fn serve(
    listener: std::net::TcpListener,
    tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
    state: Arc<Mutex<State>>,
    gate: watch::Receiver<bool>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let (state, gate, tls) = (state.clone(), gate.clone(), tls.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, state.clone(), gate.clone()));
            let http = hyper::server::conn::http1::Builder::new();
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(config) => {
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                        let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    }
                }
            }
        });
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn status(code: u16) -> Response<Body> {
    let body = json!({"errors": [{"code": "TEST", "message": "as the test wished"}]}).to_string();
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    mut gate: watch::Receiver<bool>,
) -> Result<Response<Body>, Infallible> {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let path = request.uri().path().to_owned();
    let what = format!("{} {path}", request.method());
    let (range, authorization) = (header("range"), header("authorization"));
    lock().asked.push(Asked {
        what: what.clone(),
        range: range.clone(),
        authorization: authorization.clone(),
    });
    let fault = take_fault(&mut lock(), &what);
    if let Some(Fault::Hold) = fault {
        let _held = lock().held.clone();
        let _ = gate.wait_for(|released| *released).await;
    }
    if let Some(refusal) = refused(
        &lock(),
        &path,
        &header("host").unwrap_or_default(),
        authorization.as_deref(),
    ) {
        return Ok(refusal);
    }
    match &fault {
        Some(Fault::Status(code, _)) => return Ok(status(*code)),
        Some(Fault::Redirect(base)) => {
            let mut response = status(307);
            let location = format!("{base}{path}").parse().expect("a URL");
            response.headers_mut().insert("location", location);
            return Ok(response);
        }
        _ => {}
    }
    let found = {
        let state = lock();
        let rest = path.strip_prefix("/v2/").unwrap_or_default();
        let blob = rest
            .rsplit_once("/blobs/")
            .and_then(|(_, digest)| state.blobs.get(digest));
        match blob {
            Some(bytes) => Some(("application/octet-stream".to_owned(), bytes.clone())),
            None => state.documents.get(rest).cloned(),
        }
    };
    let Some((media_type, bytes)) = found else {
        return Ok(status(404));
    };
    Ok(content(&request, &media_type, bytes, range, fault))
}

fn content(
    request: &Request<Incoming>,
    media_type: &str,
    bytes: Bytes,
    range: Option<String>,
    fault: Option<Fault>,
) -> Response<Body> {
    let digest = digest(&bytes);
    let range = range.filter(|_| !matches!(fault, Some(Fault::NoRange)));
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let mut rest = bytes.slice(from.unwrap_or(0).min(bytes.len())..);
    let length = rest.len();
    if let Some(Fault::Corrupt) = fault {
        let mut other = rest.to_vec();
        if let Some(last) = other.last_mut() {
            *last ^= 1;
        }
        rest = other.into();
    }
    let body = match fault {
        _ if request.method() == http::Method::HEAD => full(Bytes::new()),
        Some(Fault::Break { after, .. }) => {
            let first = Ok(Frame::data(rest.slice(..after.min(length))));
            let broken = futures::stream::once(async {
                // What was sent before is to arrive.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken as the test wished"))
            });
            http_body_util::BodyExt::boxed(StreamBody::new(futures::stream::iter([first]).chain(broken)))
        }
        _ => full(rest),
    };
    let response = Response::builder()
        .status(if from.is_some() { 206 } else { 200 })
        .header("content-type", media_type)
        .header("content-length", length)
        .header("docker-content-digest", digest);
    response.body(body).expect("a response")
}

/// The fault for a request, counted.
fn take_fault(state: &mut State, what: &str) -> Option<Fault> {
    let (_, fault) = state.faults.iter_mut().find(|(part, _)| what.contains(part.as_str()))?;
    match fault {
        Fault::Break { times, .. } | Fault::Status(_, times) if *times == 0 => None,
        Fault::Break { times, .. } | Fault::Status(_, times) => {
            *times -= 1;
            Some(fault.clone())
        }
        _ => Some(fault.clone()),
    }
}

fn refused(state: &State, path: &str, host: &str, authorization: Option<&str>) -> Option<Response<Body>> {
    use base64::Engine as _;
    let basic = |user: &str, password: &str| {
        format!(
            "Basic {}",
            base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"))
        )
    };
    let (wanted, challenge) = match state.login.clone()? {
        Login::Basic(user, password) => (basic(user, password), "Basic realm=\"test\"".to_owned()),
        Login::Bearer(user, password) if path == "/token" => {
            if authorization != Some(basic(user, password).as_str()) {
                return Some(status(401));
            }
            return Some(Response::new(full(json!({"token": "let-me-in"}).to_string())));
        }
        Login::Bearer(..) => {
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"test\"");
            ("Bearer let-me-in".to_owned(), realm)
        }
    };
    if authorization == Some(wanted.as_str()) {
        return None;
    }
    let mut response = status(401);
    response
        .headers_mut()
        .insert("www-authenticate", challenge.parse().expect("a header"));
    Some(response)
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}
