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
        return Signal::from_named_raw(number);
    }
    Some(match upper.strip_prefix("SIG").unwrap_or(&upper) {
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
        assert_eq!(parse("SIGFLY"), None);
        assert_eq!(parse("0"), None);
    }
}
