//! One blob onto the disk: what has come stays, and the next attempt goes on behind it.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};

use super::Progress;
use super::PullError;
use super::manifest::Descriptor;
use super::session::{SILENCE_LIMIT, Session};

/// So many failures in a row without a byte between them, and the blob is given up.
const FAILURES_MAX: u32 = 5;
/// The first wait before another attempt; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Bytes that are written at once: what a layer under way holds in memory.
const PORTION: usize = 256 << 10;

/// A blob as far as it has come. The file goes when this does.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Partial {
    /// Blocks.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // So that others see that it is not left over.
        file.lock()?;
        let hash = Sha256::new();
        let inner = Mutex::new(Inner { file, hash, length: 0 });
        Ok(Self { path, inner })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts bytes behind the first `at`. Blocks.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let mut inner = self.lock();
        if inner.length != at {
            // A write that was under way when its pull was given up has come in between.
            return Err(io::Error::other("the blob has grown meanwhile"));
        }
        inner.file.seek(SeekFrom::Start(at))?;
        inner.file.write_all(bytes)?;
        inner.hash.update(bytes);
        inner.length += bytes.len() as u64;
        Ok(inner.length)
    }

    /// Forgets everything. Blocks.
    fn clear(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.file.set_len(0)?;
        inner.hash = Sha256::new();
        inner.length = 0;
        Ok(())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", hex::encode(self.lock().hash.clone().finalize()))
    }

    fn length(&self) -> u64 {
        self.lock().length
    }
}

/// Fetches a blob to its end, and checks it.
pub(super) async fn fetch(
    session: &Session<'_>,
    blob: &Descriptor,
    partial: &Arc<Partial>,
    progress: &Progress,
) -> Result<(), PullError> {
    let mut failures = 0;
    let mut told = partial.length();
    progress.add(told);
    loop {
        let before = partial.length();
        let result = attempt(session, blob, partial, progress, &mut told).await;
        let error = match result {
            Ok(()) => break,
            Err(error @ PullError::Unavailable(_)) => error,
            Err(error) => return Err(error),
        };
        failures = if partial.length() > before { 1 } else { failures + 1 };
        if failures >= FAILURES_MAX {
            return Err(error);
        }
        tracing::debug!(digest = blob.digest, %error, have = partial.length(), "blob broke off");
        let wait = FIRST_WAIT * 2u32.pow(failures - 1);
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
    }
    let got = partial.digest();
    if got != blob.digest {
        clear(partial).await?;
        return Err(PullError::Refused(format!(
            "blob {} is damaged: what registry {} sent has the digest {got}",
            blob.digest, session.host
        )));
    }
    Ok(())
}

async fn attempt(
    session: &Session<'_>,
    blob: &Descriptor,
    partial: &Arc<Partial>,
    progress: &Progress,
    told: &mut u64,
) -> Result<(), PullError> {
    let mut have = partial.length();
    if blob.size > 0 && have == blob.size {
        return Ok(());
    }
    let response = session.blob(&blob.digest, have).await?;
    let Some(response) = response.filter(|response| have == 0 || response.status() == StatusCode::PARTIAL_CONTENT)
    else {
        // It cannot go on in the middle: from the beginning then.
        clear(partial).await?;
        return Err(PullError::Unavailable(format!("registry {} begins anew", session.host)));
    };
    let mut body = response.into_body();
    loop {
        let (portion, end) = portion(session, &mut body).await;
        if !portion.is_empty() {
            if blob.size > 0 && have + portion.len() as u64 > blob.size {
                clear(partial).await?;
                return Err(PullError::Refused(format!(
                    "blob {} is damaged: registry {} sends more than its {} bytes",
                    blob.digest, session.host, blob.size
                )));
            }
            have = write(partial, have, portion).await?;
            progress.add(have.saturating_sub(*told));
            *told = have.max(*told);
        }
        match end {
            None => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(())) if blob.size > 0 && have < blob.size => {
                return Err(PullError::Unavailable(format!(
                    "registry {} broke off after {have} of {} bytes",
                    session.host, blob.size
                )));
            }
            Some(Ok(())) => return Ok(()),
        }
    }
}

/// The next bytes, and how it went if it is over.
async fn portion(session: &Session<'_>, body: &mut Incoming) -> (Vec<u8>, Option<Result<(), PullError>>) {
    let mut bytes = Vec::new();
    let failed = |why: String| Some(Err(PullError::Unavailable(format!("registry {}: {why}", session.host))));
    while bytes.len() < PORTION {
        match tokio::time::timeout(SILENCE_LIMIT, body.frame()).await {
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(None) => return (bytes, Some(Ok(()))),
            Ok(Some(Err(error))) => return (bytes, failed(super::transport::causes(&error))),
            Err(_) => return (bytes, failed(format!("nothing came for {} s", SILENCE_LIMIT.as_secs()))),
        }
    }
    (bytes, None)
}

async fn write(partial: &Arc<Partial>, at: u64, bytes: Vec<u8>) -> Result<u64, PullError> {
    let target = partial.clone();
    on_disk(partial, move || target.write(at, &bytes)).await
}

async fn clear(partial: &Arc<Partial>) -> Result<(), PullError> {
    let target = partial.clone();
    on_disk(partial, move || target.clear()).await
}

async fn on_disk<T: Send + 'static>(
    partial: &Partial,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PullError> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| PullError::Local(e.to_string()))?;
    done.map_err(|e| crate::image::ImageError::io(partial.path())(e).into())
}
