//! The end of a server, in phases.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// When to tell clients to go, and when to wait for them no more.
#[derive(Clone)]
pub(super) struct Phases {
    /// SIGTERM came.
    pub(super) stopping: watch::Receiver<bool>,
    /// The time to linger is over.
    pub(super) closed: watch::Receiver<bool>,
    /// No connection is accepted any more: from one of the others on.
    pub(super) deaf: watch::Receiver<bool>,
}

/// The next connection; None once it is time to stop accepting and those that were there by then are accepted.
pub(super) async fn accept(listener: &TcpListener, deaf: &mut watch::Receiver<bool>) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = raised(deaf) => return None,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Waits for a flag; one that nobody can raise any more counts as raised.
pub(super) async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}
