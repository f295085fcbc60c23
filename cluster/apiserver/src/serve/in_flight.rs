//! How many requests are answered at once, by kind, so that no kind keeps another one out. As in Kubernetes (`--max-requests-inflight`,
//! `--max-mutating-requests-inflight`): watches and streams do not count, and members of `system:masters` are answered all the same.

use std::sync::Arc;

use http::{Method, Request};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::request::{Query, Target, target};
use crate::wire::status::Status;
use afloat_machinery::authorization::User;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str) -> Request<()> {
        Request::builder().method(method).uri(path).body(()).unwrap()
    }

    #[test]
    fn no_kind_keeps_another_out() {
        let in_flight = InFlight::default();
        let user = User::anonymous();
        let list = request("GET", "/api/v1/pods");
        let places: Vec<_> = (0..READING).map(|_| in_flight.enter(&list, &user).unwrap()).collect();
        let told = in_flight.enter(&list, &user).unwrap_err();
        assert_eq!(
            (told.code, told.message.as_str()),
            (429, "Too many requests, please try again later.")
        );
        let response = told.into_response();
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
        for (method, path, counts) in [
            ("GET", "/readyz", false),
            ("GET", "/api/v1/pods?watch=1", false),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", false),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", false),
            ("POST", "/api/v1/namespaces/a/pods", true),
        ] {
            let place = in_flight.enter(&request(method, path), &user).unwrap();
            assert_eq!(place.is_some(), counts, "{method} {path}");
        }
        assert!(in_flight.enter(&list, &User::master("root")).unwrap().is_none());
        drop(places);
        assert!(in_flight.enter(&list, &user).unwrap().is_some());
    }
}
