use serde_json::json;
use std::sync::Arc;

use super::*;

/// Of a node: its name, connections, and per pod how many were refused and reset.
type Counts<'a> = (&'a str, u64, &'a [(&'a str, u64, u64)]);

/// Nodes with their counters.
fn traffic(nodes: &[Counts]) -> Traffic {
    let node = |connections: u64, pods: &[(&str, u64, u64)]| {
        let pods: BTreeMap<_, _> = pods
            .iter()
            .map(|(uid, refused, reset)| {
                (
                    *uid,
                    json!({"pod": format!("n/{uid}"), "refused": refused, "reset": reset}),
                )
            })
            .collect();
        let status = json!({"synced": true, "pods": pods, "services": {"n/web": connections}});
        Some(Arc::new(serde_json::from_value(json!({"status": status})).unwrap()))
    };
    let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"selector": {"app": "web"}}});
    Traffic {
        nodes: nodes
            .iter()
            .map(|(name, connections, pods)| ((*name).to_owned(), node(*connections, pods)))
            .collect(),
        services: vec![Arc::new(serde_json::from_value(service).unwrap())],
    }
}

fn pods() -> Vec<Pod> {
    let pod = |uid: &str| {
        let labels = json!({"app": "web", names::REVISION: format!("web-{uid}")});
        serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid, "labels": labels}})).unwrap()
    };
    vec![pod("a"), pod("b")]
}

fn look(meter: Meter, traffic: &Traffic, begins: bool) -> Meter {
    let (pods, departed) = (pods(), BTreeMap::from([("gone".to_owned(), "web-old".to_owned())]));
    meter.look(traffic, &Ours::of(pods.iter(), &departed, traffic), begins)
}

fn lost(meter: &Meter) -> (u64, u64, u64) {
    let lost = meter.lost.unwrap();
    (lost.refused, lost.reset, meter.connections)
}

#[test]
fn only_what_is_new_and_ours_counts() {
    let start = look(
        Meter::default(),
        &traffic(&[("x", 10, &[("a", 1, 2), ("other", 7, 7)])]),
        true,
    );
    assert_eq!(lost(&start), (0, 0, 0));
    let now = traffic(&[("x", 15, &[("a", 1, 4), ("b", 1, 0), ("gone", 0, 1), ("other", 9, 9)])]);
    let later = look(start, &now, false);
    assert_eq!(lost(&later), (1, 3, 5));
    assert_eq!(look(later.clone(), &now, false), later, "looking twice adds nothing");
    let of = |pod: &str| later.counters.iter().find(|counter| counter.pod == pod).unwrap();
    assert_eq!((of("a").lost.reset, of("a").revision.as_str()), (2, "web-a"));
    assert_eq!(of("gone").revision, "web-old");
    assert_eq!(
        later.sentence().unwrap(),
        "4 connections lost (1 refused, 3 reset), 2 of them by pod a at node x"
    );
}

#[test]
fn a_proxy_that_begins_anew_takes_nothing_back() {
    let start = look(Meter::default(), &traffic(&[("x", 10, &[])]), true);
    let lossy = look(start, &traffic(&[("x", 20, &[("a", 0, 3)])]), false);
    let anew = look(lossy, &traffic(&[("x", 2, &[])]), false);
    assert_eq!(lost(&anew), (0, 3, 12));
    let more = look(anew.clone(), &traffic(&[("x", 3, &[("a", 0, 3)])]), false);
    assert_eq!(
        lost(&more),
        (0, 6, 13),
        "the same number as before is new after a start"
    );
    let silent = look(anew, &traffic(&[]), false);
    assert_eq!(lost(&silent), (0, 3, 12));
}

#[test]
fn a_node_that_is_seen_late_brings_nothing_along() {
    let start = look(Meter::default(), &traffic(&[("x", 10, &[])]), true);
    let late = look(start, &traffic(&[("x", 10, &[]), ("y", 50, &[("a", 5, 0)])]), false);
    assert_eq!(lost(&late), (0, 0, 0));
    let now = look(late, &traffic(&[("x", 10, &[]), ("y", 51, &[("a", 6, 0)])]), false);
    assert_eq!(lost(&now), (1, 0, 1));
}

#[test]
fn where_nobody_counts_nothing_is_known() {
    let mut silent = traffic(&[]);
    silent.nodes.insert("x".into(), None);
    let meter = look(Meter::default(), &silent, true);
    assert_eq!((meter.lost, meter.sentence()), (None, None));
}
