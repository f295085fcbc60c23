//! The kubelet API, spoken on connections that the API server dials: logs, exec, attach, port-forward, pods, statistics.

mod channels;
mod exec;
mod forward;
mod forward_spdy;
mod socket;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;

use afloat_runtime::{Container, ContainerState};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::agent::Agent;
use crate::clock::seconds;
use crate::dirs::PodDirs;
use crate::logs::{self, LogOptions};
use crate::pod::{container_status, ephemeral, spec};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// An error on its way to the client, as Kubernetes' Status.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message: message.into(),
        }
    }

    fn forbidden(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::FORBIDDEN,
            reason: "Forbidden",
            message: message.into(),
        }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message: message.into(),
        }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "InternalError",
            message: message.into(),
        }
    }

    fn answer(self) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        let mut response = json_answer(&status);
        *response.status_mut() = self.code;
        response
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Query parameters, decoded, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &http::Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(known, _)| known == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True"))
    }

    fn number(&self, key: &str) -> Result<Option<i64>, Refusal> {
        let bad = |text| Refusal::bad_request(format!("{key}: {text:?} is not a number"));
        self.get(key)
            .map(|text| text.parse().map_err(|_| bad(text)))
            .transpose()
    }
}

impl Agent {
    /// Serves one HTTP/1.1 connection to its end, upgrades included.
    pub async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(move |request| {
            let agent = self.clone();
            async move { Ok::<_, Infallible>(agent.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "kubelet connection ended");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = Query::of(request.uri());
        let outcome = match (request.method(), parts.as_slice()) {
            (_, ["healthz"]) => Ok(Response::new(full("ok"))),
            (&Method::GET, ["pods"]) => Ok(self.pods()),
            (&Method::GET, ["stats", "summary"]) => match self.summary().await {
                Ok(summary) => Ok(json_answer(&summary)),
                Err(error) => Err(Refusal::internal(error.to_string())),
            },
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                self.logs(namespace, pod, container, &query).await
            }
            (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
                self.exec(namespace, pod, container, &query, request).await
            }
            (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
                self.attach(namespace, pod, container, &query, request).await
            }
            (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => {
                self.port_forward(namespace, pod, &query, request)
            }
            _ => Err(Refusal::not_found(format!("the kubelet has no {path}"))),
        };
        outcome.unwrap_or_else(Refusal::answer)
    }

    fn pods(&self) -> Response<Body> {
        let pods = self.context.pods();
        let items: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let found = self.context.find(namespace, name);
        found.ok_or_else(|| {
            Refusal::not_found(format!(
                "pod \"{name}\" in namespace \"{namespace}\" is not on this node"
            ))
        })
    }

    /// The newest container of that name in the pod.
    async fn container(&self, pod: &Pod, name: &str) -> Result<Option<Container>, Refusal> {
        if ephemeral::find(pod, name).is_none() {
            return Err(Refusal::bad_request(format!(
                "container {name} is not valid for pod {}",
                spec::name(pod)
            )));
        }
        let list = self
            .context
            .runtime
            .containers()
            .await
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let own = list
            .into_iter()
            .filter(|c| c.pod_uid == spec::uid(pod) && c.name == name);
        Ok(own.max_by_key(|container| container.attempt))
    }

    async fn running(&self, pod: &Pod, name: &str) -> Result<Container, Refusal> {
        let found = self
            .container(pod, name)
            .await?
            .filter(|c| c.state == ContainerState::Running);
        found.ok_or_else(|| {
            let pod = container_status::pod_in_message(pod);
            Refusal::internal(format!(
                "unable to upgrade connection: container not found or not running (\"{name}\" in {pod})"
            ))
        })
    }

    async fn logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, name)?;
        let current = self.container(&pod, container).await?;
        let options = self.log_options(query)?;
        let dir = PodDirs::new(&self.context.options.dir, &pod).container_logs(container);
        let Some(path) = logs::find(&dir, options.previous).await else {
            return Err(Refusal::bad_request(if options.previous {
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
            } else {
                format!(
                    "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
                    waits_for(&pod, container)
                )
            }));
        };
        let (sender, receiver) = mpsc::channel(16);
        let runtime = self.context.runtime.clone();
        let id = current.filter(|_| !options.previous).map(|container| container.id);
        let ended = async move || match &id {
            // Only a list tells; asked at the pace of the poll, and only while somebody follows.
            Some(id) => runtime.containers().await.is_ok_and(|list| {
                !list
                    .iter()
                    .any(|c| c.id == *id && !matches!(c.state, ContainerState::Exited(_)))
            }),
            None => true,
        };
        tokio::spawn(logs::send(path, options, ended, sender));
        let frames = ReceiverStream::new(receiver).map(|bytes| bytes.map(Frame::data));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    fn log_options(&self, query: &Query) -> Result<LogOptions, Refusal> {
        let count = |key: &str| -> Result<Option<usize>, Refusal> {
            let number = query.number(key)?;
            let bad = || Refusal::bad_request(format!("{key} must not be negative"));
            number
                .map(|number| usize::try_from(number).map_err(|_| bad()))
                .transpose()
        };
        let now = self.context.clock.now();
        let since_seconds = query.number("sinceSeconds")?;
        let since_time = query.get("sinceTime").map(|text| {
            text.parse()
                .map_err(|_| Refusal::bad_request(format!("sinceTime: {text:?} is not a time (RFC 3339)")))
        });
        Ok(LogOptions {
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            tail: count("tailLines")?,
            limit: count("limitBytes")?,
            since: match (since_seconds, since_time) {
                (Some(ago), _) => now.checked_sub(seconds(ago)).ok(),
                (None, time) => time.transpose()?,
            },
        })
    }
}

fn waits_for(pod: &Pod, container: &str) -> String {
    let find = || {
        let status = pod.status.as_ref()?;
        let lists = [
            &status.container_statuses,
            &status.init_container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let entry = lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| entry.name == container)?;
        entry.state.as_ref()?.waiting.as_ref()?.reason.clone()
    };
    find().unwrap_or_else(|| "ContainerCreating".to_owned())
}
