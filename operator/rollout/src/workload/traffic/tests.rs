use serde_json::{Value, json};

use super::*;
use crate::pod::label::Naming;

/// A node and what it reports of the pod: version, ready, open connections. None: no report at all.
type Node<'a> = (&'a str, Option<(u64, bool, u64)>);

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
        "status": {"phase": "Running", "conditions":
            [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap()
}

fn drain(ready_at: u64) -> Drain {
    Drain {
        revision: "web-new".into(),
        since: at(0),
        ready_at: Some(ready_at),
    }
}

fn at(second: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start.checked_add(SignedDuration::from_secs(second)).unwrap()
}

fn traffic(nodes: &[Node]) -> Traffic {
    let report = |said: (u64, bool, u64)| {
        let (applied, ready, open) = said;
        Arc::new(NodeTraffic {
            status: serde_json::from_value(json!({"synced": true, "pods":
                {"u1": {"applied": applied, "ready": ready, "routed": ready, "open": open}}}))
            .unwrap(),
            ..NodeTraffic::default()
        })
    };
    Traffic {
        nodes: nodes
            .iter()
            .map(|(name, said)| ((*name).to_owned(), said.map(report)))
            .collect(),
        services: vec![Arc::new(
            serde_json::from_value(json!({"spec": {"selector": {"app": "web"}}})).unwrap(),
        )],
    }
}

fn set(drain: Option<&str>) -> ObjectMeta {
    let annotations = drain.map_or(json!({}), |value| json!({names::DRAIN: value}));
    serde_json::from_value(json!({"annotations": annotations})).unwrap()
}

fn owner(metadata: &ObjectMeta) -> Owner<'_> {
    static TEMPLATE: Value = Value::Null;
    Owner {
        api_version: "apps.kruise.io/v1beta1",
        kind: "CloneSet",
        naming: Naming::Both,
        metadata,
        template: &TEMPLATE,
        requires_images: false,
    }
}

fn leaving(nodes: &[Node], ready_at: u64) -> Option<Leaving> {
    Watched::of(owner(&set(Some("Observed"))), &traffic(nodes)).leaving(&pod(), &drain(ready_at))
}

fn sent(gone: usize, nodes: usize, example: &str) -> Option<Leaving> {
    Some(Leaving::Sent {
        gone,
        nodes,
        example: example.into(),
    })
}

#[test]
fn all_nodes_have_to_let_go() {
    let (free, busy) = (Some((9, false, 0)), Some((5, true, 0)));
    assert_eq!(leaving(&[("a", free), ("b", free)], 7), Some(Leaving::Gone));
    assert_eq!(leaving(&[("a", free), ("b", busy)], 7), sent(1, 2, "b"));
    assert_eq!(leaving(&[("a", None), ("b", free)], 7), sent(1, 2, "a"));
    let connected = Some((9, false, 4));
    assert_eq!(
        leaving(&[("a", connected), ("b", connected)], 7),
        Some(Leaving::Open(8))
    );
}

#[test]
fn connections_that_nobody_counts_are_not_none() {
    let report = |open: Option<u64>| {
        let mut traffic = traffic(&[("a", Some((9, false, 0))), ("b", Some((9, false, 0)))]);
        let mut report = traffic.nodes["b"].as_deref().unwrap().clone();
        report.status.pods.get_mut("u1").unwrap().open = open;
        traffic.nodes.insert("b".into(), Some(Arc::new(report)));
        Watched::of(owner(&set(Some("Observed"))), &traffic).leaving(&pod(), &drain(7))
    };
    assert_eq!(report(Some(0)), Some(Leaving::Gone));
    assert_eq!(report(None), Some(Leaving::Uncounted("b".into())));
}

#[test]
fn what_a_proxy_applied_before_the_drain_proves_nothing() {
    let before = [("a", Some((6, false, 0)))];
    assert_eq!(leaving(&before, 7), sent(0, 1, "a"));
    assert_eq!(
        leaving(&before, 0),
        Some(Leaving::Gone),
        "it was not Ready then, so no newer one comes"
    );
}

#[test]
fn silence_proves_nothing() {
    let mut traffic = traffic(&[("a", Some((9, false, 0)))]);
    let set = set(Some("Observed"));
    let mut other = pod();
    other.metadata.uid = "u2".into();
    assert_eq!(
        Watched::of(owner(&set), &traffic).leaving(&other, &drain(0)),
        sent(0, 1, "a")
    );
    other.status.phase = "Pending".into();
    assert_eq!(
        Watched::of(owner(&set), &traffic).leaving(&other, &drain(0)),
        Some(Leaving::Gone)
    );
    let mut unsynced = NodeTraffic::default();
    unsynced.status.pods = traffic.nodes["a"].as_ref().unwrap().status.pods.clone();
    traffic.nodes.insert("a".into(), Some(Arc::new(unsynced)));
    assert_eq!(
        Watched::of(owner(&set), &traffic).leaving(&pod(), &drain(0)),
        sent(0, 1, "a")
    );
}

#[test]
fn without_a_service_there_is_nothing_to_observe() {
    let set = set(Some("Observed"));
    let mut traffic = traffic(&[("a", Some((9, false, 0)))]);
    let service = traffic.services[0].clone();
    traffic.services.clear();
    assert_eq!(Watched::of(owner(&set), &traffic).leaving(&pod(), &drain(0)), None);
    let mut always = Service::clone(&service);
    always.spec.publish_not_ready_addresses = true;
    traffic.services = vec![service, Arc::new(always)];
    assert_eq!(Watched::of(owner(&set), &traffic).leaving(&pod(), &drain(0)), None);
}

#[test]
fn by_default_drains_are_observed_where_any_node_reports() {
    let observes = |set: &ObjectMeta, traffic: &Traffic| Watched::of(owner(set), traffic).covers(&pod());
    let all = traffic(&[("a", Some((1, true, 0))), ("b", Some((1, true, 0)))]);
    let some = traffic(&[("a", Some((1, true, 0))), ("b", None)]);
    assert!(observes(&set(None), &all));
    assert!(observes(&set(None), &some));
    assert!(!observes(&set(None), &traffic(&[("a", None)])));
    assert!(!observes(&set(None), &traffic(&[])));
    assert!(!observes(&set(Some("Timed")), &all));
    assert!(observes(&set(Some("Observed")), &some));
    assert!(misspelt(owner(&set(Some("observed")))).unwrap().contains("observed"));
    assert_eq!(misspelt(owner(&set(Some("Timed")))), None);
}

#[test]
fn a_pod_is_back_once_the_nodes_that_report_send_to_it() {
    let returning = |nodes: &[Node], now| {
        let traffic = traffic(nodes);
        let set = set(Some("Observed"));
        Watched::of(owner(&set), &traffic)
            .returning(&pod(), now)
            .map(|(at, node)| (at, node.to_owned()))
    };
    let (sends, lags) = (Some((9, true, 0)), Some((6, false, 0)));
    assert_eq!(returning(&[("a", sends), ("b", None)], at(1)), None);
    assert_eq!(
        returning(&[("a", sends), ("b", lags)], at(1)),
        Some((at(30), "b".to_owned()))
    );
    assert_eq!(returning(&[("a", lags)], at(30)), None, "the limit");
}

#[test]
fn an_observed_drain_stays_one() {
    let silent = traffic(&[("a", None)]);
    assert_eq!(
        Watched::of(owner(&set(None)), &silent).leaving(&pod(), &drain(7)),
        sent(0, 1, "a")
    );
    assert_eq!(
        Watched::of(owner(&set(None)), &traffic(&[])).leaving(&pod(), &drain(7)),
        sent(0, 0, "any node")
    );
    assert_eq!(
        Watched::of(owner(&set(Some("Timed"))), &silent).leaving(&pod(), &drain(7)),
        None
    );
    let timed = Drain {
        ready_at: None,
        ..drain(7)
    };
    let all = traffic(&[("a", Some((9, false, 0)))]);
    assert_eq!(
        Watched::of(owner(&set(None)), &all).leaving(&pod(), &timed),
        None,
        "nor does a timed one change"
    );
}
