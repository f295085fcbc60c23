//! Commands inside of running containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::bundle::spec::exec_process;
use super::command;
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
        let mut command = self.command.command(&files.log);
        command
            .arg("exec")
            .arg("--process")
            .arg(&files.process)
            .arg("--pid-file")
            .arg(&files.pid)
            .args(self.limits(id));
        if tty {
            let listener = terminal::listen(&files.socket).map_err(|e| failed("making a console socket", &e))?;
            command
                .arg("--console-socket")
                .arg(&files.socket)
                .arg(id)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = command.spawn().map_err(|e| failed("running the OCI runtime", &e))?;
            return with_terminal(child, listener, files).await;
        }
        command.arg(id).stdout(Stdio::piped()).stderr(Stdio::piped());
        if spec.stdin {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|e| failed("running the OCI runtime", &e))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(RuntimeError::Failed("the OCI runtime has no output".into()));
        };
        let stdin = child
            .stdin
            .take()
            .map(|stdin| Box::new(stdin) as Box<dyn AsyncWrite + Send + Unpin>);
        Ok(ExecSession {
            stdin,
            stdout: Box::new(stdout),
            stderr: Some(Box::new(stderr)),
            resize: None,
            exit: wait(child, files),
        })
    }
}

impl Shared {
    /// Options that make a command share the limits of its container.
    fn limits(&self, id: &str) -> Vec<std::ffi::OsString> {
        let entrances = self.cgroups.entrances(id);
        if !self.command.own || entrances.is_empty() {
            return vec![];
        }
        let option = |path: PathBuf| ["--cgroup".into(), path.into_os_string()];
        entrances.into_iter().flat_map(option).collect()
    }
}

async fn with_terminal(
    mut child: Child,
    listener: tokio::net::UnixListener,
    files: Files,
) -> Result<ExecSession, RuntimeError> {
    let terminal = tokio::select! {
        terminal = terminal::receive(listener) => terminal.map_err(|e| failed("waiting for a terminal", &e))?,
        _ = child.wait() => return Err(RuntimeError::Invalid(format!("{CANNOT_RUN} {}", command::last_lines(&files.log)))),
    };
    let (sizes, mut wanted) = mpsc::channel(SIZES_MAX);
    let resized = terminal.clone();
    tokio::spawn(async move {
        while let Some(size) = wanted.recv().await {
            resized.resize(size);
        }
    });
    Ok(ExecSession {
        stdin: Some(Box::new(terminal.clone())),
        stdout: Box::new(terminal) as Box<dyn AsyncRead + Send + Unpin>,
        stderr: None,
        resize: Some(sizes),
        exit: wait(child, files),
    })
}

/// Follows the command to its end; kills it when nobody waits for its exit code any more.
fn wait(mut child: Child, files: Files) -> oneshot::Receiver<i32> {
    let (mut answer, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let code = tokio::select! {
            status = child.wait() => status.ok().and_then(|status| status.code()).unwrap_or(CANNOT_EXEC),
            () = answer.closed() => {
                // The command itself; the process that we started only waits for it.
                if let Some(pid) = read_pid(&files.pid) {
                    kill(pid, || true);
                }
                let _ = child.kill().await;
                return;
            }
        };
        if code == CANNOT_EXEC {
            tracing::debug!(reason = command::last_lines(&files.log), "a command could not be run");
        }
        let _ = answer.send(code);
    });
    receiver
}
