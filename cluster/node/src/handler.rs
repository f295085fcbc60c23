//! Probes' and hooks' questions, asked: exec, httpGet, tcpSocket, grpc, sleep.

mod grpc;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use afloat_runtime::{CANNOT_RUN, ExecSpec, Runtime, RuntimeError};
use afloat_words::http_get as words;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::pod::probe::Answer;
use crate::pod::spec;

/// As much of a handler's output as anybody is shown.
const OUTPUT_LIMIT: u64 = 10 * 1024;
const REDIRECTS: usize = 10;

/// The container that is asked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) pod_uid: String,
    pub(crate) pod_ip: IpAddr,
    pub(crate) id: String,
    pub(crate) container: Container,
}

/// Asks a probe's question within its time.
pub(crate) async fn probe(target: &Target, probe: &Probe, timeout: Duration) -> Answer {
    let ask = async {
        if let Some(action) = &probe.exec {
            let (code, output) = exec(target, action)
                .await
                .map_err(|error| Answer::Error(error.to_string()))?;
            return if code == 0 {
                Ok(Answer::Success)
            } else {
                Err(Answer::Failure(output))
            };
        }
        if let Some(action) = &probe.http_get {
            return http_get(target, action, "kube-probe/1.33")
                .await
                .map_err(Answer::Failure);
        }
        if let Some(action) = &probe.tcp_socket {
            let port = port(target, &action.port).map_err(Answer::Error)?;
            let connected = connect(target, action.host.as_deref(), port).await;
            return connected.map(|_| Answer::Success).map_err(Answer::Failure);
        }
        if let Some(action) = &probe.grpc {
            let port =
                u16::try_from(action.port).map_err(|_| Answer::Error(format!("invalid port: {}", action.port)))?;
            let stream = connect(target, None, port).await.map_err(Answer::Failure)?;
            let service = action.service.as_deref().unwrap_or_default();
            return grpc::health(stream, service)
                .await
                .map(|()| Answer::Success)
                .map_err(Answer::Failure);
        }
        Err(Answer::Error(
            "missing probe handler: one of exec, httpGet, tcpSocket, grpc is needed".to_owned(),
        ))
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(Ok(answer) | Err(answer)) => answer,
        Err(_) => Answer::Failure(timed_out(target, probe, timeout)),
    }
}

fn timed_out(target: &Target, probe: &Probe, timeout: Duration) -> String {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default().join(" ");
        return format!("command timed out: {command:?} timed out after {}s", timeout.as_secs());
    }
    match &probe.http_get {
        Some(action) => {
            let host = host(target, action);
            let url = Place::of(target, action).map_or_else(|_| host.clone(), |place| place.url(&host));
            format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
        }
        None => format!("timeout: no answer within {}s", timeout.as_secs()),
    }
}

/// Runs a lifecycle hook to its end.
pub(crate) async fn hook(target: &Target, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let (code, output) = exec(target, action).await.map_err(|error| error.to_string())?;
        let command = action.command.clone().unwrap_or_default().join(" ");
        // What a handler prints is its own affair: events have many readers (Kubernetes, "Container Lifecycle Hooks",
        // debugging hook handlers).
        return match output.strip_prefix(CANNOT_RUN) {
            _ if code == 0 => Ok(()),
            Some(why) => Err(format!("command '{command}' cannot be run: {}", why.trim())),
            None => Err(format!("command '{command}' exited with {code}")),
        };
    }
    if let Some(action) = &handler.http_get {
        return match http_get(target, action, "kube-lifecycle/1.33").await? {
            Answer::Failure(message) | Answer::Error(message) => Err(message),
            Answer::Success | Answer::Warning(_) => Ok(()),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(crate::clock::seconds(action.seconds)).await;
        return Ok(());
    }
    Err("invalid handler: one of exec, httpGet, sleep is needed (tcpSocket is not supported for hooks)".to_owned())
}

async fn exec(target: &Target, action: &ExecAction) -> Result<(i32, String), RuntimeError> {
    let command = action.command.clone().unwrap_or_default();
    let mut session = target
        .runtime
        .exec(
            &target.id,
            ExecSpec {
                command,
                tty: false,
                stdin: false,
            },
        )
        .await?;
    let mut out = vec![];
    let mut err = vec![];
    let read_out = drain(&mut session.stdout, &mut out);
    let read_err = async {
        if let Some(stderr) = &mut session.stderr {
            drain(stderr, &mut err).await;
        }
    };
    let (code, (), ()) = tokio::join!(&mut session.exit, read_out, read_err);
    out.extend(err);
    let output = String::from_utf8_lossy(&out).into_owned();
    match code {
        Ok(code) => Ok((code, output)),
        Err(_) => Err(RuntimeError::Failed("the command's exit code was lost".to_owned())),
    }
}

/// Reads everything, keeps the beginning.
async fn drain(from: &mut (dyn tokio::io::AsyncRead + Send + Unpin), into: &mut Vec<u8>) {
    let mut limited = from.take(OUTPUT_LIMIT);
    let _ = limited.read_to_end(into).await;
    let _ = tokio::io::copy(limited.into_inner(), &mut tokio::io::sink()).await;
}

fn port(target: &Target, port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString) -> Result<u16, String> {
    spec::port(&target.container, port)
        .ok_or_else(|| format!("couldn't find port: {port:?} in container {}", target.container.name))
}

/// To the pod, or to another host that the handler names.
async fn connect(target: &Target, host: Option<&str>, port: u16) -> Result<TcpStream, String> {
    let pod_ip = target.pod_ip.to_string();
    match host.filter(|host| !host.is_empty() && *host != pod_ip) {
        None => target
            .runtime
            .connect(&target.pod_uid, port)
            .await
            .map_err(|error| match error {
                // The runtime's errors say what the system call said.
                RuntimeError::Failed(text) | RuntimeError::Invalid(text) | RuntimeError::NotFound(text) => {
                    format!("dial tcp {pod_ip}:{port}: {text}")
                }
            }),
        Some(host) => TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("dial tcp {host}:{port}: {error}")),
    }
}

fn host(target: &Target, action: &HTTPGetAction) -> String {
    action
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| target.pod_ip.to_string())
}

/// Where a question goes; a redirect may change everything but the host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    https: bool,
    port: u16,
    path: String,
}

impl Place {
    fn of(target: &Target, action: &HTTPGetAction) -> Result<Self, String> {
        Ok(Self {
            https: action.scheme.as_deref() == Some("HTTPS"),
            port: port(target, &action.port)?,
            path: words::target(action.path.as_deref().unwrap_or_default()),
        })
    }

    fn url(&self, host: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{host}:{}{}", self.port, self.path)
    }

    /// Where a redirect leads; None: to another host, where nobody is asked.
    fn redirected(&self, location: &str, host: &str) -> Option<Self> {
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.https { "https" } else { "http" };
            return self.redirected(&format!("{scheme}://{rest}"), host);
        }
        let Some((scheme, rest)) = location.split_once("://") else {
            let path = words::joined(&self.path, location);
            return Some(Self { path, ..self.clone() });
        };
        let https = scheme.eq_ignore_ascii_case("https");
        let uri: http::Uri = format!("http://{rest}").parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        (uri.host() == Some(host)).then(|| Self {
            https,
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: path.to_owned(),
        })
    }
}

async fn http_get(target: &Target, action: &HTTPGetAction, agent: &str) -> Result<Answer, String> {
    let host = host(target, action);
    let mut place = Place::of(target, action)?;
    for _ in 0..=REDIRECTS {
        let (status, location) = request(target, action, &place, agent)
            .await
            .map_err(|error| format!("Get {:?}: {error}", place.url(&host)))?;
        match (status, location) {
            (300..=399, Some(location)) => match place.redirected(&location, &host) {
                Some(next) => place = next,
                None => {
                    return Ok(Answer::Warning(format!(
                        "Probe terminated redirects, Response body: (redirect to {location})"
                    )));
                }
            },
            (200..=399, _) => return Ok(Answer::Success),
            _ => return Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Err(format!(
        "Get {:?}: stopped after {REDIRECTS} redirects",
        place.url(&host)
    ))
}

async fn request(
    target: &Target,
    action: &HTTPGetAction,
    place: &Place,
    agent: &str,
) -> Result<(u16, Option<String>), String> {
    let stream = connect(target, action.host.as_deref(), place.port).await?;
    if place.https {
        let stream = tls::unverified(stream, &host(target, action))
            .await
            .map_err(|error| error.to_string())?;
        return exchange(stream, target, action, place, agent).await;
    }
    exchange(stream, target, action, place, agent).await
}

async fn exchange<S>(
    stream: S,
    target: &Target,
    action: &HTTPGetAction,
    place: &Place,
    agent: &str,
) -> Result<(u16, Option<String>), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let mut request = http::Request::get(&place.path);
    let host = format!("{}:{}", host(target, action), place.port);
    for (name, value) in words::headers(action, &host, agent) {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get(http::header::LOCATION)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        // Read a little, so that the server sees its answer taken; the rest is of no interest.
        let mut body = response.into_body();
        let _ = body.frame().await;
        Ok((status, location))
    };
    // The connection is driven here and dropped with the answer: nothing is left behind.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = ask => answer,
        () = connection => Err("EOF".to_owned()),
    }
}
