//! Watches and logs as messages of a WebSocket, and tokens that come as its sub-protocol: over TLS, as browsers do it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use afloat_apiserver::{ApiServer, Options, Pki};
use afloat_store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{pod, raw};

/// A server on a socket; it stops when this is dropped.
struct Served {
    config: Config,
    /// A client in the server's process.
    inside: Client,
    _home: tempfile::TempDir,
    _stop: DropGuard,
}

async fn served() -> Served {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        kubelets: Arc::new(super::proxy::Echo),
        ..Options::default()
    };
    let server = ApiServer::new(Store::memory(), options).await.unwrap();
    let inside = server.client("tester");
    let mut scheduled = pod("p");
    scheduled.spec.as_mut().unwrap().node_name = Some("n1".into());
    let pods = Api::<Pod>::namespaced(inside.clone(), "default");
    pods.create(&PostParams::default(), &scheduled).await.unwrap();
    let pki = Pki::load_or_create(home.path(), &["localhost".into()], &[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let kubeconfig = pki.kubeconfig(&format!("https://{}", listener.local_addr().unwrap()));
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move { server.serve(listener, &pki, stopping).await });
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Served {
        config: config.unwrap(),
        inside,
        _home: home,
        _stop: stop.drop_guard(),
    }
}

/// The WebSocket, and the sub-protocol that was agreed to; or code and text of the refusal.
async fn open(
    client: &Client,
    uri: &str,
    protocols: &str,
) -> Result<(WebSocketStream<TokioIo<Upgraded>>, String), (u16, String)> {
    let mut request = Request::get(uri)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if !protocols.is_empty() {
        request = request.header("sec-websocket-protocol", protocols);
    }
    let response = client
        .send(request.body(kube::client::Body::empty()).unwrap())
        .await
        .unwrap();
    let code = response.status().as_u16();
    if code != 101 {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        return Err((code, String::from_utf8_lossy(&body).into_owned()));
    }
    // RFC 6455, 1.3, has this very example.
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let agreed = response.headers().get("sec-websocket-protocol");
    let agreed = agreed.map_or("", |agreed| agreed.to_str().unwrap()).to_owned();
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    Ok((
        WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
        agreed,
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_as_messages() {
    let served = served().await;
    let client = Client::try_from(served.config.clone()).unwrap();
    let uri = "/api/v1/namespaces/default/pods/p/log?tailLines=3";
    let text = "/containerLogs/default/p/c?tailLines=3";
    for (protocols, agreed, message) in [
        ("", "", Message::binary(text)),
        ("binary.k8s.io", "binary.k8s.io", Message::binary(text)),
        (
            "v9, base64.binary.k8s.io",
            "base64.binary.k8s.io",
            Message::text(STANDARD.encode(text)),
        ),
    ] {
        let (socket, said) = open(&client, uri, protocols).await.unwrap();
        assert_eq!(said, agreed);
        let all: Vec<Message> = socket.map(Result::unwrap).collect().await;
        assert_eq!(all[0], message, "{protocols}");
        assert!(matches!(&all[1..], [Message::Close(Some(_))]), "{all:?}");
    }
    let (code, said) = open(&client, uri, "v9").await.unwrap_err();
    assert!(code == 403 && said.contains("client supports [v9]"), "{said}");
    // What is refused is refused as ever.
    let (code, said) = open(&client, "/api/v1/namespaces/default/pods/none/log", "")
        .await
        .unwrap_err();
    assert!(code == 404 && said.contains(r#"pods \"none\" not found"#), "{said}");
    // In one process there is no connection to switch.
    assert_eq!(open(&served.inside, uri, "").await.unwrap_err(), (200, text.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_watch_is_a_message() {
    let served = served().await;
    let client = Client::try_from(served.config.clone()).unwrap();
    let (mut socket, _) = open(&client, "/api/v1/namespaces/default/pods?watch=1", "")
        .await
        .unwrap();
    let pods = Api::<Pod>::namespaced(served.inside.clone(), "default");
    let mut seen = Vec::new();
    for name in ["p", "q"] {
        if name != "p" {
            pods.create(&PostParams::default(), &pod(name)).await.unwrap();
        }
        let Some(Ok(Message::Text(text))) = socket.next().await else {
            panic!("no event about {name}")
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        seen.push((event["type"].clone(), event["object"]["metadata"]["name"].clone()));
    }
    assert_eq!(seen, [(json!("ADDED"), json!("p")), (json!("ADDED"), json!("q"))]);
    socket.close(None).await.unwrap();
    let rest: Vec<_> = socket.collect().await;
    assert!(
        rest.iter().all(|message| matches!(message, Ok(Message::Close(_)))),
        "{rest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_come_as_a_sub_protocol() {
    let served = served().await;
    let post = async |uri: &str, body: Value| {
        let (code, text) = raw(&served.inside, "POST", uri, &[], &body.to_string()).await;
        assert_eq!(code, 201, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    post(
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "robot"}}),
    )
    .await;
    let token = post("/api/v1/namespaces/default/serviceaccounts/robot/token", json!({})).await;
    let token = token["status"]["token"].as_str().unwrap();
    let mut config = served.config.clone();
    config.auth_info = kube::config::AuthInfo::default();
    let nobody = Client::try_from(config).unwrap();
    let uri = "/api/v1/namespaces/default/pods?watch=1";
    let ask = async |token: &str| {
        let word = format!(
            "base64url.bearer.authorization.k8s.io.{}",
            URL_SAFE_NO_PAD.encode(token)
        );
        open(&nobody, uri, &format!("{word}, base64.binary.k8s.io")).await
    };
    let (code, said) = ask(token).await.unwrap_err();
    assert!(
        code == 403 && said.contains("system:serviceaccount:default:robot"),
        "{said}"
    );
    assert_eq!(ask("wrong").await.unwrap_err().0, 401);
    let role = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    post(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        role,
    )
    .await;
    let (_socket, agreed) = ask(token).await.unwrap();
    assert_eq!(agreed, "base64.binary.k8s.io");
}
