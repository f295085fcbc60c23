//! The examples of the lifecycle documentation, run as they are, with an nginx from Debian's package.

use std::path::Path;
use std::process::Command;

use super::{example, ready};
use crate::cluster::{AFLOAT, Cluster, container, wait_until};

/// Packs nginx, what it needs and busybox from Debian's packages, as the image `nginx`. False where there is no apt, which is printed.
fn nginx(cluster: &Cluster) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nginx-image.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg(AFLOAT)
        .arg(cluster.dir())
        .output()
        .expect("bash runs");
    match output.status.code() {
        Some(0) => true,
        Some(77) => {
            eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        _ => panic!("{output:?}"),
    }
}

fn events(cluster: &Cluster, pod: &str) -> String {
    let selector = format!("--field-selector=involvedObject.name={pod}");
    cluster.kubectl(&["get", "events", &selector])
}

#[test]
fn the_documentation_holds() {
    let Some(cluster) = Cluster::boot(1) else { return };
    if !nginx(&cluster) {
        return;
    }
    let apply = |file: &str| {
        let path = example(file);
        cluster.kubectl(&["apply", "-f", path.to_str().expect("UTF-8")]);
    };
    for file in [
        "probe-with-header.yaml",
        "hooks.yaml",
        "bad-post-start.yaml",
        "grace-period.yaml",
    ] {
        apply(file);
    }

    for pod in ["probe-with-header", "hooks", "grace-period"] {
        cluster.wait("Ready", &["pod", pod], ready);
    }
    let message = cluster.kubectl(&["exec", "hooks", "--", "cat", "/usr/share/message"]);
    assert_eq!(message, "Hello from the postStart handler\n");
    wait_until("FailedPostStartHook", || {
        events(&cluster, "bad-post-start").contains("FailedPostStartHook")
    });
    let pod = cluster.wait("a restart", &["pod", "bad-post-start"], |pod| {
        container(pod, "nginx")["restartCount"].as_u64() >= Some(1)
    });
    assert!(!ready(&pod));

    for pod in ["probe-with-header", "hooks", "grace-period"] {
        cluster.kubectl(&["delete", "pod", pod, "--wait=false"]);
    }
    for pod in ["probe-with-header", "hooks", "grace-period", "bad-post-start"] {
        if pod == "bad-post-start" {
            cluster.kubectl(&["delete", "pod", pod, "--wait=false"]);
        }
        wait_until("its end", || cluster.get(&["pod", pod]).is_none());
    }
    for pod in ["probe-with-header", "hooks", "grace-period"] {
        let events = events(&cluster, pod);
        // A hook that has the container end dies with it: Kubernetes, too, reports exit code 137 then.
        assert!(pod == "hooks" || !events.contains("FailedPreStopHook"), "{events}");
        for reason in ["Scheduled", "Pulled", "Created", "Started", "Stopping container nginx"] {
            assert!(events.contains(reason), "no {reason} in {events}");
        }
    }
}
