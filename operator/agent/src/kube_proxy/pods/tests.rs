use super::*;
use crate::kube_proxy::slice::Endpoint;

fn key() -> SliceKey {
    ("default".into(), "web-1".into())
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// One pod `u1` behind a Service, and what is known of it on a node.
struct Node {
    pods: Pods,
    now: Instant,
}

/// What kube-proxy says in a look.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    Idle,
}

impl Node {
    fn new() -> Self {
        Self {
            pods: Pods::default(),
            now: Instant::now(),
        }
    }

    fn slice(&mut self, version: u64, pods: &[(u8, bool)]) {
        self.listed(version, pods, true, false);
    }

    fn listed(&mut self, version: u64, pods: &[(u8, bool)], proxied: bool, relisted: bool) {
        let endpoints = pods.iter().map(|&(number, ready)| Endpoint {
            uid: format!("u{number}"),
            pod: format!("default/web-{number}"),
            ready,
            address: address(number),
        });
        let slice = Slice {
            proxied,
            endpoints: endpoints.collect(),
        };
        self.pods.apply(&key(), version, Some(slice), relisted, self.now);
    }

    /// Looks at the node: the rules send to these pods; connections of the first one.
    fn look(&mut self, routed: &[u8], says: Says, open: Option<u64>) {
        let look = Look {
            routed: routed.iter().map(|number| address(*number)).collect(),
            idle: matches!(says, Says::Idle).then_some(self.now),
            open: open.map(|count| BTreeMap::from([(address(1), count)])),
        };
        self.pods.looked(&look, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Version in force, whether ready, whether routed, and open connections of the first pod.
    fn told(&mut self) -> Option<(u64, bool, bool, Option<u64>)> {
        let told = self.pods.told(self.now);
        told.get("u1").map(|pod| (pod.applied, pod.ready, pod.routed, pod.open))
    }
}

/// A pod in service for long.
fn serving() -> Node {
    let mut node = Node::new();
    node.slice(10, &[(1, true)]);
    node.look(&[1], Says::Nothing, None);
    assert_eq!(node.told(), Some((10, true, true, None)));
    node.pass(TOLD_AFTER_CHANGE);
    assert_eq!(node.told(), None, "what serves quietly is no news");
    assert_eq!(node.pods.pause(node.now), None);
    node
}

#[test]
fn a_pod_has_left_when_its_address_has_gone_from_the_rules() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    assert_eq!(
        node.told(),
        Some((10, true, true, None)),
        "so far nothing has been seen"
    );
    node.look(&[1], Says::Nothing, Some(3));
    assert_eq!(
        node.told(),
        Some((10, true, true, None)),
        "connections do not matter yet"
    );
    assert!(node.pods.counts());
    node.look(&[], Says::Nothing, Some(3));
    assert_eq!(node.told(), Some((12, false, false, Some(3))));
    assert!(node.pods.pause(node.now).is_some());
    node.look(&[], Says::Nothing, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
    assert_eq!(node.pods.pause(node.now), None, "nothing is awaited");
    assert!(!node.pods.counts());
    node.look(&[], Says::Nothing, None);
    assert_eq!(
        node.told(),
        Some((12, false, false, Some(0))),
        "at rest nothing changes"
    );
    assert_eq!(node.pods.pause(node.now), None);
}

#[test]
fn and_is_back_when_it_is_there_again() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    node.look(&[], Says::Nothing, Some(0));
    node.slice(15, &[(1, true)]);
    node.look(&[], Says::Nothing, None);
    assert_eq!(node.told(), Some((12, false, false, None)));
    node.look(&[1], Says::Nothing, None);
    assert_eq!(node.told(), Some((15, true, true, None)));
}

/// The rules may be so old that they do not know the pod yet.
#[test]
fn rules_that_never_had_the_pod_prove_nothing() {
    let mut node = Node::new();
    node.slice(10, &[(1, true)]);
    node.slice(12, &[(1, false)]);
    node.pass(Duration::from_secs(5));
    node.look(&[], Says::Nothing, Some(0));
    assert_eq!(node.told(), None);
    node.look(&[], Says::Idle, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
}

#[test]
fn an_idle_proxy_proves_only_what_it_must_have_seen() {
    let mut node = Node::new();
    node.slice(12, &[(1, false)]);
    node.look(&[], Says::Idle, Some(0));
    assert_eq!(node.told(), None, "it may not have seen the slice yet");
    node.pass(WATCH_LAG);
    node.look(&[1], Says::Idle, None);
    assert_eq!(node.told(), None, "it sends to it, whatever it says");
    node.look(&[], Says::Idle, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
}

/// Out, in and out again, while the proxy has not even applied the first of it.
#[test]
fn of_quick_changes_an_absence_may_be_an_earlier_one() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    node.slice(14, &[(1, true)]);
    node.look(&[1], Says::Nothing, None);
    assert_eq!(node.told(), Some((10, true, true, None)), "the old rules look the same");
    node.slice(16, &[(1, false)]);
    node.look(&[], Says::Nothing, Some(0));
    assert_eq!(node.told(), Some((10, true, false, Some(0))), "14 may come yet");
    node.pass(WATCH_LAG);
    node.look(&[], Says::Idle, Some(0));
    assert_eq!(node.told(), Some((16, false, false, Some(0))));
}

#[test]
fn what_was_missed_is_not_taken_for_granted() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    node.look(&[], Says::Nothing, Some(0));
    // Between the lists it may have been Ready.
    node.listed(18, &[(1, false)], true, true);
    node.look(&[], Says::Nothing, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
    node.pass(WATCH_LAG);
    node.look(&[], Says::Idle, Some(0));
    assert_eq!(node.told(), Some((18, false, false, Some(0))));
}

#[test]
fn connections_that_cannot_be_counted_are_not_none() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    node.look(&[], Says::Nothing, None);
    assert_eq!(node.told(), Some((12, false, false, None)));
    assert!(node.pods.pause(node.now).is_some(), "maybe they can later");
}

#[test]
fn a_pod_that_rules_of_this_node_never_have() {
    // As with internalTrafficPolicy: Local on another node.
    let mut node = Node::new();
    node.slice(10, &[(1, true)]);
    node.pass(WATCH_LAG);
    node.look(&[], Says::Idle, None);
    assert_eq!(node.told(), Some((10, true, false, None)));
    // And behind headless Services alone.
    let mut node = Node::new();
    node.listed(12, &[(1, false)], false, false);
    node.look(&[], Says::Nothing, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
}

#[test]
fn other_pods_of_the_slice_change_nothing() {
    let mut node = serving();
    node.slice(12, &[(1, false), (2, true)]);
    node.look(&[2], Says::Nothing, Some(0));
    node.slice(13, &[(1, false), (2, false)]);
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
}

#[test]
fn a_pod_that_no_slice_lists_has_left_and_its_address_may_be_anothers() {
    let mut node = serving();
    node.slice(12, &[(2, true)]);
    node.look(&[1, 2], Says::Nothing, None);
    assert_eq!(node.told(), Some((10, true, true, None)), "still in the rules");
    node.look(&[2], Says::Nothing, Some(0));
    assert_eq!(node.told(), Some((12, false, false, Some(0))));
    node.pods.apply(&key(), 14, None, false, node.now);
    let endpoint = Endpoint {
        uid: "u3".into(),
        pod: "default/other".into(),
        ready: true,
        address: address(1),
    };
    let slice = Slice {
        proxied: true,
        endpoints: vec![endpoint],
    };
    node.pods
        .apply(&("default".into(), "other".into()), 15, Some(slice), false, node.now);
    node.look(&[1], Says::Nothing, None);
    assert!(matches!(node.told(), Some((_, false, false, _))));
    node.pass(TOLD_AFTER_CHANGE);
    assert_eq!(node.told(), None, "long gone");
}

#[test]
fn looks_are_frequent_at_first_and_rare_later() {
    let mut node = serving();
    node.slice(12, &[(1, false)]);
    let pause = |node: &Node| node.pods.pause(node.now).expect("something is awaited");
    assert_eq!(pause(&node), LOOK_INTERVAL.0);
    node.pass(Duration::from_secs(20));
    assert_eq!(pause(&node), Duration::from_secs(1));
    node.pass(Duration::from_secs(3600));
    assert_eq!(pause(&node), LOOK_INTERVAL.1);
}
