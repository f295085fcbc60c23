//! Lines over TCP that the server sends back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Mutex;

use crate::dial::{Dial, Dialed};
use crate::meter::Meter;
use crate::outcome::{Failure, Kind};

pub(crate) struct Lines {
    dial: Arc<dyn Dial>,
    /// Connections that are kept; empty: each line has its own.
    slots: Vec<Mutex<Option<Dialed>>>,
    retry_idle_close: bool,
}

impl Lines {
    pub(crate) fn new(dial: Arc<dyn Dial>, kept: Option<usize>, retry_idle_close: bool) -> Self {
        Self {
            dial,
            slots: (0..kept.unwrap_or(0)).map(|_| Mutex::default()).collect(),
            retry_idle_close,
        }
    }

    /// One line there and back.
    pub(crate) async fn exchange(&self, number: u64, meter: &Meter) -> Result<(), Failure> {
        let line = format!("probe {number}\n");
        if self.slots.is_empty() {
            let mut connection = self.open().await?;
            return echo(&mut connection, &line).await.map_err(|(failure, _)| failure);
        }
        let count = self.slots.len() as u64;
        let slot = &self.slots[usize::try_from(number % count).unwrap_or(0)];
        let mut slot = slot.lock().await;
        // Taken out, so that a line that fails or is given up leaves no connection with half an answer.
        if let Some(mut connection) = slot.take() {
            match idle_end(&mut connection).await {
                None => match echo(&mut connection, &line).await {
                    Ok(()) => {
                        *slot = Some(connection);
                        return Ok(());
                    }
                    Err((_, true)) if self.retry_idle_close => {}
                    Err((failure, _)) => return Err(failure),
                },
                // Closed after a full answer: the server may do that.
                Some(Ok(())) => {}
                Some(Err(failure)) => return Err(failure),
            }
            meter.reopened();
        }
        let mut connection = self.open().await?;
        echo(&mut connection, &line).await.map_err(|(failure, _)| failure)?;
        *slot = Some(connection);
        Ok(())
    }

    async fn open(&self) -> Result<Dialed, Failure> {
        self.dial.dial().await.map_err(|e| Failure::of(&e, None))
    }
}

/// How an idle connection ended, if it did.
async fn idle_end(connection: &mut Dialed) -> Option<Result<(), Failure>> {
    let remote = connection.remote;
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let polled = std::future::poll_fn(|context| {
        Poll::Ready(std::pin::Pin::new(&mut connection.stream).poll_read(context, &mut buffer))
    })
    .await;
    match polled {
        Poll::Pending => None,
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => Some(Ok(())),
        Poll::Ready(Ok(())) => Some(Err(Failure::new(Kind::Other, "more than the line came back", remote))),
        Poll::Ready(Err(error)) => Some(Err(Failure::of(&error, remote))),
    }
}

/// Sends a line and reads it; an error tells whether the connection was closed without a byte of the answer.
async fn echo(connection: &mut Dialed, line: &str) -> Result<(), (Failure, bool)> {
    let remote: Option<SocketAddr> = connection.remote;
    let written = async {
        connection.stream.write_all(line.as_bytes()).await?;
        connection.stream.flush().await
    };
    written.await.map_err(|e| (Failure::of(&e, remote), false))?;
    let mut answer = vec![0; line.len()];
    let mut filled = 0;
    while filled < answer.len() {
        match connection.stream.read(&mut answer[filled..]).await {
            Ok(0) if filled == 0 => return Err((Failure::new(Kind::Reset, "closed without an answer", remote), true)),
            Ok(0) => {
                return Err((
                    Failure::new(Kind::Reset, "closed in the middle of an answer", remote),
                    false,
                ));
            }
            Ok(read) => filled += read,
            Err(error) => return Err((Failure::of(&error, remote), false)),
        }
    }
    if answer == line.as_bytes() {
        Ok(())
    } else {
        Err((Failure::new(Kind::Other, "another line came back", remote), false))
    }
}
