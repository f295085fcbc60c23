//! Commands inside of running containers.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::bundle::spec::exec_process;
use super::command::{self, Running, nothing};
use super::record::{read_json, write_json};
use super::shared::Shared;
use super::streams::terminal;
use super::work::{blocking, failed};
use crate::container::{CANNOT_RUN, ContainerState, ExecSession, ExecSpec};
use crate::host::IO_DIR;
use crate::process::{kill, read_pid};
use crate::runtime::RuntimeError;

/// Terminal sizes that wait to be set.
const SIZES_MAX: usize = 4;
/// What a shell says when the command cannot be run.
const CANNOT_EXEC: i32 = 126;

/// Files of one command; removed when it has ended.
struct Files {
    process: PathBuf,
    pid: PathBuf,
    log: PathBuf,
    socket: PathBuf,
}

impl Files {
    fn new() -> Self {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let file = |kind: &str| Path::new(IO_DIR).join(format!("{name}.{kind}"));
        Self {
            process: file("json"),
            pid: file("pid"),
            log: file("log"),
            socket: file("sock"),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.process, &self.pid, &self.log, &self.socket] {
            // On a tmpfs: this does not wait for a disk.
            let _ = fs::remove_file(path);
        }
    }
}

impl Shared {
    pub(super) async fn exec(self: &Arc<Self>, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        if self.record(id)?.state() != ContainerState::Running {
            return Err(RuntimeError::Failed(format!("container {id} does not run")));
        }
        if spec.command.is_empty() {
            return Err(RuntimeError::Invalid("there is no command".into()));
        }
        let (config, files, tty) = (Self::bundle_dir(id).join("config.json"), Files::new(), spec.tty);
        let files = blocking(move || {
            let config: Value = read_json(&config).map_err(|e| failed("reading config.json", &e))?;
            write_json(&files.process, &exec_process(&config, &spec.command, tty))
                .map_err(|e| failed("writing the command", &e))?;
            Ok(files)
        })
        .await?;
        let mut args = vec!["exec".into(), "--process".into(), shown(&files.process)];
        args.extend(["--pid-file".into(), shown(&files.pid)]);
        args.extend(self.limits(id));
        if tty {
            let listener = terminal::listen(&files.socket).map_err(|e| failed("making a console socket", &e))?;
            args.extend(["--console-socket".into(), shown(&files.socket), id.to_owned()]);
            let streams = [nothing()?, nothing()?, nothing()?];
            let running = self.command.begin(&files.log, args, streams, vec![]).await?;
            return with_terminal(running, listener, files).await;
        }
        args.push(id.to_owned());
        let (stdin, to) = if spec.stdin {
            let (from, to) = make_pipe()?;
            (
                from,
                Some(pipe::Sender::from_owned_fd(to).map_err(|e| failed("opening a pipe", &e))?),
            )
        } else {
            (nothing()?, None)
        };
        let ((stdout, out), (stderr, err)) = (output()?, output()?);
        let running = self.command.begin(&files.log, args, [stdin, out, err], vec![]).await?;
        Ok(ExecSession {
            stdin: to.map(|to| Box::new(to) as Box<dyn AsyncWrite + Send + Unpin>),
            stdout: Box::new(stdout),
            stderr: Some(Box::new(stderr)),
            resize: None,
            exit: wait(running, files),
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Where it is read and where it is written.
fn make_pipe() -> Result<(OwnedFd, OwnedFd), RuntimeError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed("making a pipe", &e.into()))
}

/// What a command writes: our end and its own.
fn output() -> Result<(pipe::Receiver, OwnedFd), RuntimeError> {
    let (from, to) = make_pipe()?;
    let from = pipe::Receiver::from_owned_fd(from).map_err(|e| failed("opening a pipe", &e))?;
    Ok((from, to))
}

impl Shared {
    /// Options that make a command share the limits of its container.
    fn limits(&self, id: &str) -> Vec<String> {
        let entrances = self.cgroups.entrances(id);
        if !self.command.own || entrances.is_empty() {
            return vec![];
        }
        let option = |path: PathBuf| ["--cgroup".into(), shown(&path)];
        entrances.into_iter().flat_map(option).collect()
    }
}

async fn with_terminal(
    mut running: Running,
    listener: tokio::net::UnixListener,
    files: Files,
) -> Result<ExecSession, RuntimeError> {
    let terminal = tokio::select! {
        terminal = terminal::receive(listener) => terminal.map_err(|e| failed("waiting for a terminal", &e))?,
        _ = running.wait() => return Err(RuntimeError::Invalid(format!("{CANNOT_RUN} {}", command::last_lines(&files.log)))),
    };
    let (sizes, mut wanted) = mpsc::channel(SIZES_MAX);
    let resized = terminal.clone();
    tokio::spawn(FutureExt::boxed(async move {
        while let Some(size) = wanted.recv().await {
            resized.resize(size);
        }
    }));
    Ok(ExecSession {
        stdin: Some(Box::new(terminal.clone())),
        stdout: Box::new(terminal) as Box<dyn AsyncRead + Send + Unpin>,
        stderr: None,
        resize: Some(sizes),
        exit: wait(running, files),
    })
}

/// Follows the command to its end; kills it when nobody waits for its exit code any more.
fn wait(mut running: Running, files: Files) -> oneshot::Receiver<i32> {
    let (mut answer, receiver) = oneshot::channel();
    tokio::spawn(FutureExt::boxed(async move {
        let code = tokio::select! {
            code = running.wait() => code.ok().flatten().unwrap_or(CANNOT_EXEC),
            () = answer.closed() => {
                // The command itself; the process that was begun only waits for it.
                if let Some(pid) = read_pid(&files.pid) {
                    kill(pid, || true);
                }
                drop(running);
                return;
            }
        };
        if code == CANNOT_EXEC {
            tracing::debug!(reason = command::last_lines(&files.log), "a command could not be run");
        }
        let _ = answer.send(code);
    }));
    receiver
}
