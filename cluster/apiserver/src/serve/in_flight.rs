//! How many requests are answered at once, by kind, so that no kind keeps another one out. As in Kubernetes (`--max-requests-inflight`,
//! `--max-mutating-requests-inflight`): watches and streams do not count, and members of `system:masters` are answered all the same.

use std::sync::Arc;

use http::{Method, Request};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::user::User;
use crate::wire::request::{Query, Target, target};
use crate::wire::status::Status;

/// Kubernetes' defaults.
const READING: usize = 400;
const MUTATING: usize = 200;

/// What is being answered.
pub(crate) struct InFlight {
    reading: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            reading: Arc::new(Semaphore::new(READING)),
            mutating: Arc::new(Semaphore::new(MUTATING)),
        }
    }
}

impl InFlight {
    /// Counts a request until what is returned is dropped. None: it does not count.
    ///
    /// # Errors
    /// 429 if there are too many of its kind.
    pub(crate) fn enter<B>(&self, request: &Request<B>, user: &User) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let target = target(request.uri().path());
        if matches!(target, Target::Health) || lasts(request, &target) {
            return Ok(None);
        }
        let places = match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS => &self.reading,
            _ => &self.mutating,
        };
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Ok(Some(place)),
            Err(_) if user.groups.iter().any(|group| group == "system:masters") => Ok(None),
            Err(_) => {
                let message = "Too many requests, please try again later.";
                Err(Status::too_many_requests(message, json!({"retryAfterSeconds": 1})))
            }
        }
    }
}

/// Whether a request goes on for as long as its client likes.
fn lasts<B>(request: &Request<B>, target: &Target) -> bool {
    let Target::Object(path) = target else {
        return false;
    };
    let stream = matches!(
        path.subresource.as_deref(),
        Some("log" | "exec" | "attach" | "portforward" | "proxy")
    );
    stream || Query::parse(request.uri().query()).flag("watch")
}
