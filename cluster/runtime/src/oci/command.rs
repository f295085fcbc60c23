//! Calls the OCI runtime's command line and makes its errors readable.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, mount};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::told::readable;
use super::work::blocking;
use super::zygote;
use crate::host::oci_command::open_gate;
use crate::host::zygote::Carried;
use crate::host::{OCI_STATE_DIR, PROGRAM};
use crate::removal::remove_all;
use crate::runtime::RuntimeError;

/// Longest a verb may take, `exec` apart.
const LIMIT: Duration = Duration::from_secs(60);
/// What libcontainer puts before the cause of a command that cannot be run.
const CHAIN: &str = "error in executing process : ";
/// So many of the last lines of the log make the message.
const LINES: usize = 4;

/// The runtime's program, and the word that ours wants first.
#[derive(Clone, Debug)]
pub(super) struct OciCommand {
    program: PathBuf,
    /// Ours and not runc.
    pub(super) own: bool,
}

/// A verb that runs. Dropped, it is killed.
pub(super) enum Running {
    /// A child of the zygote; its exit code comes from there.
    Step(UnixStream),
    /// A child of this process.
    Child(Child),
}

impl Running {
    /// Waits for its end. None: a signal ended it.
    pub(super) async fn wait(&mut self) -> io::Result<Option<i32>> {
        match self {
            Self::Step(answer) => answer.read_i32_le().await.map(Some),
            Self::Child(child) => child.wait().await.map(|status| status.code()),
        }
    }
}

impl OciCommand {
    pub(super) fn new(program: &Path) -> Self {
        let own = program == Path::new("/proc/self/exe") || std::env::current_exe().is_ok_and(|exe| exe == program);
        let guarded = Path::new(PROGRAM);
        let program = if own && guarded.exists() { guarded } else { program };
        Self {
            program: program.to_owned(),
            own,
        }
    }

    /// Begins a verb. Only `stdio` reaches the container. `carried`: mounts that ours finds in their places, as it does not see what is
    /// mounted for pods; any other finds all of them.
    pub(super) async fn begin(
        &self,
        log: &Path,
        args: Vec<String>,
        stdio: [OwnedFd; 3],
        carried: Vec<Carried>,
    ) -> Result<Running, RuntimeError> {
        let cannot_run = |program: &Path, e: &io::Error| failed(format!("cannot run {}: {e}", program.display()));
        if !self.own {
            let mut command = self.foreign(log);
            let [stdin, stdout, stderr] = stdio.map(Stdio::from);
            command.args(args).stdin(stdin).stdout(stdout).stderr(stderr);
            let child = command.kill_on_drop(true).spawn();
            return child.map(Running::Child).map_err(|e| cannot_run(&self.program, &e));
        }
        let program = self.program.clone();
        let mut all: Vec<String> = vec![
            "--root".into(),
            OCI_STATE_DIR.into(),
            "--log".into(),
            log.display().to_string(),
        ];
        all.extend(args);
        let answer = blocking(move || {
            let answer = zygote::begin(&program, all, &stdio, &carried).map_err(|e| cannot_run(&program, &e))?;
            answer.set_nonblocking(true).map_err(|e| cannot_run(&program, &e))?;
            Ok(answer)
        });
        let answer = UnixStream::from_std(answer.await?);
        answer.map(Running::Step).map_err(|e| cannot_run(&self.program, &e))
    }

    /// The start of a command line of another runtime. Limits are our affair: it is to leave cgroups alone, which each says in
    /// its own way, and finds a unified hierarchy that it cannot write, as it refuses to begin where there is none.
    #[allow(unsafe_code)] // pre_exec: only system calls between fork and exec
    fn foreign(&self, log: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let crun = self.program.file_name().is_some_and(|name| name == "crun");
        command.arg(if crun {
            "--cgroup-manager=disabled"
        } else {
            "--rootless=true"
        });
        with_options(&mut command, log);
        let hide = || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            Ok(mount(c"none", c"/sys/fs/cgroup", c"cgroup2", flags, None)?)
        };
        // SAFETY: two system calls with constants; nothing is allocated.
        unsafe { command.pre_exec(hide) };
        command
    }

    /// Lets a container that was made begin.
    pub(super) async fn start(&self, log: &Path, id: &str) -> Result<(), RuntimeError> {
        if !self.own {
            return self.run_verb(log, &["start", id], None, vec![]).await;
        }
        let id = id.to_owned();
        blocking(move || open_gate(&id).map_err(|e| failed(format!("letting the container's process go: {e}")))).await
    }

    /// Forgets a container whose process has ended.
    pub(super) async fn delete(&self, log: &Path, id: &str) -> Result<(), RuntimeError> {
        if !self.own {
            self.run_verb(log, &["delete", id], None, vec![]).await?;
        }
        let state = Path::new(OCI_STATE_DIR).join(id);
        // Ours has nothing but this.
        blocking(move || remove_all(&state).map_err(|e| failed(format!("removing {}: {e}", state.display())))).await
    }

    /// The start of a command line for verbs that only our own program has, in a process that outlives us.
    pub(super) fn helper(&self, log: &Path) -> Command {
        let guarded = Path::new(PROGRAM);
        let own = Path::new("/proc/self/exe");
        let mut command = Command::new(if guarded.exists() { guarded } else { own });
        command.arg("oci");
        with_options(&mut command, log);
        command.stderr(Stdio::null()).process_group(0);
        command
    }

    /// Runs a verb to its end. `stdio`: what it inherits as standard input, output and error.
    pub(super) async fn run_verb(
        &self,
        log: &Path,
        args: &[&str],
        stdio: Option<[OwnedFd; 3]>,
        carried: Vec<Carried>,
    ) -> Result<(), RuntimeError> {
        let stdio = match stdio {
            Some(stdio) => stdio,
            None => [nothing()?, nothing()?, nothing()?],
        };
        let all = args.iter().map(ToString::to_string).collect();
        let running = self.begin(log, all, stdio, carried).await?;
        complete(args.first().copied().unwrap_or_default(), running, log).await
    }

    /// Starts the process that holds a pod's PID namespace; its number is in the file then.
    pub(super) async fn pause(&self, log: &Path, pid_file: &Path) -> Result<(), RuntimeError> {
        let mut command = self.helper(log);
        command.arg("--pid-file").arg(pid_file).args(["pause", "pod"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|e| failed(format!("cannot run ourselves: {e}")))?;
        complete("pause", Running::Child(child), log).await
    }
}

/// A stream of nothing.
pub(super) fn nothing() -> Result<OwnedFd, RuntimeError> {
    let file = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from)
        .map_err(|e| failed(format!("opening /dev/null: {e}")))
}

async fn complete(verb: &str, mut running: Running, log: &Path) -> Result<(), RuntimeError> {
    match tokio::time::timeout(LIMIT, running.wait()).await {
        Ok(Ok(Some(0))) => Ok(()),
        Ok(Ok(_)) => Err(classify(verb, &last_lines(log))),
        Ok(Err(error)) => Err(failed(format!("waiting for {verb}: {error}"))),
        Err(_) => Err(failed(format!("{verb} takes longer than {} s", LIMIT.as_secs()))),
    }
}

fn with_options(command: &mut Command, log: &Path) {
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.arg("--root").arg(OCI_STATE_DIR).arg("--log").arg(log);
}

/// Invalid: what the user asked for cannot be. Failed: the machine's fault. By the words of libcontainer and runc.
fn classify(verb: &str, detail: &str) -> RuntimeError {
    let users_fault = [
        "not found in $PATH",
        "executable file not found",
        "no such file or directory: unknown",
        "permission denied: unknown",
        "is not executable",
        "does not have correct permissions",
    ];
    let message = format!("cannot {verb} the container: {detail}");
    if users_fault.iter().any(|words| detail.contains(words)) {
        RuntimeError::Invalid(message)
    } else {
        failed(message)
    }
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed(message)
}

/// The end of a log, joined into one line.
pub(super) fn last_lines(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    summary(&text)
}

/// The last lines, newest first, each once. Pure.
fn summary(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().rev().map(str::trim) {
        // libcontainer says the same at every level on its way out, each time in more words.
        let line = readable(line.rsplit_once(CHAIN).map_or(line, |(_, cause)| cause));
        if !line.is_empty() && !lines.iter().any(|kept| kept.contains(&line)) {
            lines.retain(|kept| !line.contains(kept.as_str()));
            lines.push(line);
        }
        if lines.len() == LINES {
            break;
        }
    }
    if lines.is_empty() {
        "the runtime did not say why".to_owned()
    } else {
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_said_once() {
        let text = "failed to run: error in executing process : executable '/x' is bad\n\
            failed to create container: exec process failed with error error in executing process : executable '/x' is bad\n";
        assert_eq!(summary(text), "executable '/x' is bad");
        assert_eq!(summary("one\ntwo: one\nthree\n"), "three; two: one");
        assert_eq!(summary(""), "the runtime did not say why");
    }

    #[test]
    fn a_missing_program_is_the_users_fault() {
        let detail = "executable '/x' not found in $PATH";
        assert!(matches!(classify("create", detail), RuntimeError::Invalid(m) if m.contains("'/x'")));
        assert!(matches!(classify("create", "failed syscall"), RuntimeError::Failed(_)));
    }
}
