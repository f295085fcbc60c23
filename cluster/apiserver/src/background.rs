//! What the server does of its own accord: it takes old events away, empties definitions that are being deleted, and
//! gathers the rules of roles that are put together of others.

mod emptying;
mod events;
mod roles;
mod ticks;

use std::sync::Arc;

use futures::FutureExt as _;
pub(crate) use roles::ensure as ensure_roles;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::write::Writer;

/// Begins all of it. Ends by itself when the store is closed, or the last handle of the server is gone.
pub(crate) fn begin(writer: &Arc<Writer>, options: &Options, closed: &CancellationToken) {
    let events = events::run(Arc::downgrade(writer), options.event_ttl, options.event_limit);
    tokio::spawn(closed.clone().run_until_cancelled_owned(events).boxed());
    let emptying = emptying::run(Arc::downgrade(writer));
    tokio::spawn(closed.clone().run_until_cancelled_owned(emptying).boxed());
    let gathering = roles::run(Arc::downgrade(writer));
    tokio::spawn(closed.clone().run_until_cancelled_owned(gathering).boxed());
}
