//! The feature gates of the operator that is installed: a plan is for that one.

use afloat_api::Gates;
use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::install::flag;

/// The flag of `afloat operator`, and the variable that stands for it.
const FLAG: &str = "feature-gates";
const VARIABLE: &str = "AFLOAT_FEATURE_GATES";

/// Those of the Deployment that `afloat install` and the chart make, whatever its namespace; where there is none, or the caller may
/// not look, the defaults.
///
/// # Errors
/// When the API server does not answer, or the operator could not read its gates itself.
pub(super) async fn installed(client: &Client) -> anyhow::Result<Gates> {
    let api: Api<Deployment> = Api::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={}", afloat_install::OPERATOR));
    let found = match api.list(&named).await {
        Ok(found) => found.items,
        Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
        Err(error) => return Err(error).context("cannot look for the operator's Deployment"),
    };
    let texts = found.iter().filter(|found| wanted(found)).flat_map(containers);
    let Some(text) = texts.filter_map(written).next() else {
        return Ok(Gates::default());
    };
    let parsed = Gates::parse(&text);
    let (gates, _) = parsed.with_context(|| format!("feature gates {text:?} of the installed operator"))?;
    Ok(gates)
}

fn wanted(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().is_none_or(|spec| spec.replicas != Some(0))
}

fn containers(deployment: &Deployment) -> &[Container] {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.map_or(&[], |pod| &pod.containers)
}

/// What a container of it is told; a flag goes before the variable. None: nothing.
fn written(container: &Container) -> Option<String> {
    let words = [&container.command, &container.args].into_iter().flatten().flatten();
    let words: Vec<String> = words.cloned().collect();
    let variable = || {
        let mut all = container.env.iter().flatten();
        all.find(|variable| variable.name == VARIABLE)?.value.clone()
    };
    flag(&words, FLAG).or_else(variable)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_flag_goes_before_the_variable() {
        let told = |container: Value| written(&serde_json::from_value(container).unwrap());
        let variable = json!([{"name": VARIABLE, "value": "A=true"}]);
        for (container, expected) in [
            (json!({"name": "a"}), None),
            (json!({"name": "a", "env": variable}), Some("A=true")),
            (
                json!({"name": "a", "args": ["operator", "--feature-gates", "B=true"], "env": variable}),
                Some("B=true"),
            ),
            (
                json!({"name": "a", "command": ["afloat", "operator", "--feature-gates=C=true"]}),
                Some("C=true"),
            ),
        ] {
            assert_eq!(told(container.clone()).as_deref(), expected, "{container}");
        }
    }
}
