//! Signals by name.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::shared::Shared;
use super::work::failed;
use crate::runtime::RuntimeError;

/// Names that images and pods may use (signal(7)); an image may write a number as well.
fn parse(name: &str) -> Option<Signal> {
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return Signal::from_named_raw(number).or_else(|| real_time(number));
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Those of images with systemd in them: `SIGRTMIN+3`.
    for (start, first) in [("RTMIN", nix::libc::SIGRTMIN()), ("RTMAX", nix::libc::SIGRTMAX())] {
        match name.strip_prefix(start) {
            Some("") => return real_time(first),
            Some(more) => return more.parse().ok().and_then(|more| real_time(first.checked_add(more)?)),
            None => {}
        }
    }
    Some(match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "ABRT" | "IOT" => Signal::ABORT,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "SEGV" => Signal::SEGV,
        "USR2" => Signal::USR2,
        "PIPE" => Signal::PIPE,
        "ALRM" => Signal::ALARM,
        "TERM" => Signal::TERM,
        "CHLD" => Signal::CHILD,
        "CONT" => Signal::CONT,
        "STOP" => Signal::STOP,
        "TSTP" => Signal::TSTP,
        "TTIN" => Signal::TTIN,
        "TTOU" => Signal::TTOU,
        "WINCH" => Signal::WINCH,
        "IO" | "POLL" => Signal::IO,
        "PWR" => Signal::POWER,
        _ => return None,
    })
}

/// First and longest pause before it is looked again whether a first process listens by now.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// So long it is looked for; grace periods are shorter, and their end is the end of the process.
const LOOK_LIMIT: Duration = Duration::from_secs(3600);

#[allow(unsafe_code)] // the crate has no names for these
fn real_time(number: i32) -> Option<Signal> {
    let is_free = (nix::libc::SIGRTMIN()..=nix::libc::SIGRTMAX()).contains(&number);
    // SAFETY: what is between these two the C library leaves to programs.
    is_free.then(|| unsafe { Signal::from_raw_unchecked(number) })
}

impl Shared {
    /// By the descriptor of the process: never to a stranger that got its number.
    ///
    /// The first process of a PID namespace has no default actions: the kernel drops what it does not listen for (pid_namespaces(7)), so
    /// whoever stops a container a moment after its start would wait for the whole grace period. Such a signal is sent as soon as the
    /// process listens.
    pub(super) fn signal(&self, id: &str, name: &str) -> Result<(), RuntimeError> {
        let signal = parse(name).ok_or_else(|| {
            RuntimeError::Invalid(format!("signal {name:?} is not known: use a name such as SIGTERM"))
        })?;
        let found = self.containers().get(id).map(|entry| {
            let first = entry.record.pid.filter(|_| !entry.record.shares_processes);
            (entry.process.clone(), first)
        });
        let (process, first) = found.ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let Some(process) = process else { return Ok(()) };
        match first.filter(|pid| ends(signal) && !listens(*pid, signal)) {
            Some(pid) => {
                tokio::spawn(send_late(process, pid, signal).boxed());
                Ok(())
            }
            None => send(&process, signal).map_err(|error| failed(format!("sending {name}"), &error.into())),
        }
    }
}

fn send(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    match pidfd_send_signal(process, signal) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// Waits until the process listens or has ended.
async fn send_late(process: Arc<OwnedFd>, pid: i32, signal: Signal) {
    let (mut pause, end) = (LOOK.0, tokio::time::Instant::now() + LOOK_LIMIT);
    while tokio::time::Instant::now() < end && lives(&process) {
        if listens(pid, signal) {
            // Nobody waits for an answer; it can have ended in this moment.
            let _ = send(&process, signal);
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK.1);
    }
}

/// The process has not ended: so long its number is its own.
fn lives(process: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    rustix::event::poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 0)
}

/// A signal that ends a process by default, and that it can be told to do something else for.
fn ends(signal: Signal) -> bool {
    ![
        Signal::KILL,
        Signal::STOP,
        Signal::CONT,
        Signal::CHILD,
        Signal::WINCH,
        Signal::URG,
    ]
    .contains(&signal)
}

/// The process has said what it does for a signal, or waits for it. One that cannot be looked at is sent what there is.
fn listens(pid: i32, signal: Signal) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |status| says(&status, signal.as_raw()))
}

/// The same by proc_pid_status(5): it is caught, ignored, or held back by a process that sleeps, as one does that takes signals when it
/// wants them. One that runs may hold back all signals for a moment, as shells do while they start a program. Pure.
fn says(status: &str, number: i32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let bit = u32::try_from(number - 1)
        .ok()
        .and_then(|shift| 1_u64.checked_shl(shift));
    let within = |name: &str| {
        let set = field(name).and_then(|set| u64::from_str_radix(set, 16).ok());
        set.zip(bit).is_some_and(|(set, bit)| set & bit != 0)
    };
    let sleeps = field("State:").is_some_and(|state| state.starts_with('S'));
    within("SigCgt:") || within("SigIgn:") || (sleeps && within("SigBlk:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        for text in ["SIGTERM", "TERM", "term", "15", " SIGTERM\n"] {
            assert_eq!(parse(text), Some(Signal::TERM), "{text:?}");
        }
        for text in ["SIGRTMIN+3", "rtmin+3", "37"] {
            assert_eq!(parse(text).map(Signal::as_raw), Some(37), "{text:?}");
        }
        assert_eq!(parse("SIGRTMAX-1").map(Signal::as_raw), Some(63));
        for text in [
            "SIGFLY",
            "SIGRTMIN+99",
            "SIGRTMIN-1",
            "RTMAX+1",
            "33",
            "RTMIN+x",
            "RTMIN+2147483647",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("0"), None);
    }

    #[test]
    fn a_process_listens_for_what_it_caught_or_ignored_or_waits_for() {
        let status = |state| {
            format!(
                "Name:\tx\nState:\t{state}\nSigPnd:\t0000000000000004\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n\
                 SigCgt:\t0000000180004002\n"
            )
        };
        let of = |state, number| says(&status(state), number);
        assert!([2, 13, 15].into_iter().all(|number| of("R (running)", number)));
        assert!(of("S (sleeping)", 1) && !of("D (disk sleep)", 1));
        assert!(!of("S (sleeping)", 3) && !says("", 15));
        assert!(ends(Signal::TERM) && !ends(Signal::KILL));
    }
}
