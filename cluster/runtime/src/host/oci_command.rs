//! `afloat oci …`: the part of the OCI runtime command line that [`crate::oci`] uses, on libcontainer.
//!
//! Always in a process of its own, single-threaded: libcontainer forks and then does what is only safe without threads. Standard
//! output and error belong to the container here; what goes wrong is written to the file that `--log` names.
//!
//! There is no `start` and no `delete`: opening the gate of a container that was made is one message to its process, and what
//! libcontainer keeps of it is one directory ([`open_gate`]); neither is worth a process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use super::seccomp::FilteredExecutor;
use super::zygote::Settle;
use crate::container::CANNOT_RUN;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::notify_socket::NOTIFY_FILE;
use libcontainer::syscall::syscall::SyscallType;

/// A mistake in the command line or a failed verb.
const FAILED: i32 = 1;
/// What `exec` answers when the command could not be started, as shells do.
const CANNOT_EXEC: i32 = 126;

#[derive(Default)]
struct Arguments {
    root: Option<PathBuf>,
    log: Option<PathBuf>,
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    process: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    /// Of `stdio`: the pipe of frames, and the container's output pipe where it has a terminal.
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    /// `cgroup.procs` files of the container that a command is to share.
    cgroups: Vec<PathBuf>,
    words: Vec<String>,
}

/// The hidden subcommand: `zygote`, or `--root DIR --log FILE (create --bundle DIR --pid-file FILE [--console-socket FILE] | stdio
/// --input FILE [--output FILE] | pause --pid-file FILE | exec --process FILE [--pid-file FILE] [--console-socket FILE] [--cgroup
/// FILE]…) ID`. Answers the exit code; for `exec` that of the command.
pub fn oci_main(args: &[OsString]) -> i32 {
    if args.first().is_some_and(|verb| verb == "zygote") {
        return super::zygote::serve(run).unwrap_or_else(|error| {
            eprintln!("afloat: what begins containers has failed: {error:#}");
            FAILED
        });
    }
    run(args, Box::new(|| Ok(())))
}

/// Runs a verb when the process has become what it has to be, so that a failure of both is told in the same way.
fn run(args: &[OsString], become_it: Settle) -> i32 {
    let Some(arguments) = parse(args) else { return FAILED };
    let log = arguments
        .log
        .as_ref()
        .and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    if let Some(log) = log.as_ref().and_then(|file| file.try_clone().ok()) {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Mutex::new(log))
            .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_level(false)
            .finish();
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
    match become_it().and_then(|()| run_verb(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            write_error(log, &error);
            if arguments.words.first().is_some_and(|verb| verb == "exec") {
                // The command would have had it; so its caller learns why there is none.
                let _ = writeln!(std::io::stderr(), "{CANNOT_RUN} {error:#}");
                CANNOT_EXEC
            } else {
                FAILED
            }
        }
    }
}

fn write_error(log: Option<File>, error: &anyhow::Error) {
    if let Some(mut log) = log {
        let _ = writeln!(log, "{error:#}");
    }
}

fn parse(args: &[OsString]) -> Option<Arguments> {
    let mut parsed = Arguments::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let slot = match arg.to_str()? {
            "--root" => &mut parsed.root,
            "--log" => &mut parsed.log,
            "--bundle" => &mut parsed.bundle,
            "--pid-file" => &mut parsed.pid_file,
            "--process" => &mut parsed.process,
            "--console-socket" => &mut parsed.console_socket,
            "--input" => &mut parsed.input,
            "--output" => &mut parsed.output,
            "--cgroup" => {
                parsed.cgroups.push(PathBuf::from(args.next()?));
                continue;
            }
            flag if flag.starts_with('-') => return None,
            word => {
                parsed.words.push(word.to_owned());
                continue;
            }
        };
        *slot = Some(PathBuf::from(args.next()?));
    }
    Some(parsed)
}

fn run_verb(arguments: &Arguments) -> anyhow::Result<i32> {
    let [verb, id] = arguments.words.as_slice() else {
        anyhow::bail!("say one verb and one container id")
    };
    let root = arguments
        .root
        .clone()
        .ok_or_else(|| anyhow::anyhow!("--root is missing"))?;
    let builder = || ContainerBuilder::new(id.clone(), SyscallType::default()).with_root_path(&root);
    match verb.as_str() {
        "create" => {
            let bundle = arguments
                .bundle
                .clone()
                .ok_or_else(|| anyhow::anyhow!("--bundle is missing"))?;
            builder()?
                .with_pid_file(arguments.pid_file.clone())?
                .with_console_socket(arguments.console_socket.clone())
                .validate_id()?
                .with_executor(FilteredExecutor::of_bundle(&bundle)?)
                .as_init(bundle)
                .with_systemd(false)
                .with_detach(true)
                .build()?
                // For `exec`, which comes later than the gate is opened.
                .set_status(ContainerStatus::Running)
                .save()?;
            Ok(0)
        }
        "stdio" => {
            let input = arguments.input.as_ref();
            let input = input.ok_or_else(|| anyhow::anyhow!("--input is missing"))?;
            match super::stdio::relay(input, arguments.output.as_deref()) {
                // The container has ended, which is what it waited for.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
                other => other.map(|()| 0).map_err(Into::into),
            }
        }
        "pause" => {
            let pid_file = arguments.pid_file.as_ref();
            super::pause::start(pid_file.ok_or_else(|| anyhow::anyhow!("--pid-file is missing"))?)?;
            Ok(0)
        }
        "exec" => {
            // Before it is forked: it cannot have children outside of the limits then.
            crate::cgroup::write_all(&arguments.cgroups, 0)?;
            let bundle = Container::load(root.join(id))?.bundle().clone();
            let pid = builder()?
                .with_pid_file(arguments.pid_file.clone())?
                .with_console_socket(arguments.console_socket.clone())
                .with_executor(FilteredExecutor::of_bundle(&bundle)?)
                .as_tenant()
                .with_process(arguments.process.clone())
                // With a console socket libcontainer insists on being detached; we wait all the same.
                .with_detach(arguments.console_socket.is_some())
                .build()?;
            if arguments
                .cgroups
                .iter()
                .any(|path| path.with_file_name("cgroup.controllers").exists())
            {
                // In a unified hierarchy libcontainer may have found another place for it.
                crate::cgroup::write_all(&arguments.cgroups, pid.as_raw())?;
            }
            wait(pid.as_raw())
        }
        other => anyhow::bail!("unknown verb `{other}`"),
    }
}

/// Lets the first process of a container go on that was made by `create`: it waits for somebody to write to a socket in the container's
/// state directory. Blocks.
///
/// # Errors
/// It has ended, or was let go before.
pub(crate) fn open_gate(id: &str) -> std::io::Result<()> {
    let socket = PathBuf::from(super::OCI_STATE_DIR).join(id).join(NOTIFY_FILE);
    std::os::unix::net::UnixStream::connect(socket)?.write_all(b"start container")
}

/// Waits for a child that a library made; 128 + signal where a signal ended it.
#[allow(unsafe_code)] // __WALL is needed (the child was cloned), and the safe wrappers do not know real-time signals
fn wait(pid: i32) -> anyhow::Result<i32> {
    use nix::libc;
    let mut status = 0;
    loop {
        // SAFETY: `status` is ours and lives through the call.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == pid {
            break;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
    Ok(if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    })
}
