//! Sidecars (KEP-753): the order in which they start and stop, seen as the actions of one plan after another.

use std::time::Duration;

use afloat_runtime::Exit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::clock::later;
use crate::pod::action::Action;
use crate::pod::back_off::BackOffLimits;
use crate::pod::instance::{HookKind, Instance};
use crate::pod::plan::plan;
use crate::pod::probe::Answer;
use crate::pod::spec::{self, ProbeKind};
use crate::pod::state::{PodState, PodView, Sandbox};

struct World {
    pod: Pod,
    state: PodState,
    now: Timestamp,
}

impl World {
    fn new(spec: Value) -> Self {
        let now = Timestamp::UNIX_EPOCH;
        let mut state = PodState::new(BackOffLimits::default(), now);
        state.sandbox = Sandbox::Ready([10, 0, 0, 1].into());
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec});
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            state,
            now,
        }
    }

    /// Plans and carries out until nothing is left to do but wait; gives what was done, as words.
    fn settle(&mut self) -> Vec<String> {
        let mut done = vec![];
        for _ in 0..100 {
            let view = PodView {
                pod: &self.pod,
                state: &self.state,
                host_ip: [10, 0, 0, 2].into(),
            };
            let plan = plan(&view, self.now);
            let words: Vec<String> = plan.actions.iter().filter_map(word).collect();
            for action in &plan.actions {
                self.state.begin(action, self.now);
                match action {
                    Action::Create { container, attempt } => {
                        let instance = instance(&self.pod, container, *attempt);
                        self.state.created(container, instance);
                    }
                    Action::Start { id, .. } => self.state.started(id, self.now),
                    _ => {}
                }
                if action.slow() {
                    break;
                }
            }
            let over = plan.actions.is_empty() || words.is_empty() && !plan.actions.iter().any(Action::slow);
            done.extend(words.into_iter().take(1));
            if over
                || plan
                    .actions
                    .iter()
                    .all(|a| matches!(a, Action::CleanUp | Action::DeleteObject))
            {
                break;
            }
        }
        done
    }

    fn exit(&mut self, name: &str, code: i32) {
        let exit = Exit {
            code,
            signal: 0,
            finished_at: self.now,
            oom_killed: false,
        };
        self.state.exited(&format!("{name}-0"), exit, None);
    }

    fn delete(&mut self, grace: i64) {
        let at = later(self.now, Duration::from_secs(grace.unsigned_abs()));
        self.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.state.observe_deletion(&self.pod, self.now);
    }

    fn hook_done(&mut self, name: &str) {
        self.state.hook_done(&format!("{name}-0"), HookKind::PreStop, true);
    }
}

fn instance(pod: &Pod, name: &str, attempt: u32) -> Instance {
    let container = spec::find(pod, name).unwrap();
    Instance::created(format!("{name}-{attempt}"), attempt, spec::hash(container))
}

fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Create { container, .. } => format!("create {container}"),
        Action::PreStop { container, .. } => format!("preStop {container}"),
        Action::Signal { container, kill, .. } => format!("{} {container}", if *kill { "kill" } else { "term" }),
        _ => return None,
    })
}

fn three() -> Value {
    let hook = json!({"preStop": {"exec": {"command": ["x"]}}});
    let probe = json!({"exec": {"command": ["x"]}, "periodSeconds": 1});
    json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [
            {"name": "first", "image": "i:1", "restartPolicy": "Always", "startupProbe": probe, "lifecycle": hook},
            {"name": "work", "image": "i:1"},
            {"name": "second", "image": "i:1", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "app", "image": "i:1"}],
    })
}

fn running() -> World {
    let mut world = World::new(three());
    assert_eq!(world.settle(), ["create first"]);
    let timing = spec::find(&world.pod, "first")
        .and_then(|c| spec::probe(c, ProbeKind::Startup))
        .map(spec::timing);
    world
        .state
        .probed("first-0", ProbeKind::Startup, &Answer::Success, timing);
    assert_eq!(world.settle(), ["create work"], "the startup probe opens the gate");
    world.exit("work", 0);
    assert_eq!(world.settle(), ["create second", "create app"]);
    world
}

#[test]
fn one_starts_after_the_other_and_the_application_last() {
    running();
}

#[test]
fn they_stop_after_the_application_in_reverse_order_but_their_hooks_do_not_wait() {
    let mut world = running();
    world.delete(30);
    assert_eq!(world.settle(), ["term app", "preStop first"]);
    world.hook_done("first");
    assert_eq!(world.settle(), [""; 0], "its hook is over, its turn has not come");
    world.exit("app", 0);
    assert_eq!(world.settle(), ["term second"]);
    world.exit("second", 0);
    assert_eq!(world.settle(), ["term first"]);
}

#[test]
fn the_end_of_the_grace_ends_the_waiting() {
    let mut world = running();
    world.delete(30);
    world.settle();
    world.hook_done("first");
    world.now = later(world.now, Duration::from_secs(30));
    let mut done = world.settle();
    done.sort();
    assert_eq!(done, ["kill app", "term first", "term second"]);
}

#[test]
fn a_pod_is_complete_when_its_application_is() {
    let mut world = running();
    let spec = world.pod.spec.as_mut().unwrap();
    spec.restart_policy = Some("Never".into());
    world.exit("app", 0);
    let mut done = world.settle();
    done.sort();
    assert_eq!(done, ["preStop first", "term second"]);
    world.exit("second", 143);
    world.hook_done("first");
    assert_eq!(world.settle(), ["term first"]);
    world.exit("first", 1);
    let view = PodView {
        pod: &world.pod,
        state: &world.state,
        host_ip: [10, 0, 0, 2].into(),
    };
    let status = plan(&view, world.now).status;
    assert_eq!(
        status.phase.as_deref(),
        Some("Succeeded"),
        "how sidecars end does not count"
    );
}

#[test]
fn a_sidecar_restarts_whatever_the_pods_policy() {
    let mut world = running();
    world.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    world.exit("second", 0);
    world.now = later(world.now, Duration::from_secs(10));
    assert_eq!(world.settle(), ["create second"]);
}

/// The kubelet restarts a sidecar, and it alone, when its image changes; of other init containers nothing runs any more.
#[test]
fn another_image_restarts_a_sidecar_and_nothing_else() {
    let mut world = running();
    let image = |world: &mut World, index: usize| {
        let spec = world.pod.spec.as_mut().unwrap();
        spec.init_containers.as_mut().unwrap()[index].image = Some("i:2".into());
    };
    image(&mut world, 1);
    assert_eq!(world.settle(), [""; 0], "it has done its work");
    image(&mut world, 2);
    assert_eq!(world.settle(), ["term second"]);
    world.exit("second", 0);
    assert_eq!(world.settle(), ["create second"]);
    image(&mut world, 0);
    assert_eq!(world.settle(), ["preStop first"]);
    world.hook_done("first");
    assert_eq!(world.settle(), ["term first"]);
    world.exit("first", 0);
    assert_eq!(world.settle(), ["create first"]);
}

/// So does the kubelet: a sidecar that has not started yet is not asked whether it is the wanted one.
#[test]
fn a_sidecar_that_still_starts_is_left_alone_until_its_startup_probe_has_an_answer() {
    for (answer, then) in [
        (Answer::Success, "preStop first"),
        (Answer::Failure("no".into()), "preStop first"),
    ] {
        let mut world = World::new(three());
        assert_eq!(world.settle(), ["create first"]);
        let spec = world.pod.spec.as_mut().unwrap();
        spec.init_containers.as_mut().unwrap()[0].image = Some("i:2".into());
        assert_eq!(world.settle(), [""; 0]);
        let timing = spec::find(&world.pod, "first")
            .and_then(|c| spec::probe(c, ProbeKind::Startup))
            .map(spec::timing);
        for _ in 0..3 {
            world.state.probed("first-0", ProbeKind::Startup, &answer, timing);
        }
        let done = world.settle();
        assert!(done.contains(&then.to_owned()), "{done:?}");
    }
}

#[test]
fn while_a_pod_ends_only_readiness_is_asked_for() {
    let probe = json!({"exec": {"command": ["x"]}, "periodSeconds": 1});
    let mut spec = three();
    for key in ["readinessProbe", "livenessProbe"] {
        spec["initContainers"][2][key] = probe.clone();
        spec["containers"][0][key] = probe.clone();
    }
    let mut world = World::new(spec);
    world.settle();
    let timing = spec::find(&world.pod, "first")
        .and_then(|c| spec::probe(c, ProbeKind::Startup))
        .map(spec::timing);
    world
        .state
        .probed("first-0", ProbeKind::Startup, &Answer::Success, timing);
    world.settle();
    world.exit("work", 0);
    world.settle();
    let asked = |world: &mut World| {
        world.now = later(world.now, Duration::from_secs(2));
        for name in ["app-0", "second-0"] {
            for kind in ProbeKind::ALL {
                world.state.probed(name, kind, &Answer::Success, None);
            }
        }
        let view = PodView {
            pod: &world.pod,
            state: &world.state,
            host_ip: [10, 0, 0, 2].into(),
        };
        let mut kinds: Vec<String> = plan(&view, world.now)
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Probe { container, kind, .. } => Some(format!("{container} {kind}")),
                _ => None,
            })
            .collect();
        kinds.sort();
        kinds
    };
    let all = ["app Liveness", "app Readiness", "second Liveness", "second Readiness"];
    assert_eq!(asked(&mut world), all);
    world.delete(30);
    world.settle();
    assert_eq!(asked(&mut world), ["app Readiness", "second Readiness"]);
}
