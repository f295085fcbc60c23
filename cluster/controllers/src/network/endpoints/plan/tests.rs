use std::collections::BTreeMap;

use super::*;
use crate::network::view::{PortView, Target};

fn service() -> ServiceView {
    ServiceView {
        namespace: "default".into(),
        name: "web".into(),
        labels: BTreeMap::from([("tier".into(), "front".into())]),
        selector: BTreeMap::from([("app".into(), "web".into())]),
        ports: vec![PortView {
            name: "http".into(),
            protocol: "TCP".into(),
            target: Target::Name("web".into()),
            ..PortView::default()
        }],
        ..ServiceView::default()
    }
}

fn pod(index: usize) -> Pod {
    Pod {
        namespace: "default".into(),
        name: format!("web-{index}"),
        uid: format!("uid-{index:05}"),
        ip: Some(format!("10.244.{}.{}", index / 250, index % 250 + 1)),
        node: Some("node-1".into()),
        ready: true,
        ports: vec![("web".into(), "TCP".into(), 8080)],
        ..Pod::default()
    }
}

fn decide(service: &ServiceView, pods: &[Pod], current: Option<&Endpoints>) -> Step {
    plan(&Seen {
        service,
        pods,
        current,
        changed_at: Timestamp::from_second(1_700_000_000).ok(),
    })
}

/// The object that is written first, and what is left to do once it is there.
fn first(service: &ServiceView, pods: &[Pod]) -> (Value, Endpoints) {
    let Step::Create(object) = decide(service, pods, None) else {
        panic!("nothing is there, so it is created")
    };
    let stored: Endpoints = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(
        decide(service, pods, Some(&stored)),
        Step::Nothing,
        "one write is enough"
    );
    (object, stored)
}

#[test]
fn addresses_by_readiness_with_labels_and_the_time_of_the_change() {
    let pods = [
        pod(0),
        Pod { ready: false, ..pod(1) },
        Pod {
            terminating: true,
            ..pod(2)
        },
        Pod {
            finished: true,
            ..pod(3)
        },
        Pod { ip: None, ..pod(4) },
        Pod {
            ports: Vec::new(),
            ..pod(5)
        },
    ];
    let (object, stored) = first(&service(), &pods);
    let address = |at: usize| {
        let pod = pod(at);
        json!({"ip": pod.ip, "nodeName": "node-1",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod.name, "uid": pod.uid}})
    };
    assert_eq!(
        object,
        json!({
            "metadata": {"name": "web", "namespace": "default", "labels": {"tier": "front"},
                "annotations": {TRIGGER_TIME: "2023-11-14T22:13:20Z"}},
            "subsets": [{"addresses": [address(0)], "notReadyAddresses": [address(1)],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}],
        })
    );
    assert!(matches!(
        decide(&service(), &pods[1..], Some(&stored)),
        Step::Replace(_)
    ));
    let other_labels = ServiceView {
        labels: BTreeMap::new(),
        ..service()
    };
    assert!(matches!(decide(&other_labels, &pods, Some(&stored)), Step::Replace(_)));
}

#[test]
fn no_pods_no_subsets_and_headless_services_need_no_ports() {
    let (object, _) = first(&service(), &[]);
    assert_eq!(object.get("subsets"), None);
    let headless = ServiceView {
        ports: Vec::new(),
        headless: true,
        publish_not_ready: true,
        ..service()
    };
    let named = Pod {
        hostname: Some("zero".into()),
        subdomain: Some("web".into()),
        ready: false,
        terminating: true,
        ..pod(0)
    };
    let (object, _) = first(&headless, &[named]);
    assert_eq!(object["metadata"]["labels"][HEADLESS], "");
    assert_eq!(object["subsets"][0]["addresses"][0]["hostname"], "zero");
    assert_eq!(object["subsets"][0].get("ports"), None);
    let without = ServiceView {
        headless: false,
        ..headless
    };
    let (object, _) = first(&without, &[pod(0)]);
    assert_eq!(
        object.get("subsets"),
        None,
        "a Service with an address serves nothing without ports"
    );
}

#[test]
fn a_thousand_addresses_at_most_and_it_is_said() {
    let count = |object: &Value, list: &str| -> usize {
        let subsets = object["subsets"].as_array().unwrap();
        subsets
            .iter()
            .map(|subset| subset[list].as_array().map_or(0, Vec::len))
            .sum()
    };
    // Pods, of them not ready, other ports for every third → ready, not ready.
    for (pods, not_ready, (ready, others)) in [(1000, 10, (990, 10)), (1200, 300, (900, 100)), (2000, 100, (1000, 0))] {
        let pods: Vec<Pod> = (0..pods)
            .map(|at| Pod {
                ready: at >= not_ready,
                ports: vec![("web".into(), "TCP".into(), if at % 3 == 0 { 9090 } else { 8080 })],
                ..pod(at)
            })
            .collect();
        let (object, _) = first(&service(), &pods);
        assert_eq!(
            (count(&object, "addresses"), count(&object, "notReadyAddresses")),
            (ready, others)
        );
        let said = object["metadata"]["annotations"].get(OVER_CAPACITY);
        assert_eq!(said.is_some(), pods.len() > CAPACITY);
    }
}
