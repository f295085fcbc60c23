use std::collections::BTreeSet;

use super::*;
use crate::network::view::Target;

fn service() -> ServiceView {
    ServiceView {
        namespace: "default".into(),
        name: "web".into(),
        uid: "service-uid".into(),
        selector: BTreeMap::from([("app".into(), "web".into())]),
        ports: vec![PortView {
            name: "http".into(),
            protocol: "TCP".into(),
            app_protocol: None,
            target: Target::Name("web".into()),
        }],
        ..ServiceView::default()
    }
}

fn pod(index: usize) -> Pod {
    Pod {
        namespace: "default".into(),
        name: format!("web-{index:03}"),
        uid: format!("uid-{index}"),
        ip: Some(format!("10.244.{}.{}", index / 250, index % 250 + 1)),
        node: Some("node-1".into()),
        ready: true,
        ports: vec![("web".into(), "TCP".into(), 8080)],
        ..Pod::default()
    }
}

fn pods(count: usize) -> Vec<Pod> {
    (0..count).map(pod).collect()
}

/// Applies actions as an API server would, and tells what they were: `create 3`, `update web-1 2`, `delete web-2`.
fn apply(slices: &mut BTreeMap<String, EndpointSlice>, actions: Vec<Action>) -> Vec<String> {
    let mut log = Vec::new();
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                let name = (1..)
                    .map(|i| format!("web-{i}"))
                    .find(|name| !slices.contains_key(name))
                    .unwrap();
                log.push(format!("create {}", slice.endpoints.len()));
                slice.metadata.name = Some(name.clone());
                slice.metadata.uid = Some(format!("uid of {name}"));
                slice.metadata.resource_version = Some("1".into());
                slices.insert(name, slice);
            }
            Action::Update(mut slice) => {
                let name = slice.metadata.name.clone().unwrap();
                let old = slices.get(&name).unwrap();
                assert_eq!(old.metadata.resource_version, slice.metadata.resource_version);
                assert_ne!(old, &slice, "a write that changes nothing");
                log.push(format!("update {name} {}", slice.endpoints.len()));
                let version: u64 = slice.metadata.resource_version.unwrap().parse().unwrap();
                slice.metadata.resource_version = Some((version + 1).to_string());
                slices.insert(name, slice);
            }
            Action::Delete(slice) => {
                let name = slice.metadata.name.unwrap();
                log.push(format!("delete {name}"));
                assert!(slices.remove(&name).is_some());
            }
        }
    }
    log
}

fn step(service: &ServiceView, pods: &[Pod], slices: &mut BTreeMap<String, EndpointSlice>) -> Vec<String> {
    let actions = {
        let pods: Vec<_> = pods.iter().collect();
        let known: Vec<_> = slices.values().collect();
        plan(service, &pods, &known)
    };
    let log = apply(slices, actions);
    let pods: Vec<_> = pods.iter().collect();
    let known: Vec<_> = slices.values().collect();
    assert_eq!(plan(service, &pods, &known), [], "one round is enough");
    log
}

#[test]
fn conditions_tell_readiness_and_termination() {
    let cases = [
        // ready, terminating, publish not ready → ready, serving, terminating
        (true, false, false, (true, true, false)),
        (false, false, false, (false, false, false)),
        (true, true, false, (false, true, true)),
        (false, true, false, (false, false, true)),
        (false, false, true, (true, false, false)),
        (false, true, true, (true, false, true)),
    ];
    for (ready, terminating, publish_not_ready, expected) in cases {
        let service = ServiceView {
            publish_not_ready,
            ..service()
        };
        let found = endpoint(
            &service,
            &Pod {
                ready,
                terminating,
                ..pod(1)
            },
        )
        .unwrap();
        let c = found.conditions.unwrap();
        assert_eq!((c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()), expected);
    }
}

#[test]
fn pods_without_address_or_future_are_left_out() {
    assert!(endpoint(&service(), &Pod { ip: None, ..pod(1) }).is_none());
    assert!(
        endpoint(
            &service(),
            &Pod {
                finished: true,
                ..pod(1)
            }
        )
        .is_none()
    );
    let found = endpoint(&service(), &pod(1)).unwrap();
    assert_eq!(found.addresses, ["10.244.0.2"]);
    assert_eq!(found.node_name.as_deref(), Some("node-1"));
    assert_eq!(found.target_ref.unwrap().uid.as_deref(), Some("uid-1"));
    assert_eq!(found.hostname, None);
    let named = Pod {
        hostname: Some("a".into()),
        subdomain: Some("web".into()),
        ..pod(1)
    };
    assert_eq!(endpoint(&service(), &named).unwrap().hostname.as_deref(), Some("a"));
}

#[test]
fn slices_are_filled_to_the_limit_and_change_little() {
    let mut slices = BTreeMap::new();
    assert_eq!(step(&service(), &[], &mut slices), ["create 0"], "empty, but there");
    assert_eq!(step(&service(), &pods(1), &mut slices), ["update web-1 1"]);
    assert_eq!(step(&service(), &pods(100), &mut slices), ["update web-1 100"]);
    assert_eq!(step(&service(), &pods(250), &mut slices), ["create 100", "create 50"]);
    let mut some = pods(250);
    some[3].ready = false;
    assert_eq!(step(&service(), &some, &mut slices), ["update web-1 100"]);
    some.remove(3);
    assert_eq!(step(&service(), &some, &mut slices), ["update web-1 99"]);
    some.push(pod(251));
    assert_eq!(
        step(&service(), &some, &mut slices),
        ["update web-1 100"],
        "the fullest with room"
    );
    assert_eq!(step(&service(), &pods(30), &mut slices).len(), 3, "one shrinks, two go");
    assert_eq!(step(&service(), &[], &mut slices), ["update web-1 0"]);
    assert_eq!(step(&service(), &[], &mut slices), Vec::<String>::new());
}

#[test]
fn pods_with_another_number_for_a_named_port_get_slices_of_their_own() {
    let mut slices = BTreeMap::new();
    let mut mixed = pods(3);
    mixed[2].ports = vec![("web".into(), "TCP".into(), 9090)];
    assert_eq!(step(&service(), &mixed, &mut slices), ["create 2", "create 1"]);
    let numbers: BTreeSet<_> = slices.values().map(|s| (ports_of(s)[0].2, s.endpoints.len())).collect();
    assert_eq!(numbers, BTreeSet::from([(8080, 2), (9090, 1)]));
    mixed.truncate(2);
    assert_eq!(step(&service(), &mixed, &mut slices), ["delete web-2"]);
    for pod in &mut mixed {
        pod.ports.clear();
    }
    assert_eq!(
        step(&service(), &mixed, &mut slices),
        ["update web-1 2"],
        "reused with other ports"
    );
    assert!(slices["web-1"].ports.as_ref().unwrap().is_empty());
}

#[test]
fn slices_carry_labels_and_owner_and_follow_the_service() {
    let mut slices = BTreeMap::new();
    step(&service(), &pods(1), &mut slices);
    let meta = slices["web-1"].metadata.clone();
    assert_eq!(meta.generate_name.as_deref(), Some("web-"));
    assert_eq!(meta.labels.unwrap()["kubernetes.io/service-name"], "web");
    assert_eq!(meta.owner_references.unwrap()[0].uid, "service-uid");
    let labelled = ServiceView {
        labels: BTreeMap::from([("a".into(), "b".into())]),
        headless: true,
        ..service()
    };
    assert_eq!(step(&labelled, &pods(1), &mut slices), ["update web-1 1"]);
    let labels = slices["web-1"].metadata.labels.clone().unwrap();
    assert_eq!(
        (labels["a"].as_str(), labels["service.kubernetes.io/headless"].as_str()),
        ("b", "")
    );
    let again = ServiceView {
        uid: "another".into(),
        ..service()
    };
    assert_eq!(
        step(&again, &pods(1), &mut slices),
        ["create 1", "delete web-1"],
        "the old one is its predecessor's"
    );
}

#[test]
fn a_duplicate_slice_goes() {
    let mut slices = BTreeMap::new();
    step(&service(), &pods(2), &mut slices);
    let mut twin = slices["web-1"].clone();
    twin.metadata.name = Some("web-2".into());
    slices.insert("web-2".into(), twin);
    assert_eq!(step(&service(), &pods(2), &mut slices), ["delete web-2"]);
}

/// A small generator of its own keeps this crate's list of dependencies short: 64-bit xorshift.
fn random(seed: &mut u64, below: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed % below as u64) as usize
}

#[test]
fn after_any_history_every_pod_is_in_exactly_one_slice_in_its_present_state() {
    for start in 1..200u64 {
        let mut seed = start.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slices = BTreeMap::new();
        let mut all: Vec<Pod> = Vec::new();
        for _ in 0..12 {
            for _ in 0..random(&mut seed, 120) {
                match random(&mut seed, 4) {
                    0 if !all.is_empty() => {
                        let index = random(&mut seed, all.len());
                        all.remove(index);
                    }
                    1 if !all.is_empty() => {
                        let index = random(&mut seed, all.len());
                        all[index].ready ^= true;
                        all[index].ports[0].2 = 8080 + random(&mut seed, 2) as u16;
                    }
                    _ => {
                        let new = pod(random(&mut seed, 5000));
                        if all.iter().all(|known| known.name != new.name) {
                            all.push(new);
                        }
                    }
                }
            }
            step(&service(), &all, &mut slices);
            let mut found = BTreeMap::new();
            for slice in slices.values() {
                assert!(slice.endpoints.len() <= ENDPOINTS_MAX);
                assert!(slices.len() == 1 || !slice.endpoints.is_empty());
                for endpoint in &slice.endpoints {
                    let value = (
                        endpoint.conditions.clone().unwrap().ready.unwrap(),
                        ports_of(slice)[0].2,
                    );
                    assert!(found.insert(endpoint.addresses[0].clone(), value).is_none(), "twice");
                }
            }
            let expected: BTreeMap<_, _> = all
                .iter()
                .map(|p| (p.ip.clone().unwrap(), (p.ready, i32::from(p.ports[0].2))))
                .collect();
            assert_eq!(found, expected, "seed {start}");
        }
    }
}
