//! Room for requests that take much memory or time: so many at once, and never on a thread that others wait for.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use afloat_machinery::bounds::Estimate;
use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use http_body_util::BodyExt as _;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::wire::body::BODY_LIMIT_BYTES;
use crate::wire::status::Status;

/// Bodies that are larger are read a few at a time.
const SMALL_BODY: usize = 64 << 10;
/// How many larger bodies are in memory at once.
const LARGE_BODIES: usize = 12;
/// How long a client may send nothing of its body.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Memory, in KiB, that objects which are being worked on may take together.
const MEMORY_KIB: u32 = 72 << 10;
/// Requests whose objects take less are not counted.
const LIGHT: usize = 256 << 10;
/// An object is there a few times while it is changed: as it was, as it will be, as it is compared.
const COPIES: usize = 3;
/// From how many bytes of objects on a request is answered aside.
const ASIDE: usize = 32 << 10;

/// What is given out.
pub(crate) struct Room {
    memory: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// A request's body. While it is held others wait, if it is large.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// A part of the memory, until it is dropped.
pub(crate) struct Place {
    _memory: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MEMORY_KIB as usize)),
            bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
        }
    }
}

impl Room {
    /// Reads a request's body.
    ///
    /// # Errors
    /// 413 if it is too large, 400 if it does not come.
    pub(crate) async fn read<B>(&self, body: B) -> Result<Held, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let mut body = pin!(body);
        let mut bytes = BytesMut::new();
        let mut place = None;
        loop {
            let Some(data) = next(body.as_mut()).await? else { break };
            if bytes.len() + data.len() > BODY_LIMIT_BYTES {
                return Err(Status::too_large());
            }
            if bytes.len() + data.len() > SMALL_BODY && place.is_none() {
                // The semaphore is never closed.
                place = Arc::clone(&self.bodies).acquire_owned().await.ok();
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Held {
            bytes: bytes.freeze(),
            _place: place,
        })
    }

    /// Waits until there is memory for an object.
    pub(crate) async fn enter(&self, estimate: Estimate) -> Place {
        if estimate.memory < LIGHT {
            return Place { _memory: None };
        }
        let wanted = u32::try_from(estimate.memory.saturating_mul(COPIES) >> 10).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).acquire_many_owned(wanted.min(MEMORY_KIB));
        Place {
            _memory: memory.await.ok(),
        }
    }
}

/// The next bytes of a body; None at its end.
async fn next<B>(mut body: Pin<&mut B>) -> Result<Option<Bytes>, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<tower::BoxError>,
{
    match timeout(STALL_LIMIT, body.frame()).await {
        Ok(None) => Ok(None),
        // Trailers are of no interest.
        Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
        Ok(Some(Err(error))) => {
            let error: tower::BoxError = error.into();
            Err(Status::bad_request(format!("cannot read the body: {error}")))
        }
        Err(_) => Err(Status::bad_request("cannot read the body: nothing more of it came")),
    }
}

/// Whether a request about so many bytes is answered aside.
pub(crate) fn is_long(bytes: usize) -> bool {
    bytes >= ASIDE
}

/// Runs `work` where it may take its time: whoever else this thread runs goes on on another one.
pub(crate) async fn aside<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    // A runtime with one thread has no other.
    let many = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    poll_fn(|context| {
        if many {
            tokio::task::block_in_place(|| work.as_mut().poll(context))
        } else {
            work.as_mut().poll(context)
        }
    })
    .await
}
