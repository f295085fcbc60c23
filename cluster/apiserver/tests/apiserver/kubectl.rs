//! An unmodified kubectl over TLS on loopback.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use afloat_apiserver::{ApiServer, Options, Pki};
use afloat_store::Store;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: web}}
spec: {containers: [{name: c, image: "web:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: 2
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: c, image: "web:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {selector: {app: web}, ports: [{port: 80}]}
"#;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wi]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: SIZE, type: integer, jsonPath: .spec.size}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, description: How large}}}}}}
"#;

pub(super) struct Kubectl {
    pub(super) home: tempfile::TempDir,
}

impl Kubectl {
    pub(super) async fn run(&self, arguments: &str, input: &str) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command
            .args(arguments.split(' '))
            .env("HOME", self.home.path())
            .env("KUBE_EDITOR", self.home.path().join("editor"))
            .env("KUBECONFIG", self.home.path().join("kubeconfig"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = timeout(Duration::from_secs(120), child.wait_with_output())
            .await
            .expect("kubectl in time")
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }

    /// Runs a command that must succeed and say this.
    pub(super) async fn says(&self, arguments: &str, input: &str, expected: &str) {
        let (success, text) = self.run(arguments, input).await;
        assert!(
            success && text.contains(expected),
            "kubectl {arguments}\nexpected: {expected}\nsaid: {text}"
        );
    }

    /// Runs a command that must fail and say this.
    async fn refuses(&self, arguments: &str, input: &str, expected: &str) {
        let (success, text) = self.run(arguments, input).await;
        assert!(
            !success && text.contains(expected),
            "kubectl {arguments}\nexpected: {expected}\nsaid: {text}"
        );
    }
}

async fn serving(home: &Path, shutdown: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let pki = Pki::load_or_create(&home.join("pki"), &["localhost".into()], &[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    std::fs::write(home.join("kubeconfig"), pki.kubeconfig(&format!("https://{address}"))).unwrap();
    let shutdown = shutdown.clone();
    tokio::spawn(async move { server.serve(listener, &pki, shutdown).await.unwrap() })
}

/// A kubectl with a server of its own.
pub(super) struct Served {
    pub(super) kubectl: Kubectl,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(60), self.task).await.unwrap().unwrap();
    }
}

impl Kubectl {
    /// None: there is no kubectl on this machine.
    pub(super) async fn served() -> Option<Served> {
        let mut command = Command::new("kubectl");
        if command.arg("version").arg("--client").output().await.is_err() {
            eprintln!("skipped: there is no kubectl on this machine");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let task = serving(home.path(), &shutdown).await;
        let kubectl = Self { home };
        Some(Served {
            kubectl,
            shutdown,
            task,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_unmodified() {
    let Some(served) = Kubectl::served().await else { return };
    builtin_kinds(&served.kubectl).await;
    custom_kinds(&served.kubectl).await;
    strangers(&served.kubectl).await;
    served.stop().await;
}

async fn builtin_kinds(kubectl: &Kubectl) {
    kubectl.says("version", "", "v1.33.0+afloat").await;
    kubectl.says("api-resources", "", "deployments").await;
    kubectl.says("get ns", "", "kube-system").await;
    kubectl.says("apply -f -", MANIFEST, "deployment.apps/d created").await;
    kubectl
        .says("apply -f -", MANIFEST, "deployment.apps/d unchanged")
        .await;
    kubectl
        .says("apply -f -", &MANIFEST.replace("web:1", "web:2"), "pod/p configured")
        .await;
    kubectl.says("get pods -o wide", "", "NOMINATED NODE").await;
    kubectl
        .says("get pod p -o jsonpath={.spec.containers[0].image}", "", "web:2")
        .await;
    kubectl.says("label pod p tier=front", "", "labeled").await;
    kubectl.says("get pods -l tier=front -o name", "", "pod/p").await;
    kubectl.says("scale deployment d --replicas=5", "", "scaled").await;
    kubectl.says("rollout restart deployment d", "", "restarted").await;
    kubectl
        .says("set image deployment/d c=web:3", "", "image updated")
        .await;
    kubectl.says("describe pod p", "", "QoS Class").await;
    kubectl.says("get svc s", "", "ClusterIP").await;
    kubectl
        .says(
            "wait --for=jsonpath={.status.phase}=Pending pod/p --timeout=5s",
            "",
            "condition met",
        )
        .await;
    kubectl.says("events", "", "No events").await;
    kubectl
        .refuses(
            "get pod nope",
            "",
            "Error from server (NotFound): pods \"nope\" not found",
        )
        .await;
    kubectl
        .refuses(
            "patch pod p -p {\"spec\":{\"hostNetwork\":true}}",
            "",
            "pod updates may not change fields",
        )
        .await;
    resize(kubectl).await;
    imperative(kubectl).await;
    field_names(kubectl).await;
    kubectl
        .says(
            "replace -f -",
            MANIFEST.split_once("---").unwrap().1,
            "service/s replaced",
        )
        .await;
}

async fn resize(kubectl: &Kubectl) {
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "z"}, "spec": {"containers":
        [{"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m"}}}]}}"#;
    kubectl.says("create -f -", pod, "pod/z created").await;
    let patch = r#"patch pod z --subresource resize -p {"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"CPU"}}}]}}"#;
    kubectl.says(&patch.replace("CPU", "250m"), "", "pod/z patched").await;
    let shown = "get pod z --subresource resize -o jsonpath={.spec.containers[0].resources.requests.cpu}";
    kubectl.says(shown, "", "250m").await;
    let expected = "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed";
    kubectl.refuses(&patch.replace("\"CPU\"", "null"), "", expected).await;
    let ordinary = patch.replace(" --subresource resize", "").replace("CPU", "300m");
    kubectl
        .refuses(&ordinary, "", "pod updates may not change fields")
        .await;
}

/// These send protobuf.
async fn imperative(kubectl: &Kubectl) {
    kubectl.says("create namespace team", "", "created").await;
    kubectl
        .says("create configmap c --from-literal=a=b", "", "created")
        .await;
    kubectl
        .says("get configmap c -o jsonpath={.data}", "", "{\"a\":\"b\"}")
        .await;
    kubectl
        .says("create secret generic s --from-literal=a=b", "", "created")
        .await;
    kubectl
        .says("get secret s -o jsonpath={.data}", "", "{\"a\":\"Yg==\"}")
        .await;
    kubectl
        .says(
            "create deployment i --image=web:1 --replicas=0 --port=80",
            "",
            "created",
        )
        .await;
    kubectl
        .says("get deployment i -o jsonpath={.spec.replicas}", "", "0")
        .await;
    kubectl.says("create serviceaccount a", "", "created").await;
    kubectl.says("create token a", "", "").await;
    kubectl.says("create job j --image=web:1", "", "created").await;
    kubectl
        .says("create service clusterip i --tcp=80:8080", "", "created")
        .await;
    kubectl
        .says("create pdb b --selector=app=web --min-available=50%", "", "created")
        .await;
    kubectl
        .says("get pdb b -o jsonpath={.spec.minAvailable}", "", "50%")
        .await;
    kubectl.says("run r --image=web:1 --env=A=B", "", "created").await;
    kubectl.says("auth can-i create pods", "", "yes").await;
    kubectl.says("auth whoami", "", "kubernetes-admin").await;
}

/// Nothing is served to whoever is not known: with a certificate of another authority, with a token that nobody gave out,
/// or one whose account has gone.
async fn strangers(kubectl: &Kubectl) {
    let home = kubectl.home.path();
    let own = std::fs::read_to_string(home.join("kubeconfig")).unwrap();
    let other = Pki::load_or_create(&home.join("other"), &[], &[])
        .unwrap()
        .kubeconfig("https://nowhere");
    let line = |text: &str, key: &str| text.lines().find(|l| l.contains(key)).unwrap().to_owned();
    let (mut foreign, mut nobody) = (own.clone(), own.clone());
    for key in ["client-certificate-data", "client-key-data"] {
        foreign = foreign.replace(&line(&own, key), &line(&other, key));
        nobody = nobody.replace(&line(&own, key), "");
    }
    let file = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let foreign = file("foreign", &foreign);
    let (success, text) = kubectl.run(&format!("get ns --kubeconfig {foreign}"), "").await;
    assert!(!success && !text.contains("kube-system"), "{text}");
    let nobody = file("nobody", &nobody.replace("  user:\n\n", "  user: {}\n"));
    // Without anything to show kubectl asks for a name; a token that nobody gave out is as good as nothing.
    let wrong = format!("get --raw /metrics --kubeconfig {nobody} --token wrong");
    kubectl.refuses(&wrong, "", "Unauthorized").await;
    let (_, token) = kubectl.run("create token a", "").await;
    let with_token = |what: &str| format!("{what} --kubeconfig {nobody} --token {}", token.trim());
    kubectl
        .says(&with_token("auth whoami"), "", "system:serviceaccounts:default")
        .await;
    rights(kubectl, with_token).await;
    kubectl.says("delete serviceaccount a", "", "deleted").await;
    kubectl.says("create serviceaccount a", "", "created").await;
    kubectl.refuses(&with_token("auth whoami"), "", "Unauthorized").await;
}

/// What a service account may do, before and after it is given a role.
async fn rights(kubectl: &Kubectl, with_token: impl Fn(&str) -> String) {
    let refused = "pods is forbidden: User \"system:serviceaccount:default:a\" cannot list resource \"pods\" in API group \"\" \
                   in the namespace \"default\"";
    kubectl.refuses(&with_token("get pods"), "", refused).await;
    kubectl.refuses(&with_token("auth can-i list pods"), "", "no").await;
    kubectl
        .says(
            &with_token("auth can-i --list"),
            "",
            "selfsubjectrulesreviews.authorization.k8s.io",
        )
        .await;
    let bind = "create rolebinding a --clusterrole view --serviceaccount default:a";
    kubectl.says(bind, "", "created").await;
    kubectl.says(&with_token("get pods"), "", "NAME").await;
    kubectl.says(&with_token("auth can-i list pods"), "", "yes").await;
    kubectl.refuses(&with_token("get secrets"), "", "Forbidden").await;
    kubectl
        .refuses(&with_token("get pods -n kube-system"), "", "Forbidden")
        .await;
    kubectl.refuses(&with_token("delete pod p"), "", "Forbidden").await;
    let role = "kind: Role\napiVersion: rbac.authorization.k8s.io/v1\nmetadata: {name: r, namespace: default}\n\
                rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]\n";
    kubectl.says("auth reconcile -f -", role, "reconciled").await;
    kubectl
        .says(
            "auth reconcile -f -",
            &role.replace("[list]", "[get]"),
            "missing rules added",
        )
        .await;
    kubectl
        .says("get role r -o jsonpath={.rules[*].verbs}", "", "[\"list\"] [\"get\"]")
        .await;
}

/// Typing mistakes are told, and the fields of built-in kinds.
async fn field_names(kubectl: &Kubectl) {
    let wrong = MANIFEST
        .replace("replicas: 2", "replica: 2")
        .replace("name: d}", "name: e}");
    kubectl
        .refuses("apply -f -", &wrong, "unknown field \"spec.replica\"")
        .await;
    kubectl
        .says("explain pod.spec.containers.readinessProbe", "", "httpGet")
        .await;
    kubectl
        .says("explain deployment.spec", "", "progressDeadlineSeconds")
        .await;
}

async fn custom_kinds(kubectl: &Kubectl) {
    let widget =
        |size: &str| format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{{size}}}\n");
    kubectl.says("create -f -", DEFINITION, "created").await;
    kubectl
        .says(
            "wait --for=condition=Established crd/widgets.example.com --timeout=5s",
            "",
            "condition met",
        )
        .await;
    kubectl.says("apply -f -", &widget("size: 3"), "created").await;
    kubectl.says("get wi", "", "SIZE").await;
    kubectl.says("explain widgets.spec", "", "How large").await;
    kubectl
        .refuses("apply -f -", &widget("sice: 3"), "unknown field \"spec.sice\"")
        .await;
    kubectl.refuses("apply -f -", &widget("size: big"), "spec.size").await;
    kubectl.says("delete widget w", "", "deleted").await;
    kubectl.says("delete crd widgets.example.com", "", "deleted").await;
}
