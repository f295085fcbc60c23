//! Work that blocks, or must not be broken off.

use std::io;

use crate::runtime::RuntimeError;

/// A caller that stops waiting must not leave half a container behind.
pub(super) async fn unbroken<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::spawn(work)
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

/// File system work, off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

/// What was being done, and what the system said.
pub(super) fn failed(what: impl Into<String>, error: &io::Error) -> RuntimeError {
    RuntimeError::Failed(format!("{}: {error}", what.into()))
}
