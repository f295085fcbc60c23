//! What is said of a change before it is made.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests may fail as tests do

use afloat_api::Gates;
use afloat_check::plan::{Forecast, Outcome, Server, Situation, forecast, text};
use afloat_check::{Image, Images};
use serde_json::{Value, json};

fn set() -> Value {
    json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "metadata": {"name": "web"}, "spec": {
        "replicas": 10, "minReadySeconds": 2, "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"rollingUpdate": {"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "30%",
            "inPlaceUpdateStrategy": {"gracePeriodSeconds": 5}}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "initContainers": [{"name": "init", "image": "init:1"}],
            "containers": [
                {"name": "app", "image": "web:v1", "readinessProbe": {"initialDelaySeconds": 3, "httpGet": {"port": 1}}},
                {"name": "log", "image": "log:v1"}]}}}})
}

fn changed(edit: impl FnOnce(&mut Value), history: &[u64]) -> Forecast {
    let old = set();
    let mut new = set();
    edit(&mut new);
    let image = |id: &str| Image {
        id: id.to_owned(),
        paths: None,
    };
    let images: Images = [("web:v1".to_owned(), image("1")), ("web:stable".to_owned(), image("1"))].into();
    let situation = Situation {
        old: Some(&old),
        new: &new,
        pods: &[],
        revisions: &[],
        configs: &[],
        configs_before: &[],
        budgets: &[json!({"kind": "PodDisruptionBudget", "metadata": {"name": "few"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0}})],
        images: &images,
        history,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        server: Server::default(),
        gates: Gates::default(),
    };
    forecast(&situation).expect("a workload")
}

const IMAGE: &str = "/spec/template/spec/containers/0/image";

#[test]
fn an_image_changes_in_place() {
    let told = changed(|new| *new.pointer_mut(IMAGE).unwrap() = json!("web:v2"), &[]);
    assert_eq!(told.outcome, Outcome::InPlace);
    assert_eq!((told.pods_to_change, told.max_unavailable, told.max_surge), (10, 3, 0));
    let restarts: Vec<_> = told.containers.iter().map(|c| (c.name.as_str(), c.restarts)).collect();
    assert_eq!(restarts, [("app", true), ("log", false)]);
    let estimate = told.estimate.clone().unwrap();
    // Grace 5, first probe after 3, minReadySeconds 2; 3 + 3 + 3 + 1 pods.
    assert_eq!((estimate.pod_seconds, estimate.rounds, estimate.seconds), (10, 4, 40));
    assert!(
        told.holds.iter().any(|hold| hold.to_string().contains("few")),
        "{:?}",
        told.holds
    );
    assert!(
        text(&told).contains("app restarts: image web:v1 → web:v2"),
        "{}",
        text(&told)
    );
}

#[test]
fn history_is_believed() {
    let told = changed(|new| *new.pointer_mut(IMAGE).unwrap() = json!("web:v2"), &[7, 30, 9]);
    let estimate = told.estimate.unwrap();
    assert!(estimate.from_history);
    assert_eq!((estimate.pod_seconds, estimate.seconds), (9, 36));
}

#[test]
fn another_name_of_one_image_is_noticed() {
    let told = changed(|new| *new.pointer_mut(IMAGE).unwrap() = json!("web:stable"), &[]);
    assert!(
        told.containers[0].restarts && told.containers[0].why.contains("same image"),
        "{told:?}"
    );
}

#[test]
fn what_forces_recreation_is_named() {
    let told = changed(
        |new| new["spec"]["template"]["spec"]["initContainers"][0]["image"] = json!("init:2"),
        &[],
    );
    assert_eq!(told.outcome, Outcome::Recreate);
    assert!(told.why.contains("spec.template.spec.initContainers"), "{}", told.why);
    assert!(told.containers.iter().all(|container| container.restarts));
}

#[test]
fn a_sidecar_restarts_alone_where_the_cluster_does_that() {
    let mut old = set();
    old["spec"]["template"]["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["initContainers"][0]["image"] = json!("init:2");
    let told = |minor| {
        let situation = Situation {
            old: Some(&old),
            new: &new,
            pods: &[],
            revisions: &[],
            configs: &[],
            configs_before: &[],
            budgets: &[],
            images: &Images::new(),
            history: &[],
            server: Server { minor, resizes: true },
            gates: Gates::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        forecast(&situation).unwrap()
    };
    let recreated = told(31);
    assert_eq!(recreated.outcome, Outcome::Recreate);
    assert!(recreated.why.contains("does not restart sidecars"), "{}", recreated.why);
    let in_place = told(34);
    assert_eq!(in_place.outcome, Outcome::InPlace);
    let restarting: Vec<_> = in_place
        .containers
        .iter()
        .filter(|container| container.restarts)
        .collect();
    assert_eq!(restarting.len(), 1, "{:?}", in_place.containers);
    assert!(restarting[0].why.ends_with("→ init:2"), "{restarting:?}");
}

#[test]
fn what_holds_is_said() {
    let told = changed(
        |new| {
            *new.pointer_mut(IMAGE).unwrap() = json!("web:v2");
            new["spec"]["updateStrategy"]["rollingUpdate"]["paused"] = json!(true);
            new["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!("50%");
        },
        &[],
    );
    assert_eq!(told.pods_to_change, 5);
    assert!(told.estimate.is_none());
    for word in ["paused", "keeps 5 of 10"] {
        assert!(
            told.holds.iter().any(|hold| hold.to_string().contains(word)),
            "{word}: {:?}",
            told.holds
        );
    }
}

#[test]
fn a_deployment_recreates() {
    let deployment = |image: &str| {
        json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 8,
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
    };
    let (old, new) = (deployment("a:1"), deployment("a:2"));
    let told = forecast(&Situation {
        old: Some(&old),
        new: &new,
        pods: &[],
        revisions: &[],
        configs: &[],
        configs_before: &[],
        budgets: &[],
        images: &Images::new(),
        history: &[],
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        server: Server::default(),
        gates: Gates::default(),
    })
    .unwrap();
    assert_eq!(told.outcome, Outcome::Recreate);
    assert_eq!((told.pods_to_change, told.max_unavailable, told.max_surge), (8, 2, 2));
    assert!(told.why.contains("image a:1 → a:2"), "{}", told.why);
}

/// The object was stored with what OpenKruise's webhook and the schema fill in; the manifest has nothing of it.
#[test]
fn defaults_are_nothing_to_do_and_what_goes_on_is_said() {
    let new = set();
    let mut old = set();
    old["spec"]["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
    for container in old["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
        container["imagePullPolicy"] = json!("Always");
        container["terminationMessagePath"] = json!("/dev/termination-log");
    }
    let rollout = json!({"type": "afloat.dev/Rollout", "status": "True", "message": "1 of 10 pods updated"});
    old["status"] = json!({"conditions": [rollout]});
    let told = forecast(&Situation {
        old: Some(&old),
        new: &new,
        pods: &[],
        revisions: &[],
        configs: &[],
        configs_before: &[],
        budgets: &[],
        images: &Images::default(),
        history: &[],
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        server: Server::default(),
        gates: Gates::default(),
    })
    .expect("a workload");
    assert_eq!(told.outcome, Outcome::Nothing);
    let text = text(&told);
    assert!(text.contains("nothing to do"), "{text}");
    assert!(text.contains("1 of 10 pods updated"), "{text}");
}

/// What the installed operator is told decides.
#[test]
fn feature_gates_decide() {
    let told = |gates: &str, edit: &dyn Fn(&mut Value)| {
        let mut old = set();
        old["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
        let mut new = old.clone();
        edit(&mut new);
        let situation = Situation {
            old: Some(&old),
            new: &new,
            pods: &[],
            revisions: &[],
            configs: &[],
            configs_before: &[],
            budgets: &[],
            images: &Images::new(),
            history: &[],
            server: Server::default(),
            gates: Gates::parse(gates).unwrap().0,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        forecast(&situation).unwrap()
    };
    let resize = |new: &mut Value| {
        new["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
    };
    assert_eq!(told("", &resize).outcome, Outcome::InPlace);
    let off = told("InPlaceWorkloadVerticalScaling=false", &resize);
    assert_eq!(off.outcome, Outcome::Recreate);
    assert!(off.why.contains("InPlaceWorkloadVerticalScaling is off"), "{}", off.why);
    let claims = |new: &mut Value| {
        new["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
        *new.pointer_mut(IMAGE).unwrap() = json!("web:v2");
    };
    assert_eq!(told("", &claims).outcome, Outcome::InPlace);
    let on = told("RecreatePodWhenChangeVCTInCloneSetGate=true", &claims);
    assert_eq!(on.outcome, Outcome::Recreate);
}

#[test]
fn a_stateful_set_waits_for_a_pod_that_is_not_ready() {
    let set = |image: &str, policy: &str| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
            "replicas": 2, "podManagementPolicy": policy, "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
    };
    let pod = |name: &str, ready: &str| json!({"kind": "Pod", "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let pods = [pod("other-0", "False"), pod("db-0", "True"), pod("db-1", "False")];
    let images = Images::default();
    for (policy, waits) in [("OrderedReady", true), ("Parallel", false)] {
        let (old, new) = (set("db:1", policy), set("db:2", policy));
        let told = forecast(&Situation {
            old: Some(&old),
            new: &new,
            pods: &pods,
            revisions: &[],
            configs: &[],
            configs_before: &[],
            budgets: &[],
            images: &images,
            history: &[],
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            server: Server::default(),
            gates: Gates::default(),
        });
        let told = text(&told.expect("a workload"));
        assert_eq!(
            told.contains("pod db-1 is not ready: OrderedReady waits for it"),
            waits,
            "{told}"
        );
        assert!(!told.contains("other-0"), "{told}");
    }
}

#[test]
fn a_config_map_restarts_who_reads_it() {
    let wishes = |wish: bool| {
        let mut set = set();
        if wish {
            set["metadata"]["annotations"] = json!({"afloat.dev/config": "Rollout"});
        }
        set["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "conf"}}]);
        set
    };
    let conf = |text: &str| {
        [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": text}})]
    };
    for (wish, text, outcome) in [
        (true, "two", Outcome::InPlace),
        (true, "one", Outcome::Nothing),
        (false, "two", Outcome::Nothing),
    ] {
        let set = wishes(wish);
        let told = forecast(&Situation {
            old: Some(&set),
            new: &set,
            pods: &[],
            revisions: &[],
            configs: &conf(text),
            configs_before: &conf("one"),
            budgets: &[],
            images: &Images::default(),
            history: &[],
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            server: Server::default(),
            gates: Gates::default(),
        })
        .expect("a workload");
        assert_eq!(told.outcome, outcome, "{wish} {text}");
        if outcome == Outcome::InPlace {
            let text = self::text(&told);
            assert!(text.contains("app restarts: ConfigMap conf changed"), "{text}");
            assert!(text.contains("log keeps running"), "{text}");
        }
    }
}
