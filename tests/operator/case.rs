//! One case: a namespace of its own on a ground, and the words that cases are told in.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::ground::Ground;
use crate::process::PATIENCE;

/// Name of the CloneSet of a case.
pub(crate) const NAME: &str = "web";

/// See the module.
pub(crate) struct Case {
    pub(crate) ground: Rc<Ground>,
    pub(crate) namespace: String,
    /// Kind of the workload that the words speak of.
    kind: Cell<&'static str>,
}

/// A CloneSet `web`: `app` (a web server with a probe) and `log`, in place if possible, one pod at a time.
pub(crate) fn cloneset(replicas: u32) -> Value {
    let env = |container: &str| {
        // By these a test finds the processes of real containers.
        json!([{"name": "CONTAINER", "value": container},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])
    };
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [
                    {"name": "app", "image": "app:1", "env": env("app"), "ports": [{"name": "http", "containerPort": 8080}],
                     "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}},
                    {"name": "log", "image": "log:1", "env": env("log")},
                ]},
            },
        },
    })
}

impl Case {
    /// A case in a new namespace.
    pub(crate) async fn new(ground: Rc<Ground>, name: &str) -> Self {
        let case = Self {
            ground,
            namespace: name.replace('_', "-"),
            kind: Cell::new("CloneSet"),
        };
        let namespaces = case.all("", "v1", "Namespace");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}});
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
        // Kubernetes' own controller for this is on one of the grounds only, and pods are refused without it.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let account = serde_json::from_value(account).expect("an account");
        match case
            .api("", "v1", "ServiceAccount")
            .create(&PostParams::default(), &account)
            .await
        {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            answer => drop(answer.expect("a service account")),
        }
        case
    }

    fn all(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::all_with(self.ground.client.clone(), &resource)
    }

    /// Objects of a kind in the case's namespace.
    pub(crate) fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.ground.client.clone(), &self.namespace, &resource)
    }

    /// From now on the words speak of a workload of this kind.
    pub(crate) fn looks_at(&self, kind: &'static str) {
        self.kind.set(kind);
    }

    /// Workloads of the case, CloneSets unless it looks at another kind.
    pub(crate) fn sets(&self) -> Api<DynamicObject> {
        self.api("apps.kruise.io", "v1beta1", self.kind.get())
    }

    /// Creates an object; the error is the API server's.
    pub(crate) async fn try_create(&self, object: &Value) -> Result<Value, String> {
        let (group, version) = object["apiVersion"]
            .as_str()
            .and_then(|text| text.split_once('/'))
            .unwrap_or(("", "v1"));
        let api = self.api(group, version, object["kind"].as_str().unwrap_or_default());
        let object = serde_json::from_value(object.clone()).expect("an object");
        let answer = api.create(&PostParams::default(), &object).await;
        answer.map(|object| value(&object)).map_err(|error| error.to_string())
    }

    /// Creates an object.
    pub(crate) async fn create(&self, object: &Value) -> Value {
        self.try_create(object)
            .await
            .unwrap_or_else(|error| panic!("{error}: {object}"))
    }

    /// Creates an object that is in no namespace, if it is not there.
    pub(crate) async fn create_global(&self, object: &Value) {
        let (group, version) = object["apiVersion"]
            .as_str()
            .and_then(|text| text.split_once('/'))
            .unwrap_or(("", "v1"));
        let api = self.all(group, version, object["kind"].as_str().unwrap_or_default());
        let object = serde_json::from_value(object.clone()).expect("an object");
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            answer => drop(answer.expect("an object")),
        }
    }

    /// Creates a CloneSet and waits until all its pods serve; gives the pods.
    pub(crate) async fn start(&self, set: &Value) -> Vec<Value> {
        self.create(set).await;
        self.settled().await;
        self.pods().await
    }

    /// Merges into the CloneSet; the error is the API server's.
    pub(crate) async fn try_patch(&self, patch: &Value) -> Result<Value, String> {
        let answer = self
            .sets()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        answer.map(|object| value(&object)).map_err(|error| error.to_string())
    }

    /// Merges into the CloneSet.
    pub(crate) async fn patch(&self, patch: Value) -> Value {
        self.try_patch(&patch)
            .await
            .unwrap_or_else(|error| panic!("{error}: {patch}"))
    }

    /// Changes settings of the rollout.
    pub(crate) async fn rolling(&self, settings: Value) {
        self.patch(json!({"spec": {"updateStrategy": {"rollingUpdate": settings}}}))
            .await;
    }

    /// Gives containers of the template other images.
    pub(crate) async fn images(&self, images: &[(&str, &str)]) {
        let set = self.set().await;
        let mut containers = set["spec"]["template"]["spec"]["containers"].clone();
        for container in containers.as_array_mut().expect("containers") {
            if let Some((_, image)) = images.iter().find(|(name, _)| container["name"] == **name) {
                container["image"] = json!(image);
            }
        }
        self.patch(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
            .await;
    }

    /// Merges into a pod.
    pub(crate) async fn patch_pod(&self, name: &str, patch: Value) {
        let api = self.api("", "v1", "Pod");
        let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        answer.unwrap_or_else(|error| panic!("{error}: {patch}"));
    }

    /// Kills the process of a pod's container.
    pub(crate) async fn crash(&self, pod: &Value, container: &str) {
        self.ground.crash(&self.namespace, name(pod), container).await;
    }

    /// Keeps the kubelet of the pod's node from seeing any change.
    pub(crate) async fn pause_node(&self, pod: &Value) {
        self.ground.pause_node(node(pod), true).await;
    }

    /// Ends that.
    pub(crate) async fn resume_node(&self, pod: &Value) {
        self.ground.pause_node(node(pod), false).await;
    }

    /// Waits until the operator has seen everything that there is now, and thought about it: a new generation's status
    /// comes of it.
    pub(crate) async fn looked_at(&self) {
        let set = self.set().await;
        let seconds = set["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(10_000) + 1;
        self.patch(json!({"spec": {"progressDeadlineSeconds": seconds}})).await;
        let seen = |set: &Value| set["status"]["observedGeneration"] == set["metadata"]["generation"];
        self.until("the status of a new generation", seen).await;
    }

    /// The CloneSet.
    pub(crate) async fn set(&self) -> Value {
        value(&self.sets().get(NAME).await.expect("the CloneSet"))
    }

    /// The pods that are not being deleted, in order of their names.
    pub(crate) async fn pods(&self) -> Vec<Value> {
        let mut pods = self.list("", "v1", "Pod").await;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    /// Waits until the volume claims are as wished, those being deleted not counted, and gives them.
    pub(crate) async fn until_claims(&self, what: &str, wish: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut claims = self.list("", "v1", "PersistentVolumeClaim").await;
            claims.retain(|claim| claim["metadata"]["deletionTimestamp"].is_null());
            if wish(&claims) {
                return claims;
            }
            self.in_time(deadline, what).await;
        }
    }

    /// Waits for an event of the case; events go out beside the rest of the work.
    pub(crate) async fn until_event(&self, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.list("", "v1", "Event").await;
            if let Some(event) = events.iter().find(|event| wish(event)) {
                return event.clone();
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {events:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Creates an object of a version that the API server converts, once it can: the operator tells it of its webhook, definition after
    /// definition, a moment after it leads.
    pub(crate) async fn create_converted(&self, object: &Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_create(object).await {
                Ok(created) => return created,
                Err(error) => assert!(
                    error.contains("conversion webhook") && Instant::now() < deadline,
                    "{error}: {object}"
                ),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a change of the workload is refused, and gives the reason.
    pub(crate) async fn until_refused(&self, patch: &Value) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Err(error) = self.try_patch(patch).await {
                return error;
            }
            self.in_time(deadline, "the refusal").await;
        }
    }

    /// All objects of a kind, in order of their names.
    pub(crate) async fn list(&self, group: &str, version: &str, kind: &str) -> Vec<Value> {
        let list = self.api(group, version, kind).list(&ListParams::default()).await;
        let mut list: Vec<Value> = list.expect("a list").iter().map(value).collect();
        list.sort_by_key(|object| name(object).to_owned());
        list
    }

    /// Waits until the CloneSet is as wished, and gives it.
    pub(crate) async fn until(&self, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let set = self.set().await;
            if wish(&set) {
                return set;
            }
            self.in_time(deadline, what).await;
        }
    }

    /// Waits until the pods are as wished, and gives them.
    pub(crate) async fn until_pods(&self, what: &str, wish: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().await;
            if wish(&pods) {
                return pods;
            }
            self.in_time(deadline, what).await;
        }
    }

    /// Waits for an event with this reason.
    pub(crate) async fn reported(&self, reason: &str) {
        self.until_event(reason, |event| event["reason"] == reason).await;
    }

    /// Waits until the CloneSet says that all its pods are new and serve; gives it.
    pub(crate) async fn settled(&self) -> Value {
        self.until("the CloneSet settled", settled).await
    }

    async fn in_time(&self, deadline: Instant, what: &str) {
        if Instant::now() > deadline {
            let mut set = self.sets().get(NAME).await.map_or(Value::Null, |set| value(&set));
            set["metadata"]["managedFields"] = Value::Null;
            let pods: Vec<String> = self.list("", "v1", "Pod").await.iter().map(told).collect();
            panic!("waited in vain for {what}: {set:#}\n{}", pods.join("\n"));
        }
        sleep(Duration::from_millis(50)).await;
    }

    /// Removes what the case made: one of the grounds has nobody else for that.
    pub(crate) async fn clean(&self) {
        let foreground = DeleteParams::default();
        let workload = |kind: &'static str| ("apps.kruise.io", "v1beta1", kind);
        for kind in [
            workload("CloneSet"),
            workload("StatefulSet"),
            workload("DaemonSet"),
            ("policy.kruise.io", "v1beta1", "PodUnavailableBudget"),
            ("", "v1", "Pod"),
        ] {
            let api = self.api(kind.0, kind.1, kind.2);
            api.delete_collection(&foreground, &ListParams::default())
                .await
                .expect("deletion");
        }
    }
}

/// Everything wanted is there, and the status says so about the newest generation.
pub(crate) fn settled(set: &Value) -> bool {
    let (status, replicas) = (&set["status"], &set["spec"]["replicas"]);
    status["observedGeneration"] == set["metadata"]["generation"]
        && status["updatedAvailableReplicas"] == *replicas
        && status["replicas"] == *replicas
        && reason(set).strip_suffix("Available") == set["kind"].as_str()
}

/// What the CloneSet does or waits for, in one word.
pub(crate) fn reason(set: &Value) -> &str {
    rollout(set)["reason"].as_str().unwrap_or_default()
}

/// The same in one sentence.
pub(crate) fn message(set: &Value) -> &str {
    rollout(set)["message"].as_str().unwrap_or_default()
}

fn rollout(set: &Value) -> &Value {
    condition(set, "afloat.dev/Rollout")
}

/// A condition by type; null if there is none.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.unwrap_or(&Value::Null)
}

/// Whether the pod is Ready.
pub(crate) fn ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}

/// A container's status; null if there is none.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let found = statuses.and_then(|all| all.iter().find(|status| status["name"] == name));
    found.unwrap_or(&Value::Null)
}

/// How often a container was started again.
pub(crate) fn restarts(pod: &Value, name: &str) -> u64 {
    container(pod, name)["restartCount"].as_u64().unwrap_or_default()
}

/// The image that the pod's spec has for a container.
pub(crate) fn image<'a>(pod: &'a Value, name: &str) -> &'a str {
    let containers = pod["spec"]["containers"].as_array();
    let found = containers.and_then(|all| all.iter().find(|container| container["name"] == name));
    found
        .and_then(|container| container["image"].as_str())
        .unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether two lists of pods are the same pods.
pub(crate) fn same_pods(before: &[Value], after: &[Value]) -> bool {
    before.iter().map(uid).eq(after.iter().map(uid))
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("JSON")
}

/// A pod in a few lines, for the report of a failure.
fn told(pod: &Value) -> String {
    format!(
        "{} {} {}\n  {}\n  {}\n  {}",
        name(pod),
        pod["metadata"]["labels"],
        pod["metadata"]["annotations"],
        pod["status"]["phase"],
        pod["status"]["conditions"],
        pod["status"]["containerStatuses"],
    )
}
