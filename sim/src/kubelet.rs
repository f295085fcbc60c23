//! What a node does with one pod's containers: a state machine over the spec that the kubelet has seen, and the time.
//! Nothing is written here.

use afloat_words::image::{self, ImageName};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::images::{Images, NodeImages};
use crate::options::{Hook, Options, Started, Statuses};
use crate::pod::{Container, ContainerStatus, Pod};
use crate::resize::{needs_restart, refusal};

/// A pod on its node.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) ip: String,
    pub(crate) start_time: String,
    pub(crate) containers: Vec<LocalContainer>,
    /// How far the pod itself has come.
    pub(crate) stage: Stage,
    /// Why the node cannot give the containers what the spec has come to want: they keep what they have.
    pub(crate) refused: Option<String>,
    /// When the containers of a terminating pod have ended.
    pub(crate) ends: Option<Instant>,
}

/// How far a pod has come, beside its containers. Where each step is told, it takes its place when the one before was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The kubelet has not said anything yet.
    New,
    /// It has taken the pod.
    Taken,
    /// The pod has its sandbox and address; containers come and go.
    Sandbox,
    /// All containers have ended for good.
    Ended,
}

/// A container on its node.
#[derive(Debug)]
pub(crate) struct LocalContainer {
    pub(crate) name: String,
    /// Containers that were started so far.
    pub(crate) starts: u32,
    pub(crate) phase: Phase,
    /// The container that ran last, running or ended.
    pub(crate) last: Option<Ran>,
    /// The one before, once it has ended; what `lastState` tells.
    pub(crate) before: Option<Ended>,
    /// Resources that are in force.
    pub(crate) resources: Value,
    /// Resources that will be, and when.
    resizing: Option<(Value, Instant)>,
    /// It passes its readiness probe, or has none.
    pub(crate) ready: bool,
    /// When it will, since it was started.
    probed: Option<Instant>,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// No start has been tried.
    New,
    /// Being stopped until then.
    Stopping(Instant),
    /// The image is there and the container will run then.
    Starting {
        image: String,
        digest: String,
        at: Instant,
    },
    /// It runs, and so does its postStart hook, until then. A kubelet does nothing else with the pod meanwhile, and says
    /// nothing (1.32: `kuberuntime_container.go#startContainer`).
    Hook {
        image: String,
        digest: String,
        started: String,
        until: Instant,
    },
    /// The image cannot be pulled.
    NoImage(String),
    Running,
}

/// A container that ran or runs.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) id: String,
    /// The reference that it was started from: name and image are what a kubelet's hash covers since 1.31.
    pub(crate) image: String,
    pub(crate) digest: String,
    pub(crate) started: String,
    pub(crate) ended: Option<Ended>,
}

/// How a container ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) started: String,
    pub(crate) finished: String,
    pub(crate) code: i32,
}

impl LocalContainer {
    fn new(spec: &Container) -> Self {
        Self {
            name: spec.name.clone(),
            starts: 0,
            phase: Phase::New,
            last: None,
            before: None,
            resources: spec.resources.clone(),
            resizing: None,
            ready: false,
            probed: None,
        }
    }

    fn end(&mut self, wall: &str, code: i32) {
        self.ready = false;
        if let Some(ran) = self.last.as_mut().filter(|ran| ran.ended.is_none()) {
            ran.ended = Some(Ended {
                id: ran.id.clone(),
                started: ran.started.clone(),
                finished: wall.to_owned(),
                code,
            });
        }
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }
}

/// What surrounds one pod.
pub(crate) struct Around<'a> {
    pub(crate) options: &'a Options,
    pub(crate) registry: &'a Images,
    pub(crate) images: &'a mut NodeImages,
    /// Set when the node's list of images has changed.
    pub(crate) images_changed: &'a mut bool,
    pub(crate) now: Instant,
    /// The same moment as Kubernetes writes it.
    pub(crate) wall: &'a str,
}

impl Local {
    /// A pod that the kubelet sees for the first time. What its status says that runs is taken over.
    pub(crate) fn new(pod: &Pod, ip: String, around: &mut Around<'_>) -> Self {
        let mut local = Self {
            ip: pod.status.pod_ip.clone().unwrap_or(ip),
            start_time: pod.status.start_time.clone().unwrap_or_else(|| around.wall.to_owned()),
            containers: Vec::new(),
            stage: match around.options.statuses {
                Statuses::EachStep if pod.status.pod_ip.is_none() => Stage::New,
                _ => Stage::Sandbox,
            },
            refused: None,
            ends: None,
        };
        for spec in &pod.spec.containers {
            let mut container = LocalContainer::new(spec);
            let status = pod
                .status
                .container_statuses
                .iter()
                .find(|status| status.name == spec.name);
            if let Some(status) = status {
                adopt(&mut container, spec, status, around);
            }
            local.containers.push(container);
        }
        local
    }

    /// Carries the pod forward to now. Returns when to look again.
    pub(crate) fn advance(&mut self, pod: &Pod, around: &mut Around<'_>) -> Option<Instant> {
        if pod.terminating() {
            let ends = *self.ends.get_or_insert(around.now + around.options.stop);
            if ends > around.now {
                return Some(ends);
            }
            if around.options.statuses == Statuses::EachStep && self.stage != Stage::Ended {
                self.stage = Stage::Ended;
                self.containers
                    .iter_mut()
                    .for_each(|container| container.end(around.wall, 0));
            }
            return None;
        }
        self.stage = match self.stage {
            Stage::New => Stage::Taken,
            Stage::Taken => Stage::Sandbox,
            Stage::Sandbox | Stage::Ended => {
                return self.advance_containers(pod, around);
            }
        };
        Some(around.now)
    }

    fn advance_containers(&mut self, pod: &Pod, around: &mut Around<'_>) -> Option<Instant> {
        let mut wake: Option<Instant> = None;
        let has = self.containers.iter();
        let has = has.map(|container| (container.name.as_str(), &container.resources));
        self.refused = refusal(pod, has, around.options.room);
        for container in &mut self.containers {
            let Some(spec) = pod.spec.containers.iter().find(|spec| spec.name == container.name) else {
                continue;
            };
            let next = step(container, spec, (pod, self.refused.is_none()), around);
            wake = [wake, next].into_iter().flatten().min();
            if matches!(container.phase, Phase::Hook { .. }) {
                break;
            }
        }
        wake
    }

    /// Ends the main process of a container; false if it does not run.
    pub(crate) fn crash(&mut self, name: &str, around: &mut Around<'_>) -> bool {
        let Some(container) = self.containers.iter_mut().find(|container| container.name == name) else {
            return false;
        };
        if container.phase != Phase::Running {
            return false;
        }
        let Some(ran) = container.last.as_ref() else {
            return false;
        };
        container.phase = Phase::Starting {
            image: ran.image.clone(),
            digest: ran.digest.clone(),
            at: around.now + around.options.start,
        };
        container.end(around.wall, 1);
        true
    }
}

fn adopt(container: &mut LocalContainer, spec: &Container, status: &ContainerStatus, around: &mut Around<'_>) {
    container.starts = status.restart_count;
    let Some(running) = status
        .state
        .running
        .as_ref()
        .filter(|_| !status.container_id.is_empty())
    else {
        return;
    };
    let digest = match status.image_id.rsplit_once('@') {
        Some((_, digest)) => digest.to_owned(),
        None => status.image_id.clone(),
    };
    // Where the status shows another name of the spec's image, the container was started from the spec.
    let same =
        ImageName::of(&status.image) == ImageName::of(&spec.image) || around.registry.digest(&spec.image) == digest;
    let image = if same { &spec.image } else { &status.image };
    around.images.learn(image::full(&status.image), &digest);
    if same {
        around.images.learn(image::full(&spec.image), &digest);
    }
    *around.images_changed = true;
    container.starts = status.restart_count.saturating_add(1);
    container.phase = Phase::Running;
    container.ready = status.ready || spec.readiness_probe.is_none();
    container.probed = Some(around.now + around.options.probe);
    container.last = Some(Ran {
        id: status.container_id.clone(),
        image: image.clone(),
        digest,
        started: running.started_at.clone(),
        ended: None,
    });
}

/// `granted`: its node gives the pod what it wants.
fn step(
    container: &mut LocalContainer,
    spec: &Container,
    (pod, granted): (&Pod, bool),
    around: &mut Around<'_>,
) -> Option<Instant> {
    let now = around.now;
    let each = around.options.statuses == Statuses::EachStep;
    // Each pass may take one step; there is no way around in a circle without time going by.
    loop {
        match &container.phase {
            Phase::New => begin(container, spec, around),
            Phase::NoImage(_) => {
                let before = container.phase.clone();
                begin(container, spec, around);
                if container.phase == before {
                    return None;
                }
            }
            Phase::Stopping(until) if *until > now => return Some(*until),
            Phase::Stopping(_) => {
                container.end(around.wall, 0);
                begin(container, spec, around);
                if each {
                    return Some(now);
                }
            }
            Phase::Starting { at, .. } if *at > now => return Some(*at),
            Phase::Starting { image, digest, .. } => {
                let (image, digest) = (image.clone(), digest.clone());
                if let Some(hook) = &around.options.on_start {
                    tell(hook, container, &image, pod);
                }
                container.phase = Phase::Hook {
                    image,
                    digest,
                    started: around.wall.to_owned(),
                    until: now + spec.hook(),
                };
            }
            Phase::Hook { until, .. } if *until > now => return Some(*until),
            Phase::Hook {
                image, digest, started, ..
            } => {
                let began = (image.clone(), digest.clone(), started.clone());
                start_container(container, spec, began, (pod, granted), around);
                if each {
                    return Some(now);
                }
            }
            Phase::Running => {
                let runs = container.last.as_ref().is_some_and(|ran| ran.image == spec.image);
                if runs && !(granted && resize(container, spec, around)) {
                    let probed = container.probed.filter(|_| !container.ready);
                    container.ready |= probed.is_some_and(|at| at <= now);
                    let resized = container.resizing.as_ref().map(|(_, at)| *at);
                    let waits = [probed.filter(|at| *at > now), resized];
                    return waits.into_iter().flatten().min();
                }
                container.phase = Phase::Stopping(now + around.options.stop);
            }
        }
    }
}

fn begin(container: &mut LocalContainer, spec: &Container, around: &mut Around<'_>) {
    container.phase = match around.images.ensure(&spec.image, around.registry) {
        Some((digest, changed)) => {
            *around.images_changed |= changed;
            Phase::Starting {
                image: spec.image.clone(),
                digest,
                at: around.now + around.options.start,
            }
        }
        None => Phase::NoImage(spec.image.clone()),
    };
}

fn start_container(
    container: &mut LocalContainer,
    spec: &Container,
    (image, digest, started): (String, String, String),
    (pod, granted): (&Pod, bool),
    around: &Around<'_>,
) {
    container.before = container.last.take().and_then(|ran| ran.ended);
    let identity = format!("{}/{}/{}", pod.metadata.uid, container.name, container.starts);
    container.last = Some(Ran {
        id: format!("containerd://{}", hex::encode(Sha256::digest(identity.as_bytes()))),
        image,
        digest,
        started,
        ended: None,
    });
    container.starts = container.starts.saturating_add(1);
    if granted {
        container.resources = spec.resources.clone();
    }
    container.resizing = None;
    container.ready = spec.readiness_probe.is_none();
    container.probed = Some(around.now + around.options.probe);
    container.phase = Phase::Running;
}

fn tell(hook: &Hook, container: &LocalContainer, image: &str, pod: &Pod) {
    hook(&Started {
        namespace: &pod.metadata.namespace,
        pod: &pod.metadata.name,
        node: pod.spec.node_name.as_deref().unwrap_or_default(),
        container: &container.name,
        image,
        restarts: container.starts,
        labels: &pod.metadata.labels,
        annotations: &pod.metadata.annotations,
    });
}

/// Brings a running container's resources to the spec's; true if that needs a restart.
fn resize(container: &mut LocalContainer, spec: &Container, around: &Around<'_>) -> bool {
    if container.resources == spec.resources {
        container.resizing = None;
        return false;
    }
    if needs_restart(&container.resources, spec) {
        return true;
    }
    match &container.resizing {
        Some((wanted, at)) if *wanted == spec.resources => {
            if *at <= around.now {
                container.resources = spec.resources.clone();
                container.resizing = None;
            }
        }
        _ if around.options.resize.is_zero() => container.resources = spec.resources.clone(),
        _ => container.resizing = Some((spec.resources.clone(), around.now + around.options.resize)),
    }
    false
}
