//! Lines over TCP that the server sends back.
//!
//! A server that goes may say so by an empty line, behind an answer or instead of one: what came after the last line that it
//! answered it did not process. Without that word, a FIN and a line that cross on their way are a loss that no server can avoid.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Mutex;

use crate::dial::{Dial, Dialed};
use crate::meter::Meter;
use crate::outcome::{Failure, Kind};

/// An empty line, as no line of ours is.
const GOODBYE: u8 = b'\n';

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
            return echo(&mut connection, &line)
                .await
                .map(drop)
                .map_err(Missing::into_failure);
        }
        let count = self.slots.len() as u64;
        let slot = &self.slots[usize::try_from(number % count).unwrap_or(0)];
        let mut slot = slot.lock().await;
        // Taken out, so that a line that fails or is given up leaves no connection with half an answer.
        if let Some(mut connection) = slot.take() {
            match idle_end(&mut connection).await {
                None => match echo(&mut connection, &line).await {
                    Ok(After::Open) => {
                        *slot = Some(connection);
                        return Ok(());
                    }
                    Ok(After::Goodbye) => return Ok(()),
                    Err(Missing::Unprocessed(_)) => {}
                    Err(Missing::Unanswered(_)) if self.retry_idle_close => {}
                    Err(missing) => return Err(missing.into_failure()),
                },
                // Closed after a full answer: the server may do that.
                Some(Ok(())) => {}
                Some(Err(failure)) => return Err(failure),
            }
            meter.reopened();
        }
        let mut connection = self.open().await?;
        if echo(&mut connection, &line).await.map_err(Missing::into_failure)? == After::Open {
            *slot = Some(connection);
        }
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
        Poll::Ready(Ok(())) if matches!(buffer.filled(), [] | [GOODBYE]) => Some(Ok(())),
        Poll::Ready(Ok(())) => Some(Err(Failure::new(Kind::Other, "more than the line came back", remote))),
        Poll::Ready(Err(error)) => Some(Err(Failure::of(&error, remote))),
    }
}

/// What becomes of a connection after a good answer.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// It takes the next line.
    Open,
    /// The server wants no more.
    Goodbye,
}

/// Why there is no good answer.
enum Missing {
    /// The server said that it goes, and so that it did not process the line.
    Unprocessed(Failure),
    /// The connection was closed without a byte of an answer.
    Unanswered(Failure),
    Failed(Failure),
}

impl Missing {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unprocessed(failure) | Self::Unanswered(failure) | Self::Failed(failure) => failure,
        }
    }
}

/// Sends a line and reads it.
async fn echo(connection: &mut Dialed, line: &str) -> Result<After, Missing> {
    let remote: Option<SocketAddr> = connection.remote;
    let reset = |text: &str| Failure::new(Kind::Reset, text, remote);
    let written = async {
        connection.stream.write_all(line.as_bytes()).await?;
        connection.stream.flush().await
    };
    written.await.map_err(|e| Missing::Failed(Failure::of(&e, remote)))?;
    // Room for the word behind the answer: it comes with it.
    let mut answer = vec![0; line.len() + 1];
    let mut filled = 0;
    while filled < line.len() {
        match connection.stream.read(&mut answer[filled..]).await {
            Ok(0) if filled == 0 => return Err(Missing::Unanswered(reset("closed without an answer"))),
            Ok(0) => return Err(Missing::Failed(reset("closed in the middle of an answer"))),
            Ok(read) => filled += read,
            Err(error) => return Err(Missing::Failed(Failure::of(&error, remote))),
        }
        if answer[0] == GOODBYE {
            return Err(Missing::Unprocessed(reset("the server went without an answer")));
        }
    }
    match answer[..filled].strip_prefix(line.as_bytes()) {
        Some([]) => Ok(After::Open),
        Some([GOODBYE]) => Ok(After::Goodbye),
        _ => Err(Missing::Failed(Failure::new(
            Kind::Other,
            "another line came back",
            remote,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;
    use crate::options::Mode;

    /// Connections to a server that answers `answers` in turn, on each one anew, and then closes.
    struct Script(&'static [&'static str]);

    #[async_trait::async_trait]
    impl Dial for Script {
        async fn dial(&self) -> io::Result<Dialed> {
            let (near, far) = tokio::io::duplex(1024);
            let answers = self.0;
            tokio::spawn(async move {
                let mut far = BufReader::new(far);
                for answer in answers {
                    let mut line = String::new();
                    let _ = far.read_line(&mut line).await;
                    let _ = far.get_mut().write_all(answer.replace('=', &line).as_bytes()).await;
                }
            });
            Ok(Dialed {
                stream: Box::new(near),
                remote: None,
            })
        }
    }

    /// How a server's two first lines on one connection come out, and how often another connection was taken.
    async fn two_lines(answers: &'static [&'static str]) -> ([bool; 2], u64) {
        let meter = Meter::new(Mode::Tcp).unwrap();
        let lines = Lines::new(Arc::new(Script(answers)), Some(1), false);
        let mut good = [false; 2];
        for (number, good) in good.iter_mut().enumerate() {
            *good = lines.exchange(number as u64, &meter).await.is_ok();
        }
        (good, meter.counts().reopened)
    }

    #[tokio::test]
    async fn a_server_that_says_goodbye_loses_nothing() {
        // "=": the line itself.
        assert_eq!(two_lines(&["=", "="]).await, ([true, true], 0));
        assert_eq!(two_lines(&["=\n", "x"]).await, ([true, true], 0), "behind an answer");
        assert_eq!(two_lines(&["=", "\n"]).await, ([true, true], 1), "instead of one");
    }

    #[tokio::test]
    async fn one_that_does_not_answer_the_line_loses_it() {
        assert_eq!(two_lines(&["=", ""]).await, ([true, false], 0), "closed under the line");
        assert!(!two_lines(&["\n"]).await.0[0], "even on its first connection");
        assert_eq!(two_lines(&["=", "x ="]).await, ([true, false], 0), "another line");
    }
}
