//! Standard input, output and terminal of a container's own process, for those who attach to it.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::Stdio as ProcessStdio;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use crate::container::{ContainerState, ExecSession, Stdio};
use crate::host::stdio::{FRAME_MAX, Frame, HEAD};
use crate::oci::shared::Shared;
use crate::oci::work::{blocking, failed};
use crate::runtime::RuntimeError;

/// Terminal sizes that wait to be set.
const SIZES_MAX: usize = 4;

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
