//! The proxy with real sockets, bridges and pods' network namespaces.
//!
//! `in_a_namespace_of_its_own` starts this very program again inside a fresh network namespace, where the ignored
//! tests run; nothing outside is touched.

#![allow(clippy::unwrap_used)] // in a test's own tools, too, the first surprise shall end it

mod fake_api;
mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use afloat_proxy::{EndpointSnapshot, HostPorts, Proxy, ProxyOptions};
use fake_api::FakeApi;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use world::{World, eventually};

const INSIDE: &str = "AFLOAT_PROXY_TEST_INSIDE";

#[test]
fn in_a_namespace_of_its_own() {
    let root = nix::unistd::geteuid().is_root();
    let flags = if root { "-n" } else { "-rn" };
    let possible = Command::new("unshare")
        .args([flags, "ip", "link", "add", "probe0", "type", "bridge"])
        .output();
    if !possible.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: no network namespaces or bridges here (unshare {flags} ip link add type bridge)");
        return;
    }
    let mut command = Command::new("unshare");
    command.arg(flags).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--test-threads=1"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success());
}

/// The world, or None outside of the namespace.
fn world() -> Option<&'static World> {
    static WORLD: OnceLock<World> = OnceLock::new();
    std::env::var_os(INSIDE)?;
    Some(WORLD.get_or_init(world::build))
}

/// A proxy that runs until dropped.
struct Running {
    proxy: Arc<Proxy>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
    runtime: &'static Runtime,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

fn start(api: &Arc<FakeApi>, node: u8, change: impl FnOnce(&mut ProxyOptions)) -> Running {
    let mut options = ProxyOptions::new(&format!("node-{node}"), Ipv4Addr::new(10, 244, node, 1));
    options.device = Some(format!("br{node}"));
    change(&mut options);
    let runtime = runtime();
    let _inside = runtime.enter();
    let proxy = Proxy::new(api.client(), options);
    let stop = CancellationToken::new();
    let run = proxy.clone().run(stop.clone());
    let task = runtime.spawn(async move { run.await.unwrap() });
    Running {
        proxy,
        stop,
        task: Some(task),
        runtime,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = self.runtime.block_on(task);
        }
    }
}

impl Running {
    fn endpoint(&self, address: &str) -> Option<EndpointSnapshot> {
        let services = self.proxy.snapshot().services;
        services
            .into_iter()
            .flat_map(|s| s.endpoints)
            .find(|e| e.address.to_string() == address)
    }

    /// Waits until this version of the slice `web-1` is applied.
    fn applied(&self, slice: &Value) {
        let version = slice["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        eventually("the slice is applied", || {
            let services = self.proxy.snapshot().services;
            services
                .iter()
                .any(|s| s.slices.get("web-1") == Some(&version))
                .then_some(())
        });
    }
}

fn service(api: &FakeApi, ip: &str, protocol: &str, extra: &Value) {
    let mut port = json!({"port": 80, "protocol": protocol, "targetPort": 8080});
    port.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    api.put(
        "services",
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": ip, "ports": [port]}}),
    );
}

/// Endpoints as (address, ready, serving, terminating).
fn slice(api: &FakeApi, protocol: &str, port: u16, endpoints: &[(&str, &str)]) -> Value {
    let endpoint = |(address, state): &(&str, &str)| {
        let serving = *state != "unready";
        let conditions =
            json!({"ready": *state == "ready", "serving": serving, "terminating": *state == "terminating"});
        json!({"addresses": [address], "conditions": conditions})
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    let labels = json!({"kubernetes.io/service-name": "web"});
    api.put(
        "endpointslices",
        json!({"metadata": {"name": "web-1", "labels": labels}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "", "port": port, "protocol": protocol}]}),
    )
}

/// Answers each connection with a name and the peer's address, then echoes until the client ends.
fn serve(listener: TcpListener, name: &'static str) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let _ = writeln!(stream, "{name} {}", stream.peer_addr().unwrap().ip());
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
}

/// The line that a server sends at first.
fn hello(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.extend(byte);
    }
}

fn ask(stream: std::io::Result<TcpStream>) -> Result<String, ErrorKind> {
    hello(&mut stream.map_err(|error| error.kind())?).map_err(|error| error.kind())
}

#[test]
#[ignore = "runs inside a network namespace"]
fn each_node_serves_its_own_bridge_and_one_serves_the_namespace() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    service(&api, "10.96.1.1", "TCP", &json!({}));
    serve(world.pods[0].listen(5, 8080), "one");
    let ready = slice(&api, "TCP", 8080, &[("10.244.1.5", "ready")]);
    let one = start(&api, 1, |options| options.serve_local = true);
    one.applied(&ready);
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.1:80")),
        Ok("one 10.244.1.1".into()),
        "hairpin"
    );
    assert_eq!(
        ask(world.pods[1].connect("10.96.1.1:80")),
        Err(ErrorKind::ConnectionRefused),
        "not its bridge"
    );
    let two = start(&api, 2, |_| ());
    two.applied(&ready);
    assert_eq!(
        ask(world.pods[1].connect("10.96.1.1:80")),
        Ok("one 10.244.1.1".into()),
        "across nodes"
    );
    assert_eq!(
        ask(world::connect(SocketAddr::from(([10, 96, 1, 1], 80)))),
        Ok("one 10.244.1.1".into())
    );
    assert_eq!(one.endpoint("10.244.1.5:8080").unwrap().opened, 2);
    assert_eq!(two.endpoint("10.244.1.5:8080").unwrap().opened, 1);
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.1:81")),
        Err(ErrorKind::ConnectionRefused)
    );
    drop(two);
    assert_eq!(
        ask(world.pods[1].connect("10.96.1.1:80")),
        Err(ErrorKind::ConnectionRefused),
        "stopped"
    );
}

#[test]
#[ignore = "runs inside a network namespace"]
fn connections_stay_while_endpoints_come_and_go() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let proxy = start(&api, 1, |_| ());
    service(&api, "10.96.1.2", "TCP", &json!({}));
    serve(world.pods[0].listen(5, 8081), "one");
    serve(world.pods[1].listen(5, 8081), "two");
    let connect = || world.pods[0].connect("10.96.1.2:80");
    let step = |endpoints: &[(&str, &str)]| proxy.applied(&slice(&api, "TCP", 8081, endpoints));
    step(&[("10.244.1.5", "unready")]);
    assert_eq!(
        ask(connect()),
        Err(ErrorKind::ConnectionRefused),
        "nobody ready: the kernel refuses"
    );
    step(&[("10.244.1.5", "ready")]);
    let mut stays = connect().unwrap();
    assert_eq!(hello(&mut stays).unwrap(), "one 10.244.1.1");
    step(&[("10.244.1.5", "unready"), ("10.244.2.5", "ready")]);
    for _ in 0..10 {
        assert_eq!(ask(connect()), Ok("two 10.244.2.1".into()));
    }
    let left = proxy.endpoint("10.244.1.5:8081").unwrap();
    assert_eq!((left.routed, left.open, left.opened), (false, 1, 1));
    step(&[("10.244.2.5", "terminating")]);
    assert_eq!(ask(connect()), Ok("two 10.244.2.1".into()), "nothing else is left");
    step(&[]);
    assert_eq!(ask(connect()), Err(ErrorKind::ConnectionRefused));
    stays.write_all(b"still there\n").unwrap();
    assert_eq!(hello(&mut stays).unwrap(), "still there");
    drop(stays);
    eventually("it is let go", || {
        (proxy.endpoint("10.244.1.5:8081")?.open == 0).then_some(())
    });
    let done = proxy.endpoint("10.244.1.5:8081").unwrap();
    assert_eq!(
        (done.bytes_to_endpoint, done.bytes_from_endpoint),
        (12, "one 10.244.1.1\n".len() as u64 + 12)
    );
    assert_eq!((done.refused, done.reset, done.timed_out), (0, 0, 0));
}

#[test]
#[ignore = "runs inside a network namespace"]
fn losses_are_passed_on_and_counted_by_kind() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let proxy = start(&api, 1, |_| ());
    service(&api, "10.96.1.3", "TCP", &json!({}));
    // Refused: nobody listens. The client is connected by then, so it sees a reset.
    proxy.applied(&slice(&api, "TCP", 8082, &[("10.244.1.5", "ready")]));
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.3:80")),
        Err(ErrorKind::ConnectionReset)
    );
    eventually("it is counted", || {
        (proxy.endpoint("10.244.1.5:8082")?.refused == 1).then_some(())
    });
    // Timed out: nobody has that address.
    proxy.applied(&slice(&api, "TCP", 8082, &[("10.244.2.99", "ready")]));
    let begin = Instant::now();
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.3:80")),
        Err(ErrorKind::ConnectionReset)
    );
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "the kernel would wait for minutes"
    );
    eventually("it is counted", || {
        (proxy.endpoint("10.244.2.99:8082")?.timed_out == 1).then_some(())
    });
    // Reset by the endpoint: passed on as such.
    let listener = world.pods[0].listen(6, 8082);
    proxy.applied(&slice(&api, "TCP", 8082, &[("10.244.1.6", "ready")]));
    let mut client = world.pods[0].connect("10.96.1.3:80").unwrap();
    let server = listener.accept().unwrap().0;
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("it is counted", || {
        (proxy.endpoint("10.244.1.6:8082")?.reset == 1).then_some(())
    });
    // Reset by the client: passed on, and not held against the endpoint.
    let client = world.pods[0].connect("10.96.1.3:80").unwrap();
    let mut server = listener.accept().unwrap().0;
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("it is let go", || {
        (proxy.endpoint("10.244.1.6:8082")?.open == 0).then_some(())
    });
    assert_eq!(proxy.endpoint("10.244.1.6:8082").unwrap().reset, 1);
}

#[test]
#[ignore = "runs inside a network namespace"]
fn each_direction_ends_by_itself_and_nothing_is_lost() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let proxy = start(&api, 1, |_| ());
    service(&api, "10.96.1.4", "TCP", &json!({}));
    let listener = world.pods[1].listen(5, 8083);
    proxy.applied(&slice(&api, "TCP", 8083, &[("10.244.2.5", "ready")]));
    const BYTES: usize = 20 << 20;
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        // The client's end has arrived; the answer goes the other way all the same, and slowly read.
        stream.write_all(&all).unwrap();
        all.len()
    });
    let mut client = world.pods[0].connect("10.96.1.4:80").unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|i| (i * 31 % 251) as u8).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert_eq!(server.join().unwrap(), BYTES);
    assert!(back == sent, "the same bytes come back");
    eventually("all is over", || {
        (proxy.endpoint("10.244.2.5:8083")?.open == 0).then_some(())
    });
    let end = proxy.endpoint("10.244.2.5:8083").unwrap();
    assert_eq!(
        (end.bytes_to_endpoint, end.bytes_from_endpoint),
        (BYTES as u64, BYTES as u64)
    );
}

#[test]
#[ignore = "runs inside a network namespace"]
fn changes_wait_for_the_lag_in_order() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let (lag, gap) = (Duration::from_secs(4), Duration::from_secs(2));
    let proxy = start(&api, 1, |options| options.lag = lag.into());
    service(&api, "10.96.1.5", "TCP", &json!({}));
    serve(world.pods[0].listen(5, 8084), "one");
    proxy.applied(&slice(&api, "TCP", 8084, &[("10.244.1.5", "unready")]));
    let begin = Instant::now();
    let ready = slice(&api, "TCP", 8084, &[("10.244.1.5", "ready")]);
    thread::sleep(gap);
    let gone = slice(&api, "TCP", 8084, &[]);
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.5:80")),
        Err(ErrorKind::ConnectionRefused),
        "too early"
    );
    proxy.applied(&ready);
    assert!(begin.elapsed() >= lag, "{:?}", begin.elapsed());
    assert!(begin.elapsed() < lag + gap, "{:?}", begin.elapsed());
    assert_eq!(ask(world.pods[0].connect("10.96.1.5:80")), Ok("one 10.244.1.1".into()));
    proxy.applied(&gone);
    assert!(begin.elapsed() >= lag + gap);
    assert_eq!(
        ask(world.pods[0].connect("10.96.1.5:80")),
        Err(ErrorKind::ConnectionRefused)
    );
}

#[test]
#[ignore = "runs inside a network namespace"]
fn datagrams_find_their_way_there_and_back_and_follow_the_table() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let proxy = start(&api, 1, |_| ());
    service(&api, "10.96.1.6", "UDP", &json!({}));
    for (pod, name) in [(&world.pods[0], "one"), (&world.pods[1], "two")] {
        let socket = pod.udp(8085);
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    }
    let client = world.pods[0].udp(0);
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let ask = || -> std::io::Result<String> {
        client.send_to(b"?", "10.96.1.6:80")?;
        let mut buffer = [0; 100];
        let (length, from) = client.recv_from(&mut buffer)?;
        assert_eq!(from.to_string(), "10.96.1.6:80");
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    proxy.applied(&slice(&api, "UDP", 8085, &[("10.244.1.5", "ready")]));
    assert_eq!(ask().unwrap(), "one");
    assert_eq!(ask().unwrap(), "one");
    assert_eq!(proxy.endpoint("10.244.1.5:8085").unwrap().opened, 1, "one flow");
    proxy.applied(&slice(&api, "UDP", 8085, &[("10.244.2.5", "ready")]));
    assert_eq!(ask().unwrap(), "two", "a flow does not stay with what left");
    eventually("the old flow ends", || {
        (proxy.endpoint("10.244.1.5:8085")?.open == 0).then_some(())
    });
    assert_eq!(proxy.endpoint("10.244.2.5:8085").unwrap().open, 1);
}

/// Stands for the host: the same namespace, another address.
struct Host;

#[async_trait::async_trait]
impl HostPorts for Host {
    async fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        TcpListener::bind(address)
    }
}

#[test]
#[ignore = "runs inside a network namespace"]
fn node_ports_listen_on_each_node_and_on_the_host() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    service(&api, "10.96.1.7", "TCP", &json!({"nodePort": 30080}));
    serve(world.pods[0].listen(5, 8086), "one");
    let ready = slice(&api, "TCP", 8086, &[("10.244.1.5", "ready")]);
    let nodes = [
        start(&api, 1, |options| options.host = Some(Arc::new(Host))),
        start(&api, 2, |_| ()),
    ];
    nodes.iter().for_each(|node| node.applied(&ready));
    for address in ["10.244.1.1:30080", "10.244.2.1:30080"] {
        assert_eq!(
            ask(world::connect(address.parse().unwrap())),
            Ok("one 10.244.1.1".into())
        );
        assert_eq!(ask(world.pods[1].connect(address)), Ok("one 10.244.1.1".into()));
    }
    let host = || ask(world::connect(SocketAddr::from(([127, 0, 0, 1], 30080))));
    eventually("the host's port opens", || host().is_ok().then_some(()));
    nodes[0].applied(&slice(&api, "TCP", 8086, &[]));
    assert_eq!(host(), Err(ErrorKind::ConnectionRefused));
}

#[test]
#[ignore = "runs inside a network namespace"]
fn many_short_connections_leave_nothing_behind() {
    let Some(world) = world() else { return };
    let api = FakeApi::new();
    let proxy = start(&api, 1, |options| options.connections_max = 64);
    service(&api, "10.96.1.8", "TCP", &json!({}));
    serve(world.pods[0].listen(5, 8087), "one");
    serve(world.pods[0].listen(6, 8087), "two");
    proxy.applied(&slice(
        &api,
        "TCP",
        8087,
        &[("10.244.1.5", "ready"), ("10.244.1.6", "ready")],
    ));
    let answers = world.pods[0].run(|| {
        let address = SocketAddr::from(([10, 96, 1, 8], 80));
        (0..500).map(|_| ask(world::connect(address))).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(Result::is_ok));
    for address in ["10.244.1.5:8087", "10.244.1.6:8087"] {
        eventually("all end", || (proxy.endpoint(address)?.open == 0).then_some(()));
        assert_eq!(proxy.endpoint(address).unwrap().opened, 250, "evenly");
    }
}
