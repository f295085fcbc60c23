use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use afloat_apiserver::{ApiServer, ByteStream, KubeletDialer, Options, Pki};
use afloat_store::Store;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, PostParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{pod, raw, refusal};

/// A kubelet that says what it was asked, and after an upgrade echoes what it is sent.
pub(super) struct Echo;

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, hyper::Error> {
    let asked = request.uri().to_string();
    if !request.headers().contains_key(http::header::UPGRADE) {
        return Ok(Response::new(Full::from(asked)));
    }
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "test");
    Ok(switching.body(Full::default()).unwrap())
}

#[async_trait::async_trait]
impl KubeletDialer for Echo {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        if node != "n1" {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
        }
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), service_fn(answer))
                .with_upgrades(),
        );
        Ok(Box::new(ours))
    }

    async fn dial_pod(&self, node: &str, _uid: &str, _port: u16, _tls: bool) -> io::Result<Box<dyn ByteStream>> {
        self.dial(node).await
    }
}

async fn with_pods() -> kube::Client {
    let options = Options {
        kubelets: Arc::new(Echo),
        ..Options::default()
    };
    let client = ApiServer::new(Store::memory(), options).await.unwrap().client("tester");
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    for (name, node) in [("p", Some("n1")), ("gone", Some("n2")), ("unscheduled", None)] {
        let mut pod = pod(name);
        pod.spec.as_mut().unwrap().node_name = node.map(str::to_owned);
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    client
}

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let client = with_pods().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let params = LogParams {
        tail_lines: Some(3),
        ..LogParams::default()
    };
    let text = pods.logs("p", &params).await.unwrap();
    assert!(
        text.starts_with("/containerLogs/default/p/c?") && text.contains("tailLines=3"),
        "{text}"
    );
    let (code, _, message) = refusal(pods.logs("unscheduled", &params).await);
    assert!(
        code == 400 && message.contains("does not have a host assigned"),
        "{message}"
    );
    let (code, _, message) = refusal(pods.logs("gone", &params).await);
    assert!(
        code == 500 && message.contains("error dialing the kubelet of node n2"),
        "{message}"
    );
    let params = LogParams {
        container: Some("other".into()),
        ..LogParams::default()
    };
    let (code, _, message) = refusal(pods.logs("p", &params).await);
    assert!(
        code == 400 && message == "container other is not valid for pod p",
        "{message}"
    );
}

#[tokio::test]
async fn an_upgraded_stream_reaches_a_client_in_this_process() {
    let client = with_pods().await;
    let uri =
        "/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&command=a%20b&stdin=true&stdout=true&tty=true";
    let request = Request::get(uri)
        .header("connection", "Upgrade")
        .header("upgrade", "test")
        .body(kube::client::Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(
        text,
        "/exec/default/p/c?command=sh&command=-c&command=a%20b&input=1&output=1&error=1&tty=1hello"
    );
    let (code, body) = raw(&client, "POST", uri, &[], "").await;
    assert!(code == 400, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_stream_is_joined_over_tls() {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        kubelets: Arc::new(Echo),
        ..Options::default()
    };
    let server = ApiServer::new(Store::memory(), options).await.unwrap();
    let mut scheduled = pod("p");
    scheduled.spec.as_mut().unwrap().node_name = Some("n1".into());
    let pods = Api::<Pod>::namespaced(server.client("tester"), "default");
    pods.create(&PostParams::default(), &scheduled).await.unwrap();
    let pki = Pki::load_or_create(home.path(), &["localhost".into()], &[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let kubeconfig = pki.kubeconfig(&format!("https://{}", listener.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let served = tokio::spawn(async move { server.serve(listener, &pki, stop).await });
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config.clone()).unwrap();
    let uri = "/api/v1/namespaces/default/pods/p/exec?command=sh&stdout=true&stderr=false";
    let request = Request::get(uri)
        .header("connection", "Upgrade")
        .header("upgrade", "test")
        .body(kube::client::Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "/exec/default/p/c?command=sh&output=1hello");

    // Without a certificate there is nothing but health and version; a wrong token is refused for itself.
    let mut nobody = config;
    nobody.auth_info = kube::config::AuthInfo::default();
    let nobody = kube::Client::try_from(nobody).unwrap();
    assert_eq!(raw(&nobody, "GET", "/api/v1/pods", &[], "").await.0, 403);
    assert_eq!(raw(&nobody, "GET", "/readyz?verbose", &[], "").await.0, 200);
    assert_eq!(
        raw(&nobody, "GET", "/api/v1/pods", &[("authorization", "Bearer wrong")], "")
            .await
            .0,
        401
    );
    shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(60), served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
