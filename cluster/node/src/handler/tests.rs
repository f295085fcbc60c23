//! Handlers against a server that writes down what it was asked and answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{LifecycleHandler, Probe};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::clock::Clock;
use crate::fake::FakeRuntime;
use crate::handler::{self, Target};
use crate::pod::probe::Answer;

struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers one request after another with these status lines and locations.
    async fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        tokio::spawn(async move {
            for (status, location) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                log.lock().unwrap().push(text);
                let location = location.replace("PORT", &port.to_string());
                let header = if location.is_empty() {
                    String::new()
                } else {
                    format!("location: {location}\r\n")
                };
                let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { port, asked }
    }

    /// The first lines of the requests.
    fn lines(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter_map(|text| text.lines().next().map(str::to_owned))
            .collect()
    }

    fn target(&self) -> Target {
        let container = json!({"name": "c", "ports": [{"name": "http", "containerPort": self.port}]});
        Target {
            runtime: FakeRuntime::new(Clock::System, (10, 99)),
            pod_uid: "u".into(),
            pod_ip: [10, 99, 0, 1].into(),
            id: "c-0".into(),
            container: serde_json::from_value(container).unwrap(),
        }
    }

    async fn probe(&self, mut get: Value) -> Answer {
        get["host"] = "127.0.0.1".into();
        let probe: Probe = serde_json::from_value(json!({"httpGet": get})).unwrap();
        handler::probe(&self.target(), &probe, Duration::from_secs(60)).await
    }

    async fn hook(&self, hook: Value) -> Result<(), String> {
        let handler: LifecycleHandler = serde_json::from_value(hook).unwrap();
        handler::hook(&self.target(), &handler).await
    }
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn to(location: &str) -> (u16, String) {
    (302, location.to_owned())
}

#[tokio::test]
async fn headers_and_named_ports_reach_the_server() {
    let server = Server::start(vec![ok(), ok()]).await;
    let headers = json!([{"name": "X-Why", "value": "stop"}, {"name": "Host", "value": "web.example"}]);
    let get = json!({"path": "/bye?x=1", "port": "http", "host": "127.0.0.1", "httpHeaders": headers});
    assert_eq!(server.hook(json!({"httpGet": get})).await, Ok(()));
    assert_eq!(server.probe(json!({"port": server.port})).await, Answer::Success);
    let asked = server.asked.lock().unwrap().clone();
    let hook = asked[0].to_ascii_lowercase();
    for line in [
        "get /bye?x=1 http/1.1\r\n",
        "x-why: stop\r\n",
        "host: web.example\r\n",
        "user-agent: kube-lifecycle/",
    ] {
        assert!(hook.contains(line), "{hook}");
    }
    let probe = asked[1].to_ascii_lowercase();
    assert!(
        probe.starts_with("get / http/1.1\r\n") && probe.contains("user-agent: kube-probe/"),
        "{probe}"
    );
}

#[tokio::test]
async fn redirects_within_the_host_are_followed() {
    let cases = [
        (vec![to("/next"), ok()], Answer::Success, vec!["GET /a/b", "GET /next"]),
        (
            vec![to("near?x"), ok()],
            Answer::Success,
            vec!["GET /a/b", "GET /a/near?x"],
        ),
        (
            vec![to("http://127.0.0.1:PORT/far"), ok()],
            Answer::Success,
            vec!["GET /a/b", "GET /far"],
        ),
        (
            vec![to("//127.0.0.1:PORT/far"), ok()],
            Answer::Success,
            vec!["GET /a/b", "GET /far"],
        ),
        (vec![(304, String::new())], Answer::Success, vec!["GET /a/b"]),
        (
            vec![to("http://example.com/")],
            Answer::Warning("Probe terminated redirects, Response body: (redirect to http://example.com/)".into()),
            vec!["GET /a/b"],
        ),
        (
            vec![(404, String::new())],
            Answer::Failure("HTTP probe failed with statuscode: 404".into()),
            vec!["GET /a/b"],
        ),
    ];
    for (answers, expected, lines) in cases {
        let server = Server::start(answers).await;
        assert_eq!(server.probe(json!({"path": "/a/b", "port": "http"})).await, expected);
        let asked: Vec<String> = server.lines().iter().map(|l| l.replace(" HTTP/1.1", "")).collect();
        assert_eq!(asked, lines);
    }
    let server = Server::start(vec![to("/again"); 11]).await;
    let answer = server.probe(json!({"port": "http"})).await;
    assert!(
        matches!(&answer, Answer::Failure(text) if text.contains("stopped after 10 redirects")),
        "{answer:?}"
    );
    // Another port of the host: where nobody listens, nobody answers.
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = Server::start(vec![to(&format!("http://127.0.0.1:{gone}/x"))]).await;
    let answer = server.probe(json!({"port": "http"})).await;
    assert!(
        matches!(&answer, Answer::Failure(text) if text.contains(&format!(":{gone}/x"))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn what_no_hook_can_do_is_said() {
    let server = Server::start(vec![]).await;
    let error = server.hook(json!({"tcpSocket": {"port": 80}})).await.unwrap_err();
    assert!(error.contains("tcpSocket is not supported for hooks"), "{error}");
    let error = server.hook(json!({"httpGet": {"port": "admin"}})).await.unwrap_err();
    assert!(error.contains("couldn't find port"), "{error}");
    assert_eq!(server.hook(json!({"sleep": {"seconds": 0}})).await, Ok(()));
}

/// A certificate that nobody vouches for, and for another name.
fn acceptor() -> tokio_rustls::TlsAcceptor {
    let pair = rcgen::generate_simple_self_signed(vec!["somebody.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key.into())
        .unwrap();
    Arc::new(config).into()
}

#[tokio::test]
async fn https_is_asked_without_a_look_at_the_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor().accept(stream).await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream.flush().await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    // The server above is not asked; its target serves.
    let other = Server::start(vec![]).await;
    let get = json!({"port": port, "scheme": "HTTPS", "path": "/healthy"});
    assert_eq!(other.probe(get).await, Answer::Success);
    assert!(server.await.unwrap().starts_with("GET /healthy HTTP/1.1\r\n"));
}
