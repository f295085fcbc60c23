//! What to do next, from what is seen: each step is there until what it brings about is seen, so a takeover that was killed
//! goes on where it was, and one that is over has no steps.
//!
//! The order keeps every moment served. Kruise's manager answers webhooks and leads at once, and both end with its process. So
//! it is first made to wait for another Lease: its new pods are Ready, and answer webhooks, before the old ones leave. Then its
//! webhooks can go while they are still answered, and Afloat takes the Lease that nobody holds.

use afloat_api::{Serving, Version};
use serde_json::Value;

use super::definitions::stores;
use super::kruise;
use super::seen::Seen;

/// What Afloat brings along.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    /// How workloads are served: in both versions, and who converts.
    pub(super) serving: Serving,
    /// Everything else, in the order in which it is to be created.
    pub(super) objects: Vec<Value>,
    /// Feature gates that its operator runs with.
    pub(super) gates: String,
}

impl Ours {
    /// A CustomResourceDefinition, with objects stored in a version, and trusting whoever signs for the webhook.
    pub(super) fn crd(&self, name: &str, stored: Version, authority: Option<&str>) -> Value {
        let serving = Serving {
            stored,
            ..self.serving.clone()
        };
        let definitions = afloat_api::definitions(&serving);
        let mut crd = definitions
            .into_iter()
            .find(|crd| crd["metadata"]["name"] == name)
            .unwrap_or_default();
        if let Some(authority) = authority {
            crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = authority.into();
        }
        crd
    }
}

/// One step of a takeover, or of its undoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Put aside what will be changed.
    Keep,
    /// Start Afloat's operator, which waits for the Lease.
    Install,
    /// Kruise's manager waits for a Lease that it never gets.
    Hold,
    /// Kruise's admission webhooks go, while they are answered.
    RemoveWebhooks,
    /// Both versions of workloads are served, converted by Afloat; stored as before.
    Serve,
    /// Afloat's operator holds the Lease.
    Lead,
    /// Workloads are stored as v1beta1, all of them.
    Store,
    /// Kruise's manager is stopped.
    Stop,
    /// Kruise's webhook configurations are there, without webhooks: its manager does not start without them.
    OfferWebhooks,
    /// Kruise's manager runs as it did, and waits for the Lease.
    Start,
    /// Kruise's webhooks are called again.
    RestoreWebhooks,
    /// Workloads of the kinds of which Kruise knows v1alpha1 alone are stored so, all of them.
    StoreAsKruise,
    /// Workloads' templates have what OpenKruise's webhook fills in, as the revisions that Afloat has made.
    Fill,
    /// Afloat's operator is stopped.
    StopAfloat,
    /// Kruise's CustomResourceDefinitions.
    RestoreCrd,
    /// Kruise's manager holds the Lease.
    LeadKruise,
    /// Workloads have no condition of Afloat's any more.
    Forget,
    /// What the takeover installed is removed, and what it put aside.
    Remove,
}

/// What is left to do so that Afloat has the workloads.
pub(super) fn takeover(seen: &Seen, ours: &Ours) -> Vec<Step> {
    let all = [
        (Step::Keep, seen.kept.is_none()),
        (Step::Install, !afloat_ready(seen)),
        (Step::Hold, !on_hold(seen)),
        (Step::RemoveWebhooks, seen.webhooks.iter().any(Option::is_some)),
        (Step::Serve, !serves_ours(seen, ours)),
        (Step::Lead, !seen.afloat_leads()),
        (Step::Store, !seen.crds.0.values().all(|crd| stores(crd, "v1beta1"))),
        (
            Step::Stop,
            !seen.kruise.as_ref().is_none_or(super::seen::Manager::stopped),
        ),
    ];
    left(all)
}

/// What is left to do so that Kruise has them again, as before.
pub(super) fn undo(seen: &Seen) -> Vec<Step> {
    let Some(kept) = &seen.kept else {
        return Vec::new();
    };
    let there = |number: usize| seen.webhooks[number].is_some() || kept.webhooks[number].is_none();
    let called = |number: usize| webhooks_restored(seen.webhooks[number].as_ref(), kept.webhooks[number].as_ref());
    let restored = |(name, crd): (&String, &Value)| seen.crds.0.get(name).is_some_and(|now| same_versions(now, crd));
    let stored_as_kruise = |(name, crd): (&String, &Value)| {
        let now = seen.crds.0.get(name).unwrap_or(&Value::Null);
        kept.knew_v1beta1(name) || restored((name, crd)) || stores(now, "v1alpha1")
    };
    let stopped = seen.afloat.as_ref().is_none_or(super::seen::Manager::stopped);
    let all = [
        (Step::OfferWebhooks, !(there(0) && there(1))),
        (Step::Start, !kruise_as_before(seen)),
        (Step::RestoreWebhooks, !(called(0) && called(1))),
        // Once its own operator is gone nobody would write the objects anew.
        (Step::StoreAsKruise, !kept.crds.0.iter().all(stored_as_kruise)),
        // A leader's step: it is Afloat that takes the one for the other.
        (Step::Fill, !stopped && seen.unfilled != Some(false)),
        (Step::StopAfloat, !stopped),
        (Step::RestoreCrd, !kept.crds.0.iter().all(restored)),
        (Step::LeadKruise, !seen.kruise_leads()),
        (Step::Forget, seen.told != Some(false)),
        (Step::Remove, true),
    ];
    left(all)
}

fn left<const N: usize>(all: [(Step, bool); N]) -> Vec<Step> {
    all.into_iter()
        .filter(|(_, needed)| *needed)
        .map(|(step, _)| step)
        .collect()
}

/// Whether Afloat's operator runs and its webhook has a certificate.
fn afloat_ready(seen: &Seen) -> bool {
    let ready = seen
        .afloat
        .as_ref()
        .is_some_and(|afloat| afloat.replicas() > 0 && afloat.rolled_out());
    ready && seen.authority.is_some()
}

/// Whether Kruise's manager leads nothing, and nothing of it can.
fn on_hold(seen: &Seen) -> bool {
    seen.kruise
        .as_ref()
        .is_none_or(|kruise| kruise.stopped() || kruise.held() && kruise.rolled_out() && seen.hold_lease)
}

/// Whether both versions are served, and Afloat's webhook converts between them.
fn serves_ours(seen: &Seen, ours: &Ours) -> bool {
    let served = ["v1alpha1", "v1beta1"].iter().all(|name| seen.crds.version(name).0);
    let converted = |(name, crd): (&String, &Value)| {
        // Operators keep the authorities in it true by themselves.
        let trusted = crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"].is_string();
        trusted && same_conversion(crd, &ours.crd(name, Version::V1beta1, None))
    };
    served && seen.crds.0.iter().all(converted)
}

/// Whether Kruise's manager runs as it did before the takeover.
fn kruise_as_before(seen: &Seen) -> bool {
    seen.kruise.as_ref().is_some_and(|kruise| {
        kruise.replicas() > 0 && !kruise.held() && kruise.remembered().is_none() && kruise.rolled_out()
    })
}

/// Whether the webhooks that were there are called again. Kruise's manager may have changed who signs for it.
fn webhooks_restored(seen: Option<&Value>, kept: Option<&Value>) -> bool {
    let names = |configuration: &Value| -> Vec<String> {
        let webhooks = configuration["webhooks"].as_array();
        let names = webhooks
            .into_iter()
            .flatten()
            .filter_map(|webhook| webhook["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let template = |configuration: &Value| configuration["metadata"]["annotations"][kruise::WEBHOOK_TEMPLATE].clone();
    match (seen, kept) {
        (_, None) => true,
        (Some(seen), Some(kept)) => names(seen) == names(kept) && template(seen) == template(kept),
        (None, Some(_)) => false,
    }
}

/// Whether two CRDs serve and store the same versions and convert between them in the same way.
fn same_versions(one: &Value, other: &Value) -> bool {
    let versions = |crd: &Value| -> Vec<(Value, Value, Value)> {
        let versions = crd["spec"]["versions"].as_array();
        let parts = |version: &Value| {
            (
                version["name"].clone(),
                version["served"].clone(),
                version["storage"].clone(),
            )
        };
        versions.into_iter().flatten().map(parts).collect()
    };
    versions(one) == versions(other) && same_conversion(one, other)
}

/// Whether two CRDs convert in the same way, whoever signs for it.
pub(super) fn same_conversion(one: &Value, other: &Value) -> bool {
    let conversion = |crd: &Value| {
        let conversion = &crd["spec"]["conversion"];
        let client = &conversion["webhook"]["clientConfig"];
        let service = ["namespace", "name", "path"].map(|field| client["service"][field].clone());
        let strategy = conversion["strategy"].as_str().unwrap_or("None").to_owned();
        (strategy, service, client["url"].clone())
    };
    conversion(one) == conversion(other)
}

#[cfg(test)]
mod tests;
