//! HTTPS for the API server: `/convert`, and nothing else. What can be asked for is bounded: connections, reviews at a time, the size of
//! one, and the time that it may take.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use afloat_api::{convert, names};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
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

use super::Listen;
use super::certificates::Certificates;
use crate::metrics::Metrics;

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
    metrics: Metrics,
}

impl Shown {
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.webhook_begins();
        Self {
            key: RwLock::default(),
            metrics,
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
        self.metrics.webhook_has_certificate();
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until `shutdown`.
pub(super) async fn serve(listen: Listen, shown: Arc<Shown>, shutdown: CancellationToken) {
    let stop = shutdown.clone();
    let work = async move {
        let listener = listening(&listen).await;
        shown.metrics.webhook_listens();
        accept(listener, shown, shutdown).await;
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
            Err(error) => tracing::warn!(?listen, %error, "the conversion webhook cannot listen, trying again"),
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

async fn accept(listener: TcpListener, shown: Arc<Shown>, shutdown: CancellationToken) {
    let Some(acceptor) = acceptor(shown) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let reviews = Arc::new(Semaphore::new(REVIEWS));
    loop {
        let Ok(place) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the conversion webhook");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, reviews, stop) = (acceptor.clone(), reviews.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection(acceptor, stream, reviews) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

fn acceptor(shown: Arc<Shown>) -> Option<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.inspect_err(|error| tracing::error!(%error, "no TLS for the conversion webhook"));
    let mut config = builder.ok()?.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, reviews: Arc<Semaphore>) {
    let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS with whoever called the conversion webhook"),
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let reviews = reviews.clone();
        async move { Ok::<_, Infallible>(answer(request, &reviews).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection to the conversion webhook ended");
    }
}

async fn answer(request: Request<Incoming>, reviews: &Semaphore) -> Response<Full<Bytes>> {
    let reply = if request.uri().path() != names::WEBHOOK_PATH {
        (StatusCode::NOT_FOUND, format!("here is {}", names::WEBHOOK_PATH))
    } else if request.method() != Method::POST {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "a ConversionReview is POSTed".to_owned(),
        )
    } else {
        let answered = timeout(REVIEW_LIMIT, converted(request.into_body(), reviews)).await;
        let late = || (StatusCode::SERVICE_UNAVAILABLE, "no answer in time".to_owned());
        answered.unwrap_or_else(|_| late())
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
            "the conversion webhook was asked what it cannot answer"
        );
    }
    let mut response = Response::new(Full::new(Bytes::from(reply.1)));
    *response.status_mut() = reply.0;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn converted(body: Incoming, reviews: &Semaphore) -> (StatusCode, String) {
    let Ok(_place) = reviews.acquire().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the operator ends".to_owned());
    };
    let question = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("a ConversionReview of more than {BODY_LIMIT} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()),
    };
    // A long list keeps a processor busy for longer than others may wait for its thread.
    let answer = tokio::task::spawn_blocking(move || convert::review(&question).map(|answer| answer.to_string()));
    match answer.await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(why)) => (StatusCode::BAD_REQUEST, why),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
