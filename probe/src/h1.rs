//! HTTP/1.1, on kept-alive or on new connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use http::header::{CONNECTION, HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use crate::dial::Dial;
use crate::meter::Meter;
use crate::options::{Lane, Options};
use crate::outcome::{Failure, Kind, kind_of_status};

pub(crate) struct Pool {
    dial: Arc<dyn Dial>,
    /// Idle ones; the one that was idle longest is next, so that all are used.
    idle: Mutex<VecDeque<Kept>>,
    /// How many may be open; None: each request has its own.
    kept: Option<Semaphore>,
    authority: String,
    path: String,
    retry_idle_close: bool,
}

struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    remote: Option<SocketAddr>,
}

/// Why there is no good answer.
enum Missing {
    /// The request never left: the connection was closed before.
    Unsent(Failure),
    /// It left, and the connection ended without one byte of an answer.
    Unanswered(Failure),
    Failed(Failure),
}

impl Missing {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unsent(failure) | Self::Unanswered(failure) | Self::Failed(failure) => failure,
        }
    }
}

impl Pool {
    pub(crate) fn new(lane: &Lane, options: &Options, kept: Option<usize>) -> Self {
        Self {
            dial: lane.dial.clone(),
            idle: Mutex::default(),
            kept: kept.map(Semaphore::new),
            authority: lane.authority.clone(),
            path: options.path.clone(),
            retry_idle_close: options.retry_idle_close,
        }
    }

    /// One GET. A kept connection that turns out to be closed before the request left is replaced; one that is closed under
    /// the request is a loss, unless the user wants to see what clients see that try again.
    pub(crate) async fn request(&self, meter: &Meter) -> Result<(), Failure> {
        let _place = match &self.kept {
            // It is never closed.
            Some(kept) => kept.acquire().await.ok(),
            None => None,
        };
        if let Some(kept) = self.take_idle() {
            match self.exchange(kept).await {
                Err(Missing::Unsent(_)) => {}
                Err(Missing::Unanswered(_)) if self.retry_idle_close => {}
                other => return other.map_err(Missing::into_failure),
            }
            meter.reopened();
        }
        let dialed = self.dial.dial().await.map_err(|e| Failure::of(&e, None))?;
        let remote = dialed.remote;
        let (sender, connection) = handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|e| Failure::of(&e, remote))?;
        tokio::spawn(FutureExt::boxed(async move {
            // Its end shows in the request that used it.
            let _ = connection.await;
        }));
        self.exchange(Kept { sender, remote })
            .await
            .map_err(Missing::into_failure)
    }

    async fn exchange(&self, mut kept: Kept) -> Result<(), Missing> {
        let remote = kept.remote;
        let connection = if self.kept.is_some() { "keep-alive" } else { "close" };
        let request = Request::get(&self.path)
            .header(HOST, &self.authority)
            .header(CONNECTION, connection)
            .body(Empty::new())
            .map_err(|e| Missing::Failed(Failure::new(Kind::Other, e.to_string(), remote)))?;
        kept.sender
            .ready()
            .await
            .map_err(|e| Missing::Unsent(Failure::of(&e, remote)))?;
        let response = kept.sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let failure = Failure::of(error.error(), remote);
            match failure.kind {
                _ if unsent => Missing::Unsent(failure),
                Kind::Reset => Missing::Unanswered(failure),
                _ => Missing::Failed(failure),
            }
        })?;
        let status = response.status();
        let close = response
            .headers()
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case("close"));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|e| Missing::Failed(Failure::of(&e, remote)))?;
        }
        if self.kept.is_some() && !close {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(kept);
        }
        match kind_of_status(status) {
            None => Ok(()),
            Some(kind) => Err(Missing::Failed(Failure::new(kind, format!("status {status}"), remote))),
        }
    }

    /// As many as there are places, so never more than the user wants.
    fn take_idle(&self) -> Option<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(kept) = idle.pop_front() {
            if !kept.sender.is_closed() {
                return Some(kept);
            }
        }
        None
    }
}
