//! `init`: pid 1 of the inside. Small on purpose: it reaps, starts `inner` again, and dies with `outer`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::cgroup::Doors;
use super::{CGROUPS_FILE, EXITS_DIR, INHERITED_VARIABLE, mounts};

/// First and longest pause before the inner process is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// An inner process that ran this long was well.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// So many short lives in a row, and it is given up.
const SHORT_LIVES_MAX: u32 = 6;
/// Exit codes from here on are accidents (101 is a panic); below them the inner process meant it.
const ACCIDENT: i32 = 100;

/// What the outer process says when all is set, also: but do not touch the cgroups.
pub(super) const GO: &[u8; 2] = b"go";
pub(super) const GO_WITHOUT_CGROUPS: &[u8; 2] = b"no";

/// What pid 1 answers when it could not set up; its reason is in the pipe.
pub(super) const SETUP_FAILED: i32 = 125;
/// The signals that mean: stop.
pub(super) const STOP_SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Everything pid 1 starts with.
pub(super) struct Init {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) channel: OwnedFd,
    /// Closed by the kernel when `outer` is gone.
    pub(super) alive: OwnedFd,
    /// `outer` writes here once the users of the namespace are mapped.
    pub(super) go: OwnedFd,
    /// Why it could not set up.
    pub(super) errors: OwnedFd,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) inner_args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) rootless: bool,
    /// Kept open for the inside.
    pub(super) cgroups: Doors,
    /// As well; see [`super::early_mounts`].
    pub(super) early_mounts: Option<fs::File>,
}

/// What the inner process finds in its environment.
#[derive(Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) listeners: Vec<RawFd>,
    pub(super) channel: RawFd,
    pub(super) data_dir: PathBuf,
    pub(super) rootless: bool,
    pub(super) restarts: u32,
}

/// How a child ended, as `init` writes it down for `inner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildExit {
    /// Exit code, 0 where a signal ended it.
    pub(crate) code: i32,
    /// The signal that ended it, or 0.
    pub(crate) signal: i32,
}

impl Init {
    /// The whole life of pid 1; answers its exit code.
    pub(super) fn main(mut self) -> i32 {
        let dir = match self.set_up() {
            Ok(dir) => dir,
            Err(reason) => {
                let _ = self
                    .errors
                    .try_clone()
                    .map(|errors| fs::File::from(errors).write_all(reason.as_bytes()));
                return SETUP_FAILED;
            }
        };
        let mut reaper = match Reaper::new(&self, dir) {
            Ok(reaper) => reaper,
            Err(error) => {
                let _ = self
                    .errors
                    .try_clone()
                    .map(|errors| fs::File::from(errors).write_all(error.to_string().as_bytes()));
                return SETUP_FAILED;
            }
        };
        // What only the start needed.
        let _ = crate::program::release_pages();
        reaper.reap_until_the_end()
    }

    fn set_up(&mut self) -> Result<PathBuf, String> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|e| format!("asking to die with the outer process: {e}"))?;
        let mut word = [0; 2];
        match rustix::io::read(&self.go, &mut word) {
            Ok(2) if word == *GO => {}
            Ok(2) => self.cgroups = Doors::None("moving into a cgroup of our own was refused".into()),
            _ => return Err("the outer process is gone".into()),
        }
        // Ctrl-C on a terminal is to reach the outer process only, which forwards it once.
        nix::unistd::setsid().map_err(|e| format!("starting a session: {e}"))?;
        let _ = rustix::system::sethostname(b"afloat");
        let dir = mounts::set_up(self.data_dir.as_deref(), self.rootless)?;
        self.early_mounts = super::early_mounts::keep().map_err(|e| format!("keeping a copy of the mounts: {e}"))?;
        let cgroups = serde_json::to_vec(&self.cgroups.cgroups()).map_err(|e| e.to_string())?;
        fs::write(CGROUPS_FILE, cgroups).map_err(|e| format!("writing {CGROUPS_FILE}: {e}"))?;
        Ok(dir)
    }
}

struct Reaper<'a> {
    init: &'a Init,
    data_dir: PathBuf,
    signals: SignalFd,
    inner: Option<(Pid, Instant)>,
    restarts: u32,
    short_lives: u32,
    start_at: Option<Instant>,
    stopping: Option<Signal>,
}

impl<'a> Reaper<'a> {
    fn new(init: &'a Init, data_dir: PathBuf) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in STOP_SIGNALS {
            set.add(signal);
        }
        set.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut reaper = Self {
            init,
            data_dir,
            signals,
            inner: None,
            restarts: 0,
            short_lives: 0,
            start_at: None,
            stopping: None,
        };
        reaper.start()?;
        Ok(reaper)
    }

    #[allow(unsafe_code)] // pre_exec: only async-signal-safe calls between fork and exec
    fn start(&mut self) -> io::Result<()> {
        let listeners: Vec<RawFd> = self.init.listeners.iter().map(|l| l.as_raw_fd()).collect();
        let channel = self.init.channel.as_raw_fd();
        let handover = Handover {
            listeners,
            channel,
            data_dir: self.data_dir.clone(),
            rootless: self.init.rootless,
            restarts: self.restarts,
        };
        let fds: Vec<BorrowedFd<'_>> = self
            .init
            .listeners
            .iter()
            .map(|l| l.as_fd())
            .chain(std::iter::once(self.init.channel.as_fd()))
            .collect();
        for fd in fds {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("afloat")
            .args(&self.init.inner_args)
            .envs(self.init.environment.iter().cloned());
        command.env(INHERITED_VARIABLE, serde_json::to_string(&handover)?);
        let empty = SigSet::empty();
        // SAFETY: prctl, signal and sigprocmask are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                // A shell ignores SIGINT for what it starts with `&`. `inner` would lose a signal that comes before its
                // handlers are there, and containers would inherit it.
                for signal in STOP_SIGNALS {
                    nix::sys::signal::signal(signal, SigHandler::SigDfl)?;
                }
                nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&empty), None)?;
                Ok(())
            });
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
        self.inner = Some((pid, Instant::now()));
        self.start_at = None;
        Ok(())
    }

    fn reap_until_the_end(&mut self) -> i32 {
        loop {
            self.wait();
            while let Ok(Some(info)) = self.signals.read_signal() {
                let signal = i32::try_from(info.ssi_signo)
                    .ok()
                    .and_then(|n| Signal::try_from(n).ok());
                if let Some(signal) = signal.filter(|s| *s != Signal::SIGCHLD) {
                    self.stopping = Some(signal);
                    match self.inner {
                        Some((pid, _)) => drop(kill(pid, signal)),
                        None => return 128 + signal as i32,
                    }
                }
            }
            while let Some((pid, exit)) = peek_exited() {
                let ours = self.inner.is_some_and(|(inner, _)| inner.as_raw() == pid);
                if !ours {
                    write_exit(pid, exit);
                }
                reap(pid);
                if ours && let Some(code) = self.inner_ended(exit) {
                    return code;
                }
            }
            if self.start_at.is_some_and(|at| at <= Instant::now()) && self.start().is_err() {
                return SETUP_FAILED;
            }
        }
    }

    /// Waits for a signal, the end of `outer`, or the time to start `inner` again.
    fn wait(&self) {
        let limit = self.start_at.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = limit.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.init.alive, PollFlags::IN),
        ];
        if poll(&mut fds, limit.as_ref()).is_ok() && !fds[1].revents().is_empty() {
            // `outer` is gone although its signal did not arrive. The end of pid 1 takes everything along.
            std::process::exit(128 + Signal::SIGKILL as i32);
        }
    }

    /// `Some`: the end of it all, with this exit code.
    fn inner_ended(&mut self, exit: ChildExit) -> Option<i32> {
        let lived = self.inner.take().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let code = if exit.signal == 0 { exit.code } else { 128 + exit.signal };
        if code < ACCIDENT || self.stopping.is_some() {
            return Some(code);
        }
        self.short_lives = if lived >= WELL_AFTER { 0 } else { self.short_lives + 1 };
        if self.short_lives >= SHORT_LIVES_MAX {
            return Some(code);
        }
        self.restarts += 1;
        self.start_at = Some(Instant::now() + back_off(self.short_lives));
        None
    }
}

fn back_off(short_lives: u32) -> Duration {
    BACK_OFF
        .0
        .saturating_mul(1 << short_lives.saturating_sub(1).min(16))
        .min(BACK_OFF.1)
}

/// The next child that has ended, not yet reaped, so that its /proc entry can still be read.
#[allow(unsafe_code)] // the safe wrappers either hide the pid or refuse real-time signals
fn peek_exited() -> Option<(i32, ChildExit)> {
    use nix::libc;
    // SAFETY: siginfo_t is plain data for which all zeroes is valid, waitid fills it, and the two accessors are right for
    // what waitid leaves there (waitid(2)).
    let (pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(
            libc::P_ALL,
            0,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL,
        ) != 0
        {
            return None;
        }
        (info.si_pid(), info.si_code, info.si_status())
    };
    let exit = if code == libc::CLD_EXITED {
        ChildExit {
            code: status,
            signal: 0,
        }
    } else {
        ChildExit {
            code: 0,
            signal: status,
        }
    };
    (pid != 0).then_some((pid, exit))
}

#[allow(unsafe_code)] // as above
fn reap(pid: i32) {
    // SAFETY: waitpid with a null status pointer only reaps.
    unsafe {
        nix::libc::waitpid(pid, std::ptr::null_mut(), nix::libc::WNOHANG | nix::libc::__WALL);
    }
}

/// Before the child is reaped: its pid cannot be in use again yet. Nothing can be done about an error here; `inner` then
/// reports an unknown exit code.
fn write_exit(pid: i32, exit: ChildExit) {
    let Some(started) = start_time(pid) else { return };
    let path = exit_file(pid, started);
    let temporary = path.with_extension("new");
    if let Ok(bytes) = serde_json::to_vec(&exit)
        && fs::write(&temporary, bytes).is_ok()
    {
        let _ = fs::rename(&temporary, &path);
    }
}

/// Where the exit of the process with this pid and start time is or will be.
pub(crate) fn exit_file(pid: i32, started: u64) -> PathBuf {
    Path::new(EXITS_DIR).join(format!("{pid}-{started}"))
}

/// When a process was started, in clock ticks since boot; with the pid it names a process for ever. None: there is none.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|(_, started)| started)
}

/// State letter and start time out of /proc/PID/stat (proc(5): fields 3 and 22; the name may hold anything).
pub(crate) fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = crate::process::stat_fields(stat)?;
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line_with_an_awkward_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2";
        assert_eq!(parse_stat(line), Some(('S', 98765)));
        assert_eq!(parse_stat("junk"), None);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(back_off(1), Duration::from_millis(200));
        assert_eq!(back_off(2), Duration::from_millis(400));
        assert_eq!(back_off(60), Duration::from_secs(10));
    }
}
