//! The kubelet API over a plain byte stream, as the API server dials it.

use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::{ApiServer, Options, User};
use afloat_node::fake::{Behaviour, FakeRuntime};
use afloat_node::{Agent, AgentOptions, Clock};
use afloat_store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

struct World {
    agent: Arc<Agent>,
    dir: tempfile::TempDir,
    uid: String,
}

async fn world() -> World {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let runtime = FakeRuntime::new(Clock::System, (10, 244));
    runtime.add_image("web:v1", "sha256:1111", Behaviour::default());
    let dir = tempfile::tempdir().unwrap();
    let options = AgentOptions::new("node-1", "10.244.0.1".parse().unwrap(), dir.path());
    let agent = Agent::new(server.client_as(User::node("node-1")), runtime, options);
    tokio::spawn(agent.clone().run(Default::default()));
    let pods: Api<Pod> = Api::namespaced(server.client("test"), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "node-1", "containers": [{"name": "web", "image": "web:v1"}]}});
    let pod = pods
        .create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    for _ in 0..6000 {
        let phase = pods.get("p").await.unwrap().status.and_then(|status| status.phase);
        if phase.as_deref() == Some("Running") {
            return World {
                agent,
                dir,
                uid: pod.metadata.uid.unwrap(),
            };
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the pod does not run");
}

impl World {
    fn dial(&self) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(self.agent.clone().serve(far));
        near
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.dial()))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "node")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// All messages by channel after `input` was sent.
    async fn exec(&self, query: &str, protocol: &str, input: &[&[u8]]) -> Vec<(u8, String)> {
        let mut request = format!("ws://node/exec/default/p/web?{query}")
            .into_client_request()
            .unwrap();
        if !protocol.is_empty() {
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let (mut socket, response) = tokio_tungstenite::client_async(request, self.dial()).await.unwrap();
        let agreed = response.headers().get("sec-websocket-protocol");
        assert_eq!(agreed.map_or("", |agreed| agreed.to_str().unwrap()), protocol);
        for bytes in input {
            let bytes = Bytes::copy_from_slice(bytes);
            let message = match protocol.contains("base64") {
                true => Message::text(String::from_utf8(bytes.to_vec()).unwrap()),
                false => Message::Binary(bytes),
            };
            socket.send(message).await.unwrap();
        }
        let mut messages = vec![];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) => messages.push((bytes[0], text(&bytes[1..]))),
                // A digit, and base64.
                Message::Text(bytes) => {
                    let (channel, bytes) = bytes.as_bytes().split_first().unwrap();
                    messages.push((channel - b'0', text(&STANDARD.decode(bytes).unwrap())));
                }
                _ => {}
            }
        }
        messages
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_carries_streams_and_exit_codes() {
    let world = world().await;
    let messages = world
        .exec("command=echo&command=a%20b&output=1&error=1", "v5.channel.k8s.io", &[])
        .await;
    assert_eq!(messages[0], (1, "echo a b\n".to_owned()));
    let status: Value = serde_json::from_str(&messages[1].1).unwrap();
    assert_eq!((messages[1].0, status["status"].as_str()), (3, Some("Success")));
    let messages = world
        .exec("command=exit&command=7&output=1", "v4.channel.k8s.io", &[])
        .await;
    let status: Value = serde_json::from_str(&messages.last().unwrap().1).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "7"})
    );
    // Closing stdin (version 5) ends `cat`.
    let messages = world
        .exec(
            "command=cat&input=1&output=1",
            "v5.channel.k8s.io",
            &[b"\0hello", b"\xff\0"],
        )
        .await;
    assert_eq!(messages[0], (1, "hello".to_owned()));
    assert_eq!(messages.last().unwrap().0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_protocols_tell_how_it_ended_in_a_sentence() {
    let world = world().await;
    for protocol in ["", "channel.k8s.io", "base64.channel.k8s.io"] {
        let messages = world.exec("command=echo&command=a&output=1", protocol, &[]).await;
        assert_eq!(messages, [(1, "echo a\n".to_owned())], "{protocol}");
        let messages = world.exec("command=exit&command=7&output=1", protocol, &[]).await;
        let (channel, said) = messages.last().unwrap();
        assert!(*channel == 3 && said.ends_with("exit code 7"), "{protocol}: {said}");
    }
    let mut request = "ws://node/exec/default/p/web?command=cat&input=1&output=1"
        .into_client_request()
        .unwrap();
    let protocol = "base64.channel.k8s.io".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::client_async(request, world.dial()).await.unwrap();
    socket.send(Message::text("0aGVsbG8=")).await.unwrap();
    let said = socket.next().await.unwrap().unwrap();
    assert_eq!(said, Message::text("1aGVsbG8="));
    // What is no base64 is not understood, nor what comes after it.
    socket.send(Message::text("0!")).await.unwrap();
    let rest: Vec<_> = socket.collect().await;
    assert!(
        !rest.iter().any(|message| matches!(message, Ok(Message::Text(_)))),
        "{rest:?}"
    );
    let messages = world
        .exec("command=echo&command=a&output=1", "v4.base64.channel.k8s.io", &[])
        .await;
    let status: Value = serde_json::from_str(&messages[1].1).unwrap();
    assert_eq!((messages[1].0, status["status"].as_str()), (3, Some("Success")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_refusals() {
    let world = world().await;
    let logs = world
        .dir
        .path()
        .join("logs")
        .join(format!("default_p_{}", world.uid))
        .join("web");
    let (code, body) = world.get("/containerLogs/default/p/web").await;
    assert_eq!(code, 400, "{body}");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(
        logs.join("0.log"),
        "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stdout F two\n",
    )
    .unwrap();
    assert_eq!(
        world.get("/containerLogs/default/p/web?tailLines=1").await,
        (200, "two\n".to_owned())
    );
    let (code, body) = world.get("/containerLogs/default/p/web?previous=true").await;
    assert!(
        code == 400 && body.contains("previous terminated container"),
        "{code} {body}"
    );
    let (code, body) = world.get("/containerLogs/default/p/nobody").await;
    assert!(
        code == 400 && body.contains("container nobody is not valid for pod p"),
        "{code} {body}"
    );
    let (code, body) = world.get("/containerLogs/default/q/web").await;
    assert!(code == 404 && body.contains("\"kind\":\"Status\""), "{code} {body}");
    assert_eq!(world.get("/exec/default/p/web?command=true").await.0, 400);
    assert_eq!(world.get("/healthz").await, (200, "ok".to_owned()));
    let (code, body) = world.get("/pods").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, list["items"][0]["metadata"]["name"].as_str()), (200, Some("p")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_forwarded_over_plain_channels() {
    // As kube-rs asks; kubectl's way is tested with kubectl.
    let world = world().await;
    let mut request = "ws://node/portForward/default/p?ports=8080"
        .into_client_request()
        .unwrap();
    let protocol = "v4.channel.k8s.io";
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol.parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::client_async(request, world.dial()).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    let ask = Bytes::from_static(b"\0GET / HTTP/1.0\r\n\r\n");
    socket.send(Message::Binary(ask)).await.unwrap();
    let (mut ports, mut answer) = (vec![], String::new());
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        match (bytes[0], &bytes[1..]) {
            (channel, [0x90, 0x1f]) => ports.push(channel),
            (0, data) => answer.push_str(&String::from_utf8_lossy(data)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ports, [0, 1], "each channel begins with its port");
    assert!(answer.starts_with("HTTP/1."), "{answer}");
    let (code, body) = world.get("/portForward/default/p?ports=0").await;
    assert!(code == 400 && body.contains("is not a port"), "{code} {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_names_every_pod() {
    let world = world().await;
    let (code, body) = world.get("/stats/summary").await;
    let summary: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, summary["node"]["nodeName"].as_str()), (200, Some("node-1")));
    assert_eq!(summary["pods"][0]["podRef"]["uid"], json!(world.uid));
    assert!(summary["node"]["cpu"]["usageNanoCores"].is_u64(), "{summary}");
}
