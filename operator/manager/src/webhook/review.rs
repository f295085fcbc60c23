//! Admission: what the API server asks about what somebody writes, by path.

use afloat_api::{ContainerRecreateRequest, names};
use afloat_recreate::Pod;
use afloat_recreate::fill::fill;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};

use super::verdict::Verdict;
use crate::disruption::{admit, written};
use crate::recreate::{is_virtual, pod_text};

const VERSION: &str = "admission.k8s.io/v1";

/// Judges the `request` of an AdmissionReview.
pub(super) type Handler = fn(Client, Value) -> BoxFuture<'static, Verdict>;

/// Who judges what.
const REVIEWS: &[(&str, Handler)] = &[
    (names::RECREATE_PATH, |client, request| {
        recreate(client, request).boxed()
    }),
    (names::BUDGET_PATH, |client, request| {
        admit::review(client, request).boxed()
    }),
    (names::WRITTEN_BUDGET_PATH, |client, request| {
        written::review(client, request).boxed()
    }),
];

/// Who judges what comes to a path.
pub(super) fn handler(path: &str) -> Option<Handler> {
    let row = REVIEWS.iter().find(|(known, _)| *known == path);
    row.map(|(_, handler)| *handler)
}

/// Answers an AdmissionReview.
///
/// # Errors
/// Says why there is no answer: whether that is the question's fault, and what it is.
pub(super) async fn review(client: Client, handler: Handler, question: &[u8]) -> Result<Value, (bool, String)> {
    let mut question: Value =
        serde_json::from_slice(question).map_err(|error| (true, format!("no AdmissionReview: {error}")))?;
    if question["kind"] != "AdmissionReview" || question["apiVersion"] != VERSION {
        return Err((true, format!("an AdmissionReview of {VERSION} is expected")));
    }
    let request = question["request"].take();
    let uid = request["uid"].clone();
    let mut response = json!({"uid": uid, "allowed": true});
    match handler(client, request).await {
        Verdict::Allowed => {}
        Verdict::Patched(patch) => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(patch.to_string()).into();
        }
        Verdict::Refused { code, message } => {
            response["allowed"] = false.into();
            response["status"] = json!({"code": code, "message": message});
            if code == 403 {
                response["status"]["reason"] = "Forbidden".into();
            }
        }
        Verdict::Later { message, seconds } => {
            response["allowed"] = false.into();
            response["status"] = json!({
                "code": 429, "reason": "TooManyRequests", "message": message, "details": {"retryAfterSeconds": seconds},
            });
        }
        Verdict::Unable(why) => return Err((false, why)),
    }
    Ok(json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}))
}

/// Puts into a new ContainerRecreateRequest what it lacks. Its spec is the same in both versions.
async fn recreate(client: Client, request: Value) -> Verdict {
    let object = &request["object"];
    if request["operation"] != "CREATE" {
        return Verdict::Allowed;
    }
    // The schema has a sentence for what is none.
    let Ok(asked) = serde_json::from_value::<ContainerRecreateRequest>(json!({
        "metadata": object["metadata"], "spec": object["spec"],
    })) else {
        return Verdict::Allowed;
    };
    let namespace = request["namespace"].as_str().unwrap_or_default();
    let found = async {
        let text = match asked.spec.pod_name.as_str() {
            "" => None,
            name => pod_text(&client, namespace, name).await?,
        };
        let pod: Option<Pod> = text
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|e| e.to_string())?;
        let node = pod.as_ref().map_or("", Pod::node);
        let is_virtual = is_virtual(&client, node).await?;
        Ok::<_, String>((pod, is_virtual))
    };
    let (pod, is_virtual) = match found.await {
        Ok(found) => found,
        Err(why) => return Verdict::Unable(why),
    };
    match fill(&asked, pod.as_ref(), is_virtual) {
        Err(message) => Verdict::Refused { code: 400, message },
        Ok(filled) => {
            let mut labels = object["metadata"]["labels"].clone();
            if !labels.is_object() {
                labels = json!({});
            }
            for (key, value) in filled.labels {
                labels[key] = value.into();
            }
            Verdict::Patched(json!([
                {"op": "add", "path": "/metadata/labels", "value": labels},
                {"op": "replace", "path": "/spec", "value": filled.spec},
            ]))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// An API server with one pod.
    fn client(code: u16) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let pod = json!({"metadata": {"name": "web", "uid": "u"},
                "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "app", "containerID": "c://1"}]}});
            let node = json!({"metadata": {"name": "n1", "labels": {"type": "virtual-kubelet"}}});
            let failure = |code: u16| json!({"kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "no"});
            let (code, body) = match request.uri().path() {
                _ if code != 200 => (code, failure(code)),
                "/api/v1/namespaces/n/pods/web" => (200, pod),
                "/api/v1/nodes/n1" => (200, node),
                _ => (404, failure(404)),
            };
            let response = Response::builder()
                .status(code)
                .body(Body::from(body.to_string().into_bytes()));
            response.map_err(kube::Error::HttpError)
        });
        Client::new(service, "default")
    }

    async fn ask(code: u16, spec: Value, operation: &str) -> Result<Value, (bool, String)> {
        let object = json!({"metadata": {"name": "r", "namespace": "n", "labels": {"a": "b"}}, "spec": spec});
        let question = json!({"apiVersion": VERSION, "kind": "AdmissionReview",
            "request": {"uid": "7", "operation": operation, "namespace": "n", "object": object}});
        let handler = handler(names::RECREATE_PATH).unwrap();
        let review = review(client(code), handler, question.to_string().as_bytes()).await?;
        assert_eq!(review["response"]["uid"], "7");
        Ok(review["response"].clone())
    }

    #[tokio::test]
    async fn a_request_for_a_pod_is_filled() {
        let answer = ask(
            200,
            json!({"podName": "web", "containers": [{"name": "app"}]}),
            "CREATE",
        )
        .await
        .unwrap();
        assert_eq!(
            (&answer["allowed"], &answer["patchType"]),
            (&json!(true), &json!("JSONPatch"))
        );
        let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        let labels = &patch[0]["value"];
        assert_eq!(
            (&labels["a"], &labels["type"]),
            (&json!("b"), &json!("virtual-kubelet"))
        );
        assert_eq!(labels[names::RECREATE_POD_UID], "u");
        assert_eq!(
            patch[1]["value"]["containers"][0]["statusContext"]["containerID"],
            "c://1"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_and_what_cannot_be_known_is_not() {
        let spec = |pod: &str| json!({"podName": pod, "containers": [{"name": "app"}]});
        let answer = ask(200, spec("other"), "CREATE").await.unwrap();
        assert_eq!(
            answer["status"],
            json!({"code": 400, "message": "no found Pod named other"})
        );
        assert_eq!(answer["allowed"], false);
        assert!(!ask(503, spec("web"), "CREATE").await.unwrap_err().0);
        assert_eq!(ask(200, spec("other"), "UPDATE").await.unwrap()["allowed"], true);
        assert_eq!(ask(200, json!("strange"), "CREATE").await.unwrap()["allowed"], true);
    }

    #[tokio::test]
    async fn what_is_no_review_is_told_so() {
        for bad in [
            "",
            "{}",
            r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#,
        ] {
            let handler = handler(names::RECREATE_PATH).unwrap();
            assert!(
                review(client(200), handler, bad.as_bytes()).await.unwrap_err().0,
                "{bad}"
            );
        }
    }
}
