//! HTTP/1.1, HTTP/2 by prior knowledge, and gRPC's health service over it.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::echo;
use super::phases::{Phases, accept, raised};

/// How long requests that are being answered may take after SIGTERM.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What an HTTP/2 connection by prior knowledge starts with (RFC 9113 §3.4); no method of HTTP/1.1 does.
const HTTP2_START: &[u8] = b"PRI";
/// Streams on one connection; those of a probe stay open.
const STREAMS_MAX: u32 = 4096;
/// HealthCheckResponse { status: SERVING }, as a gRPC message.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone)]
struct App {
    version: Bytes,
    between_messages: Duration,
    phases: Phases,
}

/// Until SIGTERM, and then until all clients have been told.
pub(super) async fn serve() -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(number("APP_START_MS", 0))) => {}
        _ = term.recv() => return Ok(()),
    }
    let port = |name, default| u16::try_from(number(name, default)).unwrap_or(0);
    let (web_port, tcp_port) = (port("APP_PORT", 8080), port("APP_TCP_PORT", 0));
    let web = TcpListener::bind(("0.0.0.0", web_port)).await?;
    let (stop, stopping) = watch::channel(false);
    let (close, closed) = watch::channel(false);
    let stop_listening = number("APP_STOP_LISTENING", 0) != 0;
    let phases = Phases {
        deaf: if stop_listening {
            stopping.clone()
        } else {
            closed.clone()
        },
        stopping,
        closed,
    };
    let version = std::env::var("APP_VERSION").unwrap_or_default();
    let app = App {
        version: format!("{version}\n").into(),
        between_messages: Duration::from_millis(number("APP_STREAM_MS", 1000).max(1)),
        phases: phases.clone(),
    };
    let mut servers = JoinSet::new();
    servers.spawn(serve_web(web, app));
    if tcp_port != 0 {
        let lines = TcpListener::bind(("0.0.0.0", tcp_port)).await?;
        servers.spawn(echo::serve(lines, phases));
    }
    println!("listening on {web_port}");
    println!("version {}", version.trim());
    term.recv().await;
    println!("stopping");
    stop.send_replace(true);
    tokio::time::sleep(Duration::from_millis(number("APP_LINGER_MS", 0))).await;
    close.send_replace(true);
    let all = async { while servers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_LIMIT, all).await;
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

async fn serve_web(listener: TcpListener, app: App) {
    let mut connections = JoinSet::new();
    let mut deaf = app.phases.deaf.clone();
    while let Some(stream) = accept(&listener, &mut deaf).await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve_connection(stream, app.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A client that goes away is none of the server's business: results are dropped.
async fn serve_connection(stream: TcpStream, app: App) {
    let mut start = [0; HTTP2_START.len()];
    let Ok(peeked) = stream.peek(&mut start).await else {
        return;
    };
    let Phases {
        mut stopping,
        mut closed,
        ..
    } = app.phases.clone();
    let (used, mut in_use) = watch::channel(false);
    let service = service_fn(move |request| {
        used.send_replace(true);
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(&request)) }
    });
    if start[..peeked] == *HTTP2_START {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(STREAMS_MAX);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // One that is opened so late still gets its first answer.
        let told = async {
            raised(&mut stopping).await;
            raised(&mut in_use).await;
        };
        tokio::select! {
            _ = connection.as_mut() => {}
            // GOAWAY tells a client at once and loses nothing (RFC 9113 §6.8): no need to linger.
            () = told => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    } else {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = raised(&mut closed) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

impl App {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        let mut response = match (grpc, request.uri().path()) {
            (false, _) => Response::new(Full::new(self.version.clone()).boxed_unsync()),
            (true, "/grpc.health.v1.Health/Check") => self.messages(false),
            (true, "/grpc.health.v1.Health/Watch") => self.messages(true),
            (true, _) => {
                let mut response = Response::new(Full::default().boxed_unsync());
                // Unimplemented; in the header, as there are no messages.
                response
                    .headers_mut()
                    .insert("grpc-status", HeaderValue::from_static("12"));
                response
            }
        };
        if grpc {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        *response.status_mut() = StatusCode::OK;
        if request.version() < Version::HTTP_2 && *self.phases.stopping.borrow() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// One message and the status, or a message again and again and, when the server stops, a last one and the status.
    fn messages(&self, stream: bool) -> Response<Body> {
        let (stopping, between) = (self.phases.stopping.clone(), self.between_messages);
        let frames = futures::stream::unfold((Next::First, stopping), move |(next, mut stopping)| async move {
            let more = match next {
                Next::First => stream,
                Next::Later => tokio::time::timeout(between, raised(&mut stopping)).await.is_err(),
                Next::Status => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    return Some((Ok(Frame::trailers(trailers)), (Next::Nothing, stopping)));
                }
                Next::Nothing => return None,
            };
            let next = if more { Next::Later } else { Next::Status };
            Some((Ok(Frame::data(Bytes::from_static(SERVING))), (next, stopping)))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

enum Next {
    First,
    Later,
    Status,
    Nothing,
}
