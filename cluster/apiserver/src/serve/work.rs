//! Room for requests that take much memory: so many at once.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use afloat_machinery::bounds::Estimate;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::wire::body::BODY_LIMIT_BYTES;
use crate::wire::status::Status;

/// Bodies that are larger are read a few at a time.
const SMALL_BODY: usize = 64 << 10;
/// How many larger bodies are in memory at once.
const LARGE_BODIES: usize = 12;
/// How long a client may send nothing of its body.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a large body waits for room until the one that has been coming for longest gives its place up.
const ROOM_LIMIT: Duration = Duration::from_millis(100);
/// Memory, in KiB, that objects which are being worked on may take together.
const MEMORY_KIB: u32 = 72 << 10;
/// Requests whose objects take less are not counted.
const LIGHT: usize = 256 << 10;
/// An object is there a few times while it is changed: as it was, as it will be, as it is compared.
const COPIES: usize = 3;
/// From how many bytes of objects on a request takes long.
const LONG: usize = 32 << 10;

/// What is given out.
pub(crate) struct Room {
    memory: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    /// Large bodies that have a place and have not come to their end, oldest first.
    coming: Mutex<BTreeMap<u64, CancellationToken>>,
    next: AtomicU64,
}

/// The place of a large body that is coming.
struct Coming<'a> {
    room: &'a Room,
    number: u64,
    taken: CancellationToken,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.room.coming().remove(&self.number);
    }
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
            coming: Mutex::default(),
            next: AtomicU64::new(0),
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
        let mut coming: Option<Coming<'_>> = None;
        loop {
            let taken = coming.as_ref().map(|coming| coming.taken.clone()).unwrap_or_default();
            let Some(more) = taken.run_until_cancelled(next(body.as_mut())).await else {
                let message = "Too many requests with large bodies, and this one comes slowly; please try again later.";
                return Err(Status::too_many_requests(message, json!({"retryAfterSeconds": 1})));
            };
            let Some(data) = more? else { break };
            if bytes.len() + data.len() > BODY_LIMIT_BYTES {
                return Err(Status::too_large());
            }
            if bytes.len() + data.len() > SMALL_BODY && coming.is_none() {
                coming = Some(self.begin().await);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Held {
            bytes: bytes.freeze(),
            _place: coming.and_then(|mut coming| coming.place.take()),
        })
    }

    /// A place for a large body. Whoever has begun one and does not send it does not keep others out.
    async fn begin(&self) -> Coming<'_> {
        let place = loop {
            match timeout(ROOM_LIMIT, Arc::clone(&self.bodies).acquire_owned()).await {
                // The semaphore is never closed.
                Ok(place) => break place.ok(),
                Err(_) => {
                    if let Some((_, slowest)) = self.coming().pop_first() {
                        slowest.cancel();
                    }
                }
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let taken = CancellationToken::new();
        self.coming().insert(number, taken.clone());
        Coming {
            room: self,
            number,
            taken,
            place,
        }
    }

    fn coming(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is memory for an object.
    pub(crate) async fn enter(&self, estimate: Estimate) -> Place {
        if estimate.reading < LIGHT {
            return Place { _memory: None };
        }
        let wanted =
            u32::try_from(estimate.reading.max(estimate.memory.saturating_mul(COPIES)) >> 10).unwrap_or(u32::MAX);
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

/// Whether a request about so many bytes of objects takes long. Of YAML any: its reader is slow, and aliases make much of little.
pub(crate) fn is_long(content_type: &str, bytes: usize) -> bool {
    bytes >= LONG || (bytes > 0 && content_type.contains("yaml"))
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt as _};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    /// A body that begins and does not go on.
    fn begun() -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from(vec![b' '; SMALL_BODY + 1])))]);
        StreamBody::new(first.chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn bodies_that_do_not_come_make_room() {
        let room = Arc::new(Room::default());
        let slow: Vec<_> = (0..LARGE_BODIES)
            .map(|_| {
                let room = Arc::clone(&room);
                tokio::spawn(async move { room.read(begun()).await.map(drop) })
            })
            .collect();
        while room.bodies.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let whole = Full::new(Bytes::from(vec![b' '; SMALL_BODY * 2]));
        let held = room.read(whole).await.unwrap();
        assert_eq!(held.bytes.len(), SMALL_BODY * 2);
        let ended: Vec<_> = slow.into_iter().filter_map(FutureExt::now_or_never).collect();
        assert_eq!(ended.len(), 1, "only the oldest");
        assert_eq!(ended[0].as_ref().unwrap().as_ref().unwrap_err().code, 429);
    }
}
