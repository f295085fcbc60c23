//! HTTP/2 by prior knowledge: a few connections that all requests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use crate::dial::Dial;
use crate::meter::Meter;
use crate::outcome::{Failure, Kind, kind_of_status, unprocessed};

/// Connections on which a request may be told that it was not processed, one after another.
const ATTEMPTS: usize = 4;

pub(crate) struct Connections {
    dial: Arc<dyn Dial>,
    slots: Vec<Mutex<Option<Open>>>,
    next: AtomicUsize,
    pub(crate) authority: String,
}

#[derive(Clone)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    remote: Option<SocketAddr>,
}

impl Connections {
    pub(crate) fn new(dial: Arc<dyn Dial>, count: usize, authority: String) -> Self {
        Self {
            dial,
            slots: (0..count.max(1)).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            authority,
        }
    }

    /// One GET.
    pub(crate) async fn get(&self, path: &str, meter: &Meter) -> Result<(), Failure> {
        let request = Request::get(self.uri(path)?)
            .body(Full::default())
            .map_err(|e| Failure::new(Kind::Other, e.to_string(), None))?;
        let (response, remote) = self.send(request, meter).await?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|e| Failure::of(&e, remote))?;
        }
        match kind_of_status(status) {
            None => Ok(()),
            Some(kind) => Err(Failure::new(kind, format!("status {status}"), remote)),
        }
    }

    pub(crate) fn uri(&self, path: &str) -> Result<Uri, Failure> {
        format!("http://{}{path}", self.authority)
            .parse()
            .map_err(|e| Failure::new(Kind::Other, format!("{}: {e}", self.authority), None))
    }

    /// Sends a request, and again on another connection if it never left or the server did not process it.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        meter: &Meter,
    ) -> Result<(Response<Incoming>, Option<SocketAddr>), Failure> {
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        let mut attempt = 1;
        loop {
            let mut open = self.open(slot).await?;
            let failure = match open.sender.try_send_request(request.clone()).await {
                Ok(response) => return Ok((response, open.remote)),
                Err(mut error) => {
                    let again = error.take_message().is_some() || unprocessed(error.error());
                    let failure = Failure::of(error.error(), open.remote);
                    if !again || attempt == ATTEMPTS {
                        return Err(failure);
                    }
                    failure
                }
            };
            tracing::debug!(detail = failure.detail, "sent again: it was not processed");
            meter.reopened();
            attempt += 1;
        }
    }

    async fn open(&self, slot: &Mutex<Option<Open>>) -> Result<Open, Failure> {
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_mut() {
            // Also waits for the server's settings; its error is that of a connection that is going away.
            if open.sender.ready().await.is_ok() && !open.sender.is_closed() {
                return Ok(open.clone());
            }
            *slot = None;
        }
        let dialed = self.dial.dial().await.map_err(|e| Failure::of(&e, None))?;
        let remote = dialed.remote;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(dialed.stream))
            .await
            .map_err(|e| Failure::of(&e, remote))?;
        tokio::spawn(FutureExt::boxed(async move {
            // Its end shows in the requests that use it.
            let _ = connection.await;
        }));
        let open = Open { sender, remote };
        *slot = Some(open.clone());
        Ok(open)
    }
}
