//! One request from beginning to end: what it names, its body, who handles it, how long it may take.

use std::time::Instant;

use afloat_machinery::kinds::Serving;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::auth::reviews;
use crate::serve::{Router, discovery, openapi};
use crate::wire::body::{self, BODY_LIMIT_BYTES, Body};
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::request::{self, Asked, ObjectPath, Query, Target};
use crate::wire::status::Status;
use afloat_machinery::authorization::User;

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

impl Router {
    /// Answers one request in the name of `user`. Never fails: errors are `Status` objects.
    pub(crate) async fn handle<B>(&self, request: http::Request<B>, user: User) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let target = request::target(parts.uri.path());
        let (verb, resource) = match &target {
            Target::Object(path) => (
                request::verb(&parts.method, path, &Query::parse(parts.uri.query())),
                path.plural.clone(),
            ),
            _ => ("other", String::new()),
        };
        let asked = Asked::of(&parts.method, parts.uri.path(), parts.uri.query());
        let allowed = self
            .authorization
            .impersonate(&mut parts.headers, user)
            .and_then(|user| {
                self.authorization.require(&asked.attributes(&user))?;
                Ok(user)
            });
        let outcome = match (allowed, target) {
            (Err(refused), _) => Err(refused),
            (Ok(user), Target::Object(path)) => self.object(parts, body, user, path, verb).await,
            (Ok(_), other) => self.document(&parts, &other),
        };
        let response = outcome.unwrap_or_else(Status::into_response);
        // A path that names no resource must not become a label value of anybody's choosing.
        let label = match response.status().as_u16() {
            404 => "",
            403 if !self.reader.registry().all().any(|known| known.plural == resource) => "",
            _ => resource.as_str(),
        };
        self.metrics
            .answered(verb, label, response.status().as_u16(), started.elapsed());
        response
    }

    /// Everything that is not about objects.
    fn document(&self, parts: &Parts, target: &Target) -> Result<Response<Body>, Status> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Status::method_not_allowed());
        }
        match target {
            Target::Root => Ok(reply::json(200, &discovery::root(&self.reader.registry()))),
            Target::Health => Ok(body::typed(
                200,
                "text/plain; charset=utf-8",
                body::full(self.health(parts)),
            )),
            Target::Version => Ok(reply::json(200, &discovery::version())),
            Target::Metrics => {
                let text = self.metrics.text(self.reader.revision());
                Ok(body::typed(200, "text/plain; version=0.0.4", body::full(text)))
            }
            Target::OpenApiV2 => Ok(openapi::v2(&parts.headers)),
            Target::OpenApiV3(path) => openapi::v3(&self.documents, &self.reader.registry(), path.as_deref()),
            Target::CoreVersions => Ok(discovery::core(&self.reader.registry(), &parts.headers)),
            Target::Groups => Ok(discovery::groups(&self.reader.registry(), &parts.headers)),
            Target::Group(group) => discovery::group(&self.reader.registry(), group),
            Target::Resources(group, version) => discovery::resources(&self.reader.registry(), group, version),
            Target::Object(_) | Target::Unknown => Err(Status::no_such_resource()),
        }
    }

    fn health(&self, parts: &Parts) -> String {
        if Query::parse(parts.uri.query()).flag("verbose") {
            let revision = self.reader.revision();
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
            .reader
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
            return self.kubelets.pass_on(&resource, &path, &query, &parts, upgrade).await;
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
            return self.reader.watch(&call);
        }
        let limit = self.timeout;
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
            Serving::Measured => return self.kubelets.measured(call).await,
            Serving::Review(review) => {
                return match call.verb {
                    "create" if call.path.name.is_none() => {
                        reviews::review(call, review, body, &self.tokens, &self.authorization)
                    }
                    _ => Err(Status::method_not_allowed()),
                };
            }
        }
        match (call.verb, call.path.name.is_some()) {
            ("get", true) => self.reader.get(call).await,
            ("list", false) => self.reader.list(call).await,
            ("create", false) => self.writer.create(call, body).await,
            ("update", true) => self.writer.update(call, body).await,
            ("patch", true) => self.writer.patch(call, body).await,
            ("delete", true) => self.writer.delete(call, body).await,
            ("deletecollection", false) => self.writer.delete_collection(call, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }
}
