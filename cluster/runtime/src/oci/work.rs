//! Work that blocks, or must not be broken off. Boxed for those who run it: a task of each kind of its own is five kilobytes.

use std::io;

use futures::FutureExt as _;

use crate::runtime::RuntimeError;

/// A caller that stops waiting must not leave half a container behind.
pub(super) async fn unbroken<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::spawn(work.boxed())
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

/// File system work, off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

/// What was being done, and what the system said.
pub(super) fn failed(what: impl Into<String>, error: &io::Error) -> RuntimeError {
    RuntimeError::Failed(format!("{}: {error}", what.into()))
}
