use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CREATED: &str = "2026-01-01T00:00:00Z";

fn at(seconds: i64) -> Timestamp {
    CREATED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn request(strategy: Value, names: &[&str]) -> ContainerRecreateRequest {
    let container = |name: &&str| json!({"name": name, "statusContext": {"containerID": format!("c://{name}-0"), "restartCount": 0}});
    let containers: Vec<_> = names.iter().map(container).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "n", "creationTimestamp": CREATED},
        "spec": {"podName": "web", "strategy": strategy, "containers": containers},
        "status": {"phase": "Recreating"},
    }))
    .unwrap()
}

/// A node that restarts what is stopped, at once or later, and an operator that tells the request what runs.
struct Node {
    found: BTreeMap<String, Found>,
    /// Containers that are up but not ready.
    starting: Vec<String>,
    stops: Vec<String>,
}

impl Node {
    fn new(names: &[&str]) -> Self {
        let found = names.iter().map(|name| {
            let container = Found {
                id: format!("c://{name}-0"),
                ended: false,
                restart_count: 0,
                started_at: Some(at(-100)),
            };
            ((*name).to_owned(), container)
        });
        Self {
            found: found.collect(),
            starting: Vec::new(),
            stops: Vec::new(),
        }
    }

    fn restart(&mut self, name: &str, seconds: i64) {
        let found = self.found.get_mut(name).unwrap();
        found.restart_count += 1;
        found.id = format!("c://{name}-{}", found.restart_count);
        found.ended = false;
        found.started_at = Some(at(seconds));
        self.starting.push(name.to_owned());
    }

    /// What the operator would write.
    fn tell(&self, request: &mut ContainerRecreateRequest) {
        let snapshot = self
            .found
            .iter()
            .filter(|(_, found)| !found.ended && found.restart_count > 0);
        request.status.container_status_snapshot = snapshot
            .map(|(name, found)| afloat_api::ContainerSnapshot {
                name: name.clone(),
                ready: !self.starting.contains(name),
                restart_count: found.restart_count,
                container_id: found.id.clone(),
            })
            .collect();
    }

    /// Steps until there is nothing to do.
    fn settle(&mut self, request: &mut ContainerRecreateRequest, seconds: i64) -> Option<Timestamp> {
        for _ in 0..50 {
            self.tell(request);
            if request.status.completion_time.is_some() {
                return None;
            }
            match next(request, &self.found, at(seconds)) {
                Next::Status(status) => request.status = *status,
                Next::Stop { container, id } => {
                    assert_eq!(self.found[&container].id, id);
                    self.stops.push(container.clone());
                    self.restart(&container, seconds);
                    request.status = stopped(&request.status, &container, Ok(()));
                }
                Next::Wait(wake) => return wake,
            }
        }
        panic!("it never rests: {:?}", request.status);
    }
}

fn states(request: &ContainerRecreateRequest) -> Value {
    json!(request.status.container_recreate_states)
}

#[test]
fn all_at_once_and_each_once() {
    let mut request = request(json!({}), &["app", "log"]);
    let mut node = Node::new(&["app", "log"]);
    assert_eq!(node.settle(&mut request, 1), None);
    assert_eq!(node.stops, ["app", "log"], "though app is not back");
    node.starting.clear();
    node.settle(&mut request, 3);
    assert_eq!(request.status.phase, RecreatePhase::Completed);
    assert_eq!(
        states(&request),
        json!([{"name": "app", "phase": "Succeeded", "isKilled": true},
            {"name": "log", "phase": "Succeeded", "isKilled": true}])
    );
    assert_eq!(node.stops.len(), 2);
}

#[test]
fn one_after_the_other_if_ordered() {
    let mut request = request(json!({"orderedRecreate": true}), &["app", "log"]);
    let mut node = Node::new(&["app", "log"]);
    node.settle(&mut request, 1);
    assert_eq!(node.stops, ["app"]);
    node.starting.clear();
    node.settle(&mut request, 3);
    assert_eq!(node.stops, ["app", "log"]);
}

#[test]
fn it_has_to_run_long_enough() {
    let mut request = request(json!({"minStartedSeconds": 5}), &["app"]);
    let mut node = Node::new(&["app"]);
    node.settle(&mut request, 1);
    node.starting.clear();
    let wake = node.settle(&mut request, 2).unwrap();
    assert!(wake > at(6) && wake < at(7), "{wake}");
    assert_eq!(request.status.phase, RecreatePhase::Recreating);
    node.settle(&mut request, 7);
    assert_eq!(request.status.phase, RecreatePhase::Completed);
}

#[test]
fn what_was_restarted_meanwhile_is_not_stopped_unless_by_force() {
    for (strategy, stops) in [(json!({}), 0), (json!({"forceRecreate": true}), 1)] {
        let mut request = request(strategy, &["app"]);
        let mut node = Node::new(&["app"]);
        node.restart("app", 0);
        node.settle(&mut request, 1);
        assert_eq!(node.stops.len(), stops);
        node.starting.clear();
        node.settle(&mut request, 3);
        assert_eq!(
            states(&request),
            json!([{"name": "app", "phase": "Succeeded", "isKilled": true}])
        );
    }
}

#[test]
fn a_container_that_cannot_be_stopped() {
    for (policy, stopped_names, end) in [("Fail", 1, true), ("Ignore", 2, false)] {
        let mut request = request(json!({"failurePolicy": policy}), &["app", "log"]);
        let mut node = Node::new(&["app", "log"]);
        let mut tries = 0;
        while request.status.completion_time.is_none() && tries < 20 {
            tries += 1;
            match next(&request, &node.found, at(1)) {
                Next::Status(status) => request.status = *status,
                Next::Stop { container, .. } => {
                    node.stops.push(container.clone());
                    let outcome = if container == "app" { Err("no") } else { Ok(()) };
                    if outcome.is_ok() {
                        node.restart(&container, 1);
                    }
                    request.status = stopped(&request.status, &container, outcome);
                }
                Next::Wait(_) => break,
            }
        }
        assert_eq!(node.stops.len(), stopped_names, "{policy}");
        assert_eq!(request.status.completion_time.is_some(), end, "{policy}");
        let failed = json!({"name": "app", "phase": "Failed", "message": "kill container error: no"});
        assert_eq!(states(&request)[0], failed);
    }
}

#[test]
fn a_container_that_is_not_there_holds_those_after_it() {
    let mut request = request(json!({}), &["gone", "log"]);
    let mut node = Node::new(&["log"]);
    assert_eq!(node.settle(&mut request, 1), None);
    assert!(node.stops.is_empty());
    assert_eq!(
        states(&request)[0],
        json!({"name": "gone", "phase": "Pending", "message": "not found container on Node"})
    );
}

#[test]
fn one_request_at_a_time() {
    let named = |name: &str, phase: &str, created: i64| {
        let mut request = request(json!({}), &["app"]);
        request.metadata.name = Some(name.to_owned());
        request.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(created)));
        request.status.phase = serde_json::from_value(json!(phase)).unwrap();
        Arc::new(request)
    };
    let whose = |step: Step| match step {
        Step::Status(request, status) => (request.metadata.name.clone().unwrap(), format!("{:?}", status.phase)),
        Step::Turn(request) => (request.metadata.name.clone().unwrap(), "turn".to_owned()),
        Step::Wait(_) => ("nobody".to_owned(), "waits".to_owned()),
    };
    for (requests, name, what) in [
        (vec![named("b", "", 2), named("a", "", 1)], "b", "Pending"),
        (vec![named("b", "Pending", 2), named("a", "", 3)], "a", "Pending"),
        (
            vec![named("b", "Pending", 2), named("a", "Pending", 1)],
            "a",
            "Recreating",
        ),
        (vec![named("b", "Recreating", 2), named("a", "Pending", 1)], "b", "turn"),
        (vec![named("b", "Completed", 2)], "b", "Recreating"),
        (vec![], "nobody", "waits"),
    ] {
        assert_eq!(whose(turn(&requests, at(5))), (name.to_owned(), what.to_owned()));
    }
    let mut over = (*named("a", "Completed", 1)).clone();
    over.status = completed(&over.status, "", at(2));
    let requests = [Arc::new(over), named("b", "", 2)];
    assert_eq!(whose(turn(&requests, at(5))), ("b".to_owned(), "Recreating".to_owned()));
}

#[test]
fn nothing_is_stopped_before_the_pod_is_out_of_service() {
    let mut asked = request(json!({"unreadyGracePeriodSeconds": 5}), &["app"]);
    let ask = |asked: &ContainerRecreateRequest, seconds| turn(&[Arc::new(asked.clone())], at(seconds));
    assert_eq!(ask(&asked, 100), Step::Wait(None), "the operator has not begun");
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "R", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:10Z"})
    };
    asked.status.conditions = serde_json::from_value(json!([condition(names::RECREATE_GRACE)])).unwrap();
    assert_eq!(ask(&asked, 12), Step::Wait(Some(at(15))));
    assert!(matches!(ask(&asked, 15), Step::Turn(_)));
    asked.status.conditions = serde_json::from_value(json!([
        condition(names::RECREATE_GRACE),
        condition(names::RECREATE_DRAINED)
    ]))
    .unwrap();
    assert!(matches!(ask(&asked, 11), Step::Turn(_)), "drained on observation");
}

proptest! {
    /// An agent that dies between any two of its acts, a node that restarts late, containers that crash by themselves: each container
    /// is new in the end, and none is stopped that is new already, but by force.
    #[test]
    fn any_order_of_events_ends_well(
        events in proptest::collection::vec(0..6_u8, 0..60), ordered in any::<bool>(), force in any::<bool>()
    ) {
        let names = ["app", "log"];
        let mut request = request(json!({"orderedRecreate": ordered, "forceRecreate": force}), &names);
        let mut node = Node::new(&names);
        let mut seconds = 0;
        for event in events {
            seconds += 1;
            node.tell(&mut request);
            match event {
                0 => node.starting.clear(),
                1 => node.restart("app", seconds),
                2 => node.found.get_mut("log").unwrap().ended = true,
                3 if node.found["log"].ended => node.restart("log", seconds),
                _ if request.status.completion_time.is_some() => {}
                lost => match next(&request, &node.found, at(seconds)) {
                    Next::Status(status) => request.status = *status,
                    Next::Stop { container, id } => {
                        prop_assert!(force || id == format!("c://{container}-0"), "it is new already");
                        node.restart(&container, seconds);
                        // The agent may die before it can say so.
                        if lost == 4 {
                            request.status = stopped(&request.status, &container, Ok(()));
                        }
                    }
                    Next::Wait(_) => {}
                },
            }
        }
        if node.found["log"].ended {
            node.restart("log", seconds);
        }
        for _ in 0..4 {
            seconds += 1;
            node.settle(&mut request, seconds);
            node.starting.clear();
        }
        prop_assert_eq!(request.status.phase, RecreatePhase::Completed);
        for name in names {
            prop_assert!(node.found[name].restart_count > 0);
        }
    }
}
