//! Service account tokens for a pod's volumes: asked of the API server, bound to the pod, renewed in time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};

use crate::context::Context;
use crate::options::API_LIMIT;
use crate::pod::{spec, volumes};
use crate::told::told;

/// Where a token stands: volume, and path in it.
pub(crate) type Place = (String, String);

/// A token that was given. Without `Debug`: its text is to be nowhere but in the pod's volume.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) renew_at: Timestamp,
    pub(crate) end: Timestamp,
}

/// What the pod's volumes want.
pub(crate) fn wanted(pod: &Pod) -> Vec<(Place, &ServiceAccountTokenProjection)> {
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = all.flat_map(|volume| {
        let parts = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        parts.filter_map(|part| {
            let source = part.service_account_token.as_ref()?;
            Some(((volume.name.clone(), source.path.clone()), source))
        })
    });
    sources.collect()
}

/// What to ask of the API server for one of them.
pub(crate) fn request(pod: &Pod, source: &ServiceAccountTokenProjection) -> TokenRequest {
    let pod_itself = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    };
    TokenRequest {
        spec: TokenRequestSpec {
            audiences: source.audience.iter().filter(|a| !a.is_empty()).cloned().collect(),
            expiration_seconds: source.expiration_seconds,
            bound_object_ref: Some(pod_itself),
        },
        ..TokenRequest::default()
    }
}

/// Gets the pod's tokens that are missing or due. One that cannot be renewed stays while it is good.
///
/// # Errors
/// What the API server said last; the tokens that could be had are kept all the same.
pub(crate) async fn renew(context: &Context, pod: &Pod, kept: &mut BTreeMap<Place, Token>) -> Result<(), String> {
    let now = context.clock.now();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), spec::namespace(pod));
    let mut result = Ok(());
    for (place, source) in wanted(pod) {
        if kept.get(&place).is_some_and(|token| token.renew_at > now) {
            continue;
        }
        let (params, request) = (PostParams::default(), request(pod, source));
        let call = api.create_token_request(account, &params, &request);
        match tokio::time::timeout(API_LIMIT, call).await {
            Ok(Ok(answer)) => {
                let given = answer.status.map(|status| Token {
                    text: status.token,
                    renew_at: volumes::renewal(now, status.expiration_timestamp.0),
                    end: status.expiration_timestamp.0,
                });
                kept.extend(given.map(|token| (place, token)));
            }
            Ok(Err(error)) => result = Err(format!("failed to fetch token: {}", told(&error))),
            Err(_) => result = Err("failed to fetch token: no answer in time".to_owned()),
        }
    }
    kept.retain(|_, token| token.end > now);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_its_place_and_is_bound_to_the_pod() {
        let token = |audience: &str| {
            serde_json::json!({"projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "audience": audience, "expirationSeconds": 700}}]}})
        };
        let (mut one, mut two) = (token(""), token("vault"));
        one["name"] = "a".into();
        two["name"] = "b".into();
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [], "volumes": [one, two]}}))
        .unwrap();
        let wanted = wanted(&pod);
        let places: Vec<_> = wanted
            .iter()
            .map(|((volume, path), _)| format!("{volume}/{path}"))
            .collect();
        assert_eq!(places, ["a/token", "b/token"]);
        let spec = request(&pod, wanted[1].1).spec;
        assert_eq!(
            (spec.audiences, spec.expiration_seconds),
            (vec!["vault".to_owned()], Some(700))
        );
        assert_eq!(spec.bound_object_ref.unwrap().uid.as_deref(), Some("u"));
        assert!(request(&pod, wanted[0].1).spec.audiences.is_empty());
    }
}
