//! What `afloat install` prints: the same as the chart and the base for kustomize, and taken by a cluster, where it works.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{Cluster, afloat, cloneset, container, kubectl_program, wait_until};

mod helm;

/// Folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

/// A null in a document to apply takes away what is there; some tools leave it out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn objects(text: &str) -> Objects {
    let documents = text.split("\n---").map(|text| text.trim_start_matches("---"));
    let objects = documents.map(|text| without_nulls(serde_saphyr::from_str(text).expect("YAML")));
    let named = |object: Value| {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        (format!("{kind} {namespace}/{name}"), object)
    };
    objects.filter(Value::is_object).map(named).collect()
}

fn install(flags: &[&str]) -> Objects {
    let (code, text, errors) = afloat(&[&["install"], flags].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""), "{flags:?}");
    objects(&text)
}

#[track_caller]
fn same(theirs: &Objects, ours: &Objects, what: &str) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(theirs), names(ours), "{what}");
    for (name, object) in ours {
        assert_eq!(&theirs[name], object, "{what}: {name}");
    }
}

/// What kubectl makes of a folder with a kustomization.
fn kustomize(folder: &Path) -> Option<String> {
    let output = Command::new(kubectl_program()?)
        .arg("kustomize")
        .arg(folder)
        .output()
        .expect("kubectl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_base_for_kustomize_is_what_the_command_prints() {
    let Some(text) = kustomize(&root().join("deploy/kustomize/base")) else {
        return;
    };
    same(&objects(&text), &install(&[]), "deploy/kustomize/base");
}

/// A patch of one container leaves its neighbours alone, in CloneSets as in Kubernetes' own kinds; images and names are found.
#[test]
fn kustomize_knows_clonesets() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    let schema = root().join("deploy/kustomize/cloneset");
    for file in ["schema.json", "configuration.yaml"] {
        std::fs::copy(schema.join(file), dir.path().join(file)).expect("a copy");
    }
    let workload = |kind: &str, api: &str| {
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": "web"}, "spec": {"replicas": 1, "template": {"spec": {
            "containers": [
                {"name": "web", "image": "web:v1", "env": [{"name": "A", "value": "1"}], "envFrom": [{"configMapRef": {"name": "conf"}}]},
                {"name": "log", "image": "log:v1"},
            ]}}}})
        .to_string()
    };
    let kinds = [
        ("CloneSet", "apps.kruise.io/v1alpha1"),
        ("CloneSet", "apps.kruise.io/v1beta1"),
        ("Deployment", "apps/v1"),
        ("StatefulSet", "apps/v1"),
    ];
    for (kind, api) in kinds {
        write("workload.json", &workload(kind, api));
        let patch = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "web"}, "spec": {"template": {"spec": {
            "containers": [{"name": "web", "env": [{"name": "B", "value": "2"}]}]}}}});
        write("patch.json", &patch.to_string());
        write(
            "kustomization.yaml",
            "\
resources: [workload.json]
patches: [{path: patch.json}]
images: [{name: web, newTag: v2}]
replicas: [{name: web, count: 5}]
configMapGenerator: [{name: conf, literals: [a=b]}]
configurations: [configuration.yaml]
openapi: {path: schema.json}
",
        );
        let Some(text) = kustomize(dir.path()) else { return };
        let all = objects(&text);
        let made = &all[&format!("{kind} /web")];
        let containers = &made["spec"]["template"]["spec"]["containers"];
        let of = |name: &str| {
            containers
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["name"] == name)
                .cloned()
        };
        let (web, log) = (of("web").expect("web"), of("log").expect("log"));
        assert_eq!(web["image"], "web:v2", "{kind} {api}");
        assert_eq!(log["image"], "log:v1", "{kind} {api}");
        assert_eq!(web["env"].as_array().map(Vec::len), Some(2), "{kind} {api}: {web}");
        assert_eq!(made["spec"]["replicas"], 5, "{kind} {api}");
        let map = web["envFrom"][0]["configMapRef"]["name"].as_str().unwrap_or_default();
        assert!(map.starts_with("conf-"), "{kind} {api}: {web}");
    }
}

#[test]
fn bad_flags_get_one_line() {
    let cases: [(&[&str], &str); 5] = [
        (&["--namespace", "A"], "--namespace"),
        (&["--image", "a b"], "--image"),
        (&["--replicas", "0"], "--replicas"),
        (&["--feature-gates", "CloneSetShortHash=yes"], "--feature-gates"),
        (&["--no-agent", "--agent-image", "x"], "--agent-image"),
    ];
    for (flags, word) in cases {
        let (code, text, errors) = afloat(&[&["install"], flags].concat(), "");
        assert_eq!((code, text.as_str()), (2, ""), "{flags:?}");
        assert!(
            errors.lines().next().is_some_and(|line| line.contains(word)),
            "{errors}"
        );
    }
}

const IN: [&str; 2] = ["-n", "afloat-system"];

fn get(cluster: &Cluster, arguments: &[&str]) -> Value {
    cluster.get(arguments).unwrap_or_default()
}

/// UID and restarts of each pod of the user's.
fn pods(cluster: &Cluster) -> Vec<(String, i64)> {
    let list = get(cluster, &["pods", "-l", "app=web"]);
    let mut pods: Vec<_> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let restarts = ["web", "collector"].map(|name| container(pod, name)["restartCount"].as_i64().unwrap_or(-1));
            (uid, restarts.iter().sum())
        })
        .collect();
    pods.sort();
    pods
}

fn lease_holder(cluster: &Cluster) -> String {
    let lease = get(cluster, &["lease", "kruise-manager", "-n", "kruise-system"]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn wait_complete(cluster: &Cluster, image: &str) {
    cluster.wait("the CloneSet complete", &["clonesets", "web"], |set| {
        let status = &set["status"];
        status["observedGeneration"] == set["metadata"]["generation"]
            && status["updatedReadyReplicas"] == set["spec"]["replicas"]
            && set["spec"]["template"]["spec"]["containers"][0]["image"] == image
    });
}

/// Waits until a Deployment of the operator is whole with an image, and one of its pods acts.
#[track_caller]
fn wait_operator(cluster: &Cluster, image: &str) {
    cluster.wait(
        "the operators ready",
        &[&["deployment", "afloat-operator"], &IN[..]].concat(),
        |deployment| {
            let status = &deployment["status"];
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image
                && status["observedGeneration"] == deployment["metadata"]["generation"]
                && status["updatedReplicas"] == 2
                && status["readyReplicas"] == 2
                && status["replicas"] == 2
        },
    );
    wait_until("an operator that acts", || {
        let holder = lease_holder(cluster);
        let list = get(cluster, &[&["pods", "-l", "app=afloat-operator"], &IN[..]].concat());
        list["items"].as_array().into_iter().flatten().any(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            pod["metadata"]["deletionTimestamp"].is_null()
                && !name.is_empty()
                && holder.starts_with(&format!("{name}_"))
        })
    });
}

fn status(cluster: &Cluster) -> (i32, Value) {
    let kubeconfig = cluster.dir().join("kubeconfig");
    let (code, text, errors) = afloat(
        &["status", "-o", "json", "--kubeconfig", &kubeconfig.to_string_lossy()],
        "",
    );
    (
        code,
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}")),
    )
}

/// Who brings an installation into a cluster and away.
trait Installer {
    /// Installs it with that tag of `example.com/afloat`, or changes it to that.
    fn put(&self, cluster: &Cluster, tag: &str);
    /// Takes it away.
    fn remove(&self, cluster: &Cluster);
}

/// What the commands print, and kubectl.
struct Commands;

impl Installer for Commands {
    fn put(&self, cluster: &Cluster, tag: &str) {
        let image = format!("example.com/afloat:{tag}");
        let (code, manifest, errors) = afloat(&["install", "--image", &image, "--no-agent"], "");
        assert_eq!(code, 0, "{errors}");
        cluster.apply(&manifest);
    }

    fn remove(&self, cluster: &Cluster) {
        let (code, removal, _) = afloat(&["uninstall", "--no-agent"], "");
        assert_eq!(code, 0);
        let output = cluster.try_kubectl(&["delete", "-f", "-"], Some(&removal));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn it_is_installed_upgraded_and_removed_without_touching_a_pod() {
    comes_and_goes(&Commands);
}

fn comes_and_goes(installer: &dyn Installer) {
    let Some(cluster) = Cluster::boot_with(2, &["--no-operator"]) else {
        return;
    };
    // For people without Docker: an archive of what runs here, loaded as that of any other tool.
    let archive = cluster.dir().join("afloat.tar");
    let archive = archive.to_string_lossy().into_owned();
    for name in ["example.com/afloat:1", "example.com/afloat:2"] {
        let (code, _, errors) = afloat(
            &[
                "image",
                "build",
                name,
                "--self",
                "--oci",
                &archive,
                "--env",
                &format!("FOR={name}"),
            ],
            "",
        );
        assert_eq!(code, 0, "{errors}");
        cluster.image(&["load", &archive]);
    }
    cluster.build_images();
    let apply = |tag: &str| {
        installer.put(&cluster, tag);
        wait_operator(&cluster, &format!("example.com/afloat:{tag}"));
    };

    let (code, before) = status(&cluster);
    assert_eq!((code, &before["ok"]), (1, &json!(false)), "{before:#}");

    apply("1");
    cluster.apply(&cloneset("web", 3));
    wait_complete(&cluster, "web:v1");
    let first = pods(&cluster);
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|(_, restarts)| *restarts == 0), "{first:?}");
    // The API server knows the webhooks a moment after an operator acts.
    let mut last = status(&cluster);
    wait_until("all to be well", || {
        last = status(&cluster);
        last.1["ok"] == true
    });
    assert_eq!(last.0, 0, "{:#}", last.1);

    // The next version and back: the Lease goes from hand to hand, nobody's pod is touched.
    for tag in ["2", "1"] {
        apply(tag);
        assert_eq!(pods(&cluster), first);
    }
    let patch = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:v2"}]"#;
    cluster.kubectl(&["patch", "clone", "web", "--type", "json", "-p", patch]);
    wait_complete(&cluster, "web:v2");
    let updated = pods(&cluster);
    assert!(
        updated.iter().map(|(uid, _)| uid).eq(first.iter().map(|(uid, _)| uid)),
        "in place"
    );
    assert!(updated.iter().all(|(_, restarts)| *restarts == 1), "{updated:?}");

    // Away with it: what users have stays.
    installer.remove(&cluster);
    wait_until("the operators gone", || {
        let list = get(&cluster, &[&["pods"], &IN[..]].concat());
        list["items"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(pods(&cluster), updated);
    assert!(cluster.get(&["clonesets", "web"]).is_some());

    // And back: what was left behind is not in the way, and nobody's pod is touched by that either.
    apply("2");
    wait_complete(&cluster, "web:v2");
    assert_eq!(pods(&cluster), updated);
}

#[test]
fn the_image_has_a_program_that_runs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("self.tar");
    let arguments = ["image", "build", "--self", "--oci", &path.to_string_lossy()].map(str::to_owned);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (code, text, errors) = afloat(&arguments, "");
    assert_eq!(code, 0, "{errors}");
    assert!(
        text.starts_with(concat!(
            "docker.io/library/afloat:",
            env!("CARGO_PKG_VERSION"),
            " sha256:"
        )),
        "{text}"
    );
    // Twice the same.
    let again = std::fs::read(&path).expect("an archive");
    let (_, second, _) = afloat(&arguments, "");
    assert_eq!(second, text);
    assert!(
        std::fs::read(&path).expect("an archive") == again,
        "the archive differs"
    );
    let mut entries = tar::Archive::new(std::io::Cursor::new(again));
    let names: Vec<_> = entries
        .entries()
        .expect("a tar")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    for name in ["oci-layout", "index.json", "manifest.json"] {
        assert!(names.iter().any(|have| have == name), "{names:?}");
    }
    let (code, _, errors) = afloat(&["image", "build", "--self", "--oci", "/nowhere/x.tar"], "");
    // Before it there may be a line about a tool that this machine does not have.
    let last = errors.lines().last().unwrap_or_default();
    assert_eq!((code, last.contains("--oci /nowhere/x.tar")), (1, true), "{errors}");
}
