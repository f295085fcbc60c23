//! How a container is told to go, and whether it has the time.

use afloat_api::PodUpdatePolicy;
use afloat_api::names::{DRAIN, DRAIN_OBSERVED};
use serde_json::{Value, json};

use crate::cel::{Cel, On, Part};
use crate::form::Form;
use crate::object::{Container, Workload, World, annotation};
use crate::patch;
use crate::rule::{Hit, Rule, Severity, Test};

const TERMINATION: &str = "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination";

/// What a process gets for its own shutdown beside preStop.
const STOP_SECONDS: i64 = 30;

/// Seconds that a hook sleeps, if it says so: the `sleep` handler, or `sleep` commands in an exec handler.
pub(crate) fn sleep_seconds(hook: &Value) -> Option<i64> {
    if let Some(seconds) = hook.pointer("/sleep/seconds").and_then(Value::as_i64) {
        return Some(seconds);
    }
    let command = hook.pointer("/exec/command")?.as_array()?;
    let line: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    let line = line.join(" ");
    let separators = [' ', '\t', '\n', ';', '&', '|', '(', ')'];
    let words: Vec<&str> = line.split(separators).filter(|word| !word.is_empty()).collect();
    let pairs = words.iter().zip(words.iter().skip(1));
    let sleeps = pairs.filter(|(word, _)| **word == "sleep" || word.ends_with("/sleep"));
    let total: f64 = sleeps.filter_map(|(_, time)| seconds(time)).sum();
    // More than any cluster waits; and no fraction of a second matters here.
    (total > 0.0).then(|| total.min(1e9).ceil()).map(whole)
}

#[allow(clippy::cast_possible_truncation)] // bounded by its caller
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

fn seconds(text: &str) -> Option<f64> {
    let text = text.trim_matches(['"', '\'']);
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1.0),
        (at, 'm') => (&text[..at], 60.0),
        (at, 'h') => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    digits
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n >= 0.0)
        .map(|n| n * unit)
}

/// Seconds that preStop sleeps.
pub(super) fn pre_stop_seconds(container: &Container<'_>) -> Option<i64> {
    sleep_seconds(container.field("/lifecycle/preStop")?)
}

/// The container whose preStop sleeps longest.
fn longest<'a>(workload: &Workload<'a>) -> Option<(Container<'a>, i64)> {
    let containers = workload.containers().into_iter();
    let sleeping = containers.filter_map(|container| pre_stop_seconds(&container).map(|seconds| (container, seconds)));
    sleeping.max_by_key(|(_, seconds)| *seconds)
}

fn longer_grace(workload: &Workload<'_>, stop: i64) -> Vec<Value> {
    let pointer = workload.pod_field("terminationGracePeriodSeconds");
    vec![patch::set(workload.object, &pointer, json!(stop + STOP_SECONDS))]
}

pub(super) const RECREATE_WITHOUT_DRAIN: Rule = Rule {
    id: "recreate-without-drain",
    severity: Severity::Warning,
    title: "pods behind a Service are deleted without preStop",
    why: "When a pod is deleted, SIGTERM and the news for the proxies set out at the same time. Until the last proxy has heard \
          it, new connections go to a process that no longer listens, and are refused. Nothing in Kubernetes waits for the \
          proxies.",
    remedy: "Add a preStop sleep longer than proxies take (sleep handler: Kubernetes 1.30), with terminationGracePeriodSeconds \
             at least 30 s above it; or use a workload of apps.kruise.io with afloat.dev/drain: Observed or an update in place.",
    link: TERMINATION,
    test: Test::Workload(recreate_without_drain),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn recreate_without_drain(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let observed = workload.is_ours() && annotation(workload.object, DRAIN) == Some(DRAIN_OBSERVED);
    let in_place = workload
        .rollout()
        .is_some_and(|rollout| rollout.policy != PodUpdatePolicy::ReCreate);
    // A pod of nobody's is not released; it goes when somebody deletes it by hand.
    if observed || in_place || workload.form == Form::Pod {
        return Vec::new();
    }
    let serving = world.serving(workload).into_iter();
    let hasty = serving.filter(|(container, _)| container.field("/lifecycle/preStop").is_none());
    hasty
        .map(|(container, _)| {
            let pointer = container.at("/lifecycle/preStop");
            let mut fix = vec![patch::set(workload.object, &pointer, json!({"sleep": {"seconds": 5}}))];
            if workload.grace() < 5 + STOP_SECONDS {
                fix.extend(longer_grace(workload, 5));
            }
            let message = format!("container {} is behind a Service and has no preStop", container.name());
            Hit::new(pointer, message).with_fix(fix)
        })
        .collect()
}

pub(super) const PRE_STOP_EXCEEDS_GRACE: Rule = Rule {
    id: "prestop-exceeds-grace",
    severity: Severity::Error,
    title: "preStop takes all of terminationGracePeriodSeconds",
    why: "The grace period counts from the beginning of preStop. When it ends while preStop still runs, the process gets two \
          seconds and then SIGKILL: every request in it is cut off, at every release.",
    remedy: "Set terminationGracePeriodSeconds to preStop plus what the process needs to stop, 30 s at least.",
    link: TERMINATION,
    test: Test::Workload(pre_stop_exceeds_grace),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: "variables.longest.filter(s, s.seconds > double(variables.grace) - 1.0).map(s, s.container.name)",
    },
};

fn pre_stop_exceeds_grace(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let (grace, longest) = (workload.grace(), longest(workload));
    let long = longest.filter(|(_, seconds)| *seconds >= grace);
    long.into_iter()
        .map(|(container, seconds)| {
            let message = format!(
                "preStop of container {} sleeps {seconds} s of {grace} s of grace",
                container.name()
            );
            Hit::new(container.at("/lifecycle/preStop"), message).with_fix(longer_grace(workload, seconds))
        })
        .collect()
}

pub(super) const GRACE_TOO_SHORT: Rule = Rule {
    id: "grace-too-short",
    severity: Severity::Warning,
    title: "preStop leaves less than 30 s of terminationGracePeriodSeconds",
    why: "preStop and the process' own shutdown share one grace period. With 60 s of grace, a preStop of 55 s leaves 5 s: a \
          process that needs 10 s to finish its requests is killed with them.",
    remedy: "Set terminationGracePeriodSeconds to preStop + 30 s; a process that stops sooner is not waited for.",
    link: TERMINATION,
    test: Test::Workload(grace_too_short),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: "variables.longest.filter(s, s.seconds > 0.0 && s.seconds <= double(variables.grace) - 1.0 && \
                s.seconds > double(variables.grace) - 30.0).map(s, s.container.name)",
    },
};

fn grace_too_short(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let (grace, longest) = (workload.grace(), longest(workload));
    let tight = longest.filter(|(_, seconds)| *seconds > 0 && *seconds < grace && seconds + STOP_SECONDS > grace);
    tight
        .into_iter()
        .map(|(container, seconds)| {
            let message = format!(
                "preStop of container {} sleeps {seconds} s, which leaves {} s of {grace} s",
                container.name(),
                grace - seconds
            );
            let pointer = workload.pod_field("terminationGracePeriodSeconds");
            Hit::new(pointer, message).with_fix(longer_grace(workload, seconds))
        })
        .collect()
}

pub(super) const NO_GRACE: Rule = Rule {
    id: "no-grace",
    severity: Severity::Error,
    title: "terminationGracePeriodSeconds is 0",
    why: "With no grace at all a deleted pod is killed at once, without preStop and SIGTERM, while proxies still send to it.",
    remedy: "Leave terminationGracePeriodSeconds out (30 s), or set it to preStop + 30 s.",
    link: TERMINATION,
    test: Test::Workload(no_grace),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: "variables.grace > 0 ? [] : ['terminationGracePeriodSeconds: ' + string(variables.grace)]",
    },
};

fn no_grace(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    if workload.grace() > 0 {
        return Vec::new();
    }
    let pointer = workload.pod_field("terminationGracePeriodSeconds");
    let stop = longest(workload).map_or(0, |(_, seconds)| seconds);
    vec![Hit::new(pointer, "the pods are killed without being asked to stop").with_fix(longer_grace(workload, stop))]
}

pub(super) const SHELL_MISSING: Rule = Rule {
    id: "prestop-program-missing",
    severity: Severity::Error,
    title: "preStop runs a program that the image does not have",
    why: "A preStop that cannot be run fails at once (event FailedPreStopHook) and SIGTERM follows: the wait that it was for \
          does not take place. Images without a shell (distroless, scratch) have neither sh nor sleep.",
    remedy: "Use the sleep handler (Kubernetes 1.30) or httpGet, or put the program into the image.",
    link: "https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/",
    test: Test::Workload(shell_missing),
    cel: Cel::Needs("the files in the image"),
};

/// Where a program without a slash is looked for.
const SEARCH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

fn shell_missing(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in workload.containers() {
        let program = container
            .field("/lifecycle/preStop/exec/command/0")
            .and_then(Value::as_str);
        let paths = world
            .images
            .get(container.image())
            .and_then(|image| image.paths.as_ref());
        let (Some(program), Some(paths)) = (program, paths) else {
            continue;
        };
        // A volume may bring it.
        let mounted = crate::object::items(container.value, "/volumeMounts")
            .filter_map(|mount| mount.get("mountPath")?.as_str())
            .any(|mount| program.starts_with(mount));
        let there = match program.contains('/') {
            true => mounted || !program.starts_with('/') || paths.contains(program),
            false => SEARCH.iter().any(|dir| paths.contains(&format!("{dir}/{program}"))),
        };
        if there {
            continue;
        }
        let message = format!(
            "preStop of container {} runs {program}, which image {} does not have",
            container.name(),
            container.image()
        );
        let pointer = container.at("/lifecycle/preStop");
        let hit = Hit::new(container.at("/lifecycle/preStop/exec/command/0"), message);
        found.push(match pre_stop_seconds(&container) {
            Some(seconds) => {
                let sleep = json!({"sleep": {"seconds": seconds}});
                hit.with_fix(vec![patch::set(workload.object, &pointer, sleep)])
            }
            None => hit,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_read() {
        for (hook, wanted) in [
            (json!({"sleep": {"seconds": 5}}), Some(5)),
            (json!({"exec": {"command": ["sleep", "10"]}}), Some(10)),
            (json!({"exec": {"command": ["/bin/sleep", "1.5"]}}), Some(2)),
            (
                json!({"exec": {"command": ["sh", "-c", "sleep 10; nginx -s quit && sleep 1m"]}}),
                Some(70),
            ),
            (json!({"exec": {"command": ["sh", "-c", "kill -QUIT 1"]}}), None),
            (json!({"httpGet": {"path": "/", "port": 1}}), None),
        ] {
            assert_eq!(sleep_seconds(&hook), wanted, "{hook}");
        }
    }
}
