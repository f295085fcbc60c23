//! Figures and health over HTTP, for scrapers and kubelets: `/metrics`, `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Connections served at the same time; more wait.
const CONNECTIONS: usize = 32;
/// Time for a request's headers to arrive, and between two requests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the listener failed (out of file descriptors, for example).
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `shutdown`. Anybody who reaches the listener is answered; nothing secret is told.
pub async fn serve(listener: TcpListener, metrics: Metrics, shutdown: CancellationToken) {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let registry = Arc::new(registry);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = shutdown.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (metrics, registry, stop) = (metrics.clone(), registry.clone(), shutdown.clone());
        tokio::spawn(FutureExt::boxed(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.uri().path(), &metrics, &registry);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "metrics connection ended");
                },
                () = stop.cancelled() => {}
            }
        }));
    }
}

fn answer(path: &str, metrics: &Metrics, registry: &Registry) -> Response<Full<Bytes>> {
    let (code, kind, text) = match path {
        "/healthz" => (StatusCode::OK, "text/plain", "ok".to_owned()),
        "/readyz" if metrics.ready() => (StatusCode::OK, "text/plain", "ok".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "the first listing of the cluster is not complete, or the conversion webhook does not serve yet".to_owned(),
        ),
        "/metrics" => {
            let mut text = String::new();
            let written = prometheus_client::encoding::text::encode(&mut text, registry);
            let code = if written.is_ok() {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            (code, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
        }
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "here are /metrics, /healthz and /readyz".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn figures_and_health() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let server = tokio::spawn(serve(listener, metrics.clone(), stop.clone()));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "/readyz").await.starts_with("HTTP/1.1 200"),
            "standing by is ready"
        );
        metrics.syncing();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        metrics.leading();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        // With a webhook an instance is ready when that serves, whether it leads or not.
        metrics.webhook().begin();
        metrics.webhook().listens();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        metrics.webhook().shows();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("afloat_operator_leading 1"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        server.await.unwrap();
    }
}
