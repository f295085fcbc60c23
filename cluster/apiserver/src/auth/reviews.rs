//! Reviews: questions that are answered and not stored.

use afloat_machinery::kinds::Review;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::auth::Tokens;
use crate::auth::token::{own_audiences, texts};
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;

impl Tokens {
    /// POST of a review. Everybody who is authenticated may do everything, so the answers are short.
    pub(crate) fn review(&self, call: &Call, asked: Review, body: &Bytes) -> Result<Response<Body>, Status> {
        let mut review = call.object(body)?;
        if !review.is_object() {
            return Err(Status::bad_request("the body must be an object"));
        }
        review["apiVersion"] = call.resource.api_version().into();
        review["kind"] = call.resource.kind.as_str().into();
        review["status"] = match asked {
            Review::Subject => json!({"userInfo": {"username": call.user.name, "groups": call.user.groups}}),
            Review::Rules => json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            }),
            Review::Token => self.review_token(&review),
            Review::Access => json!({"allowed": true}),
        };
        reply::rendered(201, call.accept, review.to_string().into())
    }

    fn review_token(&self, review: &Value) -> Value {
        let asked = texts(&review["spec"]["audiences"]);
        let audiences = if asked.is_empty() { own_audiences() } else { asked };
        match self.user(review["spec"]["token"].as_str().unwrap_or_default(), &audiences) {
            Some(known) => json!({
                "authenticated": true, "audiences": known.audiences,
                "user": {"username": known.user.name, "uid": known.uid, "groups": known.user.groups, "extra": known.extra},
            }),
            None => {
                json!({"authenticated": false, "error": "the token is not known, not valid any more, or not for this audience"})
            }
        }
    }
}
