//! `serviceaccounts/token`: a TokenRequest is answered with a token.

use afloat_machinery::FieldError;
use afloat_machinery::kinds::BindsTokens;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::auth::Tokens;
use crate::auth::token::{Named, Statement, own_audiences, texts};
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;
use crate::{clock, view};

/// Life of a token that is not asked to last.
const USUAL_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

/// How long the token is to be good for.
fn lifetime(request: &Value) -> Result<i64, Status> {
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL_SECONDS);
    let why = if seconds < LEAST_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MOST_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    // As the original: it is the request that is wrong, and it has no name.
    Err(Status::invalid_request(
        ("authentication.k8s.io", "TokenRequest"),
        FieldError {
            field: "spec.expirationSeconds".to_owned(),
            cause: "FieldValueInvalid",
            message: format!("Invalid value: {seconds}: {why}"),
        },
    ))
}

impl Tokens {
    /// POST of a TokenRequest.
    pub(crate) fn issue(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let namespace = call.namespace().unwrap_or_default();
        let account = self.stored(call, "serviceaccounts", call.name())?;
        let mut request = call.object_of("authentication.k8s.io/v1", "TokenRequest", body)?;
        if !request.is_object() {
            return Err(Status::bad_request("the body must be a TokenRequest"));
        }
        let seconds = lifetime(&request)?;
        let asked = texts(&request["spec"]["audiences"]);
        let now = jiff::Timestamp::now();
        let mut statement = Statement {
            id: uuid::Uuid::new_v4().to_string(),
            audiences: if asked.is_empty() { own_audiences() } else { asked },
            namespace: namespace.to_owned(),
            account: named(&account),
            issued_at: now.as_second(),
            expires_at: now.as_second().saturating_add(seconds),
            ..Statement::default()
        };
        self.bind_to(call, &request["spec"]["boundObjectRef"], &mut statement)?;
        let token = self.signer.sign(&statement.claims()).map_err(Status::internal)?;
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["kind"] = "TokenRequest".into();
        let spec = view::child(&mut request, "spec");
        spec.insert("expirationSeconds".into(), seconds.into());
        spec.insert("audiences".into(), statement.audiences.clone().into());
        request["status"] = json!({"token": token, "expirationTimestamp": clock::after(now, seconds)});
        let meta = view::metadata(&mut request);
        meta.insert("name".into(), call.name().into());
        meta.insert("namespace".into(), namespace.into());
        meta.insert("creationTimestamp".into(), clock::after(now, 0).into());
        reply::rendered(201, call.accept, request.to_string().into())
    }

    fn stored(&self, call: &Call, plural: &str, name: &str) -> Result<Value, Status> {
        let resource = self
            .reader
            .registry()
            .resolve("", "v1", plural)
            .ok_or_else(Status::no_such_resource)?;
        let namespace = call.namespace().filter(|_| resource.namespaced);
        self.reader.object(&resource, namespace, name)
    }

    /// The object that the token lives and dies with.
    fn bind_to(&self, call: &Call, reference: &Value, statement: &mut Statement) -> Result<(), Status> {
        if reference.is_null() {
            return Ok(());
        }
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let registry = self.reader.registry();
        // The original looks at the group only: a core kind may come without its version.
        let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
        let resource = registry.by_kind(if group.is_empty() { "v1" } else { text("apiVersion") }, text("kind"));
        let bound = resource.and_then(|resource| Some((resource.builtin?.binds_tokens?, resource)));
        let Some((bound, resource)) = bound else {
            let kind = text("kind");
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        };
        if text("name").is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        let object = self.stored(call, &resource.plural, text("name"))?;
        let own = named(&object);
        if !text("uid").is_empty() && text("uid") != own.uid {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
                 deleted and then recreated",
                text("uid")
            );
            return Err(Status::conflict_of(text("kind"), text("name"), &why));
        }
        match bound {
            BindsTokens::Pod => {
                let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
                if account != call.name() {
                    let why = format!(
                        "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                        call.name()
                    );
                    return Err(Status::bad_request(why));
                }
                let node = object["spec"]["nodeName"].as_str().filter(|name| !name.is_empty());
                statement.node = node.and_then(|name| Some(named(&self.stored(call, "nodes", name).ok()?)));
                statement.pod = Some(own);
            }
            BindsTokens::Node => statement.node = Some(own),
            BindsTokens::Secret => statement.secret = Some(own),
        }
        Ok(())
    }
}

fn named(object: &Value) -> Named {
    Named {
        name: view::meta(object, "name").to_owned(),
        uid: view::meta(object, "uid").to_owned(),
    }
}
