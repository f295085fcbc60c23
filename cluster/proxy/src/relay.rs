//! Copies bytes between two connected sockets, both ways, each way ending by itself (half-close).
//!
//! An idle connection holds no buffer: bytes pass through one buffer per thread, and only what the other side does not
//! take at once is kept, in a vector of its own size. tokio's copy would hold 2 × 8 KiB per connection for its lifetime.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::AtomicU64;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::backend::add;

/// Most bytes moved at once; also the most that a connection keeps for a slow reader, per direction.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// A connection that one side aborted.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) side: Side,
    pub(crate) error: io::Error,
}

/// Copies until both sides have ended their stream, or one aborts.
pub(crate) async fn both(
    client: &TcpStream,
    endpoint: &TcpStream,
    to_endpoint: &AtomicU64,
    from_endpoint: &AtomicU64,
) -> Result<(), Broken> {
    let up = one_way((client, Side::Client), (endpoint, Side::Endpoint), to_endpoint);
    let down = one_way((endpoint, Side::Endpoint), (client, Side::Client), from_endpoint);
    tokio::try_join!(up, down).map(|_| ())
}

async fn one_way(from: (&TcpStream, Side), to: (&TcpStream, Side), count: &AtomicU64) -> Result<(), Broken> {
    let reading = |error| Broken { side: from.1, error };
    let writing = |error| Broken { side: to.1, error };
    loop {
        from.0.readable().await.map_err(reading)?;
        match pass(from.0, to.0) {
            Passed::End => {
                return match SockRef::from(to.0).shutdown(Shutdown::Write) {
                    // The other side may have ended everything already.
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(writing(error)),
                    _ => Ok(()),
                };
            }
            Passed::Bytes(bytes) => add(count, bytes as u64),
            Passed::Some(bytes, rest) => {
                add(count, (bytes + rest.len()) as u64);
                write_all(to.0, &rest).await.map_err(writing)?;
            }
            Passed::Nothing => {}
            Passed::ReadFailed(error) => return Err(reading(error)),
            Passed::WriteFailed(error) => return Err(writing(error)),
        }
    }
}

enum Passed {
    /// The stream ended.
    End,
    /// Not readable after all.
    Nothing,
    /// All that was read.
    Bytes(usize),
    /// So many were written, and these are left.
    Some(usize, Vec<u8>),
    ReadFailed(io::Error),
    WriteFailed(io::Error),
}

fn pass(from: &TcpStream, to: &TcpStream) -> Passed {
    BUFFER.with_borrow_mut(|buffer| {
        let read = match from.try_read(buffer) {
            Ok(0) => return Passed::End,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Passed::Nothing,
            Err(error) => return Passed::ReadFailed(error),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        match to.try_write(bytes) {
            Ok(written) if written == read => Passed::Bytes(read),
            Ok(written) => Passed::Some(written, bytes.get(written..).unwrap_or_default().to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Passed::Some(0, bytes.to_vec()),
            Err(error) => Passed::WriteFailed(error),
        }
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
