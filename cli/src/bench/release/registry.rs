//! A registry on loopback for the benchmark: it has what it is given, lets anybody read it, and sends no faster than it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is sent at once, at most.
const CHUNK: u64 = 256 << 10;
/// And no more than so many parts of a second's share, so that a slow line is slow and not halting.
const PARTS: u64 = 10;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A digest as images have it.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A blob: a part of a file, or a text.
#[derive(Clone)]
pub(super) enum Blob {
    Part { path: Arc<PathBuf>, from: u64, length: u64 },
    Text(Bytes),
}

impl Blob {
    pub(super) fn part(path: &Path, from: u64, length: u64) -> Self {
        Self::Part {
            path: Arc::new(path.to_owned()),
            from,
            length,
        }
    }

    pub(super) fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn length(&self) -> u64 {
        match self {
            Self::Part { length, .. } => *length,
            Self::Text(text) => text.len() as u64,
        }
    }
}

#[derive(Default)]
struct Kept {
    /// By digest.
    blobs: HashMap<String, Blob>,
    /// By `REPOSITORY/manifests/TAG-OR-DIGEST`: media type and text.
    manifests: HashMap<String, (&'static str, Bytes)>,
}

#[derive(Default)]
struct State {
    kept: Mutex<Kept>,
    /// Bytes a second of each connection; 0: as fast as it goes.
    bandwidth: AtomicU64,
    /// Bytes of blobs that were sent.
    sent: AtomicU64,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running registry; gone when dropped.
pub(super) struct Registry {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Registry {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let serving = tokio::spawn(serve(listener, state.clone()));
        Ok(Self {
            address,
            state,
            serving,
        })
    }

    pub(super) fn put_blob(&self, digest: &str, blob: Blob) {
        self.state.lock().blobs.insert(digest.to_owned(), blob);
    }

    /// Under its place and under its digest.
    pub(super) fn put_manifest(&self, place: &str, media_type: &'static str, text: String) {
        let text = Bytes::from(text);
        let digest = digest(&text);
        let repository = place.rsplit_once('/').map_or(place, |(repository, _)| repository);
        let mut kept = self.state.lock();
        for place in [place.to_owned(), format!("{repository}/{digest}")] {
            kept.manifests.insert(place, (media_type, text.clone()));
        }
    }

    /// From now on each connection gets no more than so many bytes a second.
    pub(super) fn limit(&self, bandwidth: u64) {
        self.state.bandwidth.store(bandwidth, Ordering::Relaxed);
    }

    /// Bytes of blobs that were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

async fn serve(listener: tokio::net::TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the registry cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let state = state.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&request, &state);
                async move { Ok::<_, Infallible>(answer) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // Whoever has enough closes.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer<B>(request: &Request<B>, state: &Arc<State>) -> Response<Body> {
    let path = request.uri().path();
    let Some(rest) = path.strip_prefix("/v2/") else {
        return status(StatusCode::NOT_FOUND);
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if rest.is_empty() {
        return status(StatusCode::OK);
    }
    let found = {
        let kept = state.lock();
        let blob = rest.rsplit_once("/blobs/").and_then(|(_, name)| {
            let blob = kept.blobs.get(name)?;
            Some(("application/octet-stream", name.to_owned(), blob.clone()))
        });
        blob.or_else(|| {
            let (media_type, text) = kept.manifests.get(rest)?;
            Some((*media_type, digest(text), Blob::Text(text.clone())))
        })
    };
    let Some((media_type, name, blob)) = found else {
        return status(StatusCode::NOT_FOUND);
    };
    let response = Response::builder()
        .header("content-type", media_type)
        .header("content-length", blob.length())
        .header("docker-content-digest", name);
    let body = if request.method() == Method::HEAD {
        empty()
    } else {
        content(blob, state.clone())
    };
    response
        .body(body)
        .unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = code;
    response
}

fn content(blob: Blob, state: Arc<State>) -> Body {
    match blob {
        Blob::Text(text) => Full::new(text).map_err(|never| match never {}).boxed_unsync(),
        Blob::Part { path, from, length } => {
            let sending = Sending {
                path,
                from,
                length,
                done: 0,
                file: None,
                began: Instant::now(),
                bandwidth: state.bandwidth.load(Ordering::Relaxed),
                state,
            };
            let chunks = futures::stream::try_unfold(sending, Sending::next);
            StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
        }
    }
}

/// A part of a file on its way.
struct Sending {
    path: Arc<PathBuf>,
    from: u64,
    length: u64,
    done: u64,
    file: Option<tokio::fs::File>,
    began: Instant,
    bandwidth: u64,
    state: Arc<State>,
}

impl Sending {
    /// The next bytes, not before the line has had the time for them.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let mut most = CHUNK.min(self.length - self.done);
        if most == 0 {
            return Ok(None);
        }
        if self.bandwidth > 0 {
            most = most.min((self.bandwidth / PARTS).max(1));
            let share = Duration::from_nanos(nanoseconds(self.done + most, self.bandwidth));
            tokio::time::sleep_until(self.began + share).await;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = tokio::fs::File::open(&*self.path).await?;
                file.seek(io::SeekFrom::Start(self.from)).await?;
                none.insert(file)
            }
        };
        // No more than a chunk.
        let mut bytes = vec![0; usize::try_from(most).unwrap_or(0)];
        file.read_exact(&mut bytes).await?;
        self.done += most;
        self.state.sent.fetch_add(most, Ordering::Relaxed);
        Ok(Some((bytes.into(), self)))
    }
}

/// How long so many bytes take.
fn nanoseconds(bytes: u64, bandwidth: u64) -> u64 {
    let all = u128::from(bytes) * 1_000_000_000 / u128::from(bandwidth.max(1));
    u64::try_from(all).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time() {
        assert_eq!(nanoseconds(200_000_000, 50_000_000), 4_000_000_000);
        assert_eq!(nanoseconds(u64::MAX, 1), u64::MAX);
    }

    #[tokio::test]
    async fn what_was_put_is_there_and_comes_no_faster_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, [7; 3000]).unwrap();
        let registry = Registry::start().await.unwrap();
        registry.put_blob("sha256:1", Blob::part(&path, 1000, 2000));
        registry.put_manifest("a/manifests/v1", "x/y", "{}".into());
        registry.limit(10_000);
        let ask = |method: &str, path: &str| Request::builder().method(method).uri(path).body(()).unwrap();
        let code = |method: &str, path: &str| answer(&ask(method, path), &registry.state).status().as_u16();
        assert_eq!(code("GET", "/v2/"), 200);
        assert_eq!(code("GET", "/v2/a/manifests/v2"), 404);
        assert_eq!(code("PUT", "/v2/a/manifests/v1"), 405);
        let by_digest = format!("/v2/a/manifests/{}", digest(b"{}"));
        assert_eq!((code("GET", "/v2/a/manifests/v1"), code("GET", &by_digest)), (200, 200));
        let began = Instant::now();
        let response = answer(&ask("GET", "/v2/a/blobs/sha256:1"), &registry.state);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((bytes.len(), registry.sent()), (2000, 2000));
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
}
