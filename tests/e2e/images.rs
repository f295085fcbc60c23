//! Images from a registry on loopback, in real containers.

mod jobs;

use std::process::{Command, Output};

use afloat_runtime::image::{BuildSpec, ImageStore};
use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, ONLINE, container, wait_until};
use crate::registry::{Fault, Login, Registry, gzip, layer, noise};

/// The layers of an image that can sleep, out of this machine's own program: as tars, plain and as they are sent.
fn sleeper() -> Vec<(Vec<u8>, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = ImageStore::open(dir.path()).expect("a store");
    let spec = BuildSpec {
        name: "sleeper".into(),
        files: vec![
            ("/bin/sleep".into(), "/bin/sleep".into()),
            ("/bin/cat".into(), "/bin/cat".into()),
        ],
        libraries: true,
        ..BuildSpec::default()
    };
    store.build(&spec).expect("an image of the machine's own programs");
    let layers = std::fs::read_dir(dir.path().join("layers")).expect("layers");
    let tar = |layer: std::fs::DirEntry| {
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder
            .append_dir_all("", layer.path().join("fs"))
            .expect("into memory");
        builder.into_inner().expect("into memory")
    };
    layers
        .map(|layer| tar(layer.expect("an entry")))
        .map(|plain| (plain.clone(), gzip(&plain)))
        .collect()
}

fn with(layers: &[(Vec<u8>, Vec<u8>)], text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = layer(&[("etc/text", text.as_bytes())]);
    layers.iter().cloned().chain([(own.clone(), gzip(&own))]).collect()
}

const SLEEP: [&str; 2] = ["/bin/sleep", "100000"];

fn pod(name: &str, image: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": image}]},
    });
    edit(&mut pod);
    pod.to_string()
}

fn policy(policy: &str) -> impl FnOnce(&mut Value) {
    move |pod| pod["spec"]["containers"][0]["imagePullPolicy"] = json!(policy)
}

fn running(cluster: &Cluster, name: &str) -> Value {
    cluster.wait(&format!("{name} running"), &["pods", name], |pod| {
        container(pod, "app")["state"]["running"].is_object()
    })
}

fn waits(cluster: &Cluster, name: &str, reason: &str) -> String {
    let pod = cluster.wait(&format!("{name} in {reason}"), &["pods", name], |pod| {
        container(pod, "app")["state"]["waiting"]["reason"] == reason
    });
    let message = &container(&pod, "app")["state"]["waiting"]["message"];
    message.as_str().unwrap_or_default().to_owned()
}

/// Why the last pull of a pod's image failed: `ErrImagePull` says it, for two seconds, and then the back-off says it behind its own
/// words. A slow machine may see the second only; that the first was there, its event tells.
fn pull_failed(cluster: &Cluster, name: &str) -> String {
    let pod = cluster.wait(&format!("{name} without its image"), &["pods", name], |pod| {
        let reason = &container(pod, "app")["state"]["waiting"]["reason"];
        reason == "ErrImagePull" || reason == "ImagePullBackOff"
    });
    told(cluster, name, "Failed Error: ErrImagePull");
    let message = &container(&pod, "app")["state"]["waiting"]["message"];
    message.as_str().unwrap_or_default().to_owned()
}

/// Messages of the events of a pod, with their reasons in front.
fn events(cluster: &Cluster, name: &str) -> Vec<String> {
    let selector = format!("involvedObject.name={name}");
    let list = cluster.get(&["events", "--field-selector", &selector]).expect("events");
    let all = list["items"].as_array().cloned().unwrap_or_default();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|event| format!("{} {}", text(event, "reason"), text(event, "message")))
        .collect()
}

#[track_caller]
fn told(cluster: &Cluster, name: &str, beginning: &str) {
    wait_until(&format!("an event of {name} that begins with {beginning:?}"), || {
        events(cluster, name).iter().any(|event| event.starts_with(beginning))
    });
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn pods_pull_from_a_registry_as_their_policies_say() {
    let Some(cluster) = Cluster::boot_with(2, &[ONLINE]) else {
        return;
    };
    let registry = Registry::start();
    let base = sleeper();
    let name = registry.name("team/app:v1");
    registry.image("team/app", "v1", &with(&base, "one"), &SLEEP);

    // Many at once, on both nodes: each layer comes once.
    let set = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {"replicas": 6, "selector": {"matchLabels": {"app": "many"}}, "template": {
            "metadata": {"labels": {"app": "many"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": name}]},
        }},
    });
    cluster.apply(&set.to_string());
    cluster.wait("six pods ready", &["deployments", "many"], |d| {
        d["status"]["readyReplicas"] == 6
    });
    for (_, sent) in with(&base, "one") {
        assert_eq!(
            registry
                .asked(&format!("GET /v2/team/app/blobs/{}", crate::registry::digest(&sent)))
                .len(),
            1
        );
    }
    let pods = cluster.get(&["pods", "-l", "app=many"]).expect("pods");
    let first = pods["items"][0]["metadata"]["name"].as_str().expect("a name");
    told(&cluster, first, &format!("Pulling Pulling image \"{name}\""));
    told(
        &cluster,
        first,
        &format!("Pulled Successfully pulled image \"{name}\" in "),
    );
    assert!(
        events(&cluster, first)
            .iter()
            .any(|event| event.contains("s including waiting). Image size: "))
    );
    cluster.wait("the node to list it", &["nodes", "node-1"], |node| {
        let images = node["status"]["images"].as_array().cloned().unwrap_or_default();
        images.iter().any(|image| {
            image["sizeBytes"].as_u64() > Some(0)
                && image["names"]
                    .as_array()
                    .is_some_and(|names| names.iter().any(|known| *known == name))
        })
    });

    // What is here is taken, or asked for with a HEAD and taken.
    let gets = registry.asked("GET").len();
    cluster.apply(&pod("present", &name, |_| {}));
    running(&cluster, "present");
    told(
        &cluster,
        "present",
        &format!("Pulled Container image \"{name}\" already present on machine"),
    );
    let heads = registry.asked("HEAD").len();
    cluster.apply(&pod("always", &name, policy("Always")));
    let before = running(&cluster, "always");
    told(&cluster, "always", "Pulled Successfully pulled image");
    assert_eq!(
        (registry.asked("GET").len(), registry.asked("HEAD").len()),
        (gets, heads + 1)
    );
    // Another image under the tag: seen by Always alone.
    registry.image("team/app", "v1", &with(&base, "two"), &SLEEP);
    cluster.apply(&pod("newer", &name, policy("Always")));
    let after = running(&cluster, "newer");
    assert_ne!(
        container(&before, "app")["imageID"],
        container(&after, "app")["imageID"]
    );
    let read = |name: &str| cluster.kubectl(&["exec", name, "--", "/bin/cat", "/etc/text"]);
    assert_eq!((read("always").as_str(), read("newer").as_str()), ("one", "two"));

    // A restart asks again, and no back-off is counted twice for it.
    cluster.apply(&pod("short", &name, |pod| {
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        pod["spec"]["containers"][0]["command"] = json!(["/bin/sleep", "0.1"]);
    }));
    let short = cluster.wait("two restarts", &["pods", "short"], |pod| {
        container(pod, "app")["restartCount"].as_u64() >= Some(2)
    });
    assert!(!short.to_string().contains("back-off 40s"), "{short:#}");

    // What was made here is what its name means, with no registry far and wide.
    let built = cluster.try_image(&[
        "build",
        "here:latest",
        "--file",
        "/bin/sleep=/bin/sleep",
        "--libraries",
        "--entrypoint=/bin/sleep",
        "--entrypoint=100000",
    ]);
    assert!(built.status.success(), "{}", text(&built));
    cluster.apply(&pod("here", "here", policy("Always")));
    running(&cluster, "here");
}

#[test]
fn pulls_that_fail_say_why_and_hold_nobody_else_up() {
    let Some(cluster) = Cluster::boot_with(1, &[ONLINE]) else {
        return;
    };
    let registry = Registry::start();
    let base = sleeper();

    // A registry that does not answer.
    let silent = Registry::start();
    silent.fault("", Fault::Hold);
    let hangs = silent.name("app:v1");
    cluster.apply(&pod("hangs", &hangs, |_| {}));
    wait_until("the silent registry to be asked", || !silent.asked("").is_empty());

    cluster.apply(&pod("missing", &registry.name("app:v1"), |_| {}));
    cluster.apply(&pod("never", &registry.name("app:v1"), policy("Never")));
    cluster.apply(&pod("invalid", "Not:A:Name", |_| {}));
    cluster.apply(&pod("closed", "127.0.0.1:1/app:v1", |_| {}));
    assert!(pull_failed(&cluster, "missing").contains("app:v1: not found at registry"));
    assert!(waits(&cluster, "never", "ErrImageNeverPull").contains("is not present with pull policy of Never"));
    assert!(waits(&cluster, "invalid", "InvalidImageName").contains("Not:A:Name"));
    let image = registry.name("app:v1");
    assert!(waits(&cluster, "missing", "ImagePullBackOff").starts_with(&format!("Back-off pulling image \"{image}\"")));
    assert!(waits(&cluster, "closed", "ImagePullBackOff").contains("the registry is unavailable"));
    told(
        &cluster,
        "missing",
        &format!("Failed Failed to pull image \"{image}\": "),
    );
    told(
        &cluster,
        "missing",
        &format!("BackOff Back-off pulling image \"{image}\""),
    );
    told(&cluster, "closed", "Failed Error: RegistryUnavailable");
    told(
        &cluster,
        "invalid",
        "InspectFailed Failed to apply default image tag \"Not:A:Name\"",
    );
    told(&cluster, "never", "ErrImageNeverPull Container image");

    // It comes; the next attempt finds it. With a secret of the service account by now.
    registry.image("app", "v1", &with(&base, "late"), &SLEEP);
    registry.image("private/app", "v1", &with(&base, "private"), &SLEEP);
    running(&cluster, "missing");
    running(&cluster, "never");
    registry.login(Login::Bearer("ada", "secret"));
    let private = registry.name("private/app:v1");
    cluster.apply(&pod("denied", &private, |_| {}));
    assert!(pull_failed(&cluster, "denied").contains("pull access denied"));
    let server = format!("--docker-server={}/private", registry.address);
    cluster.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "ada",
        &server,
        "--docker-username=ada",
        "--docker-password=secret",
    ]);
    cluster.apply(&pod("own", &private, |pod| {
        pod["spec"]["imagePullSecrets"] = json!([{"name": "ada"}, {"name": "lost"}]);
    }));
    running(&cluster, "own");
    told(
        &cluster,
        "own",
        "FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (lost)",
    );
    cluster.kubectl(&[
        "patch",
        "serviceaccount",
        "default",
        "-p",
        r#"{"imagePullSecrets": [{"name": "ada"}]}"#,
    ]);
    cluster.apply(&pod("account", &private, policy("Always")));
    running(&cluster, "account");

    // A pod that waits for its image can go at any time.
    assert!(container(&cluster.get(&["pods", "hangs"]).expect("a pod"), "app")["state"]["waiting"].is_object());
    assert_eq!(silent.holds(), 1);
    cluster.kubectl(&["delete", "pod", "hangs"]);
    wait_until("its pull to be given up", || silent.holds() == 0);
    assert!(cluster.get(&["pods", "hangs"]).is_none());
}

#[test]
fn images_that_nobody_uses_go_when_the_disk_fills_up_and_by_hand() {
    let flags = [
        ONLINE,
        "--image-gc-high-threshold=0",
        "--image-gc-low-threshold=0",
        "--minimum-image-ttl-duration=1s",
    ];
    let Some(cluster) = Cluster::boot_with(1, &flags) else {
        return;
    };
    let registry = Registry::start();
    let base = sleeper();
    for tag in ["used", "unused"] {
        registry.image("app", tag, &with(&base, tag), &SLEEP);
    }
    let (used, unused) = (registry.name("app:used"), registry.name("app:unused"));
    cluster.apply(&pod("used", &used, |_| {}));
    running(&cluster, "used");
    let pulled = cluster.try_image(&["pull", &unused]);
    assert!(
        pulled.status.success() && text(&pulled).starts_with(&unused),
        "{}",
        text(&pulled)
    );
    let built = cluster.try_image(&["build", "here:v1", "--file", "/bin/cat=/cat"]);
    assert!(built.status.success(), "{}", text(&built));
    let list = || text(&cluster.try_image(&["ls"]));
    wait_until("the unused image to be removed", || !list().contains(&unused));
    let left = list();
    assert!(left.contains(&used) && left.contains("here:v1"), "{left}");
    let layers = || {
        std::fs::read_dir(cluster.dir().join("images/layers"))
            .expect("layers")
            .count()
    };
    wait_until("its layer to go, too", || layers() == base.len() + 2);

    // By hand: the container keeps its layers, whatever happens to its image.
    assert!(cluster.try_image(&["rm", &used]).status.success());
    let pruned = cluster.try_image(&["prune"]);
    assert_eq!(text(&pruned), "removed 0 images and 0 layers\n");
    assert_eq!(
        cluster.kubectl(&["exec", "used", "--", "/bin/cat", "/etc/text"]),
        "used"
    );
    cluster.kubectl(&["delete", "pod", "used"]);
    wait_until("its layers to be free", || {
        text(&cluster.try_image(&["prune"])).ends_with(" and 0 layers\n") && layers() == 1
    });
    for (arguments, says) in [
        (&["rm", "nothing:v1"][..], "there is no image called nothing:v1"),
        (&["pull", "Not:A:Name"], "cannot pull Not:A:Name"),
        (&["pull", "127.0.0.1:1/app:v1"], "cannot connect to 127.0.0.1:1"),
        (
            &["pull", "x", "--registry-mirror", "docker.io"],
            "needs the form REGISTRY=URL",
        ),
        (
            &["pull", "x", "--credentials", "/does/not/exist"],
            "cannot read /does/not/exist",
        ),
    ] {
        let output = cluster.try_image(arguments);
        assert!(
            !output.status.success() && text(&output).contains(says),
            "{arguments:?}: {}",
            text(&output)
        );
    }
}

/// A cluster whose images are on a small disk: a file system of memory that only it sees. None where that cannot be.
fn on_a_small_disk(dir: &std::path::Path, size: &str) -> Option<Cluster> {
    let images = dir.join("images");
    std::fs::create_dir_all(&images).expect("our own folder");
    let script = "mount -t tmpfs -o size=\"$1\" none \"$2\" || exit 77; shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    // An ordinary user needs a user namespace of its own for it; root must not have one more.
    let flags = if rustix::process::getuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    command
        .args([flags, "sh", "-c", script, "sh", size])
        .arg(&images)
        .arg(AFLOAT);
    Cluster::boot_as(command, dir, 1, &[ONLINE])
}

#[test]
fn a_full_disk_fails_a_pull_and_nothing_else() {
    const MIB: usize = 1024 * 1024;
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let Some(cluster) = on_a_small_disk(temporary.path(), "160m") else {
        return;
    };
    // As the cluster sees it.
    let images = format!(
        "/proc/{}/root{}",
        cluster.pid(),
        temporary.path().join("images").display()
    );
    let ballast = format!("{images}/ballast");
    std::fs::write(&ballast, vec![1; 80 * MIB]).expect("the disk is large enough for that");
    let registry = Registry::start();
    let base = sleeper();
    registry.image("small", "v1", &with(&base, "small"), &SLEEP);
    let big = layer(&[("big", &noise(60 * MIB, 1))]);
    let layers: Vec<_> = with(&base, "big")
        .into_iter()
        .chain([(big.clone(), gzip(&big))])
        .collect();
    registry.image("big", "v1", &layers, &SLEEP);

    cluster.apply(&pod("before", &registry.name("small:v1"), |_| {}));
    running(&cluster, "before");
    cluster.apply(&pod("big", &registry.name("big:v1"), |_| {}));
    let message = pull_failed(&cluster, "big");
    assert!(message.contains("no space left on the node's disk"), "{message}");
    waits(&cluster, "big", "ImagePullBackOff");
    // What was fetched of it does not stay in the way of others.
    wait_until("the space to be free again", || {
        let file = format!("{images}/probe");
        let done = std::fs::write(&file, vec![2; 40 * MIB]).is_ok();
        let _ = std::fs::remove_file(file);
        done
    });
    registry.image("late", "v1", &with(&base, "late"), &SLEEP);
    cluster.apply(&pod("after", &registry.name("late:v1"), |_| {}));
    running(&cluster, "after");
    assert_eq!(
        cluster.kubectl(&["exec", "after", "--", "/bin/cat", "/etc/text"]),
        "late"
    );
    let before = cluster.get(&["pods", "before"]).expect("it is there");
    assert_eq!(container(&before, "app")["restartCount"], 0);

    // With room for it, the next attempt succeeds.
    std::fs::remove_file(&ballast).expect("it is ours");
    running(&cluster, "big");
    assert_eq!(cluster.kubectl(&["exec", "big", "--", "/bin/cat", "/etc/text"]), "big");
}
