//! SPDY/3.1, as far as Kubernetes' streaming needs it: `kubectl port-forward` tunnels it through a WebSocket (KEP-4006), and
//! clients without WebSockets upgrade to it for exec, attach and port-forward.
//!
//! [`frame`] is the format, without I/O; [`session`] the streams of one connection, from the accepting side. There is no
//! flow control by windows: Kubernetes' clients neither keep nor send them, so obeying one would stop them for ever after
//! 64 KiB. What is not read stops the connection instead.
//!
//! Source: the draft "SPDY Protocol 3.1" of the Chromium project.

mod dictionary;
mod frame;
mod session;

pub(crate) use session::{Session, Stream, StreamSender};
