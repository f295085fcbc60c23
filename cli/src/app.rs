//! The application that the demo releases: a small HTTP server and, beside it in the pod, a log collector.
//!
//! It behaves as a well-made service does: slow to start if told so, and on SIGTERM it stops listening, answers what it
//! has, tells its clients that it goes (`Connection: close`, GOAWAY, the end of a stream, FIN) and leaves.

#![allow(clippy::print_stdout)] // what it says goes to its container's log

mod echo;
mod phases;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

/// `afloat app web` and `afloat app collect`. The web server speaks HTTP/1.1, HTTP/2 and gRPC (the health service) on one
/// port, and sends lines back on another if told to. It reads `APP_VERSION`, `APP_PORT` (8080), `APP_TCP_PORT` (none),
/// `APP_START_MS` (0, milliseconds until it listens), `APP_STREAM_MS` (1000, between the messages of a stream) and
/// `APP_LINGER_MS` (0, how long after SIGTERM it still accepts connections and waits for idle ones to be used once more, so
/// that they can be told; without it, idle ones are closed at once) and `APP_STOP_LISTENING` (0; 1: it accepts no connection
/// after SIGTERM, however long it lingers, so that whoever still opens one loses it).
pub(crate) fn run_app(arguments: &[OsString]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("app: {error}");
            return ExitCode::from(1);
        }
    };
    let result = match arguments.first().and_then(|a| a.to_str()) {
        Some("web") => runtime.block_on(web::serve()),
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

/// Stands for a log collector: stays until it is told to go.
async fn collect() -> std::io::Result<()> {
    println!("collecting");
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
