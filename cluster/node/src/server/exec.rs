//! exec: a command in a running container, its streams on the channels of a WebSocket. attach: its log, followed.

use std::sync::Arc;

use afloat_runtime::{ExecSession, ExecSpec};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::socket::{self, CLOSE, ERROR, RESIZE, Receiver, STDERR, STDIN, STDOUT, Socket};
use super::{Body, Query, Refusal};
use crate::agent::Agent;
use crate::dirs::PodDirs;
use crate::logs::{self, LogOptions};

const V5: &str = "v5.channel.k8s.io";
const PROTOCOLS: [&str; 2] = [V5, "v4.channel.k8s.io"];
const CHUNK: usize = 32 * 1024;
const NO_STDIN: &str =
    "afloat: containers have no standard input here, this is their output; to type, use kubectl exec -it\r\n";

impl Agent {
    pub(super) async fn exec(
        self: Arc<Self>,
        namespace: &str,
        pod: &str,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let command = query.all("command");
        if command.is_empty() {
            return Err(Refusal::bad_request("you must specify at least 1 command"));
        }
        let pod = self.pod(namespace, pod)?;
        let id = self.running(&pod, container).await?.id;
        let (tty, stdin) = (query.flag("tty"), query.flag("input"));
        let wanted = (query.flag("output"), query.flag("error") && !tty);
        let runtime = self.context.runtime.clone();
        socket::upgrade(request, &PROTOCOLS, move |socket, protocol| async move {
            let started = runtime.exec(&id, ExecSpec { command, tty, stdin }).await;
            match started {
                Ok(session) => run(socket, session, wanted, protocol == V5).await,
                Err(error) => {
                    let (mut sender, _) = socket::split(socket);
                    let _ = sender
                        .send(ERROR, failure(&error.to_string()).to_string().as_bytes())
                        .await;
                    sender.close().await;
                }
            }
        })
    }

    /// Output only: the container's standard input is not kept open by the runtime. From now on; for a client that would
    /// like to type (`kubectl run -i`) from the start, as the container did not wait for it.
    pub(super) async fn attach(
        self: Arc<Self>,
        namespace: &str,
        pod: &str,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let (typing, tty) = (query.flag("input"), query.flag("tty"));
        let pod = self.pod(namespace, pod)?;
        let id = self.running(&pod, container).await?.id;
        let dir = PodDirs::new(&self.context.options.dir, &pod).container_logs(container);
        let path = logs::find(&dir, false)
            .await
            .ok_or_else(|| Refusal::internal("the container has no log yet"))?;
        let runtime = self.context.runtime.clone();
        let ended = async move || {
            let list = runtime.containers().await.unwrap_or_default();
            !list
                .iter()
                .any(|c| c.id == id && c.state == afloat_runtime::ContainerState::Running)
        };
        socket::upgrade(request, &PROTOCOLS, move |socket, _| async move {
            let (mut sender, mut receiver) = socket::split(socket);
            let (lines, mut from_log) = mpsc::channel(16);
            let options = LogOptions {
                follow: true,
                tail: (!typing).then_some(0),
                ..LogOptions::default()
            };
            if typing {
                // A terminal has one stream only.
                let channel = if tty { STDOUT } else { STDERR };
                let _ = sender.send(channel, NO_STDIN.as_bytes()).await;
            }
            let log = tokio::spawn(logs::send(path, options, ended, lines));
            loop {
                tokio::select! {
                    bytes = from_log.recv() => match bytes {
                        Some(Ok(bytes)) if sender.send(STDOUT, &bytes).await.is_ok() => {}
                        _ => break,
                    },
                    message = receiver.next() => if message.is_none() { break },
                }
            }
            log.abort();
            let _ = sender.send(ERROR, success().to_string().as_bytes()).await;
            sender.close().await;
        })
    }
}

async fn run(socket: Socket, session: ExecSession, (output, error): (bool, bool), v5: bool) {
    let (mut sender, receiver) = socket::split(socket);
    let ExecSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let (chunks, mut outgoing) = mpsc::channel::<(u8, Vec<u8>)>(8);
    let out = pump(stdout, STDOUT, output, chunks.clone());
    // The last sender goes with it, and with that the channel ends.
    let err = async move {
        match stderr {
            Some(stderr) => pump(stderr, STDERR, error, chunks).await,
            None => drop(chunks),
        }
    };
    let sending = async {
        while let Some((channel, bytes)) = outgoing.recv().await {
            if sender.send(channel, &bytes).await.is_err() {
                return false;
            }
        }
        true
    };
    let incoming = take_input(receiver, stdin, resize, v5);
    let finished = tokio::select! {
        ((), (), sent) = async { tokio::join!(out, err, sending) } => sent,
        // The client is gone: dropping the session ends the command.
        () = incoming => false,
    };
    if !finished {
        return;
    }
    let status = match exit.await {
        Ok(0) => success(),
        Ok(code) => exited(code),
        Err(_) => failure("the command's exit code was lost"),
    };
    let _ = sender.send(ERROR, status.to_string().as_bytes()).await;
    sender.close().await;
}

/// Reads to the end; sends only what the client wants to see.
async fn pump(mut from: Box<dyn AsyncRead + Send + Unpin>, channel: u8, wanted: bool, to: mpsc::Sender<(u8, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || wanted && to.send((channel, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Input and terminal sizes, until the client is gone.
async fn take_input(
    mut receiver: Receiver,
    mut stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    resize: Option<mpsc::Sender<(u16, u16)>>,
    v5: bool,
) {
    while let Some((channel, bytes)) = receiver.next().await {
        match channel {
            STDIN => {
                let written = match &mut stdin {
                    Some(stdin) => stdin.write_all(&bytes).await.and(stdin.flush().await),
                    None => Ok(()),
                };
                if written.is_err() {
                    // The command does not read any more; its output may still come.
                    stdin = None;
                }
            }
            CLOSE if v5 && bytes.first() == Some(&STDIN) => {
                if let Some(mut stdin) = stdin.take() {
                    let _ = stdin.shutdown().await;
                }
            }
            RESIZE => {
                let size = serde_json::from_slice::<Value>(&bytes).ok();
                let side = |name: &str| {
                    size.as_ref()
                        .and_then(|s| s[name].as_u64())
                        .and_then(|n| u16::try_from(n).ok())
                };
                if let (Some(resize), Some(width), Some(height)) = (&resize, side("Width"), side("Height")) {
                    let _ = resize.try_send((width, height));
                }
            }
            _ => {}
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}

fn exited(code: i32) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: error executing command, exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}
