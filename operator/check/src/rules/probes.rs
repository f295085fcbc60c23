//! When a container counts as ready, and when it is killed for not answering.

use serde_json::{Value, json};

use super::shutdown::pre_stop_seconds;
use crate::cel::{Cel, On, Part};
use crate::object::{Container, Workload, World};
use crate::patch;
use crate::policy::variables::{number, sleep, span};
use crate::rule::{Hit, Rule, Severity, Test};

const PROBES: &str =
    "https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/";

/// A start that is waited for so long without a startupProbe is a slow one.
const SLOW_SECONDS: i64 = 30;

pub(super) const NO_READINESS_PROBE: Rule = Rule {
    id: "no-readiness-probe",
    severity: Severity::Error,
    title: "a container behind a Service has no readinessProbe",
    why: "Without a readinessProbe a container is ready as soon as its process exists. Its Service sends requests before \
          it listens, and each of them is refused, at every release and every restart.",
    remedy: "Add a readinessProbe that asks what the application answers when it can serve, rather httpGet than tcpSocket.",
    link: PROBES,
    test: Test::Workload(no_readiness_probe),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn no_readiness_probe(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let serving = world.serving(workload);
    let silent = serving
        .iter()
        .filter(|(container, _)| container.field("/readinessProbe").is_none());
    silent
        .map(|(container, port)| {
            let pointer = container.at("/readinessProbe");
            let message = format!(
                "container {} serves port {} and has no readinessProbe",
                container.name(),
                shown(port)
            );
            let probe = json!({"tcpSocket": {"port": port}, "periodSeconds": 2});
            let fix = vec![patch::set(workload.object, &pointer, probe)];
            Hit::new(pointer, message).with_fix(fix)
        })
        .collect()
}

fn shown(port: &Value) -> String {
    port.as_str().map_or_else(|| port.to_string(), str::to_owned)
}

/// Seconds after which a probe that never succeeds has failed.
fn patience(probe: &Value) -> i64 {
    number(probe, "initialDelaySeconds", 0) + number(probe, "periodSeconds", 10) * number(probe, "failureThreshold", 3)
}

fn number(probe: &Value, field: &str, default: i64) -> i64 {
    probe.get(field).and_then(Value::as_i64).unwrap_or(default)
}

/// The containers that stay: not those that run to their end before the others.
fn lasting<'a>(workload: &Workload<'a>) -> Vec<Container<'a>> {
    let sidecars = workload.init_containers().into_iter();
    let sidecars = sidecars.filter(Container::is_sidecar);
    workload.containers().into_iter().chain(sidecars).collect()
}

/// A startupProbe that gives the start the time that the others wait for it, twice over.
fn startup_probe(liveness: &Value, seconds: i64) -> Value {
    let mut probe = liveness.clone();
    if let Some(fields) = probe.as_object_mut() {
        fields.remove("initialDelaySeconds");
        fields.insert("periodSeconds".into(), json!(2));
        fields.insert("failureThreshold".into(), json!(seconds.max(1)));
    }
    probe
}

pub(super) const LIVENESS_BEFORE_READY: Rule = Rule {
    id: "liveness-before-ready",
    severity: Severity::Error,
    title: "the livenessProbe gives up before the readinessProbe first asks",
    why: "readinessProbe.initialDelaySeconds says that the application needs this long to start; livenessProbe kills it \
          after initialDelaySeconds + periodSeconds * failureThreshold, which is sooner. A start that takes as long as is \
          expected never comes to its end, and the container restarts for ever.",
    remedy: "Add a startupProbe: the other two wait for it.",
    link: PROBES,
    test: Test::Workload(liveness_before_ready),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.lasting.filter(c, has(c.livenessProbe) && has(c.readinessProbe) && !has(c.startupProbe) && ",
            number!("c.livenessProbe", "initialDelaySeconds", "0"),
            " + ",
            span!("c.livenessProbe"),
            " <= ",
            number!("c.readinessProbe", "initialDelaySeconds", "0"),
            ").map(c, c.name)"
        ),
    },
};

fn liveness_before_ready(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in lasting(workload) {
        let (Some(liveness), Some(readiness), None) = (
            container.field("/livenessProbe"),
            container.field("/readinessProbe"),
            container.field("/startupProbe"),
        ) else {
            continue;
        };
        let (killed, asked) = (patience(liveness), number(readiness, "initialDelaySeconds", 0));
        if killed <= asked {
            let message = format!(
                "container {} is killed after {killed} s without an answer, and is first asked for readiness after {asked} s",
                container.name()
            );
            let fix = patch::set(
                workload.object,
                &container.at("/startupProbe"),
                startup_probe(liveness, asked),
            );
            found.push(Hit::new(container.at("/livenessProbe"), message).with_fix(vec![fix]));
        }
    }
    found
}

pub(super) const SLOW_START: Rule = Rule {
    id: "slow-start-no-startup-probe",
    severity: Severity::Warning,
    title: "a slow start is waited for with initialDelaySeconds",
    why: "A long livenessProbe.initialDelaySeconds is a guess at the start's length. Too short, and a start on a busy node is \
          killed in the middle; too long, and an application that hangs early is noticed late. readinessProbe delays make \
          each pod of a release wait for the worst case.",
    remedy: "Add a startupProbe with a short period and a high failureThreshold, and drop initialDelaySeconds: liveness and \
             readiness wait until it succeeds once.",
    link: PROBES,
    test: Test::Workload(slow_start),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.lasting.filter(c, has(c.livenessProbe) && !has(c.startupProbe) && ",
            number!("c.livenessProbe", "initialDelaySeconds", "0"),
            " >= 30).map(c, c.name)"
        ),
    },
};

fn slow_start(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in lasting(workload) {
        let (Some(liveness), None) = (container.field("/livenessProbe"), container.field("/startupProbe")) else {
            continue;
        };
        let delay = number(liveness, "initialDelaySeconds", 0);
        if delay >= SLOW_SECONDS {
            let message = format!(
                "livenessProbe of container {} starts after {delay} s, and there is no startupProbe",
                container.name()
            );
            let probe = patch::set(
                workload.object,
                &container.at("/startupProbe"),
                startup_probe(liveness, delay),
            );
            let pointer = container.at("/livenessProbe/initialDelaySeconds");
            let fix = vec![probe, patch::remove(&pointer)];
            found.push(Hit::new(pointer, message).with_fix(fix));
        }
    }
    found
}

/// CEL: both probes ask this way and the same, or neither asks this way.
macro_rules! same {
    ($kind:literal) => {
        concat!(
            " && (has(c.livenessProbe.",
            $kind,
            ") ? has(c.readinessProbe.",
            $kind,
            ") && c.livenessProbe.",
            $kind,
            " == c.readinessProbe.",
            $kind,
            " : !has(c.readinessProbe.",
            $kind,
            "))"
        )
    };
}

pub(super) const LIVENESS_EQUALS_READINESS: Rule = Rule {
    id: "liveness-equals-readiness",
    severity: Severity::Warning,
    title: "livenessProbe and readinessProbe ask the same and give up at the same time",
    why: "A pod that is too busy to answer shall get no requests for a while: that is what readiness is for. Where liveness \
          asks the same and is no more patient, the container is killed with all requests in it, the others get its load, \
          and are killed next.",
    remedy: "Let liveness ask something cheaper, or give it a failureThreshold several times that of readiness.",
    link: PROBES,
    test: Test::Workload(liveness_equals_readiness),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.lasting.filter(c, has(c.livenessProbe) && has(c.readinessProbe)",
            same!("httpGet"),
            same!("tcpSocket"),
            same!("grpc"),
            same!("exec"),
            " && ",
            span!("c.livenessProbe"),
            " <= ",
            span!("c.readinessProbe"),
            ").map(c, c.name)"
        ),
    },
};

fn handler(probe: &Value) -> Vec<(&'static str, &Value)> {
    let kinds = ["httpGet", "tcpSocket", "grpc", "exec"];
    kinds
        .into_iter()
        .filter_map(|kind| Some((kind, probe.get(kind)?)))
        .collect()
}

fn liveness_equals_readiness(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in lasting(workload) {
        let (Some(liveness), Some(readiness)) = (container.field("/livenessProbe"), container.field("/readinessProbe"))
        else {
            continue;
        };
        let span = |probe| number(probe, "periodSeconds", 10) * number(probe, "failureThreshold", 3);
        if handler(liveness) == handler(readiness) && span(liveness) <= span(readiness) {
            let threshold = 3 * span(readiness) / number(liveness, "periodSeconds", 10).max(1);
            let pointer = container.at("/livenessProbe/failureThreshold");
            let message = format!(
                "container {} is killed after {} s without an answer, and taken out of service after {} s",
                container.name(),
                span(liveness),
                span(readiness)
            );
            let fix = vec![patch::set(workload.object, &pointer, json!(threshold))];
            found.push(Hit::new(pointer, message).with_fix(fix));
        }
    }
    found
}

/// CEL: the probe's own grace ends while preStop still sleeps.
macro_rules! cut {
    ($probe:literal) => {
        concat!(
            "(has(s.container.",
            $probe,
            ") && has(s.container.",
            $probe,
            ".terminationGracePeriodSeconds) && s.seconds > double(s.container.",
            $probe,
            ".terminationGracePeriodSeconds) - 1.0)"
        )
    };
}

pub(super) const LIVENESS_GRACE: Rule = Rule {
    id: "liveness-grace-cuts-prestop",
    severity: Severity::Warning,
    title: "a probe's own terminationGracePeriodSeconds is shorter than preStop",
    why: "When a liveness or startup probe kills a container, the probe's terminationGracePeriodSeconds counts instead of the \
          pod's. preStop runs all the same, is cut off, and the process is killed without SIGTERM having had any time.",
    remedy: "Raise the probe's terminationGracePeriodSeconds above preStop, or leave it out.",
    link: PROBES,
    test: Test::Workload(liveness_grace),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.lastingStops.filter(s, ",
            cut!("livenessProbe"),
            " || ",
            cut!("startupProbe"),
            ").map(s, s.container.name)"
        ),
    },
};

fn liveness_grace(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in lasting(workload) {
        let Some(stop) = pre_stop_seconds(&container) else {
            continue;
        };
        for probe in ["livenessProbe", "startupProbe"] {
            let pointer = format!("/{probe}/terminationGracePeriodSeconds");
            let Some(grace) = container
                .field(&pointer)
                .and_then(Value::as_i64)
                .filter(|grace| *grace <= stop)
            else {
                continue;
            };
            let message = format!(
                "{probe} of container {} gives {grace} s to stop, and preStop takes {stop} s",
                container.name()
            );
            let fix = vec![patch::remove(&container.at(&pointer))];
            found.push(Hit::new(container.at(&pointer), message).with_fix(fix));
        }
    }
    found
}

pub(super) const POST_START_BLOCKS: Rule = Rule {
    id: "post-start-blocks",
    severity: Severity::Warning,
    title: "postStart sleeps",
    why: "A container is not Running, is not probed, and the containers after it are not started until its postStart hook \
          returns. A sleep there makes every start and every update in place longer by its full time, and orders nothing: \
          the entrypoint runs at the same time.",
    remedy: "Wait for readiness with a startupProbe or readinessProbe, and order containers with sidecars (initContainers with \
             restartPolicy Always).",
    link: "https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/",
    test: Test::Workload(post_start_blocks),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.lasting.filter(c, has(c.lifecycle) && has(c.lifecycle.postStart)).filter(c, ",
            sleep!("c.lifecycle.postStart"),
            " > 0.0).map(c, c.name)"
        ),
    },
};

fn post_start_blocks(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in lasting(workload) {
        let Some(hook) = container.field("/lifecycle/postStart") else {
            continue;
        };
        let Some(seconds) = super::shutdown::sleep_seconds(hook).filter(|seconds| *seconds > 0) else {
            continue;
        };
        let pointer = container.at("/lifecycle/postStart");
        let hit = Hit::new(
            pointer.clone(),
            format!("postStart of container {} sleeps {seconds} s", container.name()),
        );
        // What a shell does besides sleeping may be needed.
        let alone = hook.get("sleep").is_some();
        found.push(if alone {
            hit.with_fix(vec![patch::remove(&pointer)])
        } else {
            hit
        });
    }
    found
}
