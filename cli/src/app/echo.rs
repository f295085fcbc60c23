//! Sends lines back.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A line that is longer ends its connection.
const LINE_MAX: u64 = 64 * 1024;

/// When to tell clients to go, and when to wait for them no more.
#[derive(Clone)]
pub(super) struct Phases {
    /// SIGTERM came.
    pub(super) stopping: watch::Receiver<bool>,
    /// The time to linger is over.
    pub(super) closed: watch::Receiver<bool>,
}

/// Serves until all connections are closed.
pub(super) async fn serve(listener: TcpListener, phases: Phases) {
    let mut connections = JoinSet::new();
    let mut closed = phases.closed.clone();
    while let Some(stream) = super::accept(&listener, &mut closed).await {
        while connections.try_join_next().is_some() {}
        // A client that goes away is none of the server's business.
        connections.spawn(send_back(stream, phases.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn send_back(stream: TcpStream, mut phases: Phases) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        // What arrived of a line is in the buffer or in `line`: a line that was begun is finished.
        let idle = tokio::select! {
            biased;
            filled = stream.fill_buf() => filled?.is_empty(),
            () = super::raised(&mut phases.closed) => true,
        };
        if idle {
            break;
        }
        (&mut stream).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        stream.get_mut().write_all(&line).await?;
        if *phases.stopping.borrow() && stream.buffer().is_empty() {
            break;
        }
    }
    // FIN after the full answer.
    stream.get_mut().shutdown().await
}
