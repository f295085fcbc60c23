//! One request from beginning to end: what it names, its body, who handles it, how long it may take.

use std::time::{Duration, Instant};

use afloat_machinery::bounds::Estimate;
use afloat_machinery::kinds::Serving;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, header};
use tokio::time::timeout;

use crate::auth::reviews;
use crate::serve::turns::{GivenUp, Work};
use crate::serve::work::is_long;
use crate::serve::{Router, discovery, issuer, openapi};
use crate::wire::body::{self, Body};
use crate::wire::call::Call;
use crate::wire::request::{self, Asked, ObjectPath, Query, Target};
use crate::wire::status::Status;
use crate::wire::websocket::{self, Framing};
use crate::wire::{duration, reply};
use afloat_machinery::authorization::User;

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
        let allowed = match self.authorization.impersonate(&mut parts.headers, user) {
            Ok(user) => {
                self.authorization.prepare(&user).await;
                self.authorization.require(&asked.attributes(&user)).map(|()| user)
            }
            Err(refused) => Err(refused),
        };
        let outcome = match (allowed, target) {
            (Err(refused), _) => Err(refused),
            // As Kubernetes' own: only health may be asked for without its text.
            (Ok(_), Target::Object(path)) if parts.method == Method::HEAD && !path.is_proxied() => {
                Err(Status::method_not_allowed())
            }
            (Ok(_), Target::Version | Target::IssuerConfiguration | Target::IssuerKeys)
                if parts.method == Method::HEAD =>
            {
                Err(Status::method_not_allowed())
            }
            (Ok(user), Target::Object(path)) => self.object(parts, body, user, path, verb).await,
            // The documents of all kinds are made when they are first asked for.
            (Ok(_), other @ Target::OpenApiV3(_)) => {
                let given_up = GivenUp::after(self.timeout);
                let document = async { self.document(&parts, &other) };
                self.turns.run(Work::Long, &given_up, document).await
            }
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
            Target::Health => {
                let (code, text) = self.health(parts);
                Ok(body::typed(code, "text/plain; charset=utf-8", body::full(text)))
            }
            Target::Version => Ok(reply::json(200, &discovery::version())),
            Target::Metrics => {
                let text = self.metrics.text(self.reader.revision());
                Ok(body::typed(200, "text/plain; version=0.0.4", body::full(text)))
            }
            Target::IssuerConfiguration => Ok(issuer::configuration()),
            Target::IssuerKeys => Ok(issuer::keys(&self.tokens.public_key())),
            Target::OpenApiV2 => Ok(openapi::v2(&parts.headers)),
            Target::OpenApiV3(path) => openapi::v3(&self.documents, &self.reader.registry(), path.as_deref()),
            Target::CoreVersions => Ok(discovery::core(&self.reader.registry(), &parts.headers)),
            Target::Groups => Ok(discovery::groups(&self.reader.registry(), &parts.headers)),
            Target::Group(group) => discovery::group(&self.reader.registry(), group),
            Target::Resources(group, version) => discovery::resources(&self.reader.registry(), group, version),
            Target::Object(_) | Target::Unknown => Err(Status::no_such_resource()),
        }
    }

    /// A server that cannot store is not ready, but lives: reads and watches go on.
    fn health(&self, parts: &Parts) -> (u16, String) {
        let name = parts.uri.path().trim_start_matches('/');
        if let (Err(why), false) = (self.reader.health(), name.starts_with("livez")) {
            return (
                500,
                format!("[+]ping ok\n[-]store failed: {why}\n{name} check failed\n"),
            );
        }
        if !Query::parse(parts.uri.query()).flag("verbose") {
            return (200, "ok".to_owned());
        }
        let revision = self.reader.revision();
        let text = format!("[+]ping ok\n[+]store ok (revision {revision})\n{name} check passed\n");
        (200, text)
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
        if path.is_proxied() {
            return self.proxies.pass_on(&resource, &path, parts, body).await;
        }
        let query = Query::parse(parts.uri.query());
        if matches!(
            path.subresource.as_deref(),
            Some("log" | "exec" | "attach" | "portforward")
        ) {
            return self.kubelets.pass_on(&resource, &path, &query, parts).await;
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
            let wanted = websocket::wanted(&mut parts, Framing::Lines)?;
            let answer = self.reader.watch(&call)?;
            return Ok(websocket::upgraded(answer, wanted, Framing::Lines));
        }
        let limit = self.limit(&call)?;
        let work = async {
            let body = self.room.read(body).await?;
            self.worked(&call, &body.bytes, limit).await
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(late(limit)))
    }

    /// How long a call may take: as its client wants it, and not longer than any.
    fn limit(&self, call: &Call) -> Result<Duration, Status> {
        let Some(text) = call.query.get("timeout") else {
            return Ok(self.timeout);
        };
        let wanted = duration::parse(text)
            .map_err(|why| Status::bad_request(format!("invalid timeout specified in the request URL - {why}")))?;
        Ok(if wanted.is_zero() {
            self.timeout
        } else {
            self.timeout.min(wanted)
        })
    }

    /// Answers a call where there is room for it.
    async fn worked(&self, call: &Call, body: &Bytes, limit: Duration) -> Result<Response<Body>, Status> {
        let sent = Estimate::of(&call.content_type, body);
        if sent.is_too_much() {
            return Err(Status::too_many_values());
        }
        let mut bytes = body.len();
        let mut all = sent;
        if !matches!(call.verb, "get" | "list")
            && let Some(stored) = self.reader.find(&call.resource, call.namespace(), call.name())
        {
            bytes += stored.value.len();
            all = all.and(Estimate::of("application/json", &stored.value));
        }
        let _place = self.room.enter(all).await;
        let kind = if self.writer.evaluates(call) {
            Work::Evaluation
        } else if is_long(&call.content_type, bytes) || looks_inside(call) {
            Work::Long
        } else {
            return self.answer(call, body).await;
        };
        let given_up = GivenUp::after(limit);
        let answer = self.turns.run(kind, &given_up, self.answer(call, body)).await;
        // What it came to then is only that it ended.
        if given_up.is_so() && answer.is_err() {
            return Err(late(limit));
        }
        answer
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

/// Whether objects are read to find those that are meant: all of a collection, of any length.
fn looks_inside(call: &Call) -> bool {
    let selects = |name| call.query.get(name).is_some_and(|selector| !selector.is_empty());
    matches!(call.verb, "list" | "deletecollection") && ["labelSelector", "fieldSelector"].into_iter().any(selects)
}

fn late(limit: Duration) -> Status {
    let message = format!("request did not complete within {} s", limit.as_secs());
    Status::timeout(message, serde_json::json!({"retryAfterSeconds": 1}))
}
