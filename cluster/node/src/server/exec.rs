//! exec: a command in a running container, its streams on channels. attach: the container's own streams.

use afloat_runtime::{ExecSession, ExecSpec};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::{Body, Refusal};
use super::channels::{self, Input, RESIZE, Receiver, STDERR, STDIN, STDOUT, Sender, Wanted};
use super::pods;
use super::query::Query;
use crate::context::Context;
use crate::pod::ephemeral;

const CHUNK: usize = 32 * 1024;

/// Runs a command. `namespace`, pod and container in this order.
pub(super) async fn exec(
    context: &Context,
    [namespace, pod, container]: [&str; 3],
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let command = query.all("command");
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let pod = pods::pod(context, namespace, pod)?;
    let id = pods::running(context, &pod, container).await?.id;
    let wanted = wanted(query);
    let Wanted { tty, stdin, .. } = wanted;
    let runtime = context.runtime.clone();
    channels::upgrade(request, wanted, move |sender, receiver| async move {
        match runtime.exec(&id, ExecSpec { command, tty, stdin }).await {
            Ok(session) => stream(sender, receiver, session, wanted, true).await,
            Err(error) => sender.end(&failure(&error.to_string())).await,
        }
    })
}

/// The container's own streams, output from now on. Without `stdin` in its specification it has no input.
pub(super) async fn attach(
    context: &Context,
    [namespace, pod, container]: [&str; 3],
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let wanted = wanted(query);
    let pod = pods::pod(context, namespace, pod)?;
    let id = pods::running(context, &pod, container).await?.id;
    let specified = ephemeral::find(&pod, container);
    let once = specified.is_some_and(|container| container.stdin_once == Some(true));
    let runtime = context.runtime.clone();
    channels::upgrade(request, wanted, move |sender, receiver| async move {
        match runtime.attach(&id).await {
            Ok(mut session) => {
                session.stdin = session.stdin.filter(|_| wanted.stdin);
                stream(sender, receiver, session, wanted, once).await;
            }
            Err(error) => sender.end(&failure(&error.to_string())).await,
        }
    })
}

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    Wanted {
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        // A terminal has one stream only.
        stderr: query.flag("error") && !tty,
        tty,
    }
}

/// `closes`: the end of the client's input is the end of the process's.
async fn stream(mut sender: Sender, receiver: Receiver, session: ExecSession, wanted: Wanted, closes: bool) {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let (chunks, mut outgoing) = mpsc::channel::<(u8, Vec<u8>)>(8);
    let out = pump(stdout, STDOUT, wanted.stdout, chunks.clone());
    // The last sender goes with it, and with that the channel ends.
    let err = async move {
        match stderr {
            Some(stderr) => pump(stderr, STDERR, wanted.stderr, chunks).await,
            None => drop(chunks),
        }
    };
    let sending = async {
        while let Some((channel, bytes)) = outgoing.recv().await {
            if !sender.send(channel, &bytes).await {
                return false;
            }
        }
        true
    };
    let incoming = take_input(receiver, stdin, resize, closes);
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
    sender.end(&status).await;
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
    closes: bool,
) {
    while let Some(input) = receiver.next().await {
        match input {
            Input::Bytes(STDIN, bytes) => {
                let written = match &mut stdin {
                    Some(stdin) => stdin.write_all(&bytes).await.and(stdin.flush().await),
                    None => Ok(()),
                };
                if written.is_err() {
                    // The command does not read any more; its output may still come.
                    stdin = None;
                }
            }
            Input::Closed(STDIN) if closes => {
                if let Some(mut stdin) = stdin.take() {
                    let _ = stdin.shutdown().await;
                }
            }
            Input::Bytes(RESIZE, bytes) => {
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
    if closes && let Some(mut stdin) = stdin {
        let _ = stdin.shutdown().await;
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
