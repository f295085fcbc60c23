//! The loss meter: what a rollout has lost so far, out of the counters of the nodes' proxies.
//!
//! Counters only grow, and begin anew with their proxy. What they said when the rollout began, or when they were looked at
//! last, is kept in its report; what they have grown by since is added. So nothing is forgotten when a proxy, an agent
//! or the operator starts anew, and the same look taken twice adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{Counter, Lost, NodeTraffic, PodTraffic, ReportStatus, ServiceCounter, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::traffic::Traffic;
use crate::pod::object::Pod;

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
        let mut look = Look::begin(self, ours);
        for (node, report) in &traffic.nodes {
            let Some(report) = report.as_deref().filter(|report| report.status.synced) else {
                continue;
            };
            // What a node counted that was not seen when the rollout began is nobody's.
            let begins = begins || !known.contains(node);
            look.services(node, report, begins);
            look.forget_gone(node, report);
            look.pods(node, report, begins);
        }
        look.end()
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

/// One look at the counters, in a form in which they can be found.
struct Look<'a> {
    ours: &'a Ours<'a>,
    lost: Option<Lost>,
    connections: u64,
    truncated: bool,
    /// By node and UID.
    counters: BTreeMap<(String, String), Counter>,
    /// By node and name.
    services: BTreeMap<(String, String), u64>,
}

impl<'a> Look<'a> {
    fn begin(meter: Meter, ours: &'a Ours<'a>) -> Self {
        let counters = meter.counters.into_iter();
        let services = meter.services.into_iter();
        Self {
            ours,
            lost: meter.lost,
            connections: meter.connections,
            truncated: meter.truncated,
            counters: counters
                .map(|counter| ((counter.node.clone(), counter.uid.clone()), counter))
                .collect(),
            services: services
                .map(|entry| ((entry.node, entry.service), entry.seen))
                .collect(),
        }
    }

    fn services(&mut self, node: &str, report: &NodeTraffic, begins: bool) {
        for service in &self.ours.services {
            let Some(now) = report.status.services.get(service) else {
                continue;
            };
            self.lost.get_or_insert_default();
            let name = service.split_once('/').map_or(service.as_str(), |(_, name)| name);
            let key = (node.to_owned(), name.to_owned());
            if self.services.len() >= KEPT && !self.services.contains_key(&key) {
                self.truncated = true;
                continue;
            }
            let seen = self.services.insert(key, *now).unwrap_or(0);
            if !begins {
                self.connections += now.checked_sub(seen).unwrap_or(*now);
            }
        }
    }

    /// Proxies tell of every pod that lost anything: otherwise the counter, or the pod, is gone.
    fn forget_gone(&mut self, node: &str, report: &NodeTraffic) {
        for ((of, uid), counter) in &mut self.counters {
            if of == node && !report.status.pods.contains_key(uid) {
                counter.seen = Lost::default();
            }
        }
    }

    fn pods(&mut self, node: &str, report: &NodeTraffic, begins: bool) {
        for (uid, pod) in &report.status.pods {
            let (now, key) = (counts(pod), (node.to_owned(), uid.clone()));
            let present = self.counters.contains_key(&key);
            if now.total() == 0 && !present {
                continue;
            }
            let revision = self.ours.revision(uid);
            if revision.is_none() && !present {
                continue;
            }
            if self.counters.len() >= KEPT && !present {
                self.truncated = true;
                continue;
            }
            let counter = self.counters.entry(key).or_insert_with(|| Counter {
                node: node.to_owned(),
                uid: uid.clone(),
                pod: pod.pod.rsplit('/').next().unwrap_or_default().to_owned(),
                ..Counter::default()
            });
            let grown = grown(&counter.seen, &now);
            counter.seen = now;
            if !begins && grown.total() > 0 {
                counter.lost = counter.lost.plus(&grown);
                revision.unwrap_or_default().clone_into(&mut counter.revision);
                self.lost = Some(self.lost.unwrap_or_default().plus(&grown));
            }
        }
    }

    fn end(self) -> Meter {
        let counters = self.counters.into_values();
        let services = self.services.into_iter();
        Meter {
            lost: self.lost,
            connections: self.connections,
            counters: counters
                .filter(|counter| counter.seen.total() + counter.lost.total() > 0)
                .collect(),
            services: services
                .map(|((node, service), seen)| ServiceCounter { node, service, seen })
                .collect(),
            truncated: self.truncated,
        }
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

#[cfg(test)]
mod tests;
