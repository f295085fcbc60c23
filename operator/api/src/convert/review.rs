//! ConversionReview, the question of an API server to a conversion webhook and the answer to it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::convert;

/// The version that is spoken.
pub const REVIEW_VERSION: &str = "apiextensions.k8s.io/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    #[serde(default)]
    objects: Vec<Value>,
}

/// The answer to a question. An object that cannot be converted is a failure of all of them, which the answer says by name.
///
/// # Errors
/// Says why this is no question, for which there is no form of an answer.
pub fn review(question: &[u8]) -> Result<Value, String> {
    let review: Review = serde_json::from_slice(question).map_err(|error| format!("no ConversionReview: {error}"))?;
    if review.kind != "ConversionReview" || review.api_version != REVIEW_VERSION {
        let (kind, version) = (review.kind, review.api_version);
        return Err(format!(
            "a ConversionReview of {REVIEW_VERSION} is expected, not {kind:?} of {version:?}"
        ));
    }
    let Some(mut request) = review.request else {
        return Err("the ConversionReview has no request".into());
    };
    let failure = request.objects.iter_mut().find_map(|object| {
        let error = convert(object, &request.desired).err()?;
        let name = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Some(format!("{}/{}: {error}", name("namespace"), name("name")))
    });
    let response = match failure {
        None => json!({"uid": request.uid, "convertedObjects": request.objects, "result": {"status": "Success"}}),
        Some(message) => json!({"uid": request.uid, "result": {"status": "Failure", "message": message}}),
    };
    Ok(json!({"apiVersion": REVIEW_VERSION, "kind": "ConversionReview", "response": response}))
}
