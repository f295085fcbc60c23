//! `afloat agent` on a node whose proxy is kube-proxy: real rules in a network namespace of the test's own, real
//! connections through them, and an operator that heeds what it reports. The node's kubelet is played.
//!
//! The rules are written by the test in kube-proxy's form, or by kube-proxy itself where AFLOAT_KUBE_PROXY names one
//! (`cd tests/kube-proxy && go build`).

mod logind;
mod network;
mod proxy;
mod pulls;
mod runtime;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, cloneset, settled, signal_process, wait_until};
use logind::Logind;
use network::Network;
use proxy::Proxy;

const NODE: &str = "worker-1";
/// In the range of the embedded cluster's Services.
const SERVICE_IP: &str = "10.96.0.80";

#[test]
fn iptables() {
    Network::with(&["iptables-nft-save", "iptables-restore"], || {
        drains(&Proxy::Played("iptables"));
    });
}

#[test]
fn nftables() {
    Network::with(&["nft"], || drains(&Proxy::Played("nftables")));
}

#[test]
fn kube_proxy_in_mode_iptables() {
    let Some(program) = proxy::kube_proxy() else { return };
    Network::with(&["iptables-nft-save"], || drains(&Proxy::Real(program, "iptables")));
}

#[test]
fn kube_proxy_in_mode_nftables() {
    let Some(program) = proxy::kube_proxy() else { return };
    Network::with(&["nft"], || drains(&Proxy::Real(program, "nftables")));
}

/// One pod behind a Service is updated in place, with a connection through the node's rules.
fn drains(proxy: &Proxy) {
    let Some(cluster) = Cluster::boot_with(0, &[]) else {
        return;
    };
    let _fleet = network::fleet(&cluster.dir().join("kubeconfig"), "worker");
    let pod_ip = start(&cluster);
    network::add_address(&pod_ip);
    let listener = TcpListener::bind((pod_ip.as_str(), 8080)).expect("the pod's address is here");
    let running = proxy.start(&cluster, &pod_ip);
    let agent = Agent::start(&cluster, proxy.metrics());

    let traffic = report(&cluster, "kube-proxy to be seen", |status| status["synced"] == true);
    assert_eq!(traffic["method"], format!("KubeProxy/{}", proxy.mode()));
    wait_until("the rules to send to the pod", || {
        TcpStream::connect((SERVICE_IP, 80)).is_ok()
    });
    while listener.set_nonblocking(true).is_ok() && listener.accept().is_ok() {}
    listener.set_nonblocking(false).expect("a listener");
    let client = TcpStream::connect((SERVICE_IP, 80)).expect("a connection through the rules");
    let (server, _) = listener.accept().expect("the connection");
    wait_for_pod(&cluster, "the pod to be in service", |pod| {
        pod["ready"] == true && pod["routed"] == true
    });

    let patch = r#"-p=[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:v2"}]"#;
    running.hold();
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", patch]);
    cluster.wait("the operator to wait for the node", &["clonesets", "web"], |set| {
        said(set).contains(&format!("0 of 1 nodes have let go, not {NODE}"))
    });
    let pod = pod(&cluster, &["nodetraffics", NODE]).expect("the pod is told of");
    assert_eq!((&pod["ready"], &pod["routed"]), (&json!(true), &json!(true)), "{pod}");
    running.remove();
    let left = wait_for_pod(&cluster, "the rules to let go", |pod| {
        pod["ready"] == false && pod["routed"] == false
    });
    assert!(
        left.get("reset").is_none(),
        "what rules do not show is not none: {left}"
    );
    wait_for_pod(&cluster, "the connection to be seen", |pod| pod["open"] == 1);
    cluster.wait(
        "the operator to wait for the connection",
        &["clonesets", "web"],
        |set| said(set).contains("1 connections are open"),
    );
    assert_eq!(image(&cluster), "web:v1");
    assert!(
        TcpStream::connect_timeout(
            &(SERVICE_IP.parse::<std::net::IpAddr>().expect("an address"), 80).into(),
            std::time::Duration::from_millis(300)
        )
        .is_err(),
        "nothing new gets there"
    );

    drop(server);
    let mut rest = Vec::new();
    let _ = (&client).read_to_end(&mut rest);
    drop(client);
    cluster.wait("the update", &["clonesets", "web"], |set| {
        settled(set, 1) && set["status"]["updateRevision"] == set["status"]["currentRevision"]
    });
    assert_eq!(image(&cluster), "web:v2");
    running.restore();
    wait_for_pod(&cluster, "the pod to be back", |pod| {
        pod["ready"] == true && pod["routed"] == true
    });

    if let Proxy::Played(mode) = proxy {
        proxy::wipe(mode);
        // Where nothing is awaited of the rules they are looked at rarely.
        cluster.apply(&slice("more", "IPv4", "10.64.9.9", false).to_string());
        let status = report(&cluster, "the view to be lost", |status| status["synced"] == false);
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains("--proxy-mode"), "{message}");
        running.restore();
        report(&cluster, "kube-proxy to be seen again", |status| {
            status["synced"] == true
        });
    }

    agent.stop();
    let status = report(&cluster, "the agent to take its report back", |status| {
        status["synced"] == false
    });
    assert_eq!(status["message"], "the agent was stopped");
}

/// The pods of a node that goes down leave their Services, and the node waits for that; should it stay, they return.
#[test]
fn a_node_that_goes_down_waits_for_its_pods_to_leave() {
    Network::with(&["nft"], || {
        let Some(cluster) = Cluster::boot_with(0, &[]) else {
            return;
        };
        let Some(logind) = Logind::start(cluster.dir(), 600) else {
            return;
        };
        let _fleet = network::fleet(&cluster.dir().join("kubeconfig"), "worker");
        let pod_ip = start(&cluster);
        network::add_address(&pod_ip);
        let _listener = TcpListener::bind((pod_ip.as_str(), 8080)).expect("the pod's address is here");
        let proxy = Proxy::Played("nftables");
        let rules = proxy.start(&cluster, &pod_ip);
        let mut command = command(&cluster.dir().join("kubeconfig"), proxy.metrics());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", logind.address());
        let agent = Agent(command.spawn().expect("afloat agent starts"));
        wait_for_pod(&cluster, "the pod to be in service", |pod| {
            pod["ready"] == true && pod["routed"] == true
        });
        wait_until("the agent to have its lock", || logind.held() == 1);

        logind.tell(true);
        let gate = |pods: &Value| {
            let conditions = pods["items"][0]["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let gate = conditions.into_iter().find(|one| one["type"] == "InPlaceUpdateReady");
            gate.map(|gate| (gate["status"].clone(), gate["reason"].clone()))
        };
        let pods = ["pods", "-l", "app=web"];
        cluster.wait("the pod to leave", &pods, |pods| {
            gate(pods) == Some((json!("False"), json!("NodeShutdown")))
        });
        let slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
        cluster.wait("the endpoint to follow", &slices, |slices| {
            slices["items"][0]["endpoints"][0]["conditions"]["ready"] == false
        });
        let sent = pod(&cluster, &["nodetraffics", NODE]).expect("the pod is told of");
        assert_eq!(sent["routed"], true, "the rules still send there");
        assert_eq!(logind.held(), 1, "and the node waits");
        rules.remove();
        wait_until("the node to go on", || logind.held() == 0);
        wait_for_pod(&cluster, "word of the rules that have let go", |pod| {
            pod["routed"] == false
        });

        logind.tell(false);
        cluster.wait("the pod to return", &pods, |pods| {
            gate(pods) == Some((json!("True"), Value::Null))
        });
        wait_until("the agent to have its lock again", || logind.held() == 1);
        agent.stop();
        wait_until("the lock to be given back with the agent's end", || logind.held() == 0);
    });
}

/// An EndpointSlice of IPv6, which the embedded cluster does not make itself.
#[test]
fn ipv6() {
    Network::with(&["ip6tables-nft-save", "ip6tables-restore"], || {
        let Some(cluster) = Cluster::boot_with(0, &[]) else {
            return;
        };
        network::add_address("fd00:10:244::3");
        let listener = TcpListener::bind("[fd00:10:244::3]:8080").expect("the pod's address is here");
        let slice = |ready| slice("six", "IPv6", "fd00:10:244::3", ready);
        cluster.apply(&slice(true).to_string());
        let rules = |service: &str| {
            format!(
                "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-SIX - [0:0]\n:KUBE-SEP-SIX - [0:0]\n-A OUTPUT -j KUBE-SERVICES\n\
                 {service}-A KUBE-SVC-SIX -m comment --comment \"default/six:http -> [fd00:10:244::3]:8080\" -j KUBE-SEP-SIX\n\
                 -A KUBE-SEP-SIX -p tcp -m tcp -j DNAT --to-destination [fd00:10:244::3]:8080\nCOMMIT\n"
            )
        };
        let service = "-A KUBE-SERVICES -d fd00:10:96::a/128 -p tcp -m tcp --dport 80 -j KUBE-SVC-SIX\n";
        proxy::feed("ip6tables-restore", &[], &rules(service));
        let agent = Agent::start(&cluster, "http://127.0.0.1:10249/metrics");
        wait_for_pod(&cluster, "the pod to be in service", |pod| {
            pod["ready"] == true && pod["routed"] == true
        });
        let client = TcpStream::connect("[fd00:10:96::a]:80").expect("a connection through the rules");
        let accepted = listener.accept().expect("the connection");
        proxy::feed("ip6tables-restore", &[], &rules(""));
        cluster.apply(&slice(false).to_string());
        wait_for_pod(&cluster, "the connection alone to be left", |pod| {
            pod["routed"] == false && pod["open"] == 1
        });
        drop((client, accepted));
        wait_for_pod(&cluster, "nothing to be left", |pod| pod["open"] == 0);
        agent.stop();
    });
}

/// An EndpointSlice that no controller keeps, with one pod.
fn slice(name: &str, family: &str, address: &str, ready: bool) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("web-{name}"), "uid": name}}]})
}

/// A CloneSet with a Service, its pod in service; gives the pod's address.
fn start(cluster: &Cluster) -> String {
    let mut set: Value = serde_json::from_str(&cloneset("web", 1)).expect("JSON");
    set["metadata"]["annotations"] = json!({"afloat.dev/drain": "Observed"});
    set["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 600});
    cluster.apply(&set.to_string());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": SERVICE_IP, "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.apply(&service.to_string());
    cluster.wait("the pod", &["clonesets", "web"], |set| settled(set, 1));
    let slices = cluster.wait(
        "the endpoint",
        &["endpointslices", "-l", "kubernetes.io/service-name=web"],
        |slices| slices["items"][0]["endpoints"][0]["conditions"]["ready"] == true,
    );
    let address = slices["items"][0]["endpoints"][0]["addresses"][0].as_str();
    address.expect("an address").to_owned()
}

fn image(cluster: &Cluster) -> String {
    let path = "jsonpath={.items[0].spec.containers[0].image}";
    cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", path])
}

/// What the CloneSet says that it waits for.
fn said(set: &Value) -> String {
    set["status"]["conditions"].to_string()
}

fn report(cluster: &Cluster, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
    let object = cluster.wait(what, &["nodetraffics", NODE], |object| wish(&object["status"]));
    object["status"].clone()
}

fn wait_for_pod(cluster: &Cluster, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
    let status = report(cluster, what, |status| only(status).is_some_and(&wish));
    only(&status).cloned().unwrap_or_default()
}

fn pod(cluster: &Cluster, arguments: &[&str]) -> Option<Value> {
    only(&cluster.get(arguments)?["status"]).cloned()
}

/// The only pod of a report.
fn only(status: &Value) -> Option<&Value> {
    status["pods"]
        .as_object()?
        .values()
        .find(|pod| pod["pod"].as_str().is_some_and(|name| name.starts_with("default/web-")))
}

/// `afloat agent`; killed when dropped.
struct Agent(Child);

impl Agent {
    fn start(cluster: &Cluster, metrics: &str) -> Self {
        let child = command(&cluster.dir().join("kubeconfig"), metrics).spawn();
        Self(child.expect("afloat agent starts"))
    }

    fn stop(mut self) {
        signal_process(self.0.id(), "TERM");
        assert_eq!(self.0.wait().expect("our own child").code(), Some(0));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(kubeconfig: &Path, metrics: &str) -> Command {
    let mut command = Command::new(AFLOAT);
    command
        .args(["agent", "--node", NODE, "--proxy-metrics", metrics, "--kubeconfig"])
        .arg(kubeconfig)
        .stdin(Stdio::null());
    command
}

#[test]
fn mistakes_are_one_readable_line() {
    let fails = |arguments: &[&str], words: &[&str]| {
        let (code, _, errors) = crate::cluster::afloat(&[&["agent"], arguments].concat(), "");
        assert_ne!(code, 0, "{arguments:?}");
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {word} in {errors}");
        }
    };
    fails(&["--node", "A b"], &["--node", "lower case"]);
    fails(&[], &["--node"]);
    fails(
        &["--node", "a", "--proxy-mode", "userspace"],
        &["--proxy-mode", "nftables"],
    );
    fails(
        &["--node", "a", "--proxy-metrics", "https://127.0.0.1"],
        &["--proxy-metrics", "http://"],
    );
    // Without the tools on the path.
    let output = Command::new(AFLOAT)
        .args(["agent", "--node", "a", "--proxy-mode", "nftables"])
        .args(["--proxy-metrics", "http://127.0.0.1:1/metrics"])
        .env("PATH", "/nowhere")
        .output()
        .expect("afloat starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("no nft") && errors.contains("--proxy-mode nftables"),
        "{errors}"
    );
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
}

#[test]
fn the_manifest_is_taken_by_a_cluster() {
    let Some(cluster) = Cluster::boot_with(0, &[]) else {
        return;
    };
    let (code, manifest, errors) =
        crate::cluster::afloat(&["agent", "--manifest", "--image", "example.com/afloat:1"], "");
    assert_eq!(code, 0, "{errors}");
    cluster.apply(&manifest);
    let set = cluster
        .get(&["-n", "afloat-agent", "daemonset", "afloat-agent"])
        .expect("the DaemonSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "example.com/afloat:1");
    assert_eq!(pod["hostNetwork"], true);
}
