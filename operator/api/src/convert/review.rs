//! The form of a ConversionReview, the question of an API server to a conversion webhook and the answer to it.

use serde::Deserialize;
use serde_json::{Value, json};

/// The version that is spoken.
pub const REVIEW_VERSION: &str = "apiextensions.k8s.io/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Question>,
}

/// Its `request`.
#[derive(Deserialize)]
pub(super) struct Question {
    uid: String,
    /// The `apiVersion` that is wanted.
    #[serde(rename = "desiredAPIVersion")]
    pub(super) desired: String,
    #[serde(default)]
    pub(super) objects: Vec<Value>,
}

/// Reads a question.
pub(super) fn read(question: &[u8]) -> Result<Question, String> {
    let review: Review = serde_json::from_slice(question).map_err(|error| format!("no ConversionReview: {error}"))?;
    if review.kind != "ConversionReview" || review.api_version != REVIEW_VERSION {
        let (kind, version) = (review.kind, review.api_version);
        return Err(format!(
            "a ConversionReview of {REVIEW_VERSION} is expected, not {kind:?} of {version:?}"
        ));
    }
    review
        .request
        .ok_or_else(|| "the ConversionReview has no request".into())
}

impl Question {
    /// The answer: the objects, or why not.
    pub(super) fn answer(self, failure: Option<String>) -> Value {
        let response = match failure {
            None => json!({"uid": self.uid, "convertedObjects": self.objects, "result": {"status": "Success"}}),
            Some(message) => json!({"uid": self.uid, "result": {"status": "Failure", "message": message}}),
        };
        json!({"apiVersion": REVIEW_VERSION, "kind": "ConversionReview", "response": response})
    }
}
