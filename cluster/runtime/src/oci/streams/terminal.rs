//! A terminal for a command: the runtime sends its master end over a socket, as runc does.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixListener;

use crate::host::broker::receive_message;

/// How long the runtime may take to send it.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for the master end.
pub(crate) async fn receive(listener: UnixListener) -> io::Result<Terminal> {
    let accepted = tokio::time::timeout(LIMIT, listener.accept())
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?;
    let (stream, _) = accepted?;
    let message = stream.async_io(Interest::READABLE, || receive_message(stream.as_raw_fd()));
    let (_, master) = tokio::time::timeout(LIMIT, message)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    let master = master.ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(Terminal {
        master: Arc::new(register(master)?),
    })
}

#[allow(unsafe_code)] // the descriptor must stay the same while it is registered
fn register(master: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one descriptor for its whole life, and nobody can replace it inside of the `AsyncFd`.
    unsafe { AsyncFd::register(master) }.map_err(Into::into)
}

/// A place for the socket; its path must be short.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(path)
}

/// The master end; clones are the same terminal.
#[derive(Clone)]
pub(crate) struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let _ = rustix::termios::tcsetwinsize(self.master.get_ref(), size);
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.master.poll_read_ready(context))?;
            let read = guard.try_io(|master| Ok(rustix::io::read(master.get_ref(), buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // What a terminal says when the last process has closed its end.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
