//! Signals by name.

use std::os::fd::AsFd as _;

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

#[allow(unsafe_code)] // the crate has no names for these
fn real_time(number: i32) -> Option<Signal> {
    let is_free = (nix::libc::SIGRTMIN()..=nix::libc::SIGRTMAX()).contains(&number);
    // SAFETY: what is between these two the C library leaves to programs.
    is_free.then(|| unsafe { Signal::from_raw_unchecked(number) })
}

impl Shared {
    /// By the descriptor of the process: never to a stranger that got its number.
    pub(super) fn signal(&self, id: &str, name: &str) -> Result<(), RuntimeError> {
        let signal = parse(name).ok_or_else(|| {
            RuntimeError::Invalid(format!("signal {name:?} is not known: use a name such as SIGTERM"))
        })?;
        let process = self
            .containers()
            .get(id)
            .map(|entry| entry.process.clone())
            .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let Some(process) = process else { return Ok(()) };
        match pidfd_send_signal(process.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(failed(format!("sending {name}"), &error.into())),
        }
    }
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
}
