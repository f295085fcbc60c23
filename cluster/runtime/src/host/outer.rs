//! `outer`: stays outside, makes the inside, forwards signals, and is gone only after everything else is.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::init::{self, SETUP_FAILED, STOP_SIGNALS};
use super::resolve::Resolvers;
use super::{HostError, HostOptions, broker, cgroup, pipe};

/// How long the inside may take to stop after the first signal. It promises 5 seconds itself.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long a port may be in use by what is just going: the processes of a cluster that was killed.
const ADDRESS_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);
/// Stack of pid 1, which does little.
const STACK_BYTES: usize = 1 << 20;

/// Runs the same program with other arguments as the inner process, in namespaces of its own, and returns its exit code
/// after everything is gone. To be called from `main` while the process has one thread only.
///
/// # Errors
/// An address in use, a data directory that cannot be used, or a kernel feature that is missing, each with what to do.
pub fn run(options: HostOptions) -> Result<i32, HostError> {
    if fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1) > 1 {
        return Err(HostError::NotInside("the outer process has more than one thread"));
    }
    let listeners = options
        .listen
        .iter()
        .map(|address| listen(*address, ADDRESS_LIMIT))
        .collect::<Result<Vec<_>, _>>()?;
    let data_dir = options.data_dir.as_deref().map(prepare_data_dir).transpose()?;
    let options = HostOptions { data_dir, ..options };
    let (signals, mask) = take_signals()?;
    let result = Outer::start(options, listeners).and_then(|mut outer| {
        // From now on it waits. What only the start needed goes; where it stays, it only takes room.
        let _ = crate::program::release_pages();
        outer.watch(&signals)
    });
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    result
}

/// Waits for an address that is in use, as the store waits for its file: the processes of a cluster that was killed go a moment after it.
fn listen(address: SocketAddr, limit: Duration) -> Result<TcpListener, HostError> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
                return Err(HostError::Listen { address, source });
            }
            Err(_) if began.elapsed() >= limit => return Err(HostError::AddressInUse(address)),
            Err(_) => std::thread::sleep(ADDRESS_PAUSE),
        }
    }
}

fn prepare_data_dir(path: &Path) -> Result<PathBuf, HostError> {
    super::private_dir(path)
        .and_then(|_| fs::canonicalize(path))
        .map_err(|source| HostError::DataDir {
            path: path.into(),
            source,
        })
}

/// Signals arrive through a descriptor from now on; the mask is inherited by pid 1, which does the same.
fn take_signals() -> Result<(SignalFd, SigSet), HostError> {
    let mut set = SigSet::empty();
    for signal in STOP_SIGNALS {
        // Somebody said `nohup`: a signal that is blocked arrives although it is ignored.
        if signal != Signal::SIGHUP || !ignored(signal) {
            set.add(signal);
        }
    }
    set.add(Signal::SIGCHLD);
    let old = set
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(|e| HostError::system("blocking signals")(e.into()))?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| HostError::system("making a signal descriptor")(e.into()))?;
    Ok((signals, old))
}

/// Whether this process was started with a signal ignored (proc(5): `SigIgn` of `status`).
fn ignored(signal: Signal) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal as i32 - 1)) & 1 == 1)
}

/// Only held open: closed by the kernel when the outer process ends in whatever way.
struct Outer {
    child: Pid,
    channel: OwnedFd,
    errors: OwnedFd,
    resolvers: Resolvers,
    _alive: OwnedFd,
    /// Dropped after everything else has ended.
    _cgroups: Option<cgroup::Tree>,
}

impl Outer {
    fn start(options: HostOptions, listeners: Vec<TcpListener>) -> Result<Self, HostError> {
        let (channel, inner_channel) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| HostError::system("making a socket pair")(e.into()))?;
        let (alive_read, alive) = pipe()?;
        let (go_read, go) = pipe()?;
        let (errors, errors_write) = pipe()?;
        let privileged = geteuid().is_root();
        let (cgroups, doors) = cgroup::Tree::make();
        let mut outside = Some((channel, alive, go, errors));
        let mut inside = Some(init::Init {
            listeners,
            channel: inner_channel,
            alive: alive_read,
            go: go_read,
            errors: errors_write,
            data_dir: options.data_dir,
            inner_args: options.inner_args,
            environment: options.environment,
            rootless: !privileged,
            cgroups: doors,
            early_mounts: None,
        });
        let attempt = |user_namespace: bool, outside: &mut Option<_>, inside: &mut Option<init::Init>| {
            if let Some(init) = inside.as_mut() {
                init.rootless = user_namespace;
            }
            clone_init(user_namespace, || {
                // The child has copies of our ends: close them, or it would never see us die.
                drop(outside.take());
                inside.take().map_or(SETUP_FAILED, init::Init::main)
            })
        };
        let mut user_namespace = !privileged;
        let mut child = attempt(user_namespace, &mut outside, &mut inside);
        if child == Err(nix::errno::Errno::EPERM) && privileged {
            // Root without the capability, as in a plain container: an ordinary user's way may still be open.
            user_namespace = true;
            child = attempt(true, &mut outside, &mut inside);
        }
        let child = child.map_err(namespaces_refused)?;
        drop(inside);
        let Some((channel, alive, go, errors)) = outside else {
            return Err(HostError::NotInside("the outer process lost its descriptors"));
        };
        let outer = Self {
            child,
            channel,
            errors,
            resolvers: Resolvers::default(),
            _alive: alive,
            _cgroups: cgroups,
        };
        if user_namespace {
            map_ids(child)?;
        }
        let entered = outer._cgroups.as_ref().is_none_or(|tree| tree.enter(child).is_ok());
        fs::File::from(go)
            .write_all(if entered { init::GO } else { init::GO_WITHOUT_CGROUPS })
            .map_err(HostError::system("starting pid 1"))?;
        Ok(outer)
    }

    /// Forwards signals, serves sockets and waits for the end.
    fn watch(&mut self, signals: &SignalFd) -> Result<i32, HostError> {
        let mut stop_at: Option<Instant> = None;
        let mut serving = true;
        loop {
            let limit = stop_at.map(|at| at.saturating_duration_since(Instant::now()));
            if limit.is_some_and(|left| left.is_zero()) {
                let _ = kill(self.child, Signal::SIGKILL);
                stop_at = Some(Instant::now() + STOP_LIMIT);
            }
            let ready = self.wait(signals, serving, limit)?;
            while let Ok(Some(info)) = signals.read_signal() {
                let Some(signal) = i32::try_from(info.ssi_signo)
                    .ok()
                    .and_then(|n| Signal::try_from(n).ok())
                else {
                    continue;
                };
                if signal == Signal::SIGCHLD {
                    continue;
                }
                let signal = if stop_at.is_some() { Signal::SIGKILL } else { signal };
                let _ = kill(self.child, signal);
                stop_at = stop_at.or(Some(Instant::now() + STOP_LIMIT));
            }
            self.resolvers.reap();
            if let Some(code) = self.ended()? {
                return self.result(code);
            }
            if ready {
                serving = broker::serve_one(self.channel.as_fd(), &mut self.resolvers).unwrap_or(false);
            }
        }
    }

    /// Waits until something happens; `true`: a request is there.
    fn wait(&self, signals: &SignalFd, serving: bool, limit: Option<Duration>) -> Result<bool, HostError> {
        let limit = limit.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if serving {
            fds.push(PollFd::new(&self.channel, PollFlags::IN));
        }
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(fds.get(1).is_some_and(|f| !f.revents().is_empty())),
            Err(error) => Err(HostError::system("waiting")(error.into())),
        }
    }

    fn ended(&self) -> Result<Option<i32>, HostError> {
        match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(128 + signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(None),
            Err(error) => Err(HostError::system("waiting for pid 1")(error.into())),
        }
    }

    fn result(&self, code: i32) -> Result<i32, HostError> {
        if code != SETUP_FAILED {
            return Ok(code);
        }
        let mut reason = String::new();
        let errors = self
            .errors
            .try_clone()
            .map_err(HostError::system("reading why pid 1 failed"))?;
        let _ = fs::File::from(errors).read_to_string(&mut reason);
        if reason.is_empty() {
            Ok(code)
        } else {
            Err(HostError::Unsupported(reason))
        }
    }
}

impl Drop for Outer {
    /// On an error path too, nothing may stay.
    fn drop(&mut self) {
        if let Ok(WaitStatus::StillAlive) = waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
            let _ = kill(self.child, Signal::SIGKILL);
            let _ = waitpid(self.child, None);
        }
    }
}

/// Makes pid 1 directly in its namespaces, so that this process stays in those of the host.
#[allow(unsafe_code)] // clone(2) has no safe wrapper
fn clone_init(user_namespace: bool, mut main: impl FnMut() -> i32) -> nix::Result<Pid> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if user_namespace {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let mut stack = vec![0_u8; STACK_BYTES];
    let child = Box::new(move || {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut main)).unwrap_or(SETUP_FAILED);
        isize::try_from(code).unwrap_or(1)
    });
    // SAFETY: memory is not shared (no CLONE_VM), so the child works on its own copy of everything; there is one thread
    // only (checked in `run`), so no lock can be held by a thread that the child does not have.
    unsafe { nix::sched::clone(child, &mut stack, flags, Some(nix::libc::SIGCHLD)) }
}

fn namespaces_refused(error: nix::errno::Errno) -> HostError {
    let setting = |name: &str| fs::read_to_string(name).unwrap_or_default().trim().to_owned();
    let hint = if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "unprivileged user namespaces are off: `sysctl -w kernel.unprivileged_userns_clone=1`, or run as root"
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" {
        "user namespaces are off: `sysctl -w user.max_user_namespaces=10000`, or run as root"
    } else if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "AppArmor restricts user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
    } else {
        match error {
            nix::errno::Errno::EINVAL => {
                "the kernel lacks a namespace type: it needs CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS and CONFIG_CGROUPS"
            }
            nix::errno::Errno::ENOSPC => {
                "the limit of namespaces is reached: raise the sysctls under /proc/sys/user/max_*_namespaces"
            }
            _ => {
                "namespaces are refused, as in a container without privileges: run on the machine itself, or with more privileges"
            }
        }
    };
    HostError::Unsupported(format!("cannot make namespaces ({error}): {hint}"))
}

/// Gives the new user namespace its users: with `newuidmap` and an entry in /etc/subuid a whole range, else only our own
/// user as root.
fn map_ids(child: Pid) -> Result<(), HostError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if !geteuid().is_root() {
        let user = nix::unistd::User::from_uid(geteuid())
            .ok()
            .flatten()
            .map(|u| u.name)
            .unwrap_or_default();
        let uids = fs::read_to_string("/etc/subuid")
            .ok()
            .and_then(|text| subordinate_range(&text, &user, uid));
        let gids = fs::read_to_string("/etc/subgid")
            .ok()
            .and_then(|text| subordinate_range(&text, &user, uid));
        if let (Some(uids), Some(gids)) = (uids, gids)
            && map_range("newuidmap", child, uid, uids)
            && map_range("newgidmap", child, gid, gids)
        {
            return Ok(());
        }
    }
    let write = |file: &str, text: String| fs::write(format!("/proc/{child}/{file}"), text);
    // `newuidmap` may have worked where `newgidmap` did not: a map can be written only once, that is no error then.
    let has_map =
        |file: &str| fs::read_to_string(format!("/proc/{child}/{file}")).is_ok_and(|map| !map.trim().is_empty());
    write("setgroups", "deny".into()).map_err(HostError::system("denying setgroups"))?;
    if !has_map("uid_map") {
        write("uid_map", format!("0 {uid} 1\n")).map_err(HostError::system("mapping the user"))?;
    }
    write("gid_map", format!("0 {gid} 1\n")).map_err(HostError::system("mapping the group"))
}

/// The first range of a user in /etc/subuid or /etc/subgid (subuid(5)): (first, count).
fn subordinate_range(text: &str, user: &str, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let owned = (!user.is_empty() && name == user) || name.parse() == Ok(uid);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owned && count > 0).then_some((first, count))
    })
}

fn map_range(program: &str, child: Pid, own: u32, (first, count): (u32, u32)) -> bool {
    let numbers = [0, own, 1, 1, first, count].map(|n| n.to_string());
    Command::new(program)
        .arg(child.to_string())
        .args(numbers)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_subordinate_range_by_name_or_number() {
        let text = "root:1:2\nada:100000:65536\n1001:200000:10\nbad\n";
        assert_eq!(subordinate_range(text, "ada", 1000), Some((100_000, 65_536)));
        assert_eq!(subordinate_range(text, "", 1001), Some((200_000, 10)));
        assert_eq!(subordinate_range(text, "bob", 7), None);
    }

    #[test]
    fn nohup_is_seen() {
        let status = "SigBlk:\t0000000000014007\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n";
        assert!(ignores(status, Signal::SIGHUP));
        assert!(!ignores(status, Signal::SIGINT));
        assert!(!ignores("", Signal::SIGHUP));
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr().map(|a| (l, a)));
        let Ok((_held, address)) = first else { return };
        assert!(matches!(listen(address, Duration::ZERO), Err(HostError::AddressInUse(a)) if a == address));
    }

    #[test]
    fn a_port_that_is_left_is_waited_for() {
        let held = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr().map(|a| (l, a)));
        let Ok((held, address)) = held else { return };
        let leaving = std::thread::spawn(move || {
            std::thread::park_timeout(ADDRESS_PAUSE * 4);
            drop(held);
        });
        assert!(listen(address, ADDRESS_LIMIT).is_ok_and(|own| own.local_addr().is_ok_and(|own| own == address)));
        assert!(leaving.join().is_ok());
    }
}
