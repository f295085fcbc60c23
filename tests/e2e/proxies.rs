//! HTTP to pods, Services and nodes through the API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::cluster::{Cluster, signal_process};
use crate::streams;

const WEB: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: web:v1
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: shares}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: web:v1, env: [{name: APP_PORT, value: '18080'}]}]
";

#[test]
fn pods_services_and_nodes_are_asked_through_the_api_server() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(WEB);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/web",
        "pod/shares",
        "--timeout=120s",
    ]);
    let raw = |path: &str| cluster.try_kubectl(&["get", "--raw", path], None);
    let page = |path: &str| {
        let output = raw(path);
        assert!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let own = "/api/v1/namespaces/default";
    let direct = page(&format!("{own}/pods/web:8080/proxy/"));
    assert!(!direct.is_empty());
    for path in [
        "pods/web/proxy/",
        "pods/http:web:8080/proxy/",
        "services/web/proxy/",
        "services/web:80/proxy/",
    ] {
        assert_eq!(page(&format!("{own}/{path}")), direct, "{path}");
    }
    assert_eq!(page("/api/v1/nodes/node-1/proxy/healthz"), "ok");
    let pods = page("/api/v1/nodes/node-1/proxy/pods");
    assert!(pods.contains(r#""name":"shares""#), "{pods}");
    // Nobody listens there; and the API server does not ask itself, whosever address that is.
    for (path, why) in [
        (
            "pods/web:81/proxy/",
            "error trying to reach service: dial tcp 10.244.1.",
        ),
        ("pods/https:shares:6443/proxy/version", "address not allowed"),
    ] {
        let output = raw(&format!("{own}/{path}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{path}: {said}");
    }
    let info = cluster.kubectl(&["cluster-info"]);
    assert!(
        info.contains("/api/v1/namespaces/kube-system/services/kube-dns:dns/proxy"),
        "{info}"
    );
    let mut proxy = streams::spawn(&cluster, &["proxy", "--port=0"], &[]);
    let mut first = String::new();
    let mut out = BufReader::new(proxy.stdout.take().expect("stdout is a pipe"));
    out.read_line(&mut first).expect("it says where it listens");
    let address = first.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap_or_else(|error| panic!("{first}: {error}"));
    let request = format!("GET {own}/services/web:80/proxy/ HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(
        answer.starts_with("HTTP/1.0 200") && answer.ends_with(&direct),
        "{answer}"
    );
    signal_process(proxy.id(), "TERM");
    proxy.wait().expect("kubectl ends");
}
