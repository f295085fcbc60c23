use std::collections::BTreeMap;

use afloat_install::Need;
use serde_json::{Value, json};

use super::*;

/// A cluster in which all is well.
fn well() -> Seen {
    let crds = afloat_api::crds(&afloat_api::Serving::default())
        .into_iter()
        .map(|crd| {
            let versions: Vec<_> = crd
                .spec
                .versions
                .iter()
                .filter(|v| v.storage)
                .map(|v| v.name.clone())
                .collect();
            let mut crd = json!(crd);
            crd["status"] =
                json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": versions});
            if word(&crd, "/spec/conversion/strategy") == "Webhook" {
                crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = json!("eA==");
            }
            crd
        });
    let time = |text: &str| text.parse().unwrap();
    Seen {
        namespace: "afloat-system".into(),
        version: "v1.32.10".into(),
        clock: Some((
            time("2026-01-01T00:00:10Z"),
            [time("2026-01-01T00:00:10.2Z"), time("2026-01-01T00:00:10.4Z")],
        )),
        crds: Ok(crds.collect()),
        deployment: Ok(Some(json!({
            "metadata": {"labels": {"app.kubernetes.io/version": env!("CARGO_PKG_VERSION")}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": "afloat:1"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 2},
        }))),
        daemon_set: Ok(Some(json!({}))),
        pods: Ok(vec![]),
        nodes: Ok(vec![
            json!({"metadata": {"name": "n1"}}),
            json!({"metadata": {"name": "n2"}}),
        ]),
        reports: Ok(vec![report("n1", true, ""), report("n2", true, "")]),
        lease_place: ("kruise-system".into(), "kruise-manager".into()),
        lease: Ok(Some(lease("afloat-operator-x_1", "2026-01-01T00:00:08.000000Z"))),
        beside: Ok(vec![]),
        webhooks: Ok(vec![]),
        endpoints: BTreeMap::new(),
        denied: Ok(Some(vec![])),
        needed: 50,
    }
}

fn report(node: &str, synced: bool, message: &str) -> Value {
    json!({"metadata": {"name": node}, "status": {"synced": synced, "method": "KubeProxy", "message": message}})
}

fn lease(holder: &str, renewed: &str) -> Value {
    json!({"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}})
}

fn webhook(policy: &str, group: &str, resource: &str) -> Value {
    json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": "others"}, "webhooks": [{
        "name": "a.example.com", "failurePolicy": policy,
        "clientConfig": {"service": {"namespace": "x", "name": "s"}},
        "rules": [{"apiGroups": [group], "resources": [resource]}],
    }]})
}

/// What is not well after a change, as one text.
fn told(change: impl FnOnce(&mut Seen)) -> String {
    let mut seen = well();
    change(&mut seen);
    let lines = judge(&seen);
    let bad = lines.iter().filter(|line| line.state != State::Ok);
    let text = |line: &Line| {
        assert!(
            line.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()),
            "{line:?}"
        );
        format!("{} {}: {}", line.state.word(), line.about, line.says)
    };
    bad.map(text).collect::<Vec<_>>().join("\n")
}

#[test]
fn all_is_well() {
    assert_eq!(told(|_| {}), "");
    let abouts: Vec<_> = judge(&well()).iter().map(|line| line.about).collect();
    for about in [
        "cluster", "clock", "crds", "operator", "rights", "lease", "agents", "webhooks",
    ] {
        assert!(abouts.contains(&about), "{about}");
    }
}

#[track_caller]
/// The definition of NodeTraffic, which stands for any.
fn traffic_of(seen: &mut Seen) -> &mut Value {
    let mut all = seen.crds.as_mut().unwrap().iter_mut();
    all.find(|crd| crd["metadata"]["name"] == "nodetraffics.afloat.dev")
        .unwrap()
}

fn says(change: impl FnOnce(&mut Seen), words: &str) {
    let told = told(change);
    assert!(
        told.starts_with(words) && !told.contains('\n'),
        "{told:?} does not begin with {words:?}"
    );
}

#[test]
fn what_is_not_well_is_told() {
    says(|s| s.version = "v1.24.1".into(), "warning cluster: Kubernetes v1.24.1");
    let clock = |text: &str| Some((text.parse().unwrap(), ["2026-01-01T00:00:10Z".parse().unwrap(); 2]));
    says(
        |s| s.clock = clock("2026-01-01T00:00:20Z"),
        "warning clock: this machine is 10 s behind",
    );
    says(
        |s| s.clock = clock("2026-01-01T00:00:00Z"),
        "warning clock: this machine is 10 s ahead of",
    );
    says(
        |s| s.crds = Ok(s.crds.clone().unwrap().split_off(1)),
        "FAILURE crds: clonesets.apps.kruise.io is missing",
    );
    says(
        |s| s.crds = Err("forbidden".into()),
        "warning crds: not known: forbidden",
    );
    let crd = |change: fn(&mut Value)| move |s: &mut Seen| change(traffic_of(s));
    says(
        crd(|crd| crd["status"] = json!({})),
        "FAILURE crds: nodetraffics.afloat.dev is not established",
    );
    let old = |crd: &mut Value| crd["spec"]["versions"][0]["name"] = json!("v1");
    says(
        crd(old),
        "FAILURE crds: nodetraffics.afloat.dev serves v1 and not v1alpha1",
    );
    let other = |crd: &mut Value| crd["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    says(
        crd(other),
        "warning crds: nodetraffics.afloat.dev serves v1alpha1, stored as v1alpha1; it is not the definition",
    );
    let by = |service: &str, bundle: &str| {
        json!({"strategy": "Webhook", "webhook": {"clientConfig": {
            "service": {"namespace": "n", "name": service}, "caBundle": bundle}}})
    };
    says(
        |s| traffic_of(s)["spec"]["conversion"] = by("other", "eA=="),
        "warning crds: nodetraffics.afloat.dev is converted by n/other",
    );
    says(
        |s| traffic_of(s)["spec"]["conversion"] = by("afloat-webhook", ""),
        "FAILURE crds: nodetraffics.afloat.dev has no caBundle",
    );
}

#[test]
fn who_does_not_run_or_may_not_is_told() {
    says(
        |s| s.deployment = Ok(None),
        "warning operator: there is no Deployment afloat-operator in afloat-system",
    );
    let status = |ready: u32| {
        move |s: &mut Seen| s.deployment.as_mut().unwrap().as_mut().unwrap()["status"]["readyReplicas"] = json!(ready)
    };
    says(status(0), "FAILURE operator: 0 of 2 replicas ready");
    says(status(1), "warning operator: 1 of 2 replicas ready");
    let version = |s: &mut Seen| {
        s.deployment.as_mut().unwrap().as_mut().unwrap()["metadata"]["labels"]["app.kubernetes.io/version"] =
            json!("0.0.9");
    };
    says(version, "warning operator: version 0.0.9 is installed");
    let need = Need {
        account: "afloat-operator".into(),
        namespace: None,
        verb: "patch".into(),
        group: "apps".into(),
        resource: "controllerrevisions".into(),
        name: None,
    };
    says(
        |s| s.denied = Ok(Some(vec![need])),
        "FAILURE rights: not allowed: afloat-operator to patch controllerrevisions.apps",
    );
    says(
        |s| s.lease = Ok(None),
        "FAILURE lease: there is no Lease kruise-system/kruise-manager",
    );
    says(
        |s| s.lease = Ok(Some(lease("", "2026-01-01T00:00:08Z"))),
        "FAILURE lease: nobody holds",
    );
    says(
        |s| s.lease = Ok(Some(lease("a_1", "2026-01-01T00:00:40Z"))),
        "warning lease: a_1 holds kruise-system/kruise-manager, and its clock is 30 s ahead",
    );
    says(
        |s| s.lease = Ok(Some(lease("a_1", "2025-12-31T23:59:00Z"))),
        "warning lease: a_1 holds kruise-system/kruise-manager, which was renewed 70 s ago",
    );
    says(
        |s| s.lease = Ok(Some(lease("kruise-controller-manager-1_x", "2026-01-01T00:00:08Z"))),
        "warning lease: kruise-controller-manager-1_x holds kruise-system/kruise-manager: OpenKruise acts",
    );
    let kruise = || {
        Ok(vec![
            json!({"metadata": {"name": "kruise-controller-manager-1"}, "status": {"phase": "Running"}}),
        ])
    };
    says(
        |s| s.beside = kruise(),
        "warning kruise: OpenKruise's manager runs as well (kruise-controller-manager-1); both wait",
    );
    let other = |s: &mut Seen| {
        s.beside = kruise();
        s.lease_place.1 = "own".into();
    };
    says(
        other,
        "FAILURE kruise: OpenKruise's manager runs as well (kruise-controller-manager-1) and waits for another Lease",
    );
}

#[test]
fn nodes_that_are_not_seen_are_told() {
    let none = |s: &mut Seen| (s.daemon_set, s.reports) = (Ok(None), Ok(vec![]));
    says(none, "warning agents: there are no agents: drains are timed");
    says(
        |s| s.reports = Ok(vec![report("n2", true, "")]),
        "warning agents: no report of n1",
    );
    let blind = |s: &mut Seen| s.reports.as_mut().unwrap()[0] = report("n1", false, "no iptables");
    says(blind, "warning agents: n1 cannot see its proxy: no iptables");
    let partly = |s: &mut Seen| s.reports.as_mut().unwrap()[0] = report("n1", true, "connections are not counted");
    says(partly, "warning agents: n1 (KubeProxy): connections are not counted");
    // The embedded cluster reports without a DaemonSet.
    assert_eq!(told(|s| s.daemon_set = Ok(None)), "");
}

#[test]
fn webhooks_that_nobody_answers_are_told() {
    let dead = |webhook: Value, slices: Value| {
        move |s: &mut Seen| {
            s.webhooks = Ok(vec![webhook]);
            let slices = slices.as_array().cloned().unwrap_or_default();
            s.endpoints = BTreeMap::from([(("x".to_owned(), "s".to_owned()), Ok(slices))]);
        }
    };
    let slice = |service: &str, ready: bool| json!([{"metadata": {"labels": {"kubernetes.io/service-name": service}}, "endpoints": [{"conditions": {"ready": ready}}]}]);
    for (group, resource) in [
        ("", "pods"),
        ("*", "*"),
        ("", "*/*"),
        ("apps.kruise.io", "clonesets"),
        ("", "pods/status"),
    ] {
        for slices in [json!([]), slice("s", false), slice("other", true)] {
            let words = "FAILURE webhooks: a.example.com of MutatingWebhookConfiguration others has to be asked about";
            says(dead(webhook("Fail", group, resource), slices), words);
        }
        assert_eq!(told(dead(webhook("Fail", group, resource), slice("s", true))), "");
        assert_eq!(told(dead(webhook("Ignore", group, resource), json!([]))), "");
    }
    assert_eq!(told(dead(webhook("Fail", "apps", "deployments"), json!([]))), "");
}
