//! What writes the rules: kube-proxy, or the test in its form.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{NODE, SERVICE_IP};
use crate::cluster::{Cluster, signal_process};

/// See the module.
pub(super) enum Proxy {
    /// The test itself, in a mode.
    Played(&'static str),
    /// A program, in a mode.
    Real(PathBuf, &'static str),
}

/// kube-proxy, or None with a word why.
pub(super) fn kube_proxy() -> Option<PathBuf> {
    let program = std::env::var_os("AFLOAT_KUBE_PROXY").map(PathBuf::from);
    if program.is_none() {
        eprintln!("skipped: AFLOAT_KUBE_PROXY names no kube-proxy (cd tests/kube-proxy && go build)");
    }
    program
}

impl Proxy {
    pub(super) fn mode(&self) -> &'static str {
        match self {
            Proxy::Played(mode) | Proxy::Real(_, mode) => mode,
        }
    }

    /// Where kube-proxy tells of itself; its usual port, as the network is the test's own. Nothing listens there if it is
    /// played.
    pub(super) fn metrics(&self) -> &'static str {
        "http://127.0.0.1:10249/metrics"
    }

    /// Puts rules into force that send to the pod, sooner or later.
    pub(super) fn start(&self, cluster: &Cluster, pod_ip: &str) -> Running {
        let (program, mode) = match self {
            Proxy::Real(program, mode) => (program, mode),
            Proxy::Played(mode) => {
                let pod_ip = pod_ip.to_owned();
                let played = Played { mode, pod_ip };
                played.write(true);
                return Running::Played(played);
            }
        };
        let child = Command::new(program)
            .arg("--kubeconfig")
            .arg(cluster.dir().join("kubeconfig"))
            .args(["--hostname-override", NODE, "--proxy-mode", mode])
            // Limits of the kernel are not the namespace's own.
            .args(["--conntrack-max-per-core=0", "--conntrack-min=0"])
            .args(["--cluster-cidr=10.244.0.0/16", "--v=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Running::Real(child.expect("kube-proxy starts"))
    }
}

/// Rules in force.
pub(super) enum Running {
    Played(Played),
    Real(Child),
}

impl Running {
    /// Until it is let go on, the rules stay as they are.
    pub(super) fn hold(&self) {
        if let Running::Real(child) = self {
            signal_process(child.id(), "STOP");
        }
    }

    /// The endpoint is not ready, and that comes into force.
    pub(super) fn remove(&self) {
        match self {
            Running::Played(played) => played.write(false),
            Running::Real(child) => signal_process(child.id(), "CONT"),
        }
    }

    /// And when it is again.
    pub(super) fn restore(&self) {
        if let Running::Played(played) = self {
            played.write(true);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Real(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) struct Played {
    mode: &'static str,
    pod_ip: String,
}

impl Played {
    fn write(&self, routed: bool) {
        if self.mode == "nftables" {
            feed("nft", &["-f", "-"], &self.nftables(routed));
        } else {
            feed("iptables-restore", &[], &self.iptables(routed));
        }
    }

    /// Of an endpoint that left, the chain with its address stays for a while.
    fn iptables(&self, routed: bool) -> String {
        let ip = &self.pod_ip;
        let mut text = String::from(
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SVC-BJWR5DPVIKTHVKZU - [0:0]\n\
             :KUBE-SEP-4HY4DVZLSLFCQS4V - [0:0]\n\
             -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n",
        );
        if routed {
            let _ = writeln!(
                text,
                "-A KUBE-SERVICES -d {SERVICE_IP}/32 -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 80 \
                 -j KUBE-SVC-BJWR5DPVIKTHVKZU\n\
                 -A KUBE-SVC-BJWR5DPVIKTHVKZU -m comment --comment \"default/web -> {ip}:8080\" -j KUBE-SEP-4HY4DVZLSLFCQS4V"
            );
        }
        let _ = writeln!(
            text,
            "-A KUBE-SEP-4HY4DVZLSLFCQS4V -s {ip}/32 -m comment --comment \"default/web\" -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-4HY4DVZLSLFCQS4V -p tcp -m comment --comment \"default/web\" -m tcp -j DNAT --to-destination {ip}:8080\n\
             COMMIT"
        );
        text
    }

    fn nftables(&self, routed: bool) -> String {
        let ip = &self.pod_ip;
        let (service, endpoint) = (
            "service-EDE2N7RF-default/web/tcp/",
            "endpoint-DTSLCGM7-default/web/tcp/",
        );
        let element = if routed {
            format!("elements = {{ {SERVICE_IP} . tcp . 80 : goto {service} }}")
        } else {
            String::new()
        };
        format!(
            "table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {{
                chain {endpoint} {{ meta l4proto tcp dnat to {ip}:8080; }}
                chain {service} {{ numgen random mod 1 vmap {{ 0 : goto {endpoint} }}; }}
                map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; {element}; }}
                chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
                chain nat-output {{ type nat hook output priority -100; jump services; }}
                chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
            }}\n"
        )
    }
}

/// Removes all rules, as of a kube-proxy that is gone.
pub(super) fn wipe(mode: &str) {
    match mode {
        "nftables" => feed("nft", &["-f", "-"], "delete table ip kube-proxy\n"),
        _ => feed("iptables-restore", &[], "*nat\nCOMMIT\n"),
    }
}

pub(super) fn feed(program: &str, arguments: &[&str], text: &str) {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the tool starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(text.as_bytes()).expect("the tool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the tool ends");
    assert!(
        output.status.success(),
        "{program}: {}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
}
