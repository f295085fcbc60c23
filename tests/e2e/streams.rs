//! kubectl with streams of ours: pipes, a forwarded port, a terminal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use crate::cluster::{Cluster, kubectl_program, signal_process, wait_until};

/// kubectl with its streams as pipes.
pub(crate) fn spawn(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(kubectl_program().expect("checked before the boot"));
    command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
    command.args(arguments).envs(environment.iter().copied());
    let streams = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    streams.spawn().expect("kubectl starts")
}

/// The same to its end, with an input that is closed.
pub(crate) fn run(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = spawn(cluster, arguments, environment);
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("kubectl ends");
    writer.join().expect("the input was written");
    output
}

/// The page of the pod's web server, or what was answered instead.
pub(crate) fn page(port: u16) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    drop(asked);
    answer
}

/// `kubectl port-forward` to the first port of `ports`, on a port that it chose.
pub(crate) struct Forward {
    child: Child,
    pub(crate) port: u16,
}

impl Forward {
    pub(crate) fn start(cluster: &Cluster, target: &str, port: u16, environment: &[(&str, &str)]) -> Self {
        let ports = format!(":{port}");
        let mut child = spawn(
            cluster,
            &["port-forward", target, &ports, "--address=127.0.0.1"],
            environment,
        );
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut lines = out.lines().map_while(Result::ok);
        let first = lines.next().expect("it says where it listens");
        let port = first
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok());
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.unwrap_or_else(|| panic!("{first}"));
        Self { child, port }
    }

    pub(crate) fn stop(mut self) {
        signal_process(self.child.id(), "INT");
        self.child.wait().expect("kubectl ends");
    }

    /// What it said when it gave up by itself.
    pub(crate) fn last_words(self) -> String {
        let output = self.child.wait_with_output().expect("kubectl ends");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A terminal for kubectl.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    pub(crate) master: std::fs::File,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Terminal {
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
        let name = ptsname(&master, Vec::new())
            .expect("its name")
            .into_string()
            .expect("UTF-8");
        let open = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&name)
                .expect("its other end")
        };
        let mut command = Command::new(kubectl_program().expect("checked before the boot"));
        command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
        command.args(arguments).envs(environment.iter().copied());
        let master = std::fs::File::from(master);
        resize(&master, 30, 100);
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("kubectl starts");
        drop(command);
        let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (mut from, all) = (master.try_clone().expect("a descriptor"), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                all.lock()
                    .expect("no panic")
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { child, master, said }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.master, "{line}").expect("a terminal takes it");
    }

    pub(crate) fn expect(&self, text: &str) {
        wait_until(text, || self.said.lock().expect("no panic").contains(text));
    }

    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().expect("kubectl ends").code()
    }
}

pub(crate) fn resize(master: &std::fs::File, ws_row: u16, ws_col: u16) {
    let (ws_xpixel, ws_ypixel) = (0, 0);
    let size = rustix::termios::Winsize {
        ws_row,
        ws_col,
        ws_xpixel,
        ws_ypixel,
    };
    rustix::termios::tcsetwinsize(master, size).expect("a terminal has a size");
}

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
    // A Service has its pod a moment later.
    let slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
    cluster.wait("the endpoint", &slices, |list| {
        list["items"][0]["endpoints"][0]["conditions"]["ready"] == true
    });
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
    let mut proxy = spawn(&cluster, &["proxy", "--port=0"], &[]);
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
