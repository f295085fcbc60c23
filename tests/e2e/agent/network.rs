//! A network of a test's own, in which it may write rules; and the nodes that are played in it.

use std::path::Path;
use std::process::Command;

use afloat_sim::Fleet;
use nix::sched::{CloneFlags, unshare};

pub(super) struct Network;

impl Network {
    /// Runs a test on a thread with a network namespace of its own, which processes that it starts are in as well. Says so
    /// and does nothing where that or the tools cannot be had.
    pub(super) fn with(tools: &[&str], test: impl FnOnce() + Send) {
        for tool in tools {
            if Command::new(tool).arg("--version").output().is_err() {
                eprintln!("skipped: there is no {tool} (Debian's packages are iptables and nftables)");
                return;
            }
        }
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                    eprintln!("skipped: no network namespace can be made here ({error}); it takes root");
                    return;
                }
                ip(&["link", "set", "lo", "up"]);
                // Services are reached by the rules alone, but the kernel wants a way.
                ip(&["route", "add", "10.96.0.0/16", "dev", "lo"]);
                ip(&["-6", "route", "add", "fd00:10:96::/48", "dev", "lo"]);
                test();
            });
            thread.join()
        });
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

pub(super) fn add_address(address: &str) {
    // Without a length it is the address alone. One of IPv6 cannot be used before the kernel has looked for others who have it,
    // which it does some time later, unless it is told that there are none.
    let alone: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
    ip(&[&["address", "add", address, "dev", "lo"], alone].concat());
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip starts");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Nodes whose kubelets are played, while this is kept.
pub(super) struct Played {
    fleet: Option<Fleet>,
    // Its threads are in the network of whoever made it.
    runtime: tokio::runtime::Runtime,
}

/// One node of that name and the number 1.
pub(super) fn fleet(kubeconfig: &Path, name: &str) -> Played {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let fleet = runtime.block_on(async {
        let file = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .expect("a cluster");
        let client = kube::Client::try_from(config).expect("a client");
        let options = afloat_sim::Options {
            name: name.to_owned(),
            bind: false,
            ..afloat_sim::Options::default()
        };
        Fleet::start(client, options).await.expect("nodes")
    });
    Played {
        fleet: Some(fleet),
        runtime,
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            self.runtime.block_on(fleet.stop());
        }
    }
}
