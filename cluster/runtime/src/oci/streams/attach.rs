//! Standard input, output and terminal of a container's own process, for those who attach to it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::Stdio as ProcessStdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use crate::host::stdio::{FRAME_MAX, Frame, HEAD};
use crate::oci::{Shared, blocking, failed};
use crate::{ContainerState, ExecSession, RuntimeError, Stdio};

/// Pieces of output that wait for one who attached.
const QUEUE: usize = 64;
/// One who does not take them is left behind after that; so long the container waits, too.
const SLOW_LIMIT: Duration = Duration::from_secs(10);
/// Of what a container with an input said before anybody came, so much is kept for the first: its prompt.
const EARLY_BYTES: usize = 16 * 1024;
/// Terminal sizes that wait to be set.
const SIZES_MAX: usize = 4;

/// Which of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Out,
    Err,
}

struct Listener {
    out: mpsc::Sender<Bytes>,
    err: mpsc::Sender<Bytes>,
}

impl Listener {
    fn channel(&self, output: Output) -> &mpsc::Sender<Bytes> {
        match output {
            Output::Out => &self.out,
            Output::Err => &self.err,
        }
    }
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    /// None: nobody is waited for.
    early: Option<Vec<(Output, Bytes)>>,
    ended: bool,
}

/// Everybody who listens to a container's output.
pub(crate) struct Listeners {
    state: Mutex<State>,
    slow_limit: Duration,
}

impl Listeners {
    /// `interactive`: what is said before anybody listens is kept, a little of it.
    pub(crate) fn new(interactive: bool) -> Self {
        Self {
            state: Mutex::new(State {
                early: interactive.then(Vec::new),
                ..State::default()
            }),
            slow_limit: SLOW_LIMIT,
        }
    }

    /// Held for moments only.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a piece of output to all of them.
    pub(crate) async fn tell(&self, output: Output, bytes: &[u8]) {
        let listeners: Vec<mpsc::Sender<Bytes>> = {
            let mut state = self.state();
            if let Some(early) = &mut state.early {
                early.push((output, Bytes::copy_from_slice(bytes)));
                let mut size: usize = early.iter().map(|(_, bytes)| bytes.len()).sum();
                while size > EARLY_BYTES && early.len() > 1 {
                    size -= early.remove(0).1.len();
                }
            }
            state.listeners.iter().map(|l| l.channel(output).clone()).collect()
        };
        if listeners.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let mut left_behind = vec![];
        for listener in listeners {
            let sent = tokio::time::timeout(self.slow_limit, listener.send(bytes.clone())).await;
            if !matches!(sent, Ok(Ok(()))) {
                left_behind.push(listener);
            }
        }
        if !left_behind.is_empty() {
            let gone = |l: &Listener| left_behind.iter().any(|other| l.channel(output).same_channel(other));
            self.state().listeners.retain(|l| !gone(l));
        }
    }

    /// The output has ended.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.listeners.clear();
    }

    fn listen(&self) -> (mpsc::Receiver<Bytes>, mpsc::Receiver<Bytes>) {
        let ((out, from_out), (err, from_err)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let listener = Listener { out, err };
        let mut state = self.state();
        for (output, bytes) in state.early.take().unwrap_or_default() {
            // More pieces than the queue holds: the last are missing, as they would be without this.
            let _ = listener.channel(output).try_send(bytes);
        }
        if !state.ended {
            state.listeners.push(listener);
        }
        (from_out, from_err)
    }
}

fn reader(receiver: mpsc::Receiver<Bytes>) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(StreamReader::new(ReceiverStream::new(receiver).map(Ok::<_, io::Error>)))
}

/// Writes frames to a container's relay.
struct Input {
    pipe: pipe::Sender,
}

impl Input {
    /// Ready: the frame is in the pipe.
    fn poll_frame(&self, context: &mut Context<'_>, frame: &Frame) -> Poll<io::Result<()>> {
        let bytes = frame.bytes();
        loop {
            ready!(self.pipe.poll_write_ready(context))?;
            // All or nothing, as it is short enough.
            match self.pipe.try_write(&bytes) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let piece = bytes.get(..FRAME_MAX - HEAD).unwrap_or(bytes);
        let frame = Frame::Bytes(piece.to_vec());
        self.poll_frame(context, &frame).map_ok(|()| piece.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_frame(context, &Frame::Close)
    }
}

impl Shared {
    pub(crate) fn attach(&self, id: &str) -> Result<ExecSession, RuntimeError> {
        let (stdio, listeners) = {
            let containers = self.containers();
            let entry = containers
                .get(id)
                .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
            if entry.record.state() != ContainerState::Running {
                return Err(RuntimeError::Failed(format!("container {id} does not run")));
            }
            (entry.record.stdio, Arc::clone(&entry.listeners))
        };
        let open = || pipe::OpenOptions::new().open_sender(Self::pipes(id).input());
        // Without a reader it has ended: then there is nothing to write to.
        let input = stdio.relayed().then(open).and_then(Result::ok);
        let sizes = (stdio.tty).then(open).and_then(Result::ok);
        let (exited, exit) = oneshot::channel();
        // Its exit code is the pod's matter.
        let _ = exited.send(0);
        let (out, err) = listeners.listen();
        Ok(ExecSession {
            stdin: input
                .filter(|_| stdio.stdin)
                .map(|pipe| Box::new(Input { pipe }) as Box<dyn AsyncWrite + Send + Unpin>),
            stdout: reader(out),
            stderr: (!stdio.tty).then(|| reader(err)),
            resize: sizes.map(|pipe| resize(Input { pipe })),
            exit,
        })
    }

    /// Begins to keep a container's input or terminal. Answers the process, and the standard input for the `create` verb (without
    /// a terminal) or where it is to send the terminal to.
    pub(crate) async fn start_relay(&self, id: &str, stdio: Stdio) -> Result<(Child, Option<OwnedFd>), RuntimeError> {
        let (pipes, tty) = (Self::pipes(id), stdio.tty);
        let (stdin, stdout, own) = blocking({
            let pipes = pipes.clone();
            move || {
                pipes.make_input().map_err(|e| failed("making an input", &e))?;
                if tty {
                    let listener = std::os::unix::net::UnixListener::bind(pipes.console())
                        .map_err(|e| failed("making a console socket", &e))?;
                    return Ok((ProcessStdio::from(OwnedFd::from(listener)), ProcessStdio::null(), None));
                }
                let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                    .map_err(|e| failed("making a pipe", &e.into()))?;
                Ok((ProcessStdio::null(), ProcessStdio::from(to), Some(from)))
            }
        })
        .await?;
        let mut command = self.command.helper(&self.container_dir(id).join("runtime.log"));
        command.arg("--input").arg(pipes.input());
        if tty {
            command.arg("--output").arg(pipes.output());
        }
        command.args(["stdio", id]).stdin(stdin).stdout(stdout);
        let child = command.spawn().map_err(|e| failed("keeping the input", &e))?;
        Ok((child, own))
    }
}

fn resize(input: Input) -> mpsc::Sender<(u16, u16)> {
    let (sizes, mut wanted) = mpsc::channel(SIZES_MAX);
    tokio::spawn(async move {
        while let Some((columns, rows)) = wanted.recv().await {
            let frame = Frame::Size(columns, rows);
            if std::future::poll_fn(|context| input.poll_frame(context, &frame))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    sizes
}

/// Takes the files away that a relay used.
pub(crate) fn remove_files(pipes: &crate::oci::streams::log::Pipes) {
    let _ = fs::remove_file(pipes.input());
    let _ = fs::remove_file(pipes.console());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_to_come_reads_what_was_said_before() {
        let listeners = Listeners::new(true);
        listeners.tell(Output::Out, b"/ # ").await;
        let (mut out, mut err) = listeners.listen();
        listeners.tell(Output::Err, b"oops").await;
        assert_eq!(out.recv().await.unwrap(), "/ # ");
        assert_eq!(err.recv().await.unwrap(), "oops");
        let (mut second, _) = listeners.listen();
        listeners.tell(Output::Out, b"ls").await;
        assert_eq!(second.recv().await.unwrap(), "ls");
        assert_eq!(out.recv().await.unwrap(), "ls");
        listeners.end();
        assert!(out.recv().await.is_none());
        assert!(listeners.listen().0.recv().await.is_none());
    }

    #[tokio::test]
    async fn early_output_is_kept_within_bounds() {
        let listeners = Listeners::new(true);
        for _ in 0..1000 {
            listeners.tell(Output::Out, &[b'x'; 1000]).await;
        }
        let kept: usize = listeners.state().early.iter().flatten().map(|(_, b)| b.len()).sum();
        assert!(kept <= EARLY_BYTES, "{kept}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_left_behind() {
        let listeners = Listeners {
            slow_limit: Duration::ZERO,
            ..Listeners::new(false)
        };
        let (mut out, _err) = listeners.listen();
        for _ in 0..=QUEUE {
            listeners.tell(Output::Out, b"x").await;
        }
        assert!(listeners.state().listeners.is_empty());
        let mut received = 0;
        while out.recv().await.is_some() {
            received += 1;
        }
        assert_eq!(received, QUEUE);
    }
}
