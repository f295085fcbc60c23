//! The loss meter: what a rollout has lost so far, out of the counters of the nodes' proxies.
//!
//! Counters only grow, and begin anew with their proxy. What they said when the rollout began, or when they were looked at
//! last, is kept in its report; what they have grown by since is added. So nothing is forgotten when a proxy, an agent
//! or the operator starts anew, and the same look taken twice adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{CloneSet, Counter, Lost, PodTraffic, ReportStatus, ServiceCounter, names};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pod::object::Pod;
use crate::workload::traffic::Traffic;

/// Counters kept in a report at most: an object has a bounded size, and who has lost at so many places knows enough.
const KEPT: usize = 1000;

/// What counters say of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meter {
    /// Lost since it began; None where nobody counts.
    pub lost: Option<Lost>,
    /// New connections since then.
    pub connections: u64,
    /// See [`ReportStatus::counters`].
    pub counters: Vec<Counter>,
    /// See [`ReportStatus::services`].
    pub services: Vec<ServiceCounter>,
    /// See [`ReportStatus::truncated`].
    pub truncated: bool,
}

impl Meter {
    /// What a report says.
    pub fn of(report: &ReportStatus) -> Self {
        Self {
            lost: report.lost.map(|_| report.kinds),
            connections: report.connections,
            counters: report.counters.clone(),
            services: report.services.clone(),
            truncated: report.truncated,
        }
    }

    /// Looks at the counters as they are now. `begins`: what they have grown by is not the rollout's.
    #[must_use]
    pub fn look(self, traffic: &Traffic, ours: &Ours<'_>, begins: bool) -> Self {
        let known: BTreeSet<String> = self.services.iter().map(|entry| entry.node.clone()).collect();
        let mut counters: BTreeMap<(String, String), Counter> = self
            .counters
            .into_iter()
            .map(|counter| ((counter.node.clone(), counter.uid.clone()), counter))
            .collect();
        let mut services: BTreeMap<(String, String), u64> = self
            .services
            .into_iter()
            .map(|entry| ((entry.node, entry.service), entry.seen))
            .collect();
        let (mut lost, mut connections, mut truncated) = (self.lost, self.connections, self.truncated);
        for (node, report) in &traffic.nodes {
            let Some(report) = report.as_deref().filter(|report| report.status.synced) else {
                continue;
            };
            // What a node counted that was not seen when the rollout began is nobody's.
            let begins = begins || !known.contains(node);
            for service in &ours.services {
                let Some(now) = report.status.services.get(service) else {
                    continue;
                };
                lost.get_or_insert_default();
                let name = service.split_once('/').map_or(service.as_str(), |(_, name)| name);
                let key = (node.clone(), name.to_owned());
                if services.len() >= KEPT && !services.contains_key(&key) {
                    truncated = true;
                    continue;
                }
                let seen = services.insert(key, *now).unwrap_or(0);
                if !begins {
                    connections += now.checked_sub(seen).unwrap_or(*now);
                }
            }
            let of_node: Vec<(String, String)> = counters.keys().filter(|(name, _)| name == node).cloned().collect();
            for key in of_node {
                if let Some(counter) = counters.get_mut(&key)
                    && !report.status.pods.contains_key(&key.1)
                {
                    // Proxies tell of every pod that lost anything: the counter, or the pod, is gone.
                    counter.seen = Lost::default();
                }
            }
            for (uid, pod) in &report.status.pods {
                let (now, key) = (counts(pod), (node.clone(), uid.clone()));
                let present = counters.contains_key(&key);
                if now.total() == 0 && !present {
                    continue;
                }
                let revision = ours.revision(uid);
                if revision.is_none() && !present {
                    continue;
                }
                if counters.len() >= KEPT && !present {
                    truncated = true;
                    continue;
                }
                let counter = counters.entry(key).or_insert_with(|| Counter {
                    node: node.clone(),
                    uid: uid.clone(),
                    pod: pod.pod.rsplit('/').next().unwrap_or_default().to_owned(),
                    ..Counter::default()
                });
                let grown = grown(&counter.seen, &now);
                counter.seen = now;
                if !begins && grown.total() > 0 {
                    counter.lost = counter.lost.plus(&grown);
                    revision.unwrap_or_default().clone_into(&mut counter.revision);
                    lost = Some(lost.unwrap_or_default().plus(&grown));
                }
            }
        }
        counters.retain(|_, counter| counter.seen.total() + counter.lost.total() > 0);
        Self {
            lost,
            connections,
            counters: counters.into_values().collect(),
            services: services
                .into_iter()
                .map(|((node, service), seen)| ServiceCounter { node, service, seen })
                .collect(),
            truncated,
        }
    }

    /// "3 connections lost (2 refused, 1 reset), 2 of them by pod web-x at node n1"; None if none is.
    pub fn sentence(&self) -> Option<String> {
        let lost = self.lost.filter(|lost| lost.total() > 0)?;
        let kinds = [
            (lost.refused, "refused"),
            (lost.reset, "reset"),
            (lost.timed_out, "timed out"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let worst = self.counters.iter().max_by_key(|counter| counter.lost.total());
        let worst = worst.map(|counter| {
            let (count, pod, node) = (counter.lost.total(), &counter.pod, &counter.node);
            format!(", {count} of them by pod {pod} at node {node}")
        });
        let noun = if lost.total() == 1 { "connection" } else { "connections" };
        Some(format!(
            "{} {noun} lost ({}){}",
            lost.total(),
            kinds.join(", "),
            worst.unwrap_or_default()
        ))
    }
}

/// Whose counters count.
#[derive(Clone, Debug)]
pub struct Ours<'a> {
    /// Revision of each pod that a proxy counted losses of, by UID.
    pods: BTreeMap<&'a str, &'a str>,
    /// Pods that were deleted lately, by UID.
    departed: &'a BTreeMap<String, String>,
    /// Services, by namespace and name.
    services: Vec<String>,
}

impl<'a> Ours<'a> {
    /// The pods of a workload. `departed`: the revisions of those that it deleted lately, by UID.
    pub fn of(pods: impl Iterator<Item = &'a Pod>, departed: &'a BTreeMap<String, String>, traffic: &Traffic) -> Self {
        let reports = traffic.nodes.values().flatten();
        let counted = reports.flat_map(|report| report.status.pods.iter());
        let lossy: BTreeSet<&str> = counted
            .filter(|(_, pod)| counts(pod).total() > 0)
            .map(|(uid, _)| uid.as_str())
            .collect();
        let mut pods = pods.peekable();
        // All pods of a workload have its selector's labels, and Services go by those.
        let services = pods.peek().map(|pod| {
            let selecting = traffic.services.iter().filter(|service| service.selects(&pod.labels));
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let name = |meta: &ObjectMeta| format!("{}/{}", text(&meta.namespace), text(&meta.name));
            selecting.map(|service| name(&service.metadata)).collect()
        });
        let revision = |pod: &'a Pod| pod.labels.get(names::REVISION).unwrap_or_default();
        let mut lost = BTreeMap::new();
        // Most of the time there are none, and thousands of pods need not be looked at.
        if !lossy.is_empty() {
            let pods = pods.filter(|pod| lossy.contains(pod.metadata.uid.as_str()));
            lost.extend(pods.map(|pod| (pod.metadata.uid.as_str(), revision(pod))));
        }
        Self {
            pods: lost,
            departed,
            services: services.unwrap_or_default(),
        }
    }

    fn revision(&self, uid: &str) -> Option<&str> {
        let departed = || self.departed.get(uid).map(String::as_str);
        self.pods.get(uid).copied().or_else(departed)
    }
}

fn counts(pod: &PodTraffic) -> Lost {
    Lost {
        refused: pod.refused.unwrap_or(0),
        reset: pod.reset.unwrap_or(0),
        timed_out: pod.timed_out.unwrap_or(0),
    }
}

/// What a counter has grown by; one that has shrunk has begun anew.
fn grown(seen: &Lost, now: &Lost) -> Lost {
    let kinds = || {
        Some(Lost {
            refused: now.refused.checked_sub(seen.refused)?,
            reset: now.reset.checked_sub(seen.reset)?,
            timed_out: now.timed_out.checked_sub(seen.timed_out)?,
        })
    };
    kinds().unwrap_or(*now)
}

/// How much a rollout may lose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many connections.
    Count(u64),
    /// So many of a hundred, rounded up.
    Percent(f64),
}

impl Limit {
    /// What a workload allows; None if it says nothing. Text that means nothing allows nothing: whoever wrote it wanted a
    /// limit.
    pub fn of(set: &CloneSet) -> Option<Self> {
        let text = set.annotation(names::MAX_LOSS)?;
        Some(Self::read(text).unwrap_or(Self::Count(0)))
    }

    /// Reads "3" or "0.1%".
    pub fn read(text: &str) -> Option<Self> {
        match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent))
            }
            None => text.trim().parse().ok().map(Self::Count),
        }
    }

    /// How many of so many connections may be lost.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // rounded, in range
    pub fn allows(self, connections: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (connections as f64 * percent / 100.0).ceil() as u64,
        }
    }
}

/// Whether the workload wants its pods back at their old revision when more is lost than it allows.
pub fn rolls_back(set: &CloneSet) -> bool {
    set.annotation(names::ON_LOSS) == Some(names::ON_LOSS_ROLLBACK)
}

/// Sentences about annotations that mean nothing.
pub fn misspelt(set: &CloneSet) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(text) = set
        .annotation(names::MAX_LOSS)
        .filter(|text| Limit::read(text).is_none())
    {
        found.push(format!(
            "annotation {} is {text:?}, which is neither a number nor a percentage up to 100%: nothing may be lost",
            names::MAX_LOSS
        ));
    }
    let actions = [names::ON_LOSS_PAUSE, names::ON_LOSS_ROLLBACK];
    if let Some(text) = set.annotation(names::ON_LOSS).filter(|text| !actions.contains(text)) {
        found.push(format!(
            "annotation {} is {text:?}, which means nothing: say {}; taken for {}",
            names::ON_LOSS,
            actions.join(" or "),
            names::ON_LOSS_PAUSE
        ));
    }
    found
}

#[cfg(test)]
mod tests;
