//! The application that the demo releases: a small HTTP server and, beside it in the pod, a log collector.
//!
//! It behaves as a well-made service does: slow to start if told so, and on SIGTERM it stops listening, answers what it
//! has, tells its clients `Connection: close` and leaves.

#![allow(clippy::print_stdout)] // what it says goes to its container's log

use std::convert::Infallible;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long requests that are being answered may take after SIGTERM.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// `afloat app web` and `afloat app collect`. The web server reads `APP_VERSION`, `APP_PORT` (8080) and
/// `APP_START_MS` (0, milliseconds until it listens).
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("app: {error}");
            return ExitCode::from(1);
        }
    };
    let result = match arguments.first().and_then(|a| a.to_str()) {
        Some("web") => runtime.block_on(web()),
        Some("collect") => runtime.block_on(collect()),
        _ => {
            eprintln!("app: say web or collect");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("app: {error}");
            ExitCode::from(1)
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

async fn web() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(number("APP_START_MS", 0))) => {}
        _ = term.recv() => return Ok(()),
    }
    let version: Bytes = format!("{}\n", std::env::var("APP_VERSION").unwrap_or_default()).into();
    let port = u16::try_from(number("APP_PORT", 8080)).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on {port}");
    println!("version {}", String::from_utf8_lossy(&version).trim());
    let (stopping, stop) = tokio::sync::watch::channel(false);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    eprintln!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            _ = term.recv() => break,
        };
        let _ = stream.set_nodelay(true);
        let version = version.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let version = version.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(version))) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let mut stop = stop.clone();
        connections.spawn(async move {
            tokio::pin!(connection);
            // A client that goes away is none of the server's business: the results are dropped.
            let stopped = tokio::select! {
                _ = connection.as_mut() => false,
                _ = stop.wait_for(|stopping| *stopping) => true,
            };
            if stopped {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        });
    }
    println!("stopping");
    drop(listener);
    stopping.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_LIMIT, all).await;
    Ok(())
}

/// Stands for a log collector: stays until it is told to go.
async fn collect() -> std::io::Result<()> {
    println!("collecting");
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
