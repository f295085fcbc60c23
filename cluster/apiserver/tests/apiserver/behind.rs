//! What is below `proxy` of pods, Services and nodes: who is asked what, and what comes back of it.

use std::io;
use std::sync::Arc;

use afloat_apiserver::{ApiServer, ByteStream, KubeletDialer, Options};
use afloat_store::Store;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::raw;

/// Pods that say whom they were taken for and what they were asked.
struct Pods;

fn headed(code: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into())).unwrap()
}

async fn answer(whom: String, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/page" => headed(
            200,
            &[("content-type", "text/html; charset=utf-8")],
            r#"<a href="/next">n</a><a href="x">"#,
        ),
        "/moved" => headed(302, &[("location", "/there?a=b")], ""),
        "/cors" => headed(
            200,
            &[
                ("access-control-allow-origin", "*"),
                ("x-own", "1"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
            ],
            "c",
        ),
        "/long-head" => headed(200, &[("x-long", &"a".repeat(100_000))], ""),
        "/upgrade" => {
            tokio::spawn(async move {
                let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = [0; 5];
                stream.read_exact(&mut buffer).await.unwrap();
                stream.write_all(&buffer).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            headed(101, &[("connection", "Upgrade"), ("upgrade", "test")], "")
        }
        "/busy" => headed(409, &[], "not now"),
        _ => {
            let (head, body) = request.into_parts();
            let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let said = json!({
                "whom": whom, "method": head.method.as_str(), "uri": head.uri.to_string(), "host": header("host"),
                "forwarded": header("x-forwarded-uri"), "authorization": header("authorization"), "own": header("x-own"),
                "body": String::from_utf8_lossy(&body.collect().await?.to_bytes()),
            });
            headed(201, &[("content-type", "application/json")], said.to_string())
        }
    })
}

fn served(whom: String) -> Box<dyn ByteStream> {
    let (ours, theirs) = tokio::io::duplex(4096);
    let service = service_fn(move |request| answer(whom.clone(), request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
    tokio::spawn(connection.with_upgrades());
    Box::new(ours)
}

#[async_trait::async_trait]
impl KubeletDialer for Pods {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        Ok(served(format!("the kubelet of {node}")))
    }

    async fn dial_pod(&self, node: &str, _uid: &str, port: u16, tls: bool) -> io::Result<Box<dyn ByteStream>> {
        match port {
            81 => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "connect: connection refused",
            )),
            82 => {
                let (ours, mut theirs) = tokio::io::duplex(4096);
                tokio::spawn(async move { theirs.write_all(b"220 mail.example ESMTP\r\n").await });
                Ok(Box::new(ours))
            }
            _ => Ok(served(format!("port {port} on {node}, TLS: {tls}"))),
        }
    }
}

async fn server() -> Client {
    let options = Options {
        kubelets: Arc::new(Pods),
        ..Options::default()
    };
    let client = ApiServer::new(Store::memory(), options).await.unwrap().client("tester");
    let make = async |path: &str, object: serde_json::Value| {
        let (code, text) = raw(&client, "POST", path, &[], &object.to_string()).await;
        assert_eq!(code, 201, "{text}");
    };
    make("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 8080}]});
    make(
        "/api/v1/namespaces/default/pods",
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [container]}}),
    )
    .await;
    let status = json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let (code, text) = raw(
        &client,
        "PATCH",
        "/api/v1/namespaces/default/pods/p/status",
        &merge,
        &status,
    )
    .await;
    assert_eq!(code, 200, "{text}");
    let ports = json!([{"name": "web", "port": 80, "targetPort": 9090}, {"name": "tls", "port": 443}]);
    make(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "s"}, "spec": {"ports": ports}}),
    )
    .await;
    let endpoint = |ip: &str, ready: bool| {
        json!({"addresses": [ip], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"}})
    };
    make(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
            "ports": [{"name": "web", "port": 9090}, {"name": "tls", "port": 9443}],
            // The second is no address of that pod.
            "endpoints": [endpoint("10.0.0.1", true), endpoint("10.0.0.2", true)]}),
    )
    .await;
    client
}

const POD: &str = "/api/v1/namespaces/default/pods";
const SERVICE: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn whom_a_path_means_is_asked() {
    let client = server().await;
    for (uri, whom, there) in [
        (format!("{POD}/p/proxy/"), "port 8080 on n1, TLS: false", "/"),
        (
            format!("{POD}/p:90/proxy/a/b/?c=d%20e"),
            "port 90 on n1, TLS: false",
            "/a/b/?c=d%20e",
        ),
        (
            format!("{POD}/https:p:/proxy/%C3%A4%20"),
            "port 8080 on n1, TLS: true",
            "/%C3%A4%20",
        ),
        (format!("{SERVICE}/s:web/proxy/x"), "port 9090 on n1, TLS: false", "/x"),
        (
            format!("{SERVICE}/s:80/proxy/x/../y"),
            "port 9090 on n1, TLS: false",
            "/y",
        ),
        (
            format!("{SERVICE}/https:s:tls/proxy/"),
            "port 9443 on n1, TLS: true",
            "/",
        ),
        ("/api/v1/nodes/n1/proxy/pods".to_owned(), "the kubelet of n1", "/pods"),
        (
            "/api/v1/nodes/n1:10250/proxy/pods".to_owned(),
            "the kubelet of n1",
            "/pods",
        ),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let headers = [
                ("host", "api"),
                ("authorization", "Basic secret"),
                ("x-own", "own"),
                ("connection", "x-a"),
                ("x-a", "1"),
            ];
            let (code, text) = raw(&client, method, &uri, &headers, "some body").await;
            let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            assert_eq!(code, 201, "{method} {uri}: {text}");
            let path = there.split('?').next().unwrap();
            let prefix = uri.split_once("/proxy/").unwrap().0;
            let expected = json!({
                "whom": whom, "method": method, "uri": there, "host": "api", "authorization": null, "own": "own",
                "forwarded": format!("{prefix}/proxy{path}"), "body": "some body",
            });
            assert_eq!(said, expected, "{method} {uri}");
        }
    }
    let (code, text) = raw(&client, "GET", &format!("{SERVICE}/s/proxy/"), &[], "").await;
    assert!(
        code == 503 && text.contains(r#"no endpoints available for service \"s\""#),
        "{text}"
    );
    let (code, text) = raw(&client, "GET", "/api/v1/nodes/n1:22/proxy/", &[], "").await;
    assert!(code == 400 && text.contains("address not allowed"), "{text}");
}

#[tokio::test]
async fn answers_come_through_with_their_links() {
    let client = server().await;
    let get = async |path: &str| {
        let request = Request::get(format!("{POD}/p/proxy{path}")).header("host", "api");
        let response = client
            .send(request.body(kube::client::Body::empty()).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    };
    let (head, body) = get("/page").await;
    assert_eq!(body, format!(r#"<a href="{POD}/p/proxy/next">n</a><a href="x">"#));
    assert_eq!((head.headers.get("content-length"), head.status.as_u16()), (None, 200));
    let (head, _) = get("/moved").await;
    let location = head.headers.get("location").unwrap().to_str().unwrap();
    assert_eq!(
        (head.status.as_u16(), location),
        (302, format!("{POD}/p/proxy/there?a=b").as_str())
    );
    let (head, body) = get("/cors").await;
    assert_eq!(body, "c");
    for (name, value) in [
        ("access-control-allow-origin", None),
        ("x-hop", None),
        ("connection", None),
        ("x-own", Some("1")),
    ] {
        assert_eq!(
            head.headers.get(name).map(|value| value.to_str().unwrap()),
            value,
            "{name}"
        );
    }
}

#[tokio::test]
async fn who_does_not_answer_well_is_told_of() {
    let client = server().await;
    for (port, path, message) in [
        (
            81,
            "/",
            "error trying to reach service: dial tcp 10.0.0.1:81: connect: connection refused",
        ),
        (82, "/", "error trying to reach service: "),
        (80, "/long-head", "error trying to reach service: "),
        (80, "/upgrade", "error trying to reach service: "),
    ] {
        let (code, text) = raw(&client, "GET", &format!("{POD}/p:{port}/proxy{path}"), &[], "").await;
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, said["reason"].as_str()),
            (503, Some("ServiceUnavailable")),
            "{text}"
        );
        assert!(said["message"].as_str().unwrap().starts_with(message), "{text}");
    }
}

#[tokio::test]
async fn upgrades_are_passed_on() {
    let client = server().await;
    let ask = async |path: &str| {
        let request = Request::get(format!("{POD}/p{path}"))
            .header("connection", "Upgrade")
            .header("upgrade", "test")
            .body(kube::client::Body::empty());
        client.send(request.unwrap()).await.unwrap()
    };
    let response = ask("/proxy/upgrade").await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    for (path, code, message) in [
        ("/proxy/page", 500, "invalid upgrade response: status code 200"),
        ("/proxy/busy", 409, "not now"),
        (
            ":81/proxy/upgrade",
            500,
            "error dialing backend: dial tcp 10.0.0.1:81: connect: connection refused",
        ),
    ] {
        let response = ask(path).await;
        let said = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(said == code && body.contains(message), "{path}: {said} {body}");
    }
}
