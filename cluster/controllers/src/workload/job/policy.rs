//! What a failed pod means to its Job (`podFailurePolicy`), and when enough of an Indexed Job has succeeded (`successPolicy`).

use crate::objects::pod::{ContainerEnd, Pod};
use crate::objects::{Job, OnExitCodes};

use super::indexes::Indexes;

/// What a failure means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It counts towards the limits.
    Counts,
    /// It counts, and its index is not tried again.
    FailsIndex,
    /// It counts, and the Job is at its end: why.
    FailsJob(String),
    /// It does not count.
    Ignored,
}

impl Failure {
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignored
    }
}

/// What the failure of this pod means: the first rule that it matches says so.
pub(super) fn failure(job: &Job, pod: &Pod) -> Failure {
    let rules = job.spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.name());
        let action = rule.action.as_str();
        let found = match &rule.on_exit_codes {
            Some(codes) => exited(pod, codes).map(|(container, code)| {
                format!(
                    "Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {at}"
                )
            }),
            None => {
                let mut conditions = pod.status.conditions.iter();
                let matched = conditions.find(|condition| {
                    let mut patterns = rule.on_pod_conditions.iter();
                    patterns.any(|pattern| pattern.type_ == condition.type_ && pattern.status == condition.status)
                });
                matched.map(|condition| {
                    let type_ = &condition.type_;
                    format!("Pod {namespace}/{name} has condition {type_} matching {action} rule at index {at}")
                })
            }
        };
        match (found, action) {
            (Some(_), "Ignore") => return Failure::Ignored,
            (Some(_), "Count") => return Failure::Counts,
            (Some(_), "FailIndex") => return Failure::FailsIndex,
            (Some(message), "FailJob") => return Failure::FailsJob(message),
            _ => {}
        }
    }
    Failure::Counts
}

/// The first container that ended with a code as asked for, and the code. Success never matches.
fn exited<'a>(pod: &'a Pod, codes: &OnExitCodes) -> Option<(&'a str, i32)> {
    let ends = pod.status.ends.as_ref()?;
    let matching = |container: &'a ContainerEnd| {
        let code = container.terminated.as_ref()?.exit_code;
        let named = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
        let listed = codes.values.contains(&code);
        let asked = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        (named && code != 0 && asked).then_some((container.name.as_str(), code))
    };
    ends.containers.iter().chain(&ends.init_containers).find_map(matching)
}

/// Why the Job has succeeded although not all of it has, if so.
pub(super) fn succeeded_early(job: &Job, succeeded: &Indexes, completions: usize) -> Option<String> {
    let rules = &job.spec.success_policy.as_ref()?.rules;
    let enough = |count: Option<i32>, found: usize| {
        count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| found >= count))
    };
    if succeeded.total() == 0 {
        return None;
    }
    let met = rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let found = wanted.common(succeeded);
            wanted.total() > 0 && (found == wanted.total() || enough(rule.succeeded_count, found))
        }
        None => enough(rule.succeeded_count, succeeded.total()),
    });
    met.map(|at| format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::Kind;

    fn job(spec: Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn pod(code: i32, condition: &str) -> Pod {
        let terminated = |code: i32| json!({"terminated": {"exitCode": code}});
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "finalizers": ["batch.kubernetes.io/job-tracking"]},
            "status": {
                "phase": "Failed",
                "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "a", "state": terminated(code)}, {"name": "b", "state": {"running": {}}}],
                "initContainerStatuses": [{"name": "i", "state": terminated(0)}],
            },
        }))
        .unwrap();
        pod.trim();
        pod
    }

    #[test]
    fn the_first_rule_that_matches_says_what_a_failure_means() {
        let codes = |action: &str, codes: Value| json!({"action": action, "onExitCodes": codes});
        let rules = json!([
            codes("FailJob", json!({"operator": "In", "values": [42], "containerName": "b"})),
            codes("Ignore", json!({"operator": "In", "values": [41, 42], "containerName": "a"})),
            {"action": "FailIndex", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "False"}]},
            codes("FailJob", json!({"operator": "NotIn", "values": [1, 2]})),
        ]);
        let job = job(json!({"podFailurePolicy": {"rules": rules}}));
        let told = "Container a for pod n/p failed with exit code 7 matching FailJob rule at index 4".to_owned();
        for (code, condition, wanted) in [
            (42, "Ready", Failure::Ignored),
            (7, "Ready", Failure::FailsJob(told)),
            (7, "ConfigIssue", Failure::FailsIndex),
            (1, "DisruptionTarget", Failure::Counts),
            (0, "Ready", Failure::Counts),
        ] {
            assert_eq!(failure(&job, &pod(code, condition)), wanted, "{code} {condition}");
        }
    }

    #[test]
    fn a_part_may_be_enough() {
        for (rule, succeeded, wanted) in [
            (json!({"succeededIndexes": "0,2-3"}), "0,2", false),
            (json!({"succeededIndexes": "0,2-3"}), "0-5", true),
            (json!({"succeededIndexes": "0,2-3", "succeededCount": 2}), "0,3", true),
            (json!({"succeededCount": 3}), "1,5", false),
            (json!({"succeededCount": 2}), "1,5", true),
            (json!({"succeededCount": 0}), "", false),
        ] {
            let job = job(json!({"successPolicy": {"rules": [rule]}}));
            let met = succeeded_early(&job, &Indexes::parse(succeeded, 10), 10);
            assert_eq!(
                met.as_deref(),
                wanted.then_some("Matched rules at index 0"),
                "{rule} {succeeded}"
            );
        }
    }
}
