//! Kruise's admission webhook as far as the API server can tell: it allows what it is asked, while a pod of its manager is there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// See the module.
pub(super) struct Webhook {
    /// Where the API server finds it.
    pub(super) url: String,
    /// Who signed for it, in base64.
    pub(super) authority: String,
    /// Whether somebody answers.
    pub(super) alive: Arc<AtomicBool>,
}

impl Webhook {
    /// Listens; nobody answers before somebody is alive.
    pub(super) async fn start() -> Self {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let alive = Arc::new(AtomicBool::new(false));
        let provider = ring::default_provider().into();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = signed.signing_key.serialize_der().try_into().expect("a key");
        let config = config.expect("versions").with_no_client_auth();
        let config = config
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .expect("a certificate");
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), alive.clone()));
        Self {
            url: format!("https://localhost:{port}/admit"),
            authority: base64::engine::general_purpose::STANDARD.encode(signed.cert.pem()),
            alive,
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, alive: Arc<AtomicBool>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        // Without a process nobody would be there to shake hands.
        if alive.load(Ordering::Relaxed) {
            tokio::spawn(serve(stream, acceptor.clone(), alive.clone()));
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, alive: Arc<AtomicBool>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let alive = alive.load(Ordering::Relaxed);
        async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap_or_default();
            let answer = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": review["request"]["uid"], "allowed": true},
            });
            let status = if alive { 200 } else { 503 };
            let answer = http::Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(answer.to_string())));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
