//! PodUnavailableBudgets: what is refused and what goes, whoever asks.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::budget::Budget;
use crate::case::{Case, NAME, cloneset, message, name, ready};
use crate::process::PATIENCE;

const REFUSED: &str = "podunavailablebudget.policy.kruise.io \"web\" is forbidden: pub unavailable allowed is negative";

fn budget(spec: &Value) -> Value {
    let mut budget = json!({
        "apiVersion": "policy.kruise.io/v1beta1", "kind": "PodUnavailableBudget", "metadata": {"name": NAME},
        "spec": {"selector": {"matchLabels": {"app": NAME}}},
    });
    for (key, value) in spec.as_object().expect("fields") {
        budget["spec"][key] = value.clone();
    }
    budget
}

async fn patch_budget(case: &Case, spec: Value) {
    let api = case.api("policy.kruise.io", "v1beta1", "PodUnavailableBudget");
    let patch = json!({"spec": spec});
    let answer = api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await;
    answer.unwrap_or_else(|error| panic!("{error}: {patch}"));
}

/// Waits until the budget says that so many may go, so many are available, must be and should be; and all pods bear its name.
async fn counted(case: &Case, wanted: [i64; 4]) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = case.list("policy.kruise.io", "v1beta1", "PodUnavailableBudget").await;
        let fields = [
            "unavailableAllowed",
            "currentAvailable",
            "desiredAvailable",
            "totalReplicas",
        ];
        let status = &list[0]["status"];
        let seen = status["observedGeneration"] == list[0]["metadata"]["generation"];
        let numbers = fields.map(|field| status[field].as_i64().unwrap_or(-1));
        let pods = case.pods().await;
        let annotation = |pod: &Value| pod["metadata"]["annotations"]["kruise.io/related-pub"] == NAME;
        let noted = ["disruptedPods", "unavailablePods"]
            .iter()
            .any(|map| status[*map].as_object().is_some_and(|map| !map.is_empty()));
        if seen && numbers == wanted && pods.iter().all(|pod| annotation(pod) && ready(pod)) && !noted {
            return pods;
        }
        assert!(
            Instant::now() < deadline,
            "waited in vain for {wanted:?}: {status}\n{pods:#?}"
        );
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn typed(case: &Case) -> Api<Pod> {
    Api::namespaced(case.ground.client.clone(), &case.namespace)
}

/// Code and message of what was refused.
fn refusal<T>(answer: kube::Result<T>) -> Option<(u16, String)> {
    match answer {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some((status.code, status.message.clone())),
        Err(error) => panic!("{error}"),
    }
}

/// Whether an eviction takes place at once; otherwise it is to come later.
async fn at_once(case: &Case, pod: &str) -> bool {
    let api: Api<Pod> = Api::namespaced(case.ground.once.clone(), &case.namespace);
    match refusal(api.evict(pod, &EvictParams::default()).await) {
        None => true,
        Some((429, _)) => false,
        Some(refused) => panic!("{refused:?}"),
    }
}

/// Waits until the API server asks the operator, which tells it of its webhook a moment after it leads: under a budget of nothing no pod
/// may go.
async fn guarded(case: &Case, pod: &Value) {
    let (api, dry) = (typed(case), DeleteParams::default().dry_run());
    let deadline = Instant::now() + PATIENCE;
    while refusal(api.delete(name(pod), &dry).await).is_none() {
        assert!(Instant::now() < deadline, "nobody guards {}", name(pod));
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// One of two went, and the other was refused with this code and OpenKruise's words.
fn one_of(answers: [Option<(u16, String)>; 2], code: u16) {
    let refused: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    assert_eq!(refused[0].0, code, "{answers:?}");
    assert!(refused[0].1.ends_with(REFUSED), "{answers:?}");
}

/// Two at once never both take the last one, whatever they want.
pub(super) async fn a_budget_guards_its_pods(case: &Case) {
    if !case.ground.converts() {
        return; // The API server cannot ask the operator there.
    }
    case.start(&cloneset(3)).await;
    case.create(&budget(&json!({"maxUnavailable": 0}))).await;
    guarded(case, &counted(case, [0, 3, 3, 3]).await[0]).await;
    patch_budget(case, json!({"maxUnavailable": 1})).await;
    let all = [1, 3, 2, 3];
    let pods = counted(case, all).await;
    let (api, parameters) = (&typed(case), &DeleteParams::default());
    let delete = async |pod: &Value| refusal(api.delete(name(pod), parameters).await);
    let (first, second) = tokio::join!(delete(&pods[0]), delete(&pods[1]));
    one_of([first, second], 403);
    case.reported("PubPreventPodDeletion").await;

    let pods = counted(case, all).await;
    let evict = async |pod: &Value| at_once(case, name(pod)).await;
    let (first, second) = tokio::join!(evict(&pods[0]), evict(&pods[1]));
    assert!(first != second, "one went, and the other is to wait: {first}");

    let pods = counted(case, all).await;
    let image = json!({"spec": {"containers": [{"name": "log", "image": "log:2"}]}});
    let update = async |pod: &Value| {
        refusal(
            api.patch(name(pod), &PatchParams::default(), &Patch::Strategic(&image))
                .await,
        )
    };
    let (first, second) = tokio::join!(update(&pods[0]), update(&pods[1]));
    one_of([first, second], 403);
    // Who may go whatever the budget says.
    let exempt = json!({"metadata": {"annotations": {"pub.kruise.io/no-protect": "true"}}});
    let free = name(&pods[2]);
    api.patch(free, &PatchParams::default(), &Patch::Merge(&exempt))
        .await
        .expect("an annotation");
    assert_eq!(refusal(api.delete(free, parameters).await), None);
}

/// A resize that restarts nothing is guarded only if that is said. Then it takes one of the budget, until that is forgotten.
pub(super) async fn resizes_are_guarded_if_that_is_said(case: &Case) {
    if !case.ground.converts() {
        return; // The API server cannot ask the operator there.
    }
    let mut set = cloneset(2);
    set["spec"]["template"]["spec"]["containers"][1]["resources"] = json!({"requests": {"cpu": "10m"}});
    case.start(&set).await;
    case.create(&budget(&json!({"maxUnavailable": 0}))).await;
    let pods = counted(case, [0, 2, 2, 2]).await;
    guarded(case, &pods[0]).await;
    let (api, parameters) = (&typed(case), &PatchParams::default());
    let label = json!({"metadata": {"labels": {"unavailable-pod.kruise.io/test": "true"}}});
    let marked = refusal(api.patch(name(&pods[0]), parameters, &Patch::Merge(&label)).await);
    assert!(marked.is_some_and(|(code, message)| code == 403 && message.ends_with(REFUSED)));
    let other = json!({"metadata": {"labels": {"other": "true"}}});
    assert_eq!(
        refusal(api.patch(name(&pods[0]), parameters, &Patch::Merge(&other)).await),
        None
    );
    let resize = async |pod: &Value, amount: &str| {
        let resources = json!({"requests": {"cpu": amount}});
        let patch = json!({"spec": {"containers": [{"name": "log", "resources": resources}]}});
        let patch = Patch::Strategic(&patch);
        refusal(api.patch_subresource("resize", name(pod), parameters, &patch).await)
    };
    assert_eq!(
        resize(&pods[0], "20m").await,
        None,
        "nobody has said that it is guarded"
    );
    patch_budget(case, json!({"protectOperations": ["RESIZE"], "maxUnavailable": 1})).await;
    let pods = counted(case, [1, 2, 1, 2]).await;
    let (first, second) = tokio::join!(resize(&pods[0], "30m"), resize(&pods[1], "30m"));
    let refused = usize::from(first.is_none());
    one_of([first, second], 403);
    let pods = counted(case, [1, 2, 1, 2]).await;
    assert_eq!(
        resize(&pods[refused], "30m").await,
        None,
        "the other one has been long ago"
    );
    let amounts = case.until_pods("both are resized", |pods| {
        let cpu = |pod: &Value| pod["spec"]["containers"][1]["resources"]["requests"]["cpu"] == "30m";
        pods.iter().all(cpu)
    });
    amounts.await;
}

/// What OpenKruise refuses: a second budget for the same pods, another selector, annotations that nobody can read.
pub(super) async fn two_budgets_are_not_about_the_same_pods(case: &Case) {
    if !case.ground.converts() {
        return; // The API server cannot ask the operator there.
    }
    case.create(&budget(&json!({"maxUnavailable": 1}))).await;
    case.reported("NoPods").await;
    let api = case.api("policy.kruise.io", "v1beta1", "PodUnavailableBudget");
    let annotation = json!({"metadata": {"annotations": {"kruise.io/pub-protect-operations": "DELETE,SCALE"}}});
    // The operator tells the API server of its webhook a moment after it leads.
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let deadline = Instant::now() + PATIENCE;
    while refusal(api.patch(NAME, &dry, &Patch::Merge(&annotation)).await).is_none() {
        assert!(Instant::now() < deadline, "nobody reads budgets");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut second = budget(&json!({"maxUnavailable": 1}));
    second["metadata"]["name"] = json!("second");
    second["spec"]["selector"] =
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", NAME]}]});
    let conflict = "pub.spec.selector is in conflict with other PodUnavailableBudget web";
    let refused = case.try_create(&second).await.expect_err("a conflict");
    assert!(refused.contains(conflict), "{refused}");
    second["spec"]["selector"]["matchExpressions"][0]["values"] = json!(["api"]);
    case.create(&second).await;
    let (parameters, selector) = (
        PatchParams::default(),
        json!({"spec": {"selector": {"matchLabels": {"app": "api"}}}}),
    );
    let moved = refusal(api.patch(NAME, &parameters, &Patch::Merge(&selector)).await);
    assert!(moved.is_some_and(|(code, message)| code == 422 && message.contains("selector and targetRef cannot be modified")));
    let unread = refusal(api.patch(NAME, &parameters, &Patch::Merge(&annotation)).await);
    let invalid = "annotation[kruise.io/pub-protect-operations] is invalid";
    assert!(unread.is_some_and(|(code, message)| code == 400 && message.ends_with(invalid)));
}

/// kruise #2571: pods of a ReplicaSet that belongs to something else than a Deployment. Nobody makes pods of it here but the case.
pub(super) async fn a_target_may_own_its_pods_through_a_replica_set(case: &Case) {
    if !case.ground.converts() {
        return; // There somebody looks after ReplicaSets.
    }
    let owner = |kind: &str, version: &str, of: &Value| json!([{"apiVersion": version, "kind": kind, "name": name(of), "uid": of["metadata"]["uid"], "controller": true}]);
    // Whatever has a scale will do.
    let mut top = cloneset(0);
    top["metadata"]["name"] = json!("top");
    let top = case.create(&top).await;
    let mut template = top["spec"]["template"].clone();
    template["metadata"]["labels"] = json!({"app": "deep"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "middle", "ownerReferences": owner("CloneSet", "apps.kruise.io/v1beta1", &top)},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "deep"}}, "template": template},
    });
    let set = case.create(&set).await;
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] =
        json!({"name": "deep", "labels": {"app": "deep"}, "ownerReferences": owner("ReplicaSet", "apps/v1", &set)});
    case.create(&pod).await;
    let mut budget = budget(&json!({"maxUnavailable": 0, "protectTotalReplicas": 1,
        "targetRef": {"apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "name": "top"}}));
    budget["spec"].as_object_mut().expect("fields").remove("selector");
    case.create(&budget).await;
    guarded(case, &counted(case, [0, 1, 1, 1]).await[0]).await;
    let refused = refusal(typed(case).delete("deep", &DeleteParams::default()).await);
    assert!(refused.is_some_and(|(code, message)| code == 403 && message.ends_with(REFUSED)));
    let sets = case.api("apps", "v1", "ReplicaSet");
    sets.delete("middle", &DeleteParams::default()).await.expect("deletion");
}

/// The rollout itself would take all pods at once.
pub(super) async fn a_rollout_heeds_a_budget(case: &Case) {
    let mut set = cloneset(4);
    set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!("100%");
    case.start(&set).await;
    case.create(&budget(&json!({"maxUnavailable": "25%"}))).await;
    counted(case, [1, 4, 3, 4]).await;
    let seen = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.until("the budget's sentence", |set| {
        message(set).contains("held by PodUnavailableBudget web")
    })
    .await;
    case.settled().await;
    assert!(seen.seen(case).await.ready_min >= 3);
    counted(case, [1, 4, 3, 4]).await;
}

/// No pod of the set may be missing, and yet one is evicted.
pub(super) async fn an_eviction_waits_for_the_replacement(case: &Case) {
    if !case.ground.converts() {
        return; // The API server cannot ask the operator there.
    }
    let mut set = cloneset(2);
    set["metadata"]["annotations"] = json!({"afloat.dev/before-eviction": "Surge"});
    set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(0);
    let pods = case.start(&set).await;
    // Of a budget alone it is to be seen that the API server asks the operator.
    case.create(&budget(&json!({"maxUnavailable": 0}))).await;
    guarded(case, &counted(case, [0, 2, 2, 2]).await[0]).await;
    let budgets = case.api("policy.kruise.io", "v1beta1", "PodUnavailableBudget");
    budgets.delete(NAME, &DeleteParams::default()).await.expect("deletion");
    let seen = Budget::watch(case).await;
    let (api, evicted) = (typed(case), name(&pods[0]));
    assert!(!at_once(case, evicted).await, "it has to wait");
    // As `kubectl drain`: again and again, until the pod is gone.
    let deadline = Instant::now() + PATIENCE;
    while refusal(api.evict(evicted, &EvictParams::default()).await).is_none_or(|(code, _)| code != 404) {
        assert!(Instant::now() < deadline, "the pod stays");
        sleep(std::time::Duration::from_millis(100)).await;
    }
    case.settled().await;
    let extremes = seen.seen(case).await;
    assert!(extremes.ready_min >= 2, "{extremes:?}");
    assert_eq!(extremes.pods_max, 3, "{extremes:?}");
}

/// A budget that nobody can be asked about takes nothing down with it.
pub(super) async fn without_the_operator_pods_go(case: &Case) {
    if !case.ground.converts() {
        return; // The API server cannot ask the operator there.
    }
    case.start(&cloneset(2)).await;
    case.create(&budget(&json!({"maxUnavailable": 0}))).await;
    let pods = counted(case, [0, 2, 2, 2]).await;
    guarded(case, &pods[0]).await;
    let api = typed(case);
    let refused = refusal(api.delete(name(&pods[0]), &DeleteParams::default()).await);
    assert!(refused.is_some_and(|(code, _)| code == 403));
    case.ground.take_operator().stop("KILL");
    let mut second = budget(&json!({"maxUnavailable": 0}));
    second["metadata"]["name"] = json!("second");
    case.create(&second).await;
    assert_eq!(
        refusal(api.delete(name(&pods[0]), &DeleteParams::default()).await),
        None
    );
    case.ground.start_operator().await;
    case.settled().await;
}
