//! Sends lines back. When it goes, it says so by an empty line: behind the last answer, or to who sends nothing. What comes later is
//! not processed, and clients may send it elsewhere.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::phases::{Phases, accept, raised};

/// A line that is longer ends its connection.
const LINE_MAX: u64 = 64 * 1024;

/// How long a client may take to hear that the server goes.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Serves until all connections are closed.
pub(super) async fn serve(listener: TcpListener, phases: Phases) {
    let mut connections = JoinSet::new();
    let mut deaf = phases.deaf.clone();
    while let Some(stream) = accept(&listener, &mut deaf).await {
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
        tokio::select! {
            biased;
            filled = stream.fill_buf() => if filled?.is_empty() {
                return stream.get_mut().shutdown().await;
            },
            () = raised(&mut phases.closed) => break,
        }
        (&mut stream).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let last = *phases.stopping.borrow() && stream.buffer().is_empty();
        if last {
            // In one piece, so that who reads the answer has read this.
            line.push(b'\n');
        }
        stream.get_mut().write_all(&line).await?;
        if last {
            return leave(stream).await;
        }
    }
    stream.get_mut().write_all(b"\n").await?;
    leave(stream).await
}

/// FIN, and then patience for a line that was on its way: a socket that is closed with something unread in it sends RST, which may
/// overtake what was said.
async fn leave(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    stream.get_mut().shutdown().await?;
    let mut rest = [0; 1024];
    let read = async {
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LEAVE_LIMIT, read).await.unwrap_or(Ok(()))
}
