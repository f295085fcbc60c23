//! One request from beginning to end: what it names, its body, who handles it, how long it may take.

use std::sync::Arc;
use std::time::Instant;

use afloat_machinery::kinds::{Resource, Serving};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::auth::User;
use crate::serve::discovery;
use crate::serve::openapi;
use crate::wire::protobuf;
use crate::wire::reply;
use crate::wire::request::{self, Accept, ObjectPath, Query, Target};
use crate::wire::status::Status;
use crate::{ApiServer, BODY_LIMIT_BYTES, Body};

/// A request for an object or a collection, understood.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) verb: &'static str,
    pub(crate) path: ObjectPath,
    pub(crate) resource: Arc<Resource>,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) content_type: String,
}

impl Call {
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> &str {
        self.path.subresource.as_deref().unwrap_or_default()
    }
}

/// Reads a request's body as an object: JSON, YAML or protobuf.
pub(crate) fn document(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    match content_type {
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body).map_err(Status::unsupported_media),
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let text =
                std::str::from_utf8(body).map_err(|e| Status::bad_request(format!("the body is not UTF-8: {e}")))?;
            serde_saphyr::from_str(text).map_err(|e| Status::bad_request(format!("error parsing YAML: {e}")))
        }
        _ => serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding the body: {e}"))),
    }
}

async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(Status::too_large()),
        Err(e) => Err(Status::bad_request(format!("cannot read the body: {e}"))),
    }
}

impl ApiServer {
    /// Answers one request in the name of `user`. Never fails: errors are `Status` objects.
    pub async fn handle<B>(&self, request: http::Request<B>, user: User) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let target = request::target(parts.uri.path());
        let (verb, resource) = match &target {
            Target::Object(path) => (
                request::verb(&parts.method, path, &Query::parse(parts.uri.query())),
                path.plural.clone(),
            ),
            _ => ("other", String::new()),
        };
        let outcome = match target {
            Target::Object(path) => self.object(parts, body, user, path, verb).await,
            other => self.document(&parts, &other),
        };
        let response = outcome.unwrap_or_else(Status::into_response);
        // A path that names no resource must not become a label value of anybody's choosing.
        let label = if response.status() == 404 {
            ""
        } else {
            resource.as_str()
        };
        self.inner
            .metrics
            .answered(verb, label, response.status().as_u16(), started.elapsed());
        response
    }

    /// Everything that is not about objects.
    fn document(&self, parts: &Parts, target: &Target) -> Result<Response<Body>, Status> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Status::method_not_allowed());
        }
        match target {
            Target::Root => Ok(reply::json(200, &discovery::root(&self.registry()))),
            Target::Health => Ok(reply::typed(
                200,
                "text/plain; charset=utf-8",
                reply::full(self.health(parts)),
            )),
            Target::Version => Ok(reply::json(200, &discovery::version())),
            Target::Metrics => {
                let text = self.inner.metrics.text(self.inner.store.revision());
                Ok(reply::typed(200, "text/plain; version=0.0.4", reply::full(text)))
            }
            Target::OpenApiV2 => Ok(openapi::v2(&parts.headers)),
            Target::OpenApiV3(path) => openapi::v3(&self.inner.openapi, &self.registry(), path.as_deref()),
            Target::CoreVersions => Ok(discovery::core(&self.registry(), &parts.headers)),
            Target::Groups => Ok(discovery::groups(&self.registry(), &parts.headers)),
            Target::Group(group) => discovery::group(&self.registry(), group),
            Target::Resources(group, version) => discovery::resources(&self.registry(), group, version),
            Target::Object(_) | Target::Unknown => Err(Status::no_such_resource()),
        }
    }

    fn health(&self, parts: &Parts) -> String {
        if Query::parse(parts.uri.query()).flag("verbose") {
            let revision = self.inner.store.revision();
            let name = parts.uri.path().trim_start_matches('/');
            format!("[+]ping ok\n[+]store ok (revision {revision})\n{name} check passed\n")
        } else {
            "ok".to_owned()
        }
    }

    async fn object<B>(
        &self,
        mut parts: Parts,
        body: B,
        user: User,
        path: ObjectPath,
        verb: &'static str,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let resource = self
            .registry()
            .resolve(&path.group, &path.version, &path.plural)
            .ok_or_else(Status::no_such_resource)?;
        // The original serves neither a cluster-scoped kind below a namespace nor a namespaced object without one.
        if (path.namespace.is_some() && !resource.namespaced)
            || (path.namespace.is_none() && path.name.is_some() && resource.namespaced)
        {
            return Err(Status::no_such_resource());
        }
        let query = Query::parse(parts.uri.query());
        if matches!(
            path.subresource.as_deref(),
            Some("log" | "exec" | "attach" | "portforward" | "proxy")
        ) {
            let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
            return self.to_kubelet(&resource, &path, &query, &parts, upgrade).await;
        }
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("application/json");
        let content_type = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let call = Call {
            accept: request::accept(&parts.headers)?,
            user,
            verb,
            path,
            resource,
            query,
            content_type,
        };
        if verb == "watch" {
            return self.watch(&call);
        }
        let limit = self.inner.options.request_timeout;
        let work = async {
            let body = read_body(body).await?;
            self.answer(&call, &body).await
        };
        timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("request did not complete within {} s", limit.as_secs());
            Err(Status::timeout(message, serde_json::json!({"retryAfterSeconds": 1})))
        })
    }

    async fn answer(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        if call.path.subresource.is_some() {
            return self.subresource(call, body).await;
        }
        match call.resource.serving() {
            Serving::Stored => {}
            Serving::Measured => return self.measured(call).await,
            Serving::Review(review) => {
                return match call.verb {
                    "create" if call.path.name.is_none() => self.review(call, review, body),
                    _ => Err(Status::method_not_allowed()),
                };
            }
        }
        match (call.verb, call.path.name.is_some()) {
            ("get", true) => self.get(call),
            ("list", false) => self.list(call),
            ("create", false) => self.create(call, body).await,
            ("update", true) => self.update(call, body).await,
            ("patch", true) => self.patch(call, body).await,
            ("delete", true) => self.delete(call, body).await,
            ("deletecollection", false) => self.delete_collection(call, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }
}
