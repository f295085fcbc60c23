//! What people do with kubectl all day.

use crate::cluster::{Cluster, afloat, condition};

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
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
";

#[test]
fn kubectl_all_day() {
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    let nodes = cluster.kubectl(&["get", "nodes"]);
    assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");

    let applied = cluster.apply(DEPLOYMENT);
    assert!(
        applied.contains("deployment.apps/web created") && applied.contains("service/web created"),
        "{applied}"
    );
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let applied = cluster.apply(DEPLOYMENT);
    assert!(
        applied.contains("deployment.apps/web unchanged") && applied.contains("service/web unchanged"),
        "{applied}"
    );

    let table = cluster.kubectl(&["get", "pods", "-o", "wide"]);
    assert!(
        table.starts_with("NAME") && table.contains("READY") && table.contains("NOMINATED NODE"),
        "{table}"
    );
    assert_eq!(table.matches("1/1").count(), 2, "{table}");
    let all = cluster.kubectl(&["get", "nodes,pods,clonesets", "-A"]);
    assert!(all.contains("node/node-1") && all.contains("pod/web-"), "{all}");

    let pod = cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
    let logs = cluster.kubectl(&["logs", &pod]);
    assert!(logs.contains("listening on 8080"), "{logs}");
    let logs = cluster.kubectl(&["logs", &pod, "--timestamps", "--tail=1"]);
    assert!(logs.starts_with("20") && logs.lines().count() == 1, "{logs}");

    let watched = cluster.try_kubectl(&["get", "pods", "-w", "--request-timeout=1s"], None);
    assert_eq!(
        String::from_utf8_lossy(&watched.stdout).matches("1/1").count(),
        2,
        "a watch begins with what there is"
    );

    let version = cluster.kubectl(&["exec", &pod, "--", "/afloat", "--version"]);
    assert!(version.starts_with("afloat "), "{version}");
    let output = cluster.try_kubectl(&["exec", &pod, "--", "/afloat", "no-such-command"], None);
    assert_eq!(output.status.code(), Some(2), "the command's exit code is kubectl's");

    let described = cluster.kubectl(&["describe", "pod", &pod]);
    for word in ["Scheduled", "Pulled", "Created", "Started", "Ready          "] {
        assert!(described.contains(word), "{word} in {described}");
    }
    let slices = cluster.kubectl(&[
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=web",
        "-o",
        "json",
    ]);
    assert_eq!(slices.matches("\"ready\": true").count(), 2, "{slices}");

    cluster.kubectl(&["set", "image", "deployment/web", "web=web:v2"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let image = cluster.kubectl(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    assert_eq!(image, "web:v1");

    cluster.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    cluster.wait("one pod", &["pods"], |list| {
        list["items"].as_array().is_some_and(|p| p.len() == 1)
    });
    cluster.kubectl(&["delete", "deployment,service", "web"]);
    cluster.wait("no pods", &["pods"], |list| {
        list["items"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_namespace_takes_its_objects_with_it() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.kubectl(&["create", "namespace", "team"]);
    cluster.kubectl(&["-n", "team", "create", "configmap", "settings", "--from-literal=a=b"]);
    cluster.kubectl(&["-n", "team", "run", "web", "--image=web:v1"]);
    cluster.wait("the pod Ready", &["-n", "team", "pod", "web"], |pod| {
        condition(pod, "Ready") == Some("True")
    });
    cluster.kubectl(&["delete", "namespace", "team", "--timeout=120s"]);
    assert!(cluster.get(&["namespace", "team"]).is_none());
    assert!(cluster.get(&["-n", "team", "configmap", "settings"]).is_none());
}

#[test]
fn a_cluster_without_nodes_serves_the_api() {
    let Some(cluster) = Cluster::boot(0) else { return };
    assert_eq!(cluster.kubectl(&["get", "nodes"]), "");
    cluster.apply("{apiVersion: v1, kind: Node, metadata: {name: elsewhere}}");
    let nodes = cluster.kubectl(&["get", "nodes"]);
    assert!(nodes.contains("elsewhere"), "{nodes}");
}

/// The README's walk-through, on what `afloat sample` leaves.
#[test]
fn the_sample_runs_and_is_released() {
    let Some(cluster) = Cluster::boot(2) else { return };
    let dir = cluster.dir().to_string_lossy().into_owned();
    for round in ["first", "again"] {
        let (code, told, error) = afloat(&["sample", "--data-dir", &dir], "");
        assert_eq!(code, 0, "{round}: {error}");
        for words in [
            "in 3 pods",
            "export KUBECONFIG=",
            "kubectl patch clone/web",
            "curl http://127.0.0.1:",
        ] {
            assert!(told.contains(words), "{round}: {words} in {told}");
        }
    }
    let port = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let port: u16 = port.parse().expect("a node port");
    let ask = || crate::load::answer(port);
    assert_eq!(ask().as_deref(), Some("v1"));
    let image = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:v2"}]"#;
    cluster.kubectl(&["patch", "clone", "web", "--type", "json", "-p", image]);
    cluster.wait("the release is complete", &["clone", "web"], |clone| {
        clone["status"]["updatedReadyReplicas"] == 3
            && clone["status"]["observedGeneration"] == clone["metadata"]["generation"]
    });
    assert_eq!(ask().as_deref(), Some("v2"));
    cluster.wait("all pods are endpoints", &["endpoints", "web"], |endpoints| {
        endpoints["subsets"][0]["addresses"]
            .as_array()
            .is_some_and(|all| all.len() == 3)
    });

    cluster.kubectl(&["delete", "clone/web", "service/web"]);
    let (code, told, error) = afloat(&["sample", "--kind", "deployment", "--data-dir", &dir], "");
    assert_eq!(code, 0, "{error}");
    assert!(told.contains("kubectl rollout status deployment/web"), "{told}");
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let (code, _, error) = afloat(&["sample", "--data-dir", &nowhere.path().to_string_lossy()], "");
    assert_eq!(code, 1);
    assert!(
        error.contains("start one in another terminal with `afloat up`"),
        "{error}"
    );
}

#[test]
fn what_has_no_effect_is_told_by_kubectl() {
    let Some(cluster) = Cluster::boot(0) else { return };
    let policy =
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny}, spec: {podSelector: {}}}";
    let output = cluster.try_kubectl(&["apply", "-f", "-"], Some(policy));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("Warning: NetworkPolicy: stored, but nothing enforces it: every pod reaches every other"),
        "{said}"
    );
    let run = cluster.try_kubectl(
        &[
            "run",
            "x",
            "--image=x",
            r#"--overrides={"spec":{"priorityClassName":"none"}}"#,
        ],
        None,
    );
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        said.contains("pods \"x\" is forbidden: no PriorityClass with name none was found"),
        "{said}"
    );
    let classes = cluster.kubectl(&["get", "priorityclasses", "-o", "name"]);
    assert_eq!(classes.lines().count(), 2, "{classes}");
}
