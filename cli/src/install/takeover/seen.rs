//! What was observed of a cluster, reduced to what a takeover is decided on. Reading objects is pure; asking for them is
//! [`super::ask`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::definitions::Definitions;
use super::kept::Kept;
use super::kruise;
use super::marks::REPLICAS;

/// Everything that the steps are decided on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// OpenKruise's manager.
    pub(super) kruise: Option<Manager>,
    /// Afloat's operator.
    pub(super) afloat: Option<Manager>,
    /// Who holds the Lease of both; empty: nobody.
    pub(super) holder: String,
    /// Whether the Lease that keeps the manager waiting is there.
    pub(super) hold_lease: bool,
    /// Kruise's webhook configurations, in the order of [`kruise::WEBHOOKS`].
    pub(super) webhooks: [Option<Value>; 2],
    /// The CustomResourceDefinitions of the kinds of workload.
    pub(super) crds: Definitions,
    /// The authority that signs the certificate of Afloat's conversion webhook, in base64.
    pub(super) authority: Option<String>,
    /// Whether the status of a workload has a condition of Afloat's; None: nobody asked.
    pub(super) told: Option<bool>,
    /// Whether a workload's template lacks what OpenKruise's webhook fills in; None: nobody asked.
    pub(super) unfilled: Option<bool>,
    /// What was put aside when the takeover began.
    pub(super) kept: Option<Kept>,
}

/// A Deployment with its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manager {
    /// As it is.
    pub(super) deployment: Value,
    /// Its pods that have not ended.
    pub(super) pods: Vec<Pod>,
}

/// One pod of a [`Manager`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pod {
    /// How it is called in a Lease, before the underscore.
    pub(super) identity: String,
    /// Whether it waits for [`kruise::HOLD_LEASE`].
    pub(super) held: bool,
    /// Whether it is Ready and stays.
    pub(super) ready: bool,
}

impl Manager {
    /// Replicas that are wanted.
    pub(super) fn replicas(&self) -> i64 {
        self.deployment["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    /// Replicas that it had before it was scaled to 0, where that is written.
    pub(super) fn remembered(&self) -> Option<i64> {
        self.deployment["metadata"]["annotations"][REPLICAS]
            .as_str()?
            .parse()
            .ok()
    }

    /// Arguments of the manager's container, its command's included.
    pub(super) fn arguments(&self) -> Vec<String> {
        arguments(&self.deployment["spec"]["template"]["spec"]["containers"][kruise::position(&self.deployment)])
    }

    /// The manager's image.
    pub(super) fn image(&self) -> &str {
        let containers = &self.deployment["spec"]["template"]["spec"]["containers"];
        containers[kruise::position(&self.deployment)]["image"]
            .as_str()
            .unwrap_or_default()
    }

    /// Whether it is told to wait for [`kruise::HOLD_LEASE`].
    pub(super) fn held(&self) -> bool {
        held(&self.arguments())
    }

    /// Whether all pods are of the present template and Ready, and there are no others.
    pub(super) fn rolled_out(&self) -> bool {
        let (status, wanted) = (&self.deployment["status"], self.replicas());
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        number("observedGeneration") >= self.deployment["metadata"]["generation"].as_i64().unwrap_or(0)
            && number("updatedReplicas") == wanted
            && number("readyReplicas") == wanted
            && self.pods.len() as i64 == wanted
            && self.pods.iter().all(|pod| pod.ready && pod.held == self.held())
    }

    /// Whether nothing of it runs, and nothing will.
    pub(super) fn stopped(&self) -> bool {
        self.replicas() == 0 && self.pods.is_empty()
    }

    /// Whether one of its pods is that holder of a Lease.
    pub(super) fn is(&self, holder: &str) -> bool {
        let identity = holder.split('_').next().unwrap_or_default();
        !identity.is_empty() && self.pods.iter().any(|pod| pod.identity == identity)
    }
}

impl Seen {
    /// Whether Afloat's operator holds the Lease.
    pub(super) fn afloat_leads(&self) -> bool {
        self.afloat.as_ref().is_some_and(|afloat| afloat.is(&self.holder))
    }

    /// Whether Kruise's manager holds the Lease.
    pub(super) fn kruise_leads(&self) -> bool {
        self.kruise.as_ref().is_some_and(|kruise| kruise.is(&self.holder))
    }

    /// Webhooks of Kruise that the API server calls.
    pub(super) fn webhooks_called(&self) -> usize {
        let called = |configuration: &Option<Value>| {
            let webhooks = configuration
                .as_ref()
                .and_then(|configuration| configuration["webhooks"].as_array());
            webhooks.map_or(0, Vec::len)
        };
        self.webhooks.iter().map(called).sum()
    }

    /// Where a cluster stands between the two, for whoever has to go on from there by hand.
    pub(super) fn standing(&self) -> String {
        let manager = |name: &str, manager: &Option<Manager>| match manager {
            None => format!("{name} is not installed"),
            Some(manager) => {
                let ready = manager.pods.iter().filter(|pod| pod.ready).count();
                let hold = if manager.held() {
                    ", which answer webhooks and lead nothing"
                } else {
                    ""
                };
                format!("{name} has {ready} of {} pods ready{hold}", manager.replicas())
            }
        };
        let who = if self.afloat_leads() {
            "Afloat"
        } else if self.kruise_leads() {
            "Kruise"
        } else {
            "nobody that runs"
        };
        let versions = ["v1alpha1", "v1beta1"].map(|name| match self.crds.version(name) {
            (true, true) => format!("{name} (stored)"),
            (true, false) => name.to_owned(),
            _ => String::new(),
        });
        let versions: Vec<_> = versions.into_iter().filter(|text| !text.is_empty()).collect();
        format!(
            "the Lease is held by {who}; {}; {}; {} webhooks of Kruise are called; workloads are served as {}",
            manager("Kruise's manager", &self.kruise),
            manager("Afloat's operator", &self.afloat),
            self.webhooks_called(),
            versions.join(" and "),
        )
    }
}

/// A [`Pod`] from the object; None once it has ended.
pub(super) fn pod(pod: &Value) -> Option<Pod> {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = pod["spec"]["containers"].as_array();
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    // A container's host name, which is what a holder calls itself, is its node's where it uses the node's network.
    let identity = if pod["spec"]["hostNetwork"] == true {
        &pod["spec"]["nodeName"]
    } else {
        &pod["metadata"]["name"]
    };
    Some(Pod {
        identity: identity.as_str().unwrap_or_default().to_owned(),
        held: containers
            .into_iter()
            .flatten()
            .any(|container| held(&arguments(container))),
        ready: pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(ready),
    })
}

fn held(arguments: &[String]) -> bool {
    let name = kruise::flag(arguments, "leader-election-id");
    name.as_deref() == Some(kruise::HOLD_LEASE)
}

fn arguments(container: &Value) -> Vec<String> {
    let words = |field: &str| {
        container[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    words("command").chain(words("args")).map(str::to_owned).collect()
}

/// Objects of kinds that only Kruise does: how many of each, without those that it makes itself and those that are over.
pub(super) fn in_use<'a>(objects: impl Iterator<Item = &'a Value>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let made_by_kruise = object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| {
            owners
                .iter()
                .any(|owner| owner["controller"] == true && owner["apiVersion"].as_str().is_some_and(is_kruise))
        });
        let over = object["status"]["phase"] == "Completed" || !object["status"]["completionTime"].is_null();
        if !(kruise::OWN_BOOKS.contains(&kind) || made_by_kruise || over) {
            *found.entry(kind.to_owned()).or_default() += 1;
        }
    }
    found
}

fn is_kruise(version: &str) -> bool {
    version
        .split_once('/')
        .is_some_and(|(group, _)| kruise::GROUPS.contains(&group))
}
