//! What the nodes' proxies do with a pod: whether they have let go of one that leaves service, and whether they send to
//! one that came back. Kubernetes has no such answer: a pod's conditions and its Services' EndpointSlices say what proxies
//! shall do, and every proxy learns of it in its own time.
//!
//! A report proves that a node has let go if its proxy has applied an EndpointSlice that is newer than the pod's last
//! Ready version and in which the pod is not ready, and sends no new connections to it. That compares versions of two
//! kinds, which Kubernetes counts with one number (etcd's revision); where it does not, the time limit decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{NodeTraffic, PodTraffic, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::limit::Limit;
use super::owner::Owner;
use super::roster::Member;
use crate::pod::drain::Drain;
use crate::pod::object::Pod;
use crate::texts::Entries;

/// Longest wait for proxies to let go where gracePeriodSeconds says none: none of the peers of Kubernetes' proxies takes
/// longer unless it is stuck. The same for their return.
pub const LIMIT: SignedDuration = SignedDuration::from_secs(30);

/// A Service, trimmed to what tells whose traffic it carries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and version.
    pub metadata: ObjectMeta,
    /// What it selects.
    pub spec: ServiceSpec,
}

/// See [`Service`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Labels of its pods; empty: it selects none by itself.
    pub selector: BTreeMap<String, String>,
    /// It sends to pods whether they are ready or not, so no proxy ever lets go of them.
    pub publish_not_ready_addresses: bool,
}

afloat_api::kind!(Service, "v1", "Service", "services", NamespaceResourceScope);

impl Service {
    /// Whether it selects pods with these labels.
    pub(crate) fn selects(&self, labels: &Entries) -> bool {
        let selector = &self.spec.selector;
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value.as_str()))
    }
}

/// What is seen of the nodes' traffic.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Nodes that can send traffic, which are those that are Ready: None for one without a report.
    pub nodes: BTreeMap<String, Option<Arc<NodeTraffic>>>,
    /// Services of the workload's namespace.
    pub services: Vec<Arc<Service>>,
}

/// How far a pod's leaving has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Nobody sends to it, and no connection is open.
    Gone,
    /// So many nodes of so many may still send to it, this one among them.
    Sent {
        /// Nodes that have let go.
        gone: usize,
        /// All nodes.
        nodes: usize,
        /// One that has not.
        example: String,
    },
    /// Nobody sends anything new, but so many connections are open.
    Open(u64),
    /// Nobody sends anything new, but this node cannot tell how many connections are open.
    Uncounted(String),
}

/// The traffic of one workload's pods.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    traffic: &'a Traffic,
    mode: Mode,
    limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Drains are observed.
    Observed,
    /// No agent reports, so drains that begin now are timed.
    Silent,
    /// The workload wants timed drains.
    Timed,
}

impl<'a> Watched<'a> {
    /// Drains are observed where the workload asks for it, or any agent reports and it does not refuse.
    pub fn of(owner: Owner<'_>, traffic: &'a Traffic) -> Self {
        let mode = match asked(owner) {
            Some(names::DRAIN_OBSERVED) => Mode::Observed,
            Some(names::DRAIN_TIMED) => Mode::Timed,
            _ if traffic.nodes.values().any(|report| synced(report).is_some()) => Mode::Observed,
            _ => Mode::Silent,
        };
        let limited = Limit::of(owner).is_some();
        Self { traffic, mode, limited }
    }

    /// Whether a pod that is not sent to yet is to count as unavailable when others ask to leave: where losses are limited,
    /// each pod's must be known before the next one is touched, and the report that sends to it again tells of them.
    pub fn one_after_the_other(&self) -> bool {
        self.limited
    }

    /// Whether any Service that reports can tell of sends to the pod. Where none does, there is nothing to observe.
    pub fn covers(&self, pod: &Pod) -> bool {
        self.mode == Mode::Observed && self.has_services(pod)
    }

    fn has_services(&self, pod: &Pod) -> bool {
        let mut selecting = self
            .traffic
            .services
            .iter()
            .filter(|service| service.selects(&pod.labels))
            .peekable();
        selecting.peek().is_some() && selecting.all(|service| !service.spec.publish_not_ready_addresses)
    }

    /// How far the leaving of a pod has come; None where nothing can be observed of it, or its drain is timed.
    pub fn leaving(&self, pod: &Pod, drain: &Drain) -> Option<Leaving> {
        // One that began observed goes on so, whoever falls silent meanwhile.
        let ready_at = drain.ready_at?;
        if self.mode == Mode::Timed || !self.has_services(pod) {
            return None;
        }
        if matches!(pod.status.phase.as_str(), "" | "Pending") {
            // It has no address that anybody could send to.
            return Some(Leaving::Gone);
        }
        let uid = pod.metadata.uid.as_str();
        let gone = |report: &PodTraffic| !report.ready && !report.routed && report.applied > ready_at;
        let nobody = "any node".to_owned();
        let mut example = self.traffic.nodes.is_empty().then_some(&nobody);
        let (mut left, mut open) = (0, 0);
        let mut uncounted = None;
        for (name, report) in &self.traffic.nodes {
            match synced(report)
                .and_then(|report| report.status.pods.get(uid))
                .filter(|report| gone(report))
            {
                Some(report) => {
                    left += 1;
                    open += report.open.unwrap_or(0);
                    if report.open.is_none() {
                        uncounted.get_or_insert(name);
                    }
                }
                None => {
                    example.get_or_insert(name);
                }
            }
        }
        Some(match example {
            Some(example) => Leaving::Sent {
                gone: left,
                nodes: self.traffic.nodes.len(),
                example: example.clone(),
            },
            None if open > 0 => Leaving::Open(open),
            None => uncounted.map_or(Leaving::Gone, |name| Leaving::Uncounted(name.clone())),
        })
    }

    /// Whether a pod is not back in full. Of most pods that is told without a look at them.
    pub(crate) fn awaits(&self, member: &Member, now: Timestamp) -> bool {
        let lately = |ready: Timestamp| ready.checked_add(LIMIT).is_ok_and(|limit| limit > now);
        self.mode == Mode::Observed
            && member.ready_since().is_some_and(lately)
            && self.returning(member.pod(), now).is_some()
    }

    /// For a Ready pod that is not back in full: until when to wait for nodes that do not send to it yet, and one of them. Nodes that do not report
    /// are not waited for.
    pub fn returning(&self, pod: &Pod, now: Timestamp) -> Option<(Timestamp, &'a str)> {
        let limit = pod.ready_since()?.checked_add(LIMIT).ok();
        let limit = limit.filter(|limit| *limit > now && self.covers(pod))?;
        let uid = pod.metadata.uid.as_str();
        let sends = |report: &NodeTraffic| report.status.pods.get(uid).is_some_and(|pod| pod.ready);
        let mut missing = self
            .traffic
            .nodes
            .iter()
            .filter(|(_, report)| synced(report).is_some_and(|report| !sends(report)));
        missing.next().map(|(name, _)| (limit, name.as_str()))
    }
}

/// What the workload says about its drains; texts that mean nothing count as absent.
fn asked(owner: Owner<'_>) -> Option<&str> {
    owner.annotation(names::DRAIN)
}

/// A sentence about an annotation that means nothing.
pub fn misspelt(owner: Owner<'_>) -> Option<String> {
    let value = asked(owner).filter(|value| ![names::DRAIN_OBSERVED, names::DRAIN_TIMED].contains(value))?;
    Some(format!(
        "annotation {} is {value:?}, which means nothing: say {} or {}",
        names::DRAIN,
        names::DRAIN_OBSERVED,
        names::DRAIN_TIMED
    ))
}

fn synced(report: &Option<Arc<NodeTraffic>>) -> Option<&NodeTraffic> {
    report.as_deref().filter(|report| report.status.synced)
}

#[cfg(test)]
mod tests;
