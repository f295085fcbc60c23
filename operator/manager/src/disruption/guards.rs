//! What budgets leave to a workload's planner, and the taking of it before a round acts.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use afloat_api::{Matcher, Operation, PodUnavailableBudget, names};
use afloat_disruption::count::desired;
use afloat_disruption::guards::{Guard, all};
use afloat_disruption::owners::{Owner, Selected};
use afloat_disruption::take::{Subject, left};
use afloat_rollout::pod::Pod;
use afloat_rollout::workload::owner::Owner as Workload;
use afloat_rollout::workload::roster::Roster;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::claim::claim;
use super::state::{Disruption, name};
use crate::kept::Group;

impl Disruption {
    /// The budgets that are about a workload's pods.
    pub(crate) fn guards(&self, namespace: &str, workload: Workload<'_>, pods: &Roster) -> Vec<Guard> {
        let group = Group::from(namespace);
        let ours = self.budgets.peek_group(&group);
        let ours = ours.iter().filter_map(|budget| guard(budget, workload, pods));
        let others = self.others.peek_group(&group);
        let others = others.iter().filter_map(|budget| other(budget, pods));
        ours.chain(others).collect()
    }

    /// Takes of the PodUnavailableBudgets what a round is about to do. Gives the names of the pods that must be left alone.
    pub(crate) async fn claim(
        &self,
        namespace: &str,
        workload: Workload<'_>,
        spends: &[(String, Operation)],
        pods: &[Arc<Pod>],
    ) -> HashSet<String> {
        let mut left_alone = HashSet::new();
        if spends.is_empty() {
            return left_alone;
        }
        for budget in self.budgets.peek_group(&Group::from(namespace)) {
            let about = |pod: &Pod| is_about(&budget, workload, pod) && !exempt(&budget, pod);
            let wanted = spends.iter().filter_map(|(name, operation)| {
                let pod = pods.iter().find(|pod| pod.name() == name && about(pod))?;
                let subject = Subject {
                    name,
                    created: pod.metadata.created,
                    ready_since: pod.ready_since(),
                    available: true,
                };
                Some((subject, *operation))
            });
            let wanted: Vec<_> = wanted.filter(|(pod, _)| !left_alone.contains(pod.name)).collect();
            if wanted.is_empty() {
                continue;
            }
            let answers = claim(&self.client, PodUnavailableBudget::clone(&budget), &wanted, false).await;
            let answers = answers.unwrap_or_else(|why| {
                tracing::warn!(
                    budget = name(&budget.metadata),
                    why,
                    "a PodUnavailableBudget cannot be asked, so its pods stay"
                );
                wanted.iter().map(|_| Err(String::new())).collect()
            });
            let refused = wanted.iter().zip(answers).filter(|(_, answer)| answer.is_err());
            left_alone.extend(refused.map(|((pod, _), _)| pod.name.to_owned()));
        }
        left_alone
    }
}

fn is_about(budget: &PodUnavailableBudget, workload: Workload<'_>, pod: &Pod) -> bool {
    let owner = Owner {
        api_version: workload.api_version.to_owned(),
        kind: workload.kind.to_owned(),
        name: workload.name().to_owned(),
        uid: String::new(),
    };
    Selected::of(budget).is_about(&pod.labels, &[owner])
}

fn exempt(budget: &PodUnavailableBudget, pod: &Pod) -> bool {
    let said = pod.annotations.get(names::NO_PROTECT).and_then(afloat_api::boolean) == Some(true);
    let selector = budget.spec.ignored_pod_selector.as_ref();
    said || selector.is_some_and(|selector| Matcher::new(selector).selects(&pod.labels))
}

fn number(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// Which of a workload's pods are meant: None if there are none, and all of them if none is left out.
fn covered(pods: &Roster, meant: impl Fn(&Pod) -> bool) -> Option<(usize, Option<BTreeSet<Arc<str>>>)> {
    let active: Vec<&Arc<Pod>> = pods.pods().filter(|pod| pod.active()).collect();
    let covers = active.iter().filter(|pod| meant(pod));
    let covers: BTreeSet<_> = covers.map(|pod| pod.metadata.name.shared()).collect();
    let covered = covers.len();
    (covered > 0).then_some((covered, (covered < active.len()).then_some(covers)))
}

fn guard(budget: &PodUnavailableBudget, workload: Workload<'_>, pods: &Roster) -> Option<Guard> {
    let (covered, covers) = covered(pods, |pod| is_about(budget, workload, pod) && !exempt(budget, pod))?;
    let status = &budget.status;
    // Nobody has counted yet: then what there is, is all.
    let counted = status.observed_generation > 0;
    let total = if counted {
        status.total_replicas
    } else {
        i32::try_from(covered).unwrap_or(i32::MAX)
    };
    let floor = number(desired(&budget.spec, total));
    (floor > 0).then(|| Guard {
        name: format!("PodUnavailableBudget {}", name(&budget.metadata)),
        covers,
        operations: budget.guards(),
        stated: counted.then(|| number(left(budget))),
        floor,
        others: number(total).saturating_sub(covered),
    })
}

fn other(budget: &PodDisruptionBudget, pods: &Roster) -> Option<Guard> {
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    let everything = selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|all| all.is_empty());
    let matcher = Matcher::new(selector);
    let (covered, covers) = covered(pods, |pod| everything || matcher.selects(&pod.labels))?;
    let status = budget.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation).unwrap_or(0);
    let current = budget.metadata.generation.is_none_or(|generation| generation <= seen);
    let figures = status.filter(|_| current);
    Some(Guard {
        name: format!("PodDisruptionBudget {}", name(&budget.metadata)),
        covers,
        operations: all(),
        // As an eviction: as long as nobody has counted, nothing goes.
        stated: Some(figures.map_or(0, |status| number(status.disruptions_allowed))),
        floor: figures.map_or(0, |status| number(status.desired_healthy)),
        others: figures.map_or(0, |status| number(status.expected_pods).saturating_sub(covered)),
    })
}
