//! What others need to check service account tokens by themselves (OpenID Connect Discovery 1.0): `/.well-known/openid-configuration` and
//! `/openid/v1/jwks`. Readable by whoever has the role `system:service-account-issuer-discovery`, which all service accounts have.

use http::{HeaderValue, Response, header};
use serde_json::json;

use crate::auth::token::{ISSUER, PublicKey};
use crate::wire::body::{Body, full, typed};

/// Kubernetes' own limit of how long others may keep the documents.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Who issues tokens, and where the keys are: at the name that pods know the API server by.
pub(crate) fn configuration() -> Response<Body> {
    let document = json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    });
    cached(typed(200, "application/json", full(document.to_string())))
}

/// The keys: there is one.
pub(crate) fn keys(key: &PublicKey) -> Response<Body> {
    let key = json!({
        "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256", "x": key.x, "y": key.y,
    });
    let document = json!({"keys": [key]});
    cached(typed(200, "application/jwk-set+json", full(document.to_string())))
}

fn cached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, CACHED);
    response
}
