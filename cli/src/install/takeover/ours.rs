//! What Afloat brings along, and where, from the flags.

use std::time::Duration;

use afloat_api::{Door, Gates, Serving, names};
use anyhow::Context as _;
use serde_json::json;

use super::kruise;
use super::options::TakeoverOptions;
use super::plan::Ours;
use super::seen::{Manager, Seen};
use super::text::Place;

/// Where everything is.
pub(super) fn place(options: &TakeoverOptions) -> Place {
    Place {
        namespace: options.kruise_namespace.clone(),
        kruise: options.kruise_deployment.clone(),
        afloat_namespace: options.namespace.clone(),
        afloat: afloat_install::OPERATOR.to_owned(),
        timeout: Duration::from_secs(options.timeout),
    }
}

/// The objects. The operator gets the feature gates that Kruise's manager runs with.
pub(super) fn ours(options: &TakeoverOptions, seen: &Seen) -> anyhow::Result<Ours> {
    let arguments = seen.kruise.as_ref().map(Manager::arguments).unwrap_or_default();
    let door = match &options.webhook_url {
        Some(url) => Door::Url(url.clone()),
        None => Door::Service {
            namespace: options.namespace.clone(),
            name: names::WEBHOOK_SERVICE.to_owned(),
        },
    };
    let gates = kruise::flag(&arguments, "feature-gates").unwrap_or_default();
    let serving = Serving {
        webhook: Some(door),
        template_defaults: !Gates::is_on(&gates, "TemplateNoDefaults"),
        ..Serving::default()
    };
    let installed = afloat_install::Options {
        namespace: options.namespace.clone(),
        image: options.image.clone(),
        crds: false,
        agent: false,
        lease_namespace: options.kruise_namespace.clone(),
        feature_gates: gates,
        ..afloat_install::Options::default()
    };
    // Definitions of Kruise that are there have steps of their own.
    let mut objects = afloat_api::definitions(&serving);
    objects.retain(|definition| {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        !seen.crds.0.contains_key(name)
    });
    objects.extend(afloat_install::objects(&installed));
    if let Some(url) = &options.webhook_url {
        let operator = objects.iter_mut().find(|object| object["kind"] == "Deployment");
        let variables =
            operator.and_then(|operator| operator["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut());
        let variables = variables.context("the operator's Deployment has no environment")?;
        variables.push(json!({"name": "AFLOAT_WEBHOOK_URL", "value": url}));
    }
    Ok(Ours {
        serving,
        objects,
        gates: installed.feature_gates,
    })
}
