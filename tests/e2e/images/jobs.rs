//! Image pull jobs on embedded nodes: the operator writes what is wanted, the nodes' agents pull.

use serde_json::{Value, json};

use super::{SLEEP, pod, policy, running, sleeper, text, with};
use crate::cluster::{Cluster, ONLINE, wait_until};
use crate::registry::{Fault, Login, Registry, noise};

const JOB: &str = "imagepulljobs.apps.kruise.io";

fn job(name: &str, image: &str, spec: &Value) -> String {
    let mut job = json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "ImagePullJob", "metadata": {"name": name},
        "spec": {"image": image, "parallelism": 5, "completionPolicy": {"type": "Always"}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        job["spec"][key] = value.clone();
    }
    job.to_string()
}

fn ended(cluster: &Cluster, name: &str) -> Value {
    let job = cluster.wait(&format!("the end of {name}"), &[JOB, name], |job| {
        job["status"]["completionTime"].is_string()
    });
    job["status"].clone()
}

/// What a node tells of an image.
fn told(cluster: &Cluster, node: &str, image: &str, tag: &str) -> Value {
    let object = cluster.get(&["nodeimages.apps.kruise.io", node]).unwrap_or_default();
    let tags = object["status"]["imageStatuses"][image]["tags"].as_array().cloned();
    let tag = tags.into_iter().flatten().find(|told| told["tag"] == tag);
    tag.unwrap_or_default()
}

#[test]
fn jobs_bring_images_to_nodes_before_they_are_needed() {
    let Some(cluster) = Cluster::boot_with(2, &[ONLINE]) else {
        return;
    };
    let registry = Registry::start();
    let base = sleeper();
    let image = registry.name("team/app:v1");
    let digest = registry.image("team/app", "v1", &with(&base, "one"), &SLEEP);

    // On both nodes, with what the registry calls it; a pod then asks nobody.
    cluster.apply(&job("both", &image, &json!({})));
    let status = ended(&cluster, "both");
    assert_eq!([&status["desired"], &status["succeeded"], &status["failed"]], [2, 2, 0]);
    let name = registry.name("team/app");
    for node in ["node-1", "node-2"] {
        let told = told(&cluster, node, &name, "v1");
        assert_eq!(
            (&told["phase"], &told["digest"]),
            (&json!("Succeeded"), &json!(digest)),
            "{node}"
        );
    }
    let asked = registry.asked("").len();
    cluster.apply(&pod("app", &image, policy("IfNotPresent")));
    running(&cluster, "app");
    assert_eq!(registry.asked("").len(), asked);
    // The same image by its digest, and two jobs for it at once.
    let by_digest = format!("{name}@{digest}");
    cluster.apply(&job("first", &by_digest, &json!({"imagePullPolicy": "Always"})));
    cluster.apply(&job("second", &by_digest, &json!({"imagePullPolicy": "Always"})));
    for name in ["first", "second"] {
        assert_eq!(ended(&cluster, name)["succeeded"], 2, "{name}");
    }
    // A list, and one of its images is nowhere.
    let missing = registry.name("team/app:v2");
    let list = json!({
        "apiVersion": "apps.kruise.io/v1alpha1", "kind": "ImageListPullJob", "metadata": {"name": "list"},
        "spec": {"images": [image, missing], "pullPolicy": {"backoffLimit": 0}, "completionPolicy": {"type": "Always"}},
    });
    cluster.apply(&list.to_string());
    let list = cluster.wait(
        "the end of the list",
        &["imagelistpulljobs.apps.kruise.io", "list"],
        |list| list["status"]["completionTime"].is_string(),
    );
    let status = &list["status"];
    assert_eq!([&status["completed"], &status["succeeded"]], [2, 1]);
    let failed = status["failedImageStatuses"][0]["imagePullJob"]
        .as_str()
        .expect("a name");
    let status = ended(&cluster, failed);
    assert_eq!(status["failedNodes"], json!(["node-1", "node-2"]));
    let message = status["message"].as_str().expect("a message");
    assert!(
        message.contains("failed on node-1: ") && message.contains("v2: not found at registry"),
        "{message}"
    );
}

#[test]
fn what_a_registry_does_to_jobs() {
    let Some(cluster) = Cluster::boot_with(1, &[ONLINE]) else {
        return;
    };
    let registry = Registry::start();
    let base = sleeper();
    registry.image("private/app", "v1", &with(&base, "private"), &SLEEP);
    let big = noise(3_000_000, 7);
    let layer = crate::registry::layer(&[("big", &big)]);
    let layers = [base.as_slice(), &[(layer.clone(), crate::registry::gzip(&layer))]].concat();
    registry.image("team/big", "v1", &layers, &SLEEP);

    // It goes away in the middle, and is there again for a later try.
    registry.fault("team/big/blobs", Fault::Status(503, 40));
    let image = registry.name("team/big:v1");
    let quick = json!({"timeoutSeconds": 60, "backoffLimit": 8});
    cluster.apply(&job("big", &image, &json!({"pullPolicy": quick})));
    let name = registry.name("team/big");
    wait_until("a failed try to be told", || {
        let told = told(&cluster, "node-1", &name, "v1");
        told["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("trying again: "))
    });
    registry.mend();
    assert_eq!(ended(&cluster, "big")["succeeded"], 1);

    // Who may not is told so; who has a login may.
    registry.login(Login::Bearer("ada", "secret"));
    let private = registry.name("private/app:v1");
    cluster.apply(&job("denied", &private, &json!({"pullPolicy": {"backoffLimit": 0}})));
    let status = ended(&cluster, "denied");
    let message = status["message"].as_str().expect("a message");
    assert!(message.contains("pull access denied"), "{message}");
    let server = format!("--docker-server={}/private", registry.address);
    let login = [
        "create",
        "secret",
        "docker-registry",
        "ada",
        &server,
        "--docker-username=ada",
        "--docker-password=secret",
    ];
    cluster.kubectl(&login);
    cluster.apply(&job(
        "login",
        &private,
        &json!({"pullSecrets": ["ada"], "imagePullPolicy": "Always"}),
    ));
    assert_eq!(ended(&cluster, "login")["succeeded"], 1);
    wait_until("the copy of the secret to go", || {
        let copies = cluster.get(&["secrets", "-n", "kruise-daemon-config"]);
        copies.is_some_and(|copies| copies["items"].as_array().is_some_and(Vec::is_empty))
    });

    // One that does not answer ends by its limit, and holds nobody else up.
    let silent = Registry::start();
    silent.fault("", Fault::Hold);
    let hangs = silent.name("app:v1");
    cluster.apply(&job(
        "hangs",
        &hangs,
        &json!({"pullPolicy": {"timeoutSeconds": 1, "backoffLimit": 0}}),
    ));
    let message = ended(&cluster, "hangs")["message"].to_string();
    assert!(message.contains("not pulled within 1 s"), "{message}");
    wait_until("the pull to be given up", || silent.holds() == 0);
    // Bad input is refused, and says what is bad.
    let refused = cluster.try_kubectl(&["create", "-f", "-"], Some(&job("bad", "Bad:Name:Here", &json!({}))));
    assert!(text(&refused).contains("spec.image"), "{}", text(&refused));
}
