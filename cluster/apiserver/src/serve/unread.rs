//! Bytes of answers that were made and that their readers have not taken: there are only so many of them, of all answers together. A reader
//! who takes nothing meanwhile gives them back with his connection, the one who has taken nothing for longest first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for all readers together, as long as one of them does not read. What waits in a connection beside them (the state of each
/// request, the buffers of HTTP and TLS) is some times as much.
const LIMIT: usize = 12 << 20;
/// Who has taken nothing for so long does not read.
const STALLED: Duration = Duration::from_secs(1);
/// How long nobody is looked for after nobody was found.
const PAUSE: Duration = Duration::from_millis(50);

/// All of them.
pub(crate) struct Unread {
    all: Mutex<All>,
    limit: usize,
    stalled: Duration,
}

struct All {
    /// Connections for which something waits, by their numbers.
    readers: HashMap<u64, Reader>,
    bytes: usize,
    look: Instant,
}

struct Reader {
    bytes: usize,
    /// When he took something last, or something began to wait for him.
    taken: Instant,
    close: CancellationToken,
}

/// What waits for one connection.
struct Piece {
    bytes: Bytes,
    unread: Arc<Unread>,
    number: u64,
}

impl Default for Unread {
    fn default() -> Self {
        Self::new(LIMIT, STALLED)
    }
}

impl Unread {
    fn new(limit: usize, stalled: Duration) -> Self {
        let (readers, look) = (HashMap::new(), Instant::now());
        Self {
            all: Mutex::new(All {
                readers,
                bytes: 0,
                look,
            }),
            limit,
            stalled,
        }
    }

    /// The same bytes, which count until they are dropped. `close` ends the connection with this number.
    pub(crate) fn hold(self: &Arc<Self>, number: u64, close: &CancellationToken, bytes: Bytes) -> Bytes {
        if bytes.is_empty() || close.is_cancelled() {
            return bytes;
        }
        let now = Instant::now();
        let mut all = self.all();
        let reader = all.readers.entry(number).or_insert_with(|| Reader {
            bytes: 0,
            taken: now,
            close: close.clone(),
        });
        reader.bytes += bytes.len();
        all.bytes += bytes.len();
        while all.bytes > self.limit && all.look <= now {
            all.close_slowest(now, self.stalled);
        }
        drop(all);
        Bytes::from_owner(Piece {
            bytes,
            unread: Arc::clone(self),
            number,
        })
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn close_slowest(&mut self, now: Instant, stalled: Duration) {
        let slow = self.readers.iter().filter(|(_, reader)| now - reader.taken >= stalled);
        let slowest = slow
            .min_by_key(|(number, reader)| (reader.taken, **number))
            .map(|(number, _)| *number);
        match slowest.and_then(|number| self.readers.remove(&number)) {
            Some(reader) => {
                self.bytes -= reader.bytes;
                reader.close.cancel();
                tracing::debug!(
                    bytes = reader.bytes,
                    "a connection is closed whose client does not read"
                );
            }
            None => self.look = now + PAUSE,
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut all = self.unread.all();
        // None: it was closed, and all of it counts no longer.
        let Some(reader) = all.readers.get_mut(&self.number) else {
            return;
        };
        reader.bytes -= self.bytes.len();
        reader.taken = Instant::now();
        if reader.bytes == 0 {
            all.readers.remove(&self.number);
        }
        all.bytes -= self.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Bytes {
        vec![0; count].into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_least_goes_first() {
        let unread = Arc::new(Unread::new(100, Duration::from_secs(1)));
        let closes: [CancellationToken; 4] = std::array::from_fn(|_| CancellationToken::new());
        let hold = |place: usize, count: usize| unread.hold(place as u64, &closes[place], bytes(count));
        let closed = || closes.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        let (sleeps, reads, dozes) = (hold(0, 40), [hold(1, 20), hold(1, 10)], hold(2, 25));
        assert_eq!((sleeps.len(), unread.all().bytes), (40, 95));
        tokio::time::advance(Duration::from_millis(900)).await;
        let [first, second] = reads;
        drop(first);
        // Nobody has slept for a second yet, so there is more for a while.
        let more = hold(3, 60);
        assert_eq!((closed(), unread.all().bytes), (vec![false; 4], 135));
        tokio::time::advance(Duration::from_millis(200)).await;
        let last = hold(3, 5);
        assert_eq!((closed(), unread.all().bytes), (vec![true, false, false, false], 100));
        // What is left of a closed one counts no longer.
        drop(sleeps);
        assert_eq!(hold(0, 50).len(), 50);
        drop((second, dozes, more, last));
        let all = unread.all();
        assert_eq!((all.bytes, all.readers.len()), (0, 0));
    }
}
