//! HTTPS for the API server: `/convert`, what `review` has, and nothing else. What can be asked for is bounded: connections, reviews at a time, the size of
//! one, and the time that it may take.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use afloat_api::{convert, names};
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kube::Client;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::options::{Lacks, Listen};
use super::review::{handler, review};

/// Connections served at the same time; more wait. An API server holds few open.
const CONNECTIONS: usize = 64;
/// Reviews that are read and answered at the same time; more wait.
const REVIEWS: usize = 4;
/// Bytes of a review. An API server asks for all objects of a list at once.
const BODY_LIMIT: usize = 64 << 20;
/// For the handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be without a request. Clients (Go's, hyper's) keep idle ones for 90 s: whoever closes sooner than they
/// do closes some in the very moment in which they are used again.
const IDLE: Duration = Duration::from_secs(120);
/// For a review. The API server itself waits for 30 s.
const REVIEW_LIMIT: Duration = Duration::from_secs(25);
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(5);

/// The certificate that is shown at the moment.
#[derive(Debug)]
pub(super) struct Shown {
    key: RwLock<Option<Arc<CertifiedKey>>>,
    lacks: Lacks,
}

impl Shown {
    pub(super) fn new(lacks: Lacks) -> Self {
        lacks.begin();
        Self {
            key: RwLock::default(),
            lacks,
        }
    }

    /// From now on shows this.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn show(&self, certificates: &Certificates) -> Result<(), rustls::Error> {
        let unreadable = |error| rustls::Error::General(format!("certificate of the webhook: {error}"));
        let chain = CertificateDer::from_pem_slice(certificates.certificate.as_bytes()).map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).map_err(unreadable)?;
        let key = CertifiedKey::new(vec![chain], ring::sign::any_supported_type(&key)?);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        self.lacks.shows();
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until `shutdown`. What has to be looked up is looked up by `client`.
pub(super) async fn serve(client: Client, listen: Listen, shown: Arc<Shown>, shutdown: CancellationToken) {
    let stop = shutdown.clone();
    let work = async move {
        let listener = listening(&listen).await;
        shown.lacks.listens();
        accept(client, listener, shown, shutdown).await;
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Opens the listener, however long somebody else has it.
async fn listening(listen: &Listen) -> TcpListener {
    loop {
        let opened = match listen {
            Listen::Port(port) => open(*port).await,
            Listen::Socket(socket) => socket.try_clone().and_then(|socket| {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)
            }),
        };
        match opened {
            Ok(listener) => return listener,
            Err(error) => tracing::warn!(?listen, %error, "the webhook cannot listen, trying again"),
        }
        sleep(PAUSE).await;
    }
}

/// At all addresses, of both families where there are both.
async fn open(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        opened => opened,
    }
}

async fn accept(client: Client, listener: TcpListener, shown: Arc<Shown>, shutdown: CancellationToken) {
    let Some(acceptor) = acceptor(shown) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let asked = Arc::new(Asked {
        client,
        reviews: Semaphore::new(REVIEWS),
    });
    loop {
        let Ok(place) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the webhook");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, asked, stop) = (acceptor.clone(), asked.clone(), shutdown.clone());
        tokio::spawn(FutureExt::boxed(async move {
            let _place = place;
            tokio::select! {
                () = connection(acceptor, stream, asked) => {}
                () = stop.cancelled() => {}
            }
        }));
    }
}

fn acceptor(shown: Arc<Shown>) -> Option<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.inspect_err(|error| tracing::error!(%error, "no TLS for the webhook"));
    let mut config = builder.ok()?.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, asked: Arc<Asked>) {
    let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS with whoever called the webhook"),
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let asked = asked.clone();
        async move { Ok::<_, Infallible>(answer(request, &asked).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection to the webhook ended");
    }
}

/// What answers share.
struct Asked {
    client: Client,
    reviews: Semaphore,
}

async fn answer(request: Request<Incoming>, asked: &Asked) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let handler = handler(path);
    let reply = if path != names::WEBHOOK_PATH && handler.is_none() {
        (StatusCode::NOT_FOUND, format!("here is {}", names::WEBHOOK_PATH))
    } else if request.method() != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "a review is POSTed".to_owned())
    } else {
        let answered = async {
            let Ok(_place) = asked.reviews.acquire().await else {
                return (StatusCode::SERVICE_UNAVAILABLE, "the operator ends".to_owned());
            };
            let question = match question(request.into_body()).await {
                Ok(question) => question,
                Err(reply) => return reply,
            };
            let Some(handler) = handler else {
                return converted(question).await;
            };
            match review(asked.client.clone(), handler, &question).await {
                Ok(answer) => (StatusCode::OK, answer.to_string()),
                Err((true, why)) => (StatusCode::BAD_REQUEST, why),
                Err((false, why)) => (StatusCode::INTERNAL_SERVER_ERROR, why),
            }
        };
        let late = || (StatusCode::SERVICE_UNAVAILABLE, "no answer in time".to_owned());
        timeout(REVIEW_LIMIT, answered).await.unwrap_or_else(|_| late())
    };
    let kind = if reply.0 == StatusCode::OK {
        "application/json"
    } else {
        "text/plain"
    };
    if reply.0 != StatusCode::OK {
        tracing::warn!(
            code = reply.0.as_u16(),
            why = reply.1,
            "the webhook was asked what it cannot answer"
        );
    }
    let mut response = Response::new(Full::new(Bytes::from(reply.1)));
    *response.status_mut() = reply.0;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn question(body: Incoming) -> Result<Bytes, (StatusCode, String)> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("a review of more than {BODY_LIMIT} bytes");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
    }
}

async fn converted(question: Bytes) -> (StatusCode, String) {
    // A long list keeps a processor busy for longer than others may wait for its thread.
    let answer = tokio::task::spawn_blocking(move || convert::review(&question).map(|answer| answer.to_string()));
    match answer.await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(why)) => (StatusCode::BAD_REQUEST, why),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
