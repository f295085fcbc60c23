//! Stopping a container behind the kubelet's back, as gently as the kubelet would: its preStop hook first, then the signal of its image,
//! and the end when its time is up (kubernetes.io, Pod Lifecycle, "Termination of Pods"; OpenKruise's daemon does the same for a
//! ContainerRecreateRequest). A kubelet that finds a container ended starts the next one and runs no hook for the old one.

use std::time::Duration;

use afloat_words::http_get::{headers, target};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{Instant, timeout};

use crate::runtime::{NodeContainer, NodeRuntime, RuntimeError};

/// What a process has at least between its signal and its end, whatever its hook took (the kubelet's
/// `minimumGracePeriodInSeconds`).
pub const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A container has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Why its preStop hook failed; None: it did not, or there was none.
    pub hook: Option<String>,
}

/// Runs the hook, which has `grace` for it, and ends the container with what is left. A hook that fails or is late keeps nobody alive.
/// Returns when the container has ended.
///
/// # Errors
/// The runtime could not end it; asking again is harmless, but runs the hook again.
pub async fn stop_container(
    runtime: &dyn NodeRuntime,
    container: &NodeContainer,
    pre_stop: Option<&LifecycleHandler>,
    grace: Duration,
) -> Result<Stopped, RuntimeError> {
    let began = Instant::now();
    let hook = match pre_stop.filter(|_| !grace.is_zero()) {
        None => None,
        Some(handler) => match timeout(grace, run(runtime, container, handler, grace)).await {
            Ok(result) => result.err(),
            Err(_) => Some(format!("it did not end within {} s", grace.as_secs())),
        },
    };
    let left = grace.saturating_sub(began.elapsed()).max(LEAST_GRACE);
    runtime.stop(&container.id, left).await?;
    Ok(Stopped { hook })
}

/// One hook to its end.
async fn run(
    runtime: &dyn NodeRuntime,
    container: &NodeContainer,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let executed = runtime.exec(&container.id, &command, limit).await;
        // What a hook prints is its own affair: events have many readers.
        return match executed.map_err(|error| error.to_string())?.code {
            0 => Ok(()),
            code => Err(format!("command '{}' exited with {code}", command.join(" "))),
        };
    }
    if let Some(action) = &handler.http_get {
        return http_get(runtime, container, action).await;
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("it has none of exec, httpGet and sleep (tcpSocket is not supported for hooks)".to_owned())
}

async fn http_get(runtime: &dyn NodeRuntime, container: &NodeContainer, action: &HTTPGetAction) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("httpGet with scheme HTTPS is not supported where the agent stops a container".to_owned());
    }
    let port = port(container, &action.port)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let stream = match host {
        None => runtime
            .connect(&container.pod_uid, port)
            .await
            .map_err(|error| error.to_string())?,
        Some(host) => tokio::net::TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("{host}:{port}: {error}"))?,
    };
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    let host = host.map_or_else(|| peer.to_string(), |host| format!("{host}:{port}"));
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let mut request = http::Request::get(target(action.path.as_deref().unwrap_or_default()));
    for (name, value) in headers(action, &host, "kube-lifecycle/1.33") {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        // Read a little, so that the server sees its answer taken; the rest is of no interest.
        let _ = response.into_body().frame().await;
        Ok::<_, String>(status)
    };
    // The connection is driven here and dropped with the answer: nothing is left behind.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = ask => status?,
        () = connection => return Err("the connection was closed".to_owned()),
    };
    // A redirect is an answer: a hook has done its work by being asked.
    match status.as_u16() {
        200..=399 => Ok(()),
        code => Err(format!("http://{host} answered {code}")),
    }
}

fn port(container: &NodeContainer, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0);
    number.ok_or_else(|| format!("container {} has no port {port:?}", container.name))
}

#[cfg(test)]
mod tests;
