//! `containerLogs`.

use afloat_runtime::ContainerState;
use futures::FutureExt as _;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Body, Refusal};
use super::log_file::{self, LogOptions};
use super::pods;
use super::query::Query;
use crate::clock::seconds;
use crate::context::Context;
use crate::dirs::PodDirs;

/// `containerLogs`: what a container has written.
pub(super) async fn container_logs(
    context: &Context,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let pod = pods::pod(context, namespace, name)?;
    let current = pods::container(context, &pod, container).await?;
    let options = log_options(context, query)?;
    let dir = PodDirs::new(&context.options.dir, &pod).container_logs(container);
    let Some(path) = log_file::find(&dir, options.previous).await else {
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
    let runtime = context.runtime.clone();
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
    tokio::spawn(log_file::send(path, options, ended, sender).boxed());
    let frames = ReceiverStream::new(receiver).map(|bytes| bytes.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn log_options(context: &Context, query: &Query) -> Result<LogOptions, Refusal> {
    let count = |key: &str| -> Result<Option<usize>, Refusal> {
        let number = query.number(key)?;
        let bad = || Refusal::bad_request(format!("{key} must not be negative"));
        number
            .map(|number| usize::try_from(number).map_err(|_| bad()))
            .transpose()
    };
    let now = context.clock.now();
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
