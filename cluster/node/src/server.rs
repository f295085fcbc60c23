//! The kubelet API, spoken on connections that the API server dials: logs, exec, attach, port-forward, pods, statistics.

mod answer;
mod channels;
mod destination;
mod exec;
mod forward;
mod forward_spdy;
pub(crate) mod log_file;
mod logs;
mod pods;
mod query;
mod socket;
mod stats;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use self::answer::{Body, Refusal, full, json_answer};
use self::query::Query;
use crate::context::Context;

/// Serves one HTTP/1.1 connection to its end, upgrades included.
pub(crate) async fn serve<S>(context: Arc<Context>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let context = context.clone();
        async move { Ok::<_, Infallible>(answer(context, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "kubelet connection ended");
    }
}

async fn answer(context: Arc<Context>, request: Request<Incoming>) -> Response<Body> {
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
        (&Method::GET, ["pods"]) => Ok(pod_list(&context)),
        (&Method::GET, ["stats", "summary"]) => match stats::stats_summary(&context).await {
            Ok(summary) => Ok(json_answer(&summary)),
            Err(error) => Err(Refusal::internal(error.to_string())),
        },
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            logs::container_logs(&context, namespace, pod, container, &query).await
        }
        (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
            exec::exec(&context, [namespace, pod, container], &query, request).await
        }
        (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
            exec::attach(&context, [namespace, pod, container], &query, request).await
        }
        (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => {
            forward::port_forward(context, namespace, pod, &query, request)
        }
        _ => Err(Refusal::not_found(format!("the kubelet has no {path}"))),
    };
    outcome.unwrap_or_else(Refusal::answer)
}

fn pod_list(context: &Context) -> Response<Body> {
    let pods = context.pods();
    let items: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}
