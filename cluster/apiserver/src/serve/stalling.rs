//! A stream whose other side must take what is written to it: a reader that does not read is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that must be taken within that time.
const LEAST: usize = 16 << 10;

/// See the module.
pub(crate) struct Stalling<S> {
    stream: S,
    limit: Duration,
    /// When to give up; only while something waits.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since it waits.
    taken: usize,
}

impl<S> Stalling<S> {
    /// `limit`: how long next to nothing may be taken.
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            waiting: None,
            taken: 0,
        }
    }

    /// What came of a write, and how many bytes of it; gives up if too little came of it for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
        bytes: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = &outcome {
            self.taken += done.as_ref().map_or(LEAST, bytes);
            if self.taken >= LEAST {
                (self.waiting, self.taken) = (None, 0);
            }
            return outcome;
        }
        let limit = self.limit;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome, |taken| *taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        // All is out.
        self.written(context, outcome, |()| LEAST)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, outcome, |()| LEAST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn who_takes_next_to_nothing_is_given_up() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut stream = Stalling::new(ours, Duration::from_millis(200));
        let mut byte = [0];
        let reading = async {
            theirs.read_exact(&mut byte).await.unwrap();
            std::future::pending::<()>().await;
        };
        let told = tokio::select! {
            told = stream.write_all(&[0; 1 << 20]) => told.unwrap_err(),
            () = reading => unreachable!("it reads for ever"),
        };
        assert_eq!(told.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_reads_is_served() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut stream = Stalling::new(ours, Duration::from_secs(60));
        let mut all = vec![0; 1 << 20];
        let writing = async {
            stream.write_all(&[1; 1 << 20]).await.unwrap();
            stream.flush().await.unwrap();
        };
        tokio::join!(writing, async { theirs.read_exact(&mut all).await.unwrap() });
        assert!(all.iter().all(|byte| *byte == 1));
    }
}
