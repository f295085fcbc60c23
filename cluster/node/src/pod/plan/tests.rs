//! The plan against every order of events: a small world with its own clock carries plans out, while containers end,
//! images change, probes answer and the pod is deleted at random moments.

mod sidecars;

use std::time::Duration;

use afloat_runtime::Exit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::plan;
use crate::clock::later;
use crate::pod::action::Action;
use crate::pod::back_off::BackOffLimits;
use crate::pod::instance::{Hook, HookKind, Instance, Process};
use crate::pod::obstacle::{Obstacle, Reason};
use crate::pod::probe::Answer;
use crate::pod::state::{NotGranted, Pending, PodState, PodView, Sandbox};
use crate::pod::{found, progress};
use crate::pod::{recover, resize, spec};

#[derive(Clone, Debug)]
enum Move {
    Exit { container: usize, code: i32 },
    Image { container: usize, version: u8 },
    Resize { container: usize, cpu: u8 },
    Deny,
    Hooks { ok: bool },
    Probes { ok: bool },
    Wait { millis: u64 },
    Stuck { container: usize },
    Delete { grace: i64 },
    Gone,
    Restart,
    FailCreate,
}

struct World {
    pod: Pod,
    state: PodState,
    now: Timestamp,
    made: u32,
    fail_create: bool,
    /// The next allocation or resize is refused.
    deny: bool,
    /// Containers (by index) that ignore TERM.
    deaf: Vec<usize>,
    probes: Vec<(String, spec::ProbeKind)>,
    hooks: Vec<(String, HookKind)>,
    finished: bool,
    log: Vec<String>,
    /// Ids for which preStop was begun, TERM sent.
    stopped_after_hook: Vec<String>,
}

const NAMES: [&str; 2] = ["web", "log"];

fn pod(policy: &str, hooks: bool) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "containers": [
            {"name": "web", "image": "web:v0", "readinessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 1}},
            {"name": "log", "image": "log:v0",
             "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]},
    });
    if hooks {
        let exec = json!({"exec": {"command": ["x"]}});
        pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": exec, "preStop": exec});
    }
    serde_json::from_value(pod).unwrap()
}

impl World {
    fn new(policy: &str, hooks: bool) -> Self {
        let now = Timestamp::UNIX_EPOCH;
        Self {
            pod: pod(policy, hooks),
            state: PodState::new(BackOffLimits::default(), now),
            now,
            made: 0,
            fail_create: false,
            deny: false,
            deaf: vec![],
            probes: vec![],
            hooks: vec![],
            finished: false,
            log: vec![],
            stopped_after_hook: vec![],
        }
    }

    fn live(&self, name: &str) -> Vec<String> {
        let of = self.state.instances().filter(|(n, i)| *n == name && i.running());
        of.map(|(_, i)| i.id.clone()).collect()
    }

    fn exit(&mut self, id: &str, code: i32) {
        let exit = Exit {
            code,
            signal: 0,
            finished_at: self.now,
            oom_killed: false,
        };
        self.state.exited(id, exit, None);
        self.hooks.retain(|(of, _)| of != id);
        self.probes.retain(|(of, _)| of != id);
    }

    fn check_order(&mut self, id: &str, kill: bool) {
        let instance = self
            .state
            .instance_mut(id)
            .expect("signals go to containers that exist");
        if let Some(stop) = &instance.stop {
            assert!(!kill || stop.asked_at.is_some(), "KILL only after TERM");
            assert_ne!(stop.pre_stop, Hook::Waiting, "preStop before TERM");
        }
        self.hooks.retain(|(of, _)| of != id);
    }

    fn create(&mut self, container: &str, attempt: u32) {
        let refused = std::mem::take(&mut self.fail_create);
        let hash = spec::hash(spec::find(&self.pod, container).unwrap());
        if refused {
            let retry_at = later(self.now, Duration::from_secs(5));
            let obstacle = Obstacle {
                reason: Reason::CreateContainerError,
                message: String::new(),
                since: self.now,
                retry_at,
                look_at: None,
                hash,
            };
            return self.state.not_created(container, obstacle);
        }
        self.made += 1;
        let resources = resize::allocated(spec::find(&self.pod, container).unwrap(), &self.state);
        let instance = Instance {
            resources: Some(resources),
            ..instance(self.made, attempt, hash)
        };
        self.state.created(container, instance);
        self.log.push(format!("create {container}"));
    }

    fn resize(&mut self, container: &str, id: &str) {
        assert_eq!(container, "web", "the other one wants a restart");
        let granted = resize::allocated(spec::find(&self.pod, container).unwrap(), &self.state);
        let failed = (String::new(), later(self.now, Duration::from_secs(2)));
        let refused = std::mem::take(&mut self.deny);
        self.state.resized(id, if refused { Err(failed) } else { Ok(granted) });
    }

    fn do_action(&mut self, action: &Action) {
        let ending = self.state.ending.is_some();
        if let Action::Signal { id, kill, .. } = action {
            self.check_order(id, *kill);
        }
        self.state.begin(action, self.now);
        match action {
            Action::RefreshVolumes | Action::MeasureVolumes => {}
            Action::PrepareSandbox => self.state.sandbox = Sandbox::Ready("10.0.0.9".parse().unwrap()),
            Action::Create { container, attempt } => {
                assert!(!ending, "nothing is made after the deletion");
                self.create(container, *attempt);
            }
            Action::Start { container, id } => {
                assert!(!ending, "nothing is started after the deletion");
                assert_eq!(
                    self.live(container),
                    Vec::<String>::new(),
                    "never two alive of one name"
                );
                self.state.started(id, self.now);
            }
            Action::PostStart { id, .. } => self.hooks.push((id.clone(), HookKind::PostStart)),
            Action::PreStop { id, .. } => {
                self.hooks.push((id.clone(), HookKind::PreStop));
                self.stopped_after_hook.push(id.clone());
            }
            Action::Signal { container, id, kill } => {
                let deaf = |name: &str| self.deaf.iter().any(|i| NAMES[*i] == name);
                if *kill || !deaf(container) {
                    self.exit(id, if *kill { 137 } else { 0 });
                }
            }
            Action::Probe { id, kind, .. } => self.probes.push((id.clone(), *kind)),
            Action::Remove { id, .. } => {
                assert!(
                    !self.state.instance_mut(id).expect("it exists").running(),
                    "only ended ones are removed"
                );
                self.state.removed(id);
            }
            Action::CleanUp => {
                assert_eq!(self.state.instances().count(), 0, "containers go before their network");
                self.state.cleaned = true;
            }
            Action::DeleteObject => {
                self.state.deleted = true;
                self.state.observe_gone(self.now);
            }
            Action::Allocate { wanted } if std::mem::take(&mut self.deny) => {
                self.state.pending = Some(Pending {
                    reason: NotGranted::Deferred,
                    message: String::new(),
                    wanted: wanted.clone(),
                    retry_at: Some(later(self.now, Duration::from_secs(2))),
                });
            }
            Action::Allocate { wanted } => self.state.granted(wanted.clone()),
            Action::Resize { container, id } => {
                assert!(!ending, "nothing is resized after the deletion");
                self.resize(container, id);
            }
            Action::BeginStop { .. }
            | Action::TellBackOff { .. }
            | Action::LookForImage { .. }
            | Action::Admit
            | Action::Reject { .. }
            | Action::Fail { .. } => {}
        }
    }

    /// Plans and acts until there is nothing to do at this moment. Answers when there will be.
    fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..200 {
            let view = PodView {
                pod: &self.pod,
                state: &self.state,
                host_ip: "10.0.0.1".parse().unwrap(),
            };
            let plan = plan(&view, self.now);
            if plan.finished {
                self.finished = true;
                return None;
            }
            let mut status = plan.status;
            if plan.actions.is_empty() {
                status.conditions = status
                    .conditions
                    .or_else(|| self.pod.status.clone().and_then(|s| s.conditions));
                let changed = self.pod.status.as_ref() != Some(&status);
                self.pod.status = Some(status);
                if changed {
                    continue;
                }
                return plan.wake_at;
            }
            for action in plan.actions {
                self.do_action(&action);
                if action.slow() {
                    break;
                }
            }
        }
        panic!("the plan never rests: {:?}", self.log);
    }

    fn answer(&mut self, hooks: Option<bool>, probes: Option<bool>) {
        if let Some(ok) = hooks {
            for (id, kind) in std::mem::take(&mut self.hooks) {
                self.state.hook_done(&id, kind, ok);
            }
        }
        if let Some(ok) = probes {
            let answer = if ok {
                Answer::Success
            } else {
                Answer::Failure(String::new())
            };
            for (id, kind) in std::mem::take(&mut self.probes) {
                let probe = spec::probe(&spec::containers(&self.pod)[0], kind).map(spec::timing);
                self.state.probed(&id, kind, &answer, probe);
            }
        }
    }

    fn apply(&mut self, change: &Move) {
        match change {
            Move::Exit { container, code } => {
                for id in self.live(NAMES[*container]) {
                    self.exit(&id, *code);
                }
            }
            Move::Image { container, version } => {
                let list = &mut self.pod.spec.as_mut().unwrap().containers;
                list[*container].image = Some(format!("{}:v{version}", NAMES[*container]));
            }
            Move::Resize { container, cpu } => {
                let list = &mut self.pod.spec.as_mut().unwrap().containers;
                let resources = json!({"requests": {"cpu": format!("{cpu}")}});
                list[*container].resources = Some(serde_json::from_value(resources).unwrap());
            }
            Move::Deny => self.deny = true,
            Move::Hooks { ok } => self.answer(Some(*ok), None),
            Move::Probes { ok } => self.answer(None, Some(*ok)),
            Move::Wait { millis } => self.now = later(self.now, Duration::from_millis(*millis)),
            Move::Stuck { container } => self.deaf.push(*container),
            Move::Delete { grace } => {
                let by = later(self.now, Duration::from_secs(u64::try_from(*grace).unwrap()));
                let shorter = self
                    .pod
                    .metadata
                    .deletion_grace_period_seconds
                    .is_none_or(|old| *grace < old);
                if shorter {
                    self.pod.metadata.deletion_timestamp = Some(Time(by));
                    self.pod.metadata.deletion_grace_period_seconds = Some(*grace);
                }
                self.state.observe_deletion(&self.pod, self.now);
            }
            Move::Gone => self.state.observe_gone(self.now),
            Move::Restart => self.restart(),
            Move::FailCreate => self.fail_create = true,
        }
    }

    /// The agent begins anew with what the runtime and the API have.
    fn restart(&mut self) {
        let containers = self
            .state
            .instances()
            .map(|(name, i)| runtime_container(name, i))
            .collect();
        let cleaned = self.state.cleaned;
        let gone = self.state.ending.is_some_and(|ending| ending.gone);
        self.state = recover::recover(&self.pod, containers, BackOffLimits::default(), self.now);
        self.state.observe_deletion(&self.pod, self.now);
        if gone {
            self.state.observe_gone(self.now);
        }
        self.state.cleaned = cleaned;
        self.hooks.clear();
        self.probes.clear();
    }
}

fn instance(number: u32, attempt: u32, hash: String) -> Instance {
    Instance::created(format!("{number:064x}"), attempt, hash)
}

fn runtime_container(name: &str, instance: &Instance) -> afloat_runtime::Container {
    use afloat_runtime::ContainerState;
    afloat_runtime::Container {
        id: instance.id.clone(),
        pod_uid: "u".into(),
        name: name.to_owned(),
        attempt: instance.attempt,
        image_id: String::new(),
        state: match &instance.process {
            Process::Created => ContainerState::Created,
            Process::Running => ContainerState::Running,
            Process::Exited(exit) => ContainerState::Exited(exit.clone()),
        },
        created_at: Timestamp::UNIX_EPOCH,
        started_at: instance.started_at,
        labels: [
            (found::HASH_LABEL.to_owned(), instance.hash.clone()),
            (found::RESOURCES_LABEL.to_owned(), json!(instance.resources).to_string()),
        ]
        .into(),
        log_path: Default::default(),
    }
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (0..2usize, 0..2i32).prop_map(|(container, code)| Move::Exit { container, code }),
        3 => (0..2usize, 0..3u8).prop_map(|(container, version)| Move::Image { container, version }),
        3 => (0..2usize, 1..4u8).prop_map(|(container, cpu)| Move::Resize { container, cpu }),
        1 => Just(Move::Deny),
        3 => any::<bool>().prop_map(|ok| Move::Hooks { ok }),
        3 => any::<bool>().prop_map(|ok| Move::Probes { ok }),
        4 => (0..20_000u64).prop_map(|millis| Move::Wait { millis }),
        1 => (0..2usize).prop_map(|container| Move::Stuck { container }),
        1 => prop_oneof![Just(0i64), Just(2), Just(30)].prop_map(|grace| Move::Delete { grace }),
        1 => Just(Move::Restart),
        1 => Just(Move::FailCreate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: the rules of `do_action` hold; in the end a deleted pod is gone, and a pod
    /// that may restart runs exactly its containers, from the images that the spec names.
    #[test]
    fn converges_in_any_order_of_events(
        list in proptest::collection::vec(moves(), 0..30),
        hooks in any::<bool>(),
        delete in any::<bool>(),
        gone in any::<bool>(),
    ) {
        let mut world = World::new("Always", hooks);
        for change in &list {
            world.apply(change);
            world.settle();
        }
        if delete {
            world.apply(&if gone { Move::Gone } else { Move::Delete { grace: 30 } });
        }
        let deleted = world.state.ending.is_some();
        for _ in 0..100 {
            let wake = world.settle();
            world.answer(Some(true), Some(true));
            world.settle();
            if world.finished {
                break;
            }
            let next = later(world.now, Duration::from_millis(500));
            world.now = wake.unwrap_or(next).max(next);
        }
        prop_assert_eq!(world.finished, deleted);
        if deleted {
            prop_assert_eq!(world.state.instances().count(), 0);
            return Ok(());
        }
        for container in spec::containers(&world.pod) {
            let instance = world.state.instance(&container.name).unwrap();
            prop_assert!(instance.running());
            prop_assert_eq!(&instance.hash, &spec::hash(container));
            let wanted = container.resources.clone().unwrap_or_default();
            prop_assert_eq!(&resize::allocated(container, &world.state), &wanted);
            prop_assert_eq!(&resize::actual(container, &world.state), &wanted);
        }
        let ready = progress::condition(&world.pod, "Ready").unwrap();
        prop_assert_eq!(&ready.status, "True");
        prop_assert_eq!(resize::conditions(&world.pod, &world.state).count(), 0);
    }

    /// A change of one image stops and makes that container alone.
    #[test]
    fn the_other_container_is_untouched(times in 1..5u8, wait in 0..5_000u64) {
        let mut world = World::new("Always", true);
        world.settle();
        world.answer(Some(true), Some(true));
        world.settle();
        let before = world.state.instance("log").unwrap().id.clone();
        for version in 1..=times {
            world.apply(&Move::Image { container: 0, version });
            world.settle();
            world.apply(&Move::Wait { millis: wait });
            world.answer(Some(true), Some(true));
            world.settle();
        }
        prop_assert_eq!(&world.state.instance("log").unwrap().id, &before);
        prop_assert_eq!(world.log.iter().filter(|line| *line == "create log").count(), 1);
    }
}

#[test]
fn a_hook_that_outlasts_the_grace_gets_two_seconds_more() {
    let mut world = World::new("Always", true);
    world.settle();
    world.answer(Some(true), Some(true));
    world.deaf.extend([0, 1]);
    world.settle();
    world.apply(&Move::Delete { grace: 5 });
    let mut times = vec![];
    for _ in 0..20 {
        let wake = world.settle();
        let stop = world.state.instance("web").and_then(|i| i.stop.clone());
        if let Some(asked) = stop.and_then(|stop| stop.asked_at) {
            times.push(asked.duration_since(Timestamp::UNIX_EPOCH).as_secs());
        }
        if world.finished {
            break;
        }
        world.now = wake.unwrap_or(later(world.now, Duration::from_secs(1)));
    }
    assert!(world.finished);
    assert_eq!(times.first(), Some(&5), "TERM comes when the grace is over");
    assert_eq!(
        world.now.duration_since(Timestamp::UNIX_EPOCH).as_secs(),
        7,
        "KILL two seconds later"
    );
}

#[test]
fn a_job_ends_and_an_init_failure_fails_the_pod() {
    for (policy, code, phase) in [("OnFailure", 0, "Succeeded"), ("Never", 1, "Failed")] {
        let mut world = World::new(policy, false);
        world.settle();
        for container in 0..2 {
            world.apply(&Move::Exit { container, code });
        }
        world.settle();
        assert_eq!(
            world.pod.status.as_ref().and_then(|s| s.phase.as_deref()),
            Some(phase),
            "{policy}"
        );
        assert!(world.state.cleaned);
    }
}
