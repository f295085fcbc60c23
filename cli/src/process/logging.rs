//! What a process of ours says about its work.

use tracing::{Level, Metadata};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, filter, fmt};

/// Where others' libraries write bodies of requests and answers, or their headers, into the log; and how important a line of
/// theirs must be to be shown. Objects may be Secrets and headers hold tokens, so `AFLOAT_LOG` has no say in this.
/// None: no line is.
const BODIES: [(&str, Option<Level>); 8] = [
    // Prints what it could not read as a warning, and answers and headers at lower levels.
    ("kube_client::client", None),
    // Prints its errors, in which the parser quotes what it could not read.
    ("kube_runtime::watcher", Some(Level::WARN)),
    ("h2", Some(Level::INFO)),
    ("hyper", Some(Level::INFO)),
    ("hyper_util", Some(Level::INFO)),
    ("rustls", Some(Level::INFO)),
    ("tokio_tungstenite", Some(Level::INFO)),
    ("tungstenite", Some(Level::INFO)),
];

/// Log lines go to standard error; `AFLOAT_LOG` chooses which, as `RUST_LOG` does elsewhere.
pub(crate) fn start_logging(default: &str) {
    let chosen = EnvFilter::try_from_env("AFLOAT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = tracing_subscriber::registry()
        .with(chosen)
        .with(filter::filter_fn(holds_no_body))
        .with(lines)
        .try_init();
}

/// Whether a line can be shown whatever was asked for.
fn holds_no_body(line: &Metadata<'_>) -> bool {
    let within = |module: &str| match line.target().strip_prefix(module) {
        Some(rest) => rest.is_empty() || (module != "kube_client::client" && rest.starts_with("::")),
        None => false,
    };
    let least = BODIES.iter().find(|(module, _)| within(module)).map(|(_, least)| least);
    match least {
        Some(least) => line.is_span() || least.is_some_and(|least| *line.level() <= least),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A client whose server answers everything with a Secret that cannot be read, and refuses the rest in the same words.
    fn client(code: u16) -> kube::Client {
        let answer = move |_: http::Request<kube::client::Body>| async move {
            let body =
                r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","resourceVersion":"1"},"data":"hunter2"}"#;
            let body = http_body_util::Full::new(bytes::Bytes::from(body));
            let answer = http::Response::builder().status(code).header("set-cookie", "hunter2");
            Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn no_level_shows_a_body() {
        let lines = Lines::default();
        let (written, here) = (lines.clone(), fmt::layer().with_ansi(false));
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("trace"))
            .with(filter::filter_fn(holds_no_body))
            .with(here.with_writer(move || written.clone()));
        let _guard = tracing::subscriber::set_default(subscriber);
        tracing::trace!("the log is on");
        for code in [200, 422, 500] {
            let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::default_namespaced(client(code));
            assert!(secrets.get("s").await.is_err());
            assert!(secrets.list(&kube::api::ListParams::default()).await.is_err());
            assert!(secrets.delete("s", &kube::api::DeleteParams::default()).await.is_err());
            assert!(secrets.watch(&kube::api::WatchParams::default(), "0").await.is_ok() || code != 200);
        }
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("the log is on"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
